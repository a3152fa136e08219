"""A dense linear map from the curvature at a mode, found by Newton's method and weighed."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from scalejax.calibrate.linear import condition_number, factor_of, whitened
from scalejax.calibrate.problem import no_mode, nowhere_finite
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT, CoordinatesKind, Report

# Modes whose densities differ by more than this factor, e^10, do not share a posterior.
MODE_GAP = 10.0


def dense_fit(problem, curvature, searches, starts, key, draws):
    """Coordinates from the modes that a search ended in, and the curvature there."""
    size = problem.base.size
    value_and_gradient = jax.jit(jax.value_and_grad(problem.potential))
    best: _End | None = None
    ends: list[_End] = []
    spent, tried, found, reasons = 0, 0, 0, []
    for z, cost in searches:
        tried += 1
        end = _newton(problem, curvature, value_and_gradient, np.asarray(z, np.float64))
        spent += cost
        if end is not None:
            ends.append(end)
            spent += end.steps * (size + 1 + len(_FRACTIONS))
            best = min(ends, key=lambda end: end.potential)
            found, reasons = _compare(best, ends)
        if tried >= starts and (found > 1 or tried >= 3 * starts):
            break
    if best is None:
        return nowhere_finite(problem, spent, tried)
    factor = factor_of(best.covariance, CoordinatesKind.DENSE)
    decrement = float(np.linalg.norm(factor.T @ best.gradient))
    if decrement > 0.1:
        reasons.append(no_mode(decrement))
    k_hat = np.nan

    def report(kind):
        condition = condition_number(best.curvature)
        return Report(kind, spent, k_hat, decrement, (found, tried), condition, tuple(reasons))

    if reasons:
        return problem.base, report(CoordinatesKind.NONE)
    for kind in (CoordinatesKind.DENSE, CoordinatesKind.DIAGONAL):
        coordinates = whitened(problem.base, best.z, factor_of(best.covariance, kind), kind)
        k_hat, trouble, remark = _weigh(problem, coordinates, key, draws)
        spent += draws
        reasons += [] if remark is None else [remark]
        if trouble is None:
            return coordinates, report(kind)
        reasons.append(f"{kind}: {trouble}")
    return problem.base, report(CoordinatesKind.NONE)


@dataclass(frozen=True)
class _End:
    """Where Newton's method ended."""

    z: np.ndarray
    potential: float
    gradient: np.ndarray
    curvature: np.ndarray
    covariance: np.ndarray
    steps: int


_FRACTIONS = np.array([1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3])
_SIDESTEPS = np.array([1.0, -1.0, 0.3, -0.3, 0.1, -0.1])


def _newton(problem, curvature, value_and_gradient, z, most=100) -> _End | None:
    """Newton's method with a line search, from next to a mode; None where nothing is finite.

    Of a saddle it makes its way downwards.
    """

    def lowest(tried, than):
        values = np.asarray(problem.potentials(jnp.asarray(tried, problem.dtype)))
        return tried[np.nanargmin(values)] if (values < than).any() else None

    end = None
    for step in range(1, most + 1):
        at = jnp.asarray(z, problem.dtype)
        value, gradient = value_and_gradient(at)
        gradient, matrix = np.asarray(gradient, np.float64), np.asarray(curvature(at), np.float64)
        if not (np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(matrix).all()):
            return end
        covariance = _floored_inverse(matrix)
        end = _End(z, float(value), gradient, matrix, covariance, step)
        direction = -covariance @ gradient
        lower = None
        if gradient @ -direction > 1e-6:
            lower = lowest(z + _FRACTIONS[:, None] * direction, end.potential)
        if lower is None:
            values, vectors = np.linalg.eigh(matrix)
            if values[0] < 0:
                aside = z + _SIDESTEPS[:, None] * vectors[:, 0]
                lower = lowest(aside, end.potential - 1e-3)
        if lower is None:
            return end
        z = lower
    return end


def _floored_inverse(matrix: np.ndarray) -> np.ndarray:
    """The covariance of the Gaussian with this curvature, no direction being wider than 1.

    1 is the unit of z, in which a prior has about that width.
    """
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors / np.maximum(values, 1.0)) @ vectors.T


def _compare(best: _End, ends) -> tuple[int, list[str]]:
    """How many searches ended in the best mode, and what is to be said of others."""
    found, others, reasons = 0, [], []
    for end in ends:
        gap = end.potential - best.potential
        if _apart(end, best) < 1.0:
            found += 1
        elif gap < MODE_GAP and all(_apart(end, other) >= 1.0 for other in others):
            others.append(end)
            reasons.append(
                f"another mode, {_apart(end, best):.2g} standard deviations away, is as much as "
                f"e^-{gap:.1f} as high: no one linear map suits both"
            )
    return found, reasons


def _apart(one: _End, other: _End) -> float:
    """In standard deviations of the other."""
    factor = factor_of(other.covariance, CoordinatesKind.DENSE)
    return float(np.linalg.norm(np.linalg.solve(factor, one.z - other.z)))


def _weigh(problem, coordinates, key, draws) -> tuple[float, str | None, str | None]:
    """k̂ of draws from the fitted Gaussian; what rules the fit out; and what is to be said of it."""
    import arviz as az

    w = jax.random.normal(key, (draws, problem.base.size), problem.dtype)

    @jax.jit
    @jax.vmap
    def evaluate(w):
        z = coordinates.to_base_and_log_det(w)[0]
        return z, -problem.potential(z) + (w**2).sum() / 2

    w, (z, log_weights) = jax.tree.map(lambda x: np.asarray(x, np.float64), (w, evaluate(w)))
    finite = np.isfinite(log_weights)
    if finite.mean() < 0.9:
        count = int((~finite).sum())
        return np.nan, f"the density is not finite at {count} of {draws} draws of the fit", None
    log_weights = np.where(finite, log_weights, log_weights[finite].min())
    smoothed, k_hat = az.psislw(log_weights)
    k_hat = float(k_hat)
    if k_hat <= K_HAT_GOOD:
        return k_hat, None, None
    if not k_hat <= K_HAT_LIMIT:
        return k_hat, f"the fit misses some of the posterior (k̂ = {k_hat:.2f})", None
    free = ~np.asarray(problem.base.pinned)
    plain, fitted = (
        condition_number(np.cov(x[:, free].T, aweights=np.exp(smoothed))) for x in (z, w)
    )
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
