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

# How far tables go, and from how many places they are taken. How many they have: as few as will do,
# so that the curve rises, and means and widths are off by no more than this, in those widths; of
# these places one in so many is looked at.
REACH, FINE, PLACES, OFF, LOOKED_AT = 5.5, 353, (23, 89, 177), 0.25, 6


def straightened(
    base: AbstractCoordinates, frame: Frame, knots: list[Knot]
) -> NestedLaplace | None:
    """Coordinates in which the posterior of a profile is a standard normal; None if T cannot be."""
    s = np.array([knot.s for knot in knots])
    height = np.array([knot.height for knot in knots])
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
    fine = np.linspace(-REACH, REACH, FINE)
    point = _straight_on(fine, s, height)
    for places in PLACES:
        at = np.linspace(-REACH, REACH, places)
        basis = CubicSpline(at, np.eye(places), bc_type="natural")(fine)
        curve = _nearest(basis, point)
        # At the places where the curve is, and not where it should be: where the others follow it
        # closely, they are to follow what there is.
        known = basis @ curve
        inside = np.clip(known, s[0], s[-1])
        straight = mean(inside) + (known - inside)[:, None] * mean(inside, 1)
        widths, mixings = width(inside), mixed(inside)
        narrowest = np.exp(-widths.min(1, initial=np.inf)) if n else 1.0
        log_width = _nearest(basis, widths)
        mixing = np.triu(_nearest(basis, mixings), 1) + np.eye(n)
        # All with the same weights: the difference of two that are next to equal, where a funnel is
        # narrow, is off by as little as it changes then.
        means = _nearest(basis, straight, narrowest)
        if not (np.diff(curve) > 0).all():
            continue
        off = max(
            _off(b @ means - m, w, r, b @ log_width, np.tensordot(b, mixing, 1))
            for b, m, w, r in list(zip(basis, straight, widths, mixings, strict=True))[::LOOKED_AT]
        )
        if off > OFF and places < PLACES[-1]:
            continue
        try:
            return made(
                NestedLaplace, base,
                along=along,
                point=frame.loc[along] + scale * curve,
                mean=frame.loc[rest] + curve[:, None] * column + means @ factor.T,
                log_width=log_width,
                mixing=mixing,
                factor=factor,
                reach=REACH,
            )  # fmt: skip
        except ArithmeticError:
            continue
    return None


def _off(miss, log_width, mixing, found_width, found_mixing) -> float:
    """How far a conditional mean is off, and its widths, in those widths."""
    if not len(miss):
        return 0.0
    away = np.c_[miss, found_mixing * np.exp(found_width)]
    away = solve_triangular(mixing, away, unit_diagonal=True) * np.exp(-log_width)[:, None]
    return float(np.abs(away - np.eye(len(miss), len(miss) + 1, 1)).max())


def _nearest(basis: np.ndarray, values: np.ndarray, weight: np.ndarray | float = 1) -> np.ndarray:
    """Values at the places of a spline that is nearest to values at finer ones.

    A profile has kinks, and knots that are not exact: a spline through all of them would carve that
    into the coordinates, with a curvature that no sampler follows.
    """
    # The middle counts for most.
    weight = np.exp(-(np.linspace(-REACH, REACH, len(basis)) ** 2) / 16) * weight
    columns = weight[:, None] * values.reshape(len(values), -1)
    found = np.linalg.lstsq(weight[:, None] * basis, columns, rcond=None)[0]
    return found.reshape(-1, *values.shape[1:])


def _straight_on(u: np.ndarray, s: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The places of normal quantiles u; beyond what is known, as between the last of that."""
    at, normal, slope = quantiles(s, height)
    found = CubicHermiteSpline(normal, at, slope)(u)
    for end, inner in ((0, np.searchsorted(normal, normal[0] + 0.5)),
                       (-1, np.searchsorted(normal, normal[-1] - 0.5) - 1)):  # fmt: skip
        rise = (at[inner] - at[end]) / (normal[inner] - normal[end])
        beyond = u < normal[0] if end == 0 else u > normal[-1]
        found = np.where(beyond, at[end] + rise * (u - normal[end]), found)
    return found


def quantiles(s: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places along s, the standard normal quantiles of the density exp(−height) there, and ds/du.

    Between knots the height is a cubic spline, beyond them a straight line.
    """
    spline = CubicSpline(s, height)
    fine = np.concatenate([
        np.linspace(a, b, 200, endpoint=False) for a, b in pairwise(s)
    ] + [s[-1:]])  # fmt: skip
    log = -spline(fine)
    density = np.exp(log - log.max())
    # By Simpson's rule, with a place between any two.
    middle = np.exp(-spline((fine[1:] + fine[:-1]) / 2) - log.max())
    pieces = (density[1:] + 4 * middle + density[:-1]) / 6 * np.diff(fine)
    # What is beyond the ends, if the density goes on to fall as it does there.
    tails = [density[i] / max(abs(float(spline(s[i], 1))), 0.1 / (s[-1] - s[0])) for i in (0, -1)]
    total = pieces.sum() + sum(tails)
    below = (tails[0] + np.concatenate([[0.0], np.cumsum(pieces)])) / total
    above = (tails[1] + np.concatenate([np.cumsum(pieces[::-1])[::-1], [0.0]])) / total
    normal = np.where(below < above, ndtri(below), -ndtri(above))
    keep = np.concatenate([[True], np.diff(np.maximum.accumulate(normal)) > 1e-9])
    slope = np.exp(-(normal**2) / 2) / np.sqrt(2 * np.pi) / (density / total)
    return fine[keep], normal[keep], slope[keep]
