"""The posterior without chains: draws in coordinates that fit it, weighed against its density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate.compiled import callable_leaf
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import K_HAT_GOOD, LEAST_EFFICIENT, trusted
from scalejax.calibrate.target import OfDensity
from scalejax.calibrate.weights import draw, heavier, log_mean_error
from scalejax.coordinates import AbstractCoordinates
from scalejax.progress import Told, untold


class NotTrusted(ArithmeticError):
    """Weights that say that the draws miss some of the posterior, or next to all of it."""


@dataclass(frozen=True)
class Resampled:
    """Draws of a posterior, in physical units.

    Weighed means are more exact than those of the resampled draws, which are for what takes draws
    without weights.
    """

    theta: Float[np.ndarray, "n P"]
    """Of the fit, to be weighed by `weights`."""
    weights: Float[np.ndarray, " n"]
    """Pareto-smoothed, with a sum of 1."""
    index: np.ndarray
    """Which of them the resampled ones are, of shape (n,)."""
    k_hat: float
    """Of the weights' tail."""
    log_evidence: float
    """log ∫ exp(log_density) dθ: that of the model, where the density has all its constants."""

    @property
    def draws(self) -> Float[np.ndarray, "n P"]:
        """As many draws again, with equal weights: some more than once, in random order."""
        return self.theta[self.index]

    @property
    def effective(self) -> float:
        """How many independent draws the weighed ones are worth: 1/Σ weights²."""
        return float(1 / (self.weights**2).sum())

    @property
    def _heavier(self) -> float:
        return heavier(len(self.weights), self.k_hat)

    @property
    def mean(self) -> Float[np.ndarray, " P"]:
        """Of the weighed draws."""
        return self.weights @ self.theta

    @property
    def sd(self) -> Float[np.ndarray, " P"]:
        """Of the weighed draws."""
        return np.sqrt(self.weights @ (self.theta - self.mean) ** 2)

    @property
    def log_evidence_error(self) -> float:
        """The Monte Carlo standard error of the log evidence."""
        return log_mean_error(self.weights, self.k_hat)

    @property
    def mean_error(self) -> Float[np.ndarray, " P"]:
        """The Monte Carlo standard error of the mean."""
        return self._heavier * np.sqrt(self.weights**2 @ (self.theta - self.mean) ** 2)

    @property
    def sd_error(self) -> Float[np.ndarray, " P"]:
        """That of the sd."""
        off = (self.theta - self.mean) ** 2 - self.sd**2
        return self._heavier * np.sqrt(self.weights**2 @ off**2) / (2 * np.maximum(self.sd, 1e-300))


def resample(
    coordinates: AbstractCoordinates,
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    key: Array,
    draws: int = 4000,
    *,
    told: Told = untold,
) -> Resampled:
    """The posterior by importance sampling from calibrated coordinates; no chain, and no warmup.

    A standard normal in the coordinates is drawn from, and each draw weighed by the density of θ,
    `log_density`, side by side. Weights are smoothed by Pareto's distribution (Vehtari et al.
    2024, arXiv:1507.02646), and draws resampled systematically. Errors are those of
    self-normalised importance sampling (Owen 2013, chapter 9), larger where k̂ is above 1/2, and
    weights have no variance. `told` hears how far it has come; see `scalejax.progress`.

    **Raises** `ValueError` for fewer than 100 draws, and `NotTrusted` where the weights say that
    these are not draws of the posterior: k̂ above 0.7, or less than 0.1 effective draws a draw.
    Sample by NUTS in the same coordinates then.

    Examples:
        >>> import jax
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_log_density, resample
        >>> scaling = Scaling(0.0, 1.0, -9.0, 9.0, groups={"a": None, "b": None})
        >>> def log_density(theta):
        ...     a, b = theta
        ...     return -(a**2) / 2 - ((b - a**2) / 0.1) ** 2 / 2
        >>> coordinates, _ = from_log_density(log_density, scaling, key=jax.random.key(0))
        >>> posterior = resample(coordinates, log_density, jax.random.key(1))
        >>> print(round(posterior.log_evidence, 1))  # log(2π/10), the integral over both
        -0.5
    """
    if draws < 100:
        raise ValueError(f"draws: expected at least 100; got {draws}")
    draw_key, choice_key = jax.random.split(key)
    problem = Problem(OfDensity(coordinates, callable_leaf(log_density)), told=told)
    found = draw(problem, coordinates, draw_key, draws)
    k_hat, efficiency = found.k_hat, found.efficiency
    if not trusted(k_hat, efficiency):
        raise NotTrusted(
            f"importance sampling cannot be trusted here: k̂ = {k_hat:.2f}, expected at most "
            f"{K_HAT_GOOD}, and {efficiency:.2g} effective draws a draw, expected at least "
            f"{LEAST_EFFICIENT}; sample by NUTS in the same coordinates"
        )
    theta = np.asarray(eqx.filter_jit(coordinates.to_original)(found.w), np.float64)
    weights = found.weights
    return Resampled(
        theta,
        weights,
        _systematic(weights, choice_key),
        k_hat,
        found.log_evidence,
    )


def _systematic(weights: np.ndarray, key: Array) -> np.ndarray:
    """As many places as there are weights, each about weight·n times; in random order."""
    keys = jax.random.split(key)
    steps = (np.arange(len(weights)) + float(jax.random.uniform(keys[0]))) / len(weights)
    index = np.minimum(np.searchsorted(np.cumsum(weights), steps), len(weights) - 1)
    return index[np.asarray(jax.random.permutation(keys[1], len(index)))]
