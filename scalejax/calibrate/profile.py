"""The profile along one parameter: where the others are best, and how wide, as it moves.

It knows nothing of what the profile is for. In NumPy's float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy.linalg import cholesky, solve_triangular

from scalejax.calibrate.linear import factor_of_curvature
from scalejax.calibrate.problem import Problem

# Of −log marginal density, at which there is nothing left of the posterior.
ENOUGH = 14.0
# Places on each side of the first, and steps that may be taken back there; and how a step from one
# to the next is judged: by how far off what was foreseen is, the mean in conditional widths, the
# logarithms of the widths and the height; and by how much the widths change, of their logarithms.
MOST, REFUSED, MISS, WIDTH_MISS, HEIGHT_MISS, CHANGE = 40, 20, 2.0, 0.35, 1.0, 2.5
# Of the height, and of the logarithms of the widths: so little that nothing is missed between.
SMALL_STEP, SMALL_CHANGE = 1.0, 0.7
LONGEST, SHORTEST = 16.0, 0.02
# The length of the gradient, in conditional widths, from which one more step of Newton's does.
EXACT = 0.1
# Where the others are much wider than in the frame, their widths are by how far −log density rises
# to both sides: their curvatures below WIDE of those in the frame in part, below VERY_WIDE alone;
# from places where it has risen by RISE, which are sought in so many steps.
WIDE, VERY_WIDE, RISE, SECANTS = 0.7, 0.3, 1.0, 10
# Curvatures below this part of the largest are taken for it: those of a funnel differ by e^25.
FLATTEST = 1e-13


@dataclass(frozen=True)
class Frame:
    """v ↦ z near a point: v[0] is the parameter in units of its width, the rest whitened.

    z[order] = loc[order] + factor·v, with a lower-triangular factor; the parameter comes first.
    """

    loc: np.ndarray
    order: np.ndarray
    factor: np.ndarray

    @classmethod
    def about(cls, loc: np.ndarray, curvature: np.ndarray, along: int) -> Frame:
        """That of the curvature at a point."""
        order = np.array([along, *np.delete(np.arange(len(loc)), along)])
        return cls(loc, order, factor_of_curvature(curvature[np.ix_(order, order)]))

    def point(self, v: np.ndarray) -> np.ndarray:
        """z of v, of shape (…, n)."""
        z = np.empty(v.shape)
        z[..., self.order] = self.loc[self.order] + v @ self.factor.T
        return z


@dataclass(frozen=True)
class Knot:
    """A place s along the parameter."""

    s: float
    mean: np.ndarray
    """Of the others in the frame, where they are best."""
    slope: np.ndarray
    """How that moves with s."""
    root: np.ndarray
    """Lower-triangular, of the conditional curvature of the others."""
    height: float
    """−log of the density's Laplace approximation, the others integrated out; up to a constant."""
    miss: float
    """How far the foreseen mean was off, in conditional widths."""


def profile(problem: Problem, frame: Frame) -> tuple[list[Knot], str | None]:
    """Knots from one end of the posterior to the other, in order; and what is wrong, if anything.

    From the frame's point to both sides by Newton's method, each time from where the mean's
    curve leads, in steps as long as the widths allow.
    """
    origin = np.zeros(len(frame.order) - 1)
    first = _knot(problem, frame, 0.0, origin, patient=True)
    if first is None:
        return [], "the others have no mode there"
    sides, troubles = [], []
    for sign in (-1.0, 1.0):
        side, trouble = _side(problem, frame, first, sign)
        sides.append(side)
        troubles += [] if trouble is None else [trouble]
    knots = [*reversed(sides[0]), first, *sides[1]]
    lowest = min(knot.height for knot in knots)
    # What was cut short may still hold next to nothing.
    open_ends = [k for k in (knots[0], knots[-1]) if k.height < lowest + ENOUGH / 2]
    return knots, troubles[0] if troubles and open_ends else None


def _side(problem, frame, first, sign) -> tuple[list[Knot], str | None]:
    knots, step, lowest, refused = [first], 0.5, first.height, 0
    while len(knots) <= MOST:
        last = knots[-1]
        problem.told("a curve, places on it", len(knots), 0)
        s = last.s + sign * step
        found = _knot(problem, frame, s, _foreseen(knots, s))
        trouble = np.inf if found is None else max(
            found.miss / MISS,
            _width_miss(knots, found) / WIDTH_MISS,
            abs(found.height - _foreseen_height(knots, s)) / HEIGHT_MISS,
            _change(last, found) / CHANGE,
        )  # fmt: skip
        # Where next to nothing is left of the posterior, the height need not be so exact.
        allowed = 4.0 if found and found.height > lowest + ENOUGH else 1.0
        if found is None or not (trouble <= allowed or _next_to(last, found)):
            step /= 2
            refused += 1
            if step < SHORTEST or refused > REFUSED:
                return knots[1:], "it could not be followed"
            continue
        knots.append(found)
        lowest = min(lowest, found.height)
        if found.height > lowest + ENOUGH:
            return knots[1:], None
        if trouble < 1 / 3:
            step = min(1.6 * step, LONGEST)
    return knots[1:], "it does not end"


def _next_to(one: Knot, other: Knot) -> bool:
    """Whether so little changes from one knot to another that none is missing between them.

    Then what was not foreseen is a kink of the density, or a step of its curvature: knots close to
    it would only carve it into the coordinates.
    """
    little = abs(other.height - one.height) <= SMALL_STEP and _change(one, other) <= SMALL_CHANGE
    return little and other.miss <= MISS


def _foreseen(knots: list[Knot], s: float) -> np.ndarray:
    """The mean at s: straight on from the last knot, and bent as between the last two."""
    last = knots[-1]
    ahead = s - last.s
    mean = last.mean + ahead * last.slope
    if len(knots) > 1:
        before = knots[-2]
        mean = mean + ahead**2 / 2 * (last.slope - before.slope) / (last.s - before.s)
    return mean


def _foreseen_height(knots: list[Knot], s: float) -> float:
    """The height at s, by the parabola through the last three knots, or what there is of them."""
    last = knots[-3:]
    return float(np.polyval(np.polyfit([k.s for k in last], [k.height for k in last],
                                       len(last) - 1), s))  # fmt: skip


def _width_miss(knots: list[Knot], found: Knot) -> float:
    """How far the logarithms of widths are from the line through those of the last two knots."""
    last = knots[-1]
    foreseen = np.log(np.diag(last.root))
    if len(knots) > 1:
        before = knots[-2]
        slope = (foreseen - np.log(np.diag(before.root))) / (last.s - before.s)
        foreseen = foreseen + (found.s - last.s) * slope
    return float(np.abs(np.log(np.diag(found.root)) - foreseen).max(initial=0.0))


def _change(one: Knot, other: Knot) -> float:
    """The largest change of a conditional width, of its logarithm."""
    if not len(one.mean):
        return 0.0
    ratio = solve_triangular(one.root, other.root, lower=True, check_finite=False)
    if not np.isfinite(ratio).all():
        return np.inf
    values = np.linalg.svd(ratio, compute_uv=False)
    return float(np.abs(np.log(np.maximum(values, 1e-300))).max())


def _spectrum(problem, frame, v, value, curvature) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the others' curvature at v, as their widths want them, and its eigenvectors.

    On the flat top of a density that is about to fork the curvature is next to nothing, or
    negative, and says nothing of how wide it is.
    """
    n = len(curvature)
    if not n:
        return np.zeros(0), np.eye(0)
    signed, vectors = np.linalg.eigh(curvature)
    values = np.maximum(np.abs(signed), FLATTEST * np.abs(signed).max() + 1e-300)
    part = np.clip((WIDE - signed) / (WIDE - VERY_WIDE), 0, 1)
    secants, left = values.copy(), np.flatnonzero(part)
    reach, near, far = np.sqrt(2 * RISE / values), np.zeros(n), np.full(n, np.inf)
    for _ in range(SECANTS):
        if not len(left):
            break
        steps = np.c_[np.zeros(len(left)), reach[left, None] * vectors.T[left]]
        tried = jnp.asarray(frame.point(np.concatenate([v + steps, v - steps])), problem.dtype)
        rise = np.asarray(problem.potentials(tried), np.float64).reshape(2, -1).mean(0) - value
        # Not finite is farther than is wanted.
        rise = np.clip(np.where(np.isfinite(rise), rise, np.inf), 1e-3 * RISE, 1e6 * RISE)
        secants[left] = 2 * rise / reach[left] ** 2
        near[left] = np.where(rise < RISE, reach[left], near[left])
        far[left] = np.where(rise < RISE, far[left], reach[left])
        # As if it were a parabola, until the place lies between two.
        between = (near[left] > 0) & np.isfinite(far[left])
        guess = reach[left] * np.clip(np.sqrt(RISE / rise), 0.4, 2.5)
        reach[left] = np.where(between, np.sqrt(near[left] * far[left]), guess)
        left = left[np.abs(np.log(rise / RISE)) > 0.1]
    return values * (secants / values) ** part, vectors


def _knot(problem, frame, s, mean, *, patient=False) -> Knot | None:
    """The knot at s, by Newton's method for the others; None where that leads nowhere."""
    n, miss = len(mean), 0.0
    for i in range(60 if patient else 6):
        v = np.concatenate([[s], mean])
        z = jnp.asarray(frame.point(v), problem.dtype)
        value, gradient = problem.value_and_gradient(z)
        curvature = np.asarray(problem.curvature(z), np.float64)
        gradient = np.asarray(gradient, np.float64)
        if not (
            np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(curvature).all()
        ):
            return None
        gradient = frame.factor.T @ gradient[frame.order]
        curvature = frame.factor.T @ curvature[np.ix_(frame.order, frame.order)] @ frame.factor
        values, vectors = _spectrum(problem, frame, v, float(value), curvature[1:, 1:])
        inverse = (vectors / values) @ vectors.T
        step = -inverse @ gradient[1:]
        decrement = float(np.sqrt(max(-step @ gradient[1:], 0.0)))
        miss = max(miss, float(np.abs(np.sqrt(values) * (vectors.T @ step)).max(initial=0.0)))
        if i == 0 and miss > 4 * MISS and not patient:
            return None
        if decrement < EXACT:
            root = cholesky((vectors * values) @ vectors.T, lower=True) if n else np.zeros((0, 0))
            height = float(value) - decrement**2 / 2 + float(np.log(np.diag(root)).sum())
            slope = -inverse @ curvature[1:, 0]
            if not (np.isfinite(root).all() and np.isfinite(slope).all() and np.isfinite(height)):
                return None
            return Knot(s, mean + step, slope, root, height, 0.0 if patient else miss)
        length = 1.0
        if decrement > 1.0:
            fractions = 0.5 ** np.arange(8)
            tried = frame.point(np.c_[np.full(8, s), mean + fractions[:, None] * step])
            heights = np.asarray(problem.potentials(jnp.asarray(tried, problem.dtype)))
            if not (heights < float(value)).any():
                return None
            length = fractions[np.nanargmin(np.where(np.isfinite(heights), heights, np.inf))]
        mean = mean + length * step
    return None
