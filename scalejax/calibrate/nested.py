"""The search for a curved direction: which parameter the rest bends with, and whether it helps.

What bends shows in the weights of a fit's own draws: along the parameter in question they rise and
fall. The profile along it makes new coordinates, which are kept if their own draws say that they
are better, and may be straightened once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.curve import straightened
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.profile import Frame, Knot, profile
from scalejax.calibrate.report import K_HAT_GOOD, K_HAT_LIMIT
from scalejax.calibrate.weights import EFFICIENT, K_HAT_SMALL, VERY_EFFICIENT, Weighed, draw
from scalejax.calibrate.within import Within
from scalejax.coordinates import AbstractLayer

LARGEST = 200
"""Parameters, up to which there is a table of all their widths along a curve."""
LAYERS = 3
# A parameter explains the weights if R² is above this, and beside the best one, above this part.
EXPLAINS, NEARLY = 0.05, 0.4
# The unevenness that is left by a layer that is worth it.
WORTH = 0.85
# The part of all draws that a candidate is weighed by, and once more when it has been chosen.
SHARE, LEAST = 0.25, 200


@dataclass(frozen=True)
class Straightened:
    """Nested coordinates, draws of them with their weights, and what they straighten."""

    coordinates: AbstractLayer
    weighed: Weighed
    along: tuple[str, ...]
    bends: tuple[str, ...]

    @property
    def sufficient(self) -> bool:
        """Whether there is nothing left to be straightened."""
        return sufficient(self.weighed)


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
    if problem.base.size > LARGEST:
        return None
    best, inner = None, problem
    few = min(max(int(SHARE * draws), LEAST), draws)
    for depth in range(LAYERS):
        w = weighed.z if best is None else best.weighed.w
        known = weighed if best is None else best.weighed
        off = whatever and best is None
        chosen = _candidates(w, known, problem, off) if along is None or depth else [along]
        base = problem.base if best is None else best.coordinates
        frames = [Frame.about(z, curvature, i) for i in chosen]
        keys = jax.random.split(jax.random.fold_in(key, depth), len(frames) + 1)
        found = [
            _layer(problem, inner, base, frame, one, few)
            for frame, one in zip(frames, keys[1:], strict=True)
        ]
        found = [layer for layer in found if layer is not None]
        if not found:
            return best
        layer = min(found, key=lambda layer: layer.weighed.unevenness)
        if not _better(layer.weighed, known) and not (whatever and best is None):
            return best
        before = ((), ()) if best is None else (best.along, best.bends)
        best = replace(
            layer,
            weighed=layer.weighed + draw(problem, layer.coordinates, keys[0], few),
            along=before[0] + layer.along,
            bends=before[1] + layer.bends,
        )
        if best.sufficient:
            return best
        # Once more, in the coordinates found.
        inner = Within(problem, best.coordinates)
        z = np.zeros(problem.base.size)
        curvature = np.asarray(inner.curvature(jnp.asarray(z, problem.dtype)), np.float64)
        problem.spent += problem.base.size + 1
        if not np.isfinite(curvature).all():
            return best
    return best


def _better(new: Weighed, old: Weighed) -> bool:
    """Whether weights have become more even, in their bulk and in their tail."""
    if np.isnan(new.k_hat) or new.k_hat > K_HAT_LIMIT:
        return False
    if np.isnan(old.k_hat) or old.k_hat > K_HAT_LIMIT:
        return True
    return new.unevenness < WORTH * old.unevenness


def _candidates(w: np.ndarray, weighed: Weighed, problem: Problem, off: bool) -> list[int]:
    """The one or two parameters whose values explain most of the weights, best first.

    By the R² of a polynomial of fourth degree in each, of the logarithms; a parameter that the
    prior determines, or that is independent of the others and normal, explains nothing. Of a fit
    that is `off` the mode the slopes, which all parameters have there, are taken away first.
    """
    finite = np.isfinite(weighed.log_weights)
    log = weighed.log_weights[finite]
    if len(log) < 50:
        return []
    # The lowest say where the fit is too wide, by any amount; how much is of no interest.
    log = np.maximum(log, np.quantile(log, 0.01))
    if off:
        slopes = np.c_[np.ones(len(log)), w[finite]]
        log = log - slopes @ np.linalg.lstsq(slopes, log, rcond=None)[0]
    total = ((log - log.mean()) ** 2).sum()
    explained = np.zeros(w.shape[1])
    for i in np.flatnonzero(~np.asarray(problem.base.pinned)):
        x = w[finite, i]
        columns = np.vander((x - x.mean()) / max(x.std(), 1e-300), 5)
        rest = log - columns @ np.linalg.lstsq(columns, log, rcond=None)[0]
        explained[i] = 1 - (rest**2).sum() / total if total > 0 else 0.0
    order = np.argsort(-explained)[:2]
    least = max(EXPLAINS, NEARLY * explained[order[0]])
    return [int(i) for i in order if explained[i] > (EXPLAINS if i == order[0] else least)]


def _layer(problem, inner, base, frame, key, draws) -> Straightened | None:
    """One layer of coordinates, from the profile of `inner`, the problem in those of `base`."""
    spent = inner.spent
    knots, trouble = profile(inner, frame)
    if inner is not problem:
        problem.spent += inner.spent - spent
    if trouble is not None or len(knots) < 4:
        return None
    try:
        coordinates = straightened(base, frame, knots)
    except ValueError:  # SciPy's, of knots that no curve goes through
        return None
    if coordinates is None:
        return None
    weighed = draw(problem, coordinates, key, draws)
    name = problem.base.flat_names[int(frame.order[0])]
    return Straightened(coordinates, weighed, (name,), (_in_words(name, frame, knots),))


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
