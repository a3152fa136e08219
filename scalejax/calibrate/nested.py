"""The search for curved directions: what the rest bends with, and whether straightening it helps.

What bends shows in the weights of a fit's own draws: along the direction in question they rise and
fall. The profile along it makes new coordinates, which are kept if their own draws say that they
are better, and may be straightened once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.curve import straightened
from scalejax.calibrate.direction import directions
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.profile import Frame, Knot, profile
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT, VERY_EFFICIENT
from scalejax.calibrate.weights import EFFICIENT, K_HAT_SMALL, Weighed, draw
from scalejax.calibrate.within import Within
from scalejax.coordinates import AbstractCoordinates, AbstractLayer
from scalejax.whitened import Reflected

LARGEST = 200
"""Parameters, up to which there is a table of all their widths along a curve."""
LAYERS = 3
# The unevenness that is left by a layer that is worth it.
WORTH = 0.85
# The part of all draws by which it is seen that a fit is bad, or which candidate is best.
SHARE, LEAST = 0.2, 200


@dataclass(frozen=True)
class Straightened:
    """Nested coordinates, draws of them with their weights, and what they straighten."""

    coordinates: AbstractLayer
    weighed: Weighed
    along: tuple[str, ...]
    bends: tuple[str, ...]


def part(draws: int) -> int:
    """Of so many draws, those that tell a bad fit."""
    return min(max(int(SHARE * draws), LEAST), draws)


def sufficient(weighed: Weighed) -> bool:
    """Whether weights are as even as can be wished."""
    small, even = weighed.k_hat <= K_HAT_SMALL, weighed.efficiency >= EFFICIENT
    # Of a thousand draws k̂ is known to a few tenths; of weights this even it need not be smaller.
    return (small and even) or (
        weighed.k_hat <= K_HAT_GOOD and weighed.efficiency >= VERY_EFFICIENT
    )


def nested(
    problem: Problem,
    z: np.ndarray,
    curvature: np.ndarray,
    weighed: Weighed,
    key: Array,
    draws: int,
    along: int | None = None,
    *,
    whatever: bool = False,
) -> Straightened | None:
    """Nested coordinates about a point, if they are better than those that `weighed` is of.

    `weighed` has draws of the Gaussian with that curvature. `along` is the parameter, if it is
    known. `whatever` they are, they are returned where the draws were not meant to be good ones.
    """
    size = problem.base.size
    if size > LARGEST:
        return None
    best = None
    around = _Around(problem, problem.base, z, curvature)
    free = ~np.asarray(problem.base.pinned)
    few = part(draws)
    for depth in range(LAYERS):
        known = weighed if best is None else best.weighed
        if along is not None and best is None:
            chosen = [np.eye(size)[along]]
        else:
            # Combinations mean something where all parameters have the same width.
            x = weighed.z if best is None else known.w
            off = whatever and best is None
            chosen = directions(x, known, free, off=off, combined=best is not None)
        keys = jax.random.split(jax.random.fold_in(key, depth), len(chosen) + 1)
        layer = None
        for e, one in zip(chosen, keys[1:], strict=True):
            found = _layer(around, e, one, few)
            if found and (layer is None or _better(found.weighed, layer.weighed)):
                layer = found
            if layer and _better(layer.weighed, known):
                break
        if layer is None:
            return best
        if not _better(layer.weighed, known) and not (whatever and best is None):
            return best
        before = ((), ()) if best is None else (best.along, best.bends)
        best = replace(
            layer,
            weighed=layer.weighed + draw(problem, layer.coordinates, keys[0], draws - few),
            along=before[0] + layer.along,
            bends=before[1] + layer.bends,
        )
        if sufficient(best.weighed):
            return best
        # Once more, in the coordinates found.
        inner, middle = Within(problem, best.coordinates), np.zeros(size)
        curvature = np.asarray(inner.curvature(jnp.asarray(middle, problem.dtype)), np.float64)
        if not np.isfinite(curvature).all():
            return best
        around = _Around(problem, best.coordinates, middle, curvature)
    return best


def _better(new: Weighed, old: Weighed) -> bool:
    """Whether weights have become more even, in their bulk and in their tail."""
    if np.isnan(new.k_hat) or new.k_hat > K_HAT_LIMIT:
        return False
    if np.isnan(old.k_hat) or old.k_hat > K_HAT_LIMIT:
        return True
    return new.unevenness < WORTH * old.unevenness


@dataclass(frozen=True)
class _Around:
    """A point in coordinates that stand on those of a problem, and the curvature there."""

    problem: Problem
    coordinates: AbstractCoordinates
    z: np.ndarray
    curvature: np.ndarray

    @property
    def inner(self) -> Problem:
        """The problem in these coordinates."""
        if (
            isinstance(self.coordinates, AbstractLayer)
            and self.coordinates is not self.problem.base
        ):
            return Within(self.problem, self.coordinates)
        return self.problem

    def turned(self, i: int, e: np.ndarray) -> _Around:
        """With a direction in place of one parameter."""
        coordinates = Reflected.exchanging(self.coordinates, i, e)
        normal = np.asarray(coordinates.normal, np.float64)
        turn = np.eye(len(e)) - 2 * np.outer(normal, normal) / (normal @ normal)
        return _Around(self.problem, coordinates, turn @ self.z, turn @ self.curvature @ turn)


def _layer(around: _Around, e: np.ndarray, key: Array, draws: int) -> Straightened | None:
    """One layer of coordinates more, from the profile along a direction."""
    i = int(np.argmax(np.abs(e)))
    e = e * np.sign(e[i])
    combined = e[i] < 1.0
    if combined:
        around = around.turned(i, e)
    frame = Frame.about(around.z, around.curvature, i)
    knots, trouble = profile(around.inner, frame)
    if trouble is not None or len(knots) < 4:
        return None
    try:
        coordinates = straightened(around.coordinates, frame, knots)
    except ValueError:  # SciPy's, of knots that no curve goes through
        return None
    if coordinates is None:
        return None
    if combined:
        assert isinstance(around.coordinates, Reflected)
        coordinates = Reflected(coordinates, around.coordinates.normal)
    weighed = draw(around.problem, coordinates, key, draws)
    name = _name(e, around.problem.base.flat_names)
    return Straightened(coordinates, weighed, (name,), (_in_words(name, frame, knots),))


def _name(e: np.ndarray, names: Sequence[str]) -> str:
    """A parameter, or the two or three that a combination has most of, each in its width."""
    order = [int(i) for i in np.argsort(-np.abs(e))[:3] if abs(e[i]) > 0.4 * np.abs(e).max()]
    rest = "".join(f" {'+' if e[i] > 0 else '−'} {names[i]}" for i in order[1:])
    return names[order[0]] + rest


def _in_words(name: str, frame: Frame, knots: list[Knot]) -> str:
    """What the rest does along a parameter, where nearly all of the posterior is."""
    least = min(knot.height for knot in knots)
    # Two standard deviations to each side.
    middle = [knot for knot in knots if knot.height < least + 2.0] or knots
    mean = np.array([knot.mean for knot in middle])
    s = np.array([knot.s for knot in middle])
    widths = np.array([np.diag(knot.root) for knot in middle])
    columns = np.c_[np.ones_like(s), s]
    bend = mean - columns @ np.linalg.lstsq(columns, mean, rcond=None)[0]
    bent = float((np.abs(bend) * np.median(widths, axis=0)).max(initial=0.0))
    factor = float((widths.max(0) / widths.min(0)).max(initial=1.0))
    said = []
    if bent > 0.5:
        said.append(f"bends with {name}, by {bent:.2g} of its widths,")
    if factor > 1.5 and said:
        said.append(f"its width changes by a factor {factor:.2g} along it")
    elif factor > 1.5:
        said.append(f"changes its width with {name}, by a factor {factor:.2g}")
    return f"the rest {' and '.join(said).rstrip(',')}" if said else f"{name} itself is not normal"
