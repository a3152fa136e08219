"""The check of a fit: its own draws, weighed against the true density."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.linear import condition_number
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT
from scalejax.coordinates import AbstractLayer


def weigh(
    problem: Problem, coordinates: AbstractLayer, key: Array, draws: int
) -> tuple[float, str | None, str | None]:
    """k̂ of draws from the fitted Gaussian; what rules the fit out; and what is to be said of it."""
    import arviz as az

    w = jax.random.normal(key, (draws, problem.base.size), problem.dtype)

    @jax.jit
    @jax.vmap
    def evaluate(w):
        z = coordinates.to_base_and_log_det(w)[0]
        return z, -problem.potential(z) + (w**2).sum() / 2

    problem.spent += draws
    w, (z, log_weights) = jax.tree.map(lambda x: np.asarray(x, np.float64), (w, evaluate(w)))
    finite = np.isfinite(log_weights)
    if finite.mean() < 0.9:
        count = int((~finite).sum())
        return np.nan, f"the density is not finite at {count} of {draws} draws of the fit", None
    log_weights = np.where(finite, log_weights, log_weights[finite].min())
    log_weights -= log_weights.max()
    if np.ptp(log_weights) < 1e-9:
        return -np.inf, None, None  # the fit is exact, and its weights have no tail to speak of
    smoothed, k_hat = az.psislw(log_weights)
    k_hat = float(k_hat)
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
