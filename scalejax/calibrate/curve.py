"""From a profile to coordinates: the marginal made normal, and the others about their mean.

In NumPy's float64, which the coordinates round to their own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from scipy.linalg import solve_triangular
from scipy.special import ndtri

from scalejax.calibrate.linear import held as made
from scalejax.calibrate.profile import Frame, Knot
from scalejax.coordinates import AbstractCoordinates
from scalejax.nested import NestedLaplace

REACH, PLACES = 4.5, 37


def straightened(
    base: AbstractCoordinates, frame: Frame, knots: list[Knot]
) -> NestedLaplace | None:
    """Coordinates in which the posterior of a profile is a standard normal; None if T cannot be."""
    s = np.array([knot.s for knot in knots])
    at, normal = quantiles(s, np.array([knot.height for knot in knots]))
    along, rest = int(frame.order[0]), frame.order[1:]
    scale, column, factor = frame.factor[0, 0], frame.factor[1:, 0], frame.factor[1:, 1:]
    n = len(rest)
    root = np.array([knot.root for knot in knots])
    # R = C⁻ᵀ is M⁻ᵀ·diag(1/c), where C = M·diag(c) and M has ones on its diagonal.
    widths = np.diagonal(root, axis1=1, axis2=2)
    mixing = np.array([
        solve_triangular(c / d, np.eye(n), lower=True, unit_diagonal=True).T
        for c, d in zip(root, widths, strict=True)
    ]).reshape(-1, n, n)  # fmt: skip
    mean = CubicHermiteSpline(s, [knot.mean for knot in knots], [knot.slope for knot in knots])
    width = CubicSpline(s, -np.log(widths), bc_type="natural")
    mixed = CubicSpline(s, mixing, bc_type="natural")
    for places in (PLACES, 2 * PLACES - 1, 4 * PLACES - 3):
        u = np.linspace(-REACH, REACH, places)
        point = _straight_on(u, normal, at)
        if not (np.diff(point) > 0).all():
            return None
        inside = np.clip(point, s[0], s[-1])[:, None]
        beyond = point[:, None] - inside
        straight = mean(inside[:, 0]) + beyond * mean(inside[:, 0], 1)
        try:
            return made(
                NestedLaplace, base,
                along=along,
                point=frame.loc[along] + scale * point,
                mean=frame.loc[rest] + point[:, None] * column + straight @ factor.T,
                log_width=width(inside[:, 0]),
                mixing=np.triu(mixed(inside[:, 0])),
                factor=factor,
                reach=REACH,
            )  # fmt: skip
        except ArithmeticError:
            continue
    return None


def _straight_on(u: np.ndarray, normal: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The places of normal quantiles u; beyond what is known, as between the last of that."""
    found = np.interp(u, normal, at)
    for end, inner in ((0, np.searchsorted(normal, normal[0] + 0.5)),
                       (-1, np.searchsorted(normal, normal[-1] - 0.5) - 1)):  # fmt: skip
        slope = (at[inner] - at[end]) / (normal[inner] - normal[end])
        beyond = u < normal[0] if end == 0 else u > normal[-1]
        found = np.where(beyond, at[end] + slope * (u - normal[end]), found)
    return found


def quantiles(s: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places along s, and the standard normal quantiles of the density exp(−height) there.

    Between knots the height is a cubic spline, beyond them a straight line.
    """
    spline = CubicSpline(s, height)
    fine = np.concatenate([
        np.linspace(a, b, 200, endpoint=False) for a, b in pairwise(s)
    ] + [s[-1:]])  # fmt: skip
    log = -spline(fine)
    density = np.exp(log - log.max())
    pieces = (density[1:] + density[:-1]) / 2 * np.diff(fine)
    # What is beyond the ends, if the density goes on to fall as it does there.
    tails = [density[i] / max(abs(float(spline(s[i], 1))), 0.1 / (s[-1] - s[0])) for i in (0, -1)]
    total = pieces.sum() + sum(tails)
    below = (tails[0] + np.concatenate([[0.0], np.cumsum(pieces)])) / total
    above = (tails[1] + np.concatenate([np.cumsum(pieces[::-1])[::-1], [0.0]])) / total
    normal = np.where(below < above, ndtri(below), -ndtri(above))
    keep = np.concatenate([[True], np.diff(np.maximum.accumulate(normal)) > 1e-9])
    return fine[keep], normal[keep]
