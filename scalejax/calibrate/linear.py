"""Linear coordinates from a mean and a covariance, in NumPy's float64."""

from __future__ import annotations

import numpy as np

from scalejax.calibrate.report import CoordinatesKind
from scalejax.coordinates import AbstractCoordinates
from scalejax.whitened import Whitened, WhitenedLowRank


def factor_of(covariance: np.ndarray, kind: CoordinatesKind) -> np.ndarray:
    """A lower-triangular factor of a covariance, or of its diagonal."""
    if kind is CoordinatesKind.DIAGONAL:
        return np.diag(np.sqrt(np.diag(covariance)))
    return np.linalg.cholesky(covariance)


def whitened(
    base: AbstractCoordinates, loc: np.ndarray, factor: np.ndarray, kind: CoordinatesKind
) -> AbstractCoordinates:
    """The map w ↦ loc + factor·w on top of the base."""
    if kind is CoordinatesKind.DIAGONAL:
        return WhitenedLowRank(base, loc, np.diag(factor))
    return Whitened(base, loc, factor)


def condition_number(matrix: np.ndarray) -> float:
    """Largest over smallest eigenvalue; infinite where that is not positive."""
    values = np.linalg.eigvalsh(np.atleast_2d(matrix))
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")
