"""Coordinates from draws: their covariance, shrunk, and checked on the later half of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Num

from scalejax.calibrate.linear import condition_number, diagonal_of, lower, whitened
from scalejax.calibrate.report import NOTHING_FREE, CoordinatesKind, Report
from scalejax.coordinates import AbstractCoordinates

PER_PARAMETER = 4  # draws that are needed: each half has twice as many as there are parameters


def from_draws(
    z: Num[ArrayLike, "*batch P"], coordinates: AbstractCoordinates
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from pilot draws of z, in some coordinates: their covariance, shrunk.

    At least 4·(P + 1) draws are needed, P without what is pinned. The correlations are shrunk
    towards none by as much as Ledoit and Wolf (2004) find best. A column that does not vary says
    nothing of its parameter, which keeps the unit of z. It is checked on the later half of the
    draws, with coordinates from the earlier half. It costs no gradient.

    **Raises** `ValueError` for draws of another shape, and draws that are not finite.

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
    if draws.ndim == 0 or draws.shape[-1] != coordinates.size:
        raise ValueError(f"z: expected draws of shape (…, {coordinates.size}); got {np.shape(z)}")
    draws = draws.reshape(-1, draws.shape[-1])
    if not np.isfinite(draws).all():
        raise ValueError("z: expected finite draws")
    pinned = np.asarray(coordinates.pinned)
    least = PER_PARAMETER * (int((~pinned).sum()) + 1)
    if len(draws) < least:
        reason = f"{len(draws)} draws are too few for {(~pinned).sum()} parameters: give {least}"
        return _refused(coordinates, reason)
    if pinned.all():
        return _refused(coordinates, NOTHING_FREE)
    with np.errstate(all="ignore"):
        return _fit(draws, coordinates, pinned)


def _fit(draws, coordinates, pinned) -> tuple[AbstractCoordinates, Report]:
    early, late = np.array_split(draws, 2)
    unknown = ~pinned & (_idle(early) | _idle(late))
    reasons, doubts = [], []
    if unknown.any():
        names = ", ".join(np.array(coordinates.flat_names)[unknown])
        doubts.append(f"the draws of {names} do not vary: they say nothing of its width")
    known = ~pinned & ~unknown
    if not known.any():
        return _refused(coordinates, *doubts)
    smallest = np.sqrt(float(np.finfo(coordinates.low.dtype).tiny))
    sizes = draws[:, known].std(0)
    if not ((sizes > smallest) & (sizes < 1 / smallest)).all():
        return _refused(coordinates, *doubts, f"the draws' widths run to {sizes.max():.2g}, which "
                        f"{coordinates.low.dtype} cannot whiten")  # fmt: skip
    condition = condition_number(_factor_of(draws, known)[1][np.ix_(known, known)])
    plain = condition_number(np.cov(late[:, known].T))
    for kind in (CoordinatesKind.DENSE, CoordinatesKind.DIAGONAL):
        loc, factor = _moments(early, known)
        if kind is CoordinatesKind.DIAGONAL:
            factor = diagonal_of(factor)
        fitted = np.linalg.solve(factor, (late - loc).T)[known]
        spread = condition_number(np.cov(fitted))
        if np.isfinite(spread) and spread <= plain:
            loc, factor = _moments(draws, known)
            found = whitened(coordinates, loc, factor, kind)
            return found, Report(
                kind, 0, condition=condition, reasons=tuple(reasons), doubts=tuple(doubts)
            )
        reasons.append(
            f"{kind}: the later draws have a condition number of {spread:.2g} in coordinates from "
            f"the earlier ones, and of {plain:.2g} without"
        )
    said = (*doubts, *reasons)
    return coordinates, Report(CoordinatesKind.NONE, 0, condition=condition, reasons=said)


def _refused(coordinates, *reasons: str) -> tuple[AbstractCoordinates, Report]:
    return coordinates, Report(CoordinatesKind.NONE, 0, reasons=reasons)


def _idle(draws: np.ndarray) -> np.ndarray:
    """Which columns vary by no more than the rounding of their values."""
    return np.ptp(draws, axis=0) <= 1e-12 * np.abs(draws).max(0)


def _moments(draws: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and a factor of the covariance; those of a standard normal where nothing is known."""
    return np.where(known, draws.mean(0), 0.0), _factor_of(draws, known)[0]


def _factor_of(draws: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A factor of the covariance with shrunk correlations: Ledoit and Wolf 2004, standardised."""
    n = len(draws)
    sd = np.where(known, draws.std(0), 1.0)
    x = np.where(known, (draws - draws.mean(0)) / sd, 0.0)
    sample = x.T @ x / n
    identity = np.eye(len(sd))
    distance = ((sample - np.diag(np.diag(sample))) ** 2).sum()
    # Σ over draws of |x xᵀ − sample|², by the norms of the draws.
    noise = ((x**2).sum(1) ** 2).sum() / n**2 - (sample**2).sum() / n
    shrinkage = min(1.0, max(noise / distance, 0.0)) if distance > 0 else 1.0
    correlation = (1 - shrinkage) * sample + shrinkage * identity
    correlation[~known, ~known] = 1.0
    values, vectors = np.linalg.eigh(correlation)
    floor = np.finfo(np.float64).eps * max(values[-1], 1.0) * len(sd)
    factor = sd[:, None] * lower(vectors * np.sqrt(np.maximum(values, floor)))
    return factor, correlation * np.outer(sd, sd)
