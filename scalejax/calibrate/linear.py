"""Linear coordinates from a mean and a covariance, in NumPy's float64."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from scalejax.calibrate.report import CoordinatesKind
from scalejax.coordinates import AbstractCoordinates, AbstractLayer
from scalejax.whitened import Whitened, WhitenedLowRank

_Layer = TypeVar("_Layer", bound=AbstractLayer)

# No direction is wider than 1, the unit of z, in which a prior has about that width; and none is
# so narrow that the others lose their digits beside it.
FLATTEST, STEEPEST = 1.0, 1e24


def spectrum(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of a curvature, held within `FLATTEST` and `STEEPEST`, and its eigenvectors."""
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    return np.clip(values, FLATTEST, STEEPEST), vectors


def factor_of_curvature(curvature: np.ndarray) -> np.ndarray:
    """A lower-triangular factor of the covariance of the Gaussian with this curvature."""
    values, vectors = spectrum(curvature)
    return lower(vectors / np.sqrt(values))


def lower(root: np.ndarray) -> np.ndarray:
    """The lower-triangular L with L·Lᵀ = root·rootᵀ and a positive diagonal.

    By QR and not by Cholesky, which would square the condition number.
    """
    found = np.asarray(np.linalg.qr(root.T, mode="r")).T
    signs = np.where(np.diag(found) < 0, -1.0, 1.0)
    found = np.tril(found * signs)
    smallest = np.finfo(np.float64).tiny ** 0.5
    np.fill_diagonal(found, np.maximum(np.diag(found), smallest))
    return found


def diagonal_of(factor: np.ndarray) -> np.ndarray:
    """The factor of the covariance's diagonal alone."""
    return np.diag(np.sqrt((factor**2).sum(1)))


class NotHeld(ArithmeticError):
    """Numbers of a fit that coordinates refuse, for the dtype they have."""


def held(make: type[_Layer], *numbers: Any, **named: Any) -> _Layer:
    """The coordinates of these numbers. **Raises** `NotHeld` where they refuse them."""
    try:
        return make(*numbers, **named)
    except ValueError as error:
        raise NotHeld(str(error)) from error


def whitened(
    base: AbstractCoordinates, loc: np.ndarray, factor: np.ndarray, kind: CoordinatesKind
) -> AbstractLayer:
    """The map w ↦ loc + factor·w on top of the base, or that of the covariance's diagonal."""
    if kind is CoordinatesKind.DIAGONAL:
        return held(WhitenedLowRank, base, loc, np.diag(diagonal_of(factor)))
    return held(Whitened, base, loc, factor)


def condition_number(matrix: np.ndarray) -> float:
    """Largest over smallest eigenvalue; infinite where that is not positive."""
    matrix = np.atleast_2d(matrix)
    if not matrix.size:
        return 1.0
    if not np.isfinite(matrix).all():
        return float("inf")
    values = np.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")
