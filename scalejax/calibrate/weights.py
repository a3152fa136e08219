"""The check of a fit: its own draws, weighed against the true density."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.layers import depth, rows_down
from scalejax.calibrate.linear import condition_number
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT, trusted
from scalejax.coordinates import AbstractCoordinates, AbstractLayer

# Up to here a k̂ of a thousand draws is below 0.7 for all that their number leaves open.
K_HAT_OPEN = 0.3
# What is called sufficient: nothing is to be gained by other coordinates.
K_HAT_SMALL, EFFICIENT = 0.5, 0.5
# Below this few draws have most of the weight, and what they say of k̂ is left to chance.
INEFFICIENT = 0.3
# From here on the weights are as good as equal, and k̂ is that of their rounding.
EXACT = 0.98


@dataclass(frozen=True)
class Weighed:
    """Draws of a fit: in its coordinates, in those of the base, and the logarithms of weights."""

    w: np.ndarray
    z: np.ndarray
    log_weights: np.ndarray

    def __add__(self, other: Weighed) -> Weighed:
        return Weighed(
            np.concatenate([self.w, other.w]),
            np.concatenate([self.z, other.z]),
            np.concatenate([self.log_weights, other.log_weights]),
        )

    @cached_property
    def _smoothed(self) -> tuple[np.ndarray, float, float]:
        """Weights, Pareto-smoothed, with a sum of 1; k̂; and the logarithm of their mean.

        k̂ is −inf where the fit is next to exact: then weights have no tail to speak of.
        """
        import arviz as az

        finite = np.isfinite(self.log_weights)
        if not finite.any():
            return np.full(len(finite), np.nan), np.nan, -np.inf
        log = np.where(finite, self.log_weights, -np.inf)
        highest = log.max()
        log = log - highest
        plain = np.exp(log)
        if plain.sum() ** 2 >= EXACT * len(plain) * (plain**2).sum():
            smoothed, k_hat = log, -np.inf
        else:
            smoothed, k_hat = az.psislw(np.maximum(log, log[finite].min()))
        # Smoothed weights come with a sum of 1: their scale is that of the lowest, which stays.
        least = int(np.argmin(np.where(finite, log, np.inf)))
        smoothed = np.asarray(smoothed) + (log[least] - np.asarray(smoothed)[least])
        weights = np.where(finite, np.exp(smoothed), 0.0)
        return weights / weights.sum(), float(k_hat), highest + float(np.log(weights.mean()))

    @property
    def weights(self) -> np.ndarray:
        """Pareto-smoothed, with a sum of 1."""
        return self._smoothed[0]

    @property
    def log_mean_weight(self) -> float:
        """The logarithm of the weights' mean, smoothed: that of ∫ density dw/(2π)^(P/2)."""
        return self._smoothed[2]

    @property
    def log_evidence(self) -> float:
        """The logarithm of ∫ density dθ.

        Weights are those of the density of w to exp(−|w|²/2), which is no density yet.
        """
        return self.log_mean_weight + self.w.shape[1] / 2 * float(np.log(2 * np.pi))

    @property
    def k_hat(self) -> float:
        """Of the weights' tail; nan where fewer than 9 in 10 are finite."""
        return self._smoothed[1] if np.isfinite(self.log_weights).mean() >= 0.9 else np.nan

    @property
    def unevenness(self) -> float:
        """The standard deviation of the weights' logarithms: known far better than the efficiency.

        The lowest of them, where the fit is wider than the posterior, are taken for a bit higher.
        """
        finite = np.isfinite(self.log_weights)
        if finite.mean() < 0.9:
            return np.inf
        log = self.log_weights[finite]
        return float(np.maximum(log, np.quantile(log, 0.02)).std())

    @property
    def efficiency(self) -> float:
        """Effective draws a draw, of importance sampling: 1/(n·Σ weights²)."""
        if np.isnan(self.k_hat):
            return np.nan
        return float(1 / (len(self.weights) * (self.weights**2).sum()))


def heavier(count: int, k_hat: float) -> float:
    """By how much errors are larger than those of weights that have a variance.

    Beyond k̂ = 1/2 they have none, and a mean of n of them converges as n^(k̂ − 1) and not as
    n^(−1/2).
    """
    return float(count ** max(k_hat - 0.5, 0.0))


def log_mean_error(weights: np.ndarray, k_hat: float) -> float:
    """The Monte Carlo standard error of the logarithm of the weights' mean."""
    count = len(weights)
    unevenness = count * float((weights**2).sum()) - 1
    return heavier(count, k_hat) * float(np.sqrt(max(unevenness, 0.0) / count))


def draw(problem: Problem, coordinates: AbstractCoordinates, key: Array, draws: int) -> Weighed:
    """Draws from a standard normal in coordinates that stand on those of the problem."""
    w = jax.random.normal(key, (draws, problem.base.size), problem.dtype)
    if not draws:
        return Weighed(np.asarray(w), np.asarray(w), np.zeros(0))
    z, log_det = rows_down(coordinates, depth(problem.base, coordinates), w)
    log_weights = log_det - problem.potentials(z) + (w**2).sum(1) / 2
    return Weighed(*(np.asarray(x, np.float64) for x in (w, z, log_weights)))


@dataclass(frozen=True)
class Verdict:
    """What the weights of a fit's draws say of it."""

    weighed: Weighed
    trouble: str | None
    """What rules the fit out."""
    remark: str | None
    """What is to be said of it."""


def weigh(
    problem: Problem,
    coordinates: AbstractLayer,
    key: Array,
    draws: int,
    *,
    known: Weighed | None = None,
) -> Verdict:
    """The verdict on a fit, by draws that are known already, and more where these leave it open."""
    keys = jax.random.split(key, 3)
    missing = max(draws - (0 if known is None else len(known.w)), 0)
    first = draw(problem, coordinates, keys[0], missing)
    found = first if known is None else known + first
    # Of a thousand draws k̂ is known to a few tenths. Where that leaves the verdict open it is taken
    # of more, all together; fewer do where only good is to be told from very good.
    for least, even, count, more in (
        (K_HAT_OPEN, 0.0, 1, keys[1]),
        (K_HAT_GOOD, INEFFICIENT, 2, keys[2]),
    ):
        sure = found.k_hat <= least and found.efficiency >= even
        if not sure and not np.isnan(found.k_hat):
            found = found + draw(problem, coordinates, more, count * draws)
    return verdict(problem, found)


def verdict(problem: Problem, found: Weighed) -> Verdict:
    """What draws say as they are."""
    k_hat = found.k_hat
    if np.isnan(k_hat):
        count = int((~np.isfinite(found.log_weights)).sum())
        trouble = f"the density is not finite at {count} of {len(found.w)} draws of the fit"
        return Verdict(found, trouble, None)
    if trusted(k_hat, found.efficiency):
        return Verdict(found, None, None)
    if not k_hat <= K_HAT_LIMIT:
        trouble = f"the fit misses some of the posterior (k̂ = {k_hat:.2f})"
        return Verdict(found, trouble, None)
    free = ~np.asarray(problem.base.pinned)
    plain, fitted = (
        condition_number(np.cov(x[:, free].T, aweights=found.weights)) for x in (found.z, found.w)
    )
    if fitted > plain:
        trouble = (
            f"the posterior's condition number is {fitted:.2g} in these coordinates, and "
            f"{plain:.2g} without"
        )
        return Verdict(found, trouble, None)
    remark = (
        f"the posterior is no Gaussian (k̂ = {k_hat:.2f}, efficiency {found.efficiency:.2g}): the "
        "fit is rough, but better than none"
    )
    return Verdict(found, None, remark)
