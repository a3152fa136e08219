"""The check of a fit: its own draws, weighed against the true density."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.linear import condition_number
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT
from scalejax.coordinates import AbstractLayer

# Up to here a k̂ of a thousand draws is below 0.7 for all that their number leaves open.
K_HAT_OPEN = 0.3


def weigh(
    problem: Problem, coordinates: AbstractLayer, key: Array, draws: int
) -> tuple[float, str | None, str | None]:
    """k̂ of draws from the fitted Gaussian; what rules the fit out; and what is to be said of it."""
    import arviz as az

    @jax.jit
    @jax.vmap
    def evaluate(w):
        z = coordinates.to_base_and_log_det(w)[0]
        return z, -problem.potential(z) + (w**2).sum() / 2

    keys = jax.random.split(key, 3)
    w, z, log_weights = _weighed(problem, evaluate, keys[0], draws)
    finite = np.isfinite(log_weights)
    if finite.mean() < 0.9:
        count = int((~finite).sum())
        return np.nan, f"the density is not finite at {count} of {draws} draws of the fit", None
    smoothed, k_hat = _smoothed(az, log_weights)
    # Of a thousand draws k̂ is known to a few tenths. Where that leaves the verdict open it is taken
    # of more, all together; fewer do where only good is to be told from very good.
    for least, count, more in ((K_HAT_OPEN, 1, keys[1]), (K_HAT_GOOD, 2, keys[2])):
        if not k_hat <= least:
            found = _weighed(problem, evaluate, more, count * draws)
            w, z, log_weights = map(np.concatenate, zip((w, z, log_weights), found, strict=True))
            smoothed, k_hat = _smoothed(az, log_weights)
    if k_hat <= K_HAT_GOOD:
        return k_hat, None, None
    if not k_hat <= K_HAT_LIMIT:
        return k_hat, f"the fit misses some of the posterior (k̂ = {k_hat:.2f})", None
    free = ~np.asarray(problem.base.pinned)
    weights = np.exp(smoothed)
    plain, fitted = (condition_number(np.cov(x[:, free].T, aweights=weights)) for x in (z, w))
    if fitted > plain:
        trouble = (
            f"the posterior's condition number is {fitted:.2g} in these coordinates, and "
            f"{plain:.2g} without"
        )
        return k_hat, trouble, None
    remark = (
        f"the posterior is no Gaussian (k̂ = {k_hat:.2f}): the fit is rough, but better than none"
    )
    return k_hat, None, remark


def _weighed(problem, evaluate, key, draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of the fit, where they are in the base's z, and the logarithms of their weights."""
    w = jax.random.normal(key, (draws, problem.base.size), problem.dtype)
    problem.spent += draws
    z, log_weights = evaluate(w)
    return np.asarray(w, np.float64), np.asarray(z, np.float64), np.asarray(log_weights, np.float64)


def _smoothed(az, log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed, and k̂; −inf where the fit is exact and weights have no tail to speak of."""
    finite = np.isfinite(log_weights)
    log_weights = np.where(finite, log_weights, log_weights[finite].min())
    log_weights = log_weights - log_weights.max()
    if np.ptp(log_weights) < 1e-9:
        return log_weights, -np.inf
    smoothed, k_hat = az.psislw(log_weights)
    return np.asarray(smoothed), float(k_hat)
