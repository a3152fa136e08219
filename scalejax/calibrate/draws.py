"""Coordinates from draws: their covariance, shrunk, and checked on the later half of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Float

from scalejax.calibrate.linear import condition_number, factor_of, whitened
from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.coordinates import AbstractCoordinates


def from_draws(
    z: Float[ArrayLike, "*batch P"], coordinates: AbstractCoordinates
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from pilot draws of z, in some coordinates: their covariance, shrunk.

    The correlations are shrunk towards none by as much as Ledoit and Wolf (2004) find best. It is
    checked on the later half of the draws, with coordinates from the earlier half. It costs no
    gradient.

    **Raises** `ValueError` for fewer than 4 draws, and draws that are not finite.

    Examples:
        >>> import numpy as np
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_draws
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> z = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[0.1, 0.09], [0, 0.01]])
        >>> print(from_draws(z, scaling)[1].kind)
        dense
    """
    draws = np.asarray(z, np.float64)
    draws = draws.reshape(-1, draws.shape[-1])
    if draws.shape[-1] != coordinates.size or len(draws) < 4:
        raise ValueError(
            f"z: expected at least 4 draws of shape (…, {coordinates.size}); got {np.shape(z)}"
        )
    if not np.isfinite(draws).all():
        raise ValueError("z: expected finite draws")
    pinned = np.asarray(coordinates.pinned)
    early, late = np.array_split(draws, 2)
    condition = condition_number(_covariance(draws, pinned))
    reasons = []
    plain = condition_number(np.cov(late.T[~pinned]))
    for kind in (CoordinatesKind.DENSE, CoordinatesKind.DIAGONAL):
        loc, factor = _moments(early, pinned, kind)
        spread = condition_number(np.cov(np.linalg.solve(factor, (late - loc).T)[~pinned]))
        if spread <= plain:
            loc, factor = _moments(draws, pinned, kind)
            return whitened(coordinates, loc, factor, kind), Report(
                kind, 0, condition=condition, reasons=tuple(reasons)
            )
        reasons.append(
            f"{kind}: the later draws have a condition number of {spread:.2g} in coordinates from "
            f"the earlier ones, and of {plain:.2g} without"
        )
    return coordinates, Report(CoordinatesKind.NONE, 0, condition=condition, reasons=tuple(reasons))


def _moments(draws, pinned, kind) -> tuple[np.ndarray, np.ndarray]:
    return np.where(pinned, 0.0, draws.mean(0)), factor_of(_covariance(draws, pinned), kind)


def _covariance(draws: np.ndarray, pinned: np.ndarray) -> np.ndarray:
    """The covariance with shrunk correlations: Ledoit and Wolf 2004, of standardised draws."""
    n = len(draws)
    sd = np.where(pinned, 1.0, draws.std(0))
    sd = np.maximum(sd, 1e-12 * np.maximum(sd.max(), 1.0))
    x = np.where(pinned, 0.0, (draws - draws.mean(0)) / sd)
    sample = x.T @ x / n
    identity = np.eye(len(sd))
    distance = ((sample - identity) ** 2).sum()
    # Σ over draws of |x xᵀ − sample|², by the norms of the draws.
    noise = ((x**2).sum(1) ** 2).sum() / n**2 - (sample**2).sum() / n
    shrinkage = min(1.0, max(noise / distance, 0.0)) if distance > 0 else 1.0
    correlation = (1 - shrinkage) * sample + shrinkage * identity
    correlation[pinned, pinned] = 1.0
    return correlation * np.outer(sd, sd)
