"""From what a search found to coordinates: linear ones, or nested where the posterior bends.

Each is weighed by draws of its own before it is returned, and held beside every place where a
search ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.layers import depth, rows_down, rows_up
from scalejax.calibrate.linear import condition_number, factor_of_curvature, whitened
from scalejax.calibrate.modes import MODE_GAP, End, rivals
from scalejax.calibrate.nested import LARGEST, Straightened, nested, part, sufficient
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.regularised import regularised
from scalejax.calibrate.report import (
    K_HAT_LIMIT,
    LEAST_EFFICIENT,
    CoordinatesKind,
    Report,
    few_reached,
    left_out,
    no_mode,
)
from scalejax.calibrate.weights import EFFICIENT, Verdict, Weighed, draw, log_mean_error, weigh
from scalejax.coordinates import AbstractCoordinates, AbstractLayer
from scalejax.nested import NestedLaplace

# Precision of the normal prior on z that is added to a density without a mode: little, and then so
# much that it ends next to z = 0, whatever the density.
EXTRA = (1.0, 100.0)
# The width of a fit, in z, from which searches begin around it, and how many times as wide.
NARROW, WIDER = 0.3, 3.0
# How many times its mean a weight may be at a place that a search has found: e^10.
HEAVY = 10.0


@dataclass(frozen=True)
class Found:
    """What a search found."""

    modes: list[End]
    """Best first."""
    seen: np.ndarray
    """Wherever it ended, and perhaps began, of shape (n, P)."""
    starts: tuple[int, int]
    """How many have reached the best mode, of how many."""
    doubts: tuple[str, ...] = ()
    """What else speaks against it."""
    search: Callable[[Array], np.ndarray] | None = None
    """Where searches end that begin at points, (count, P), with a finite density there."""
    count: int = 0
    """How many of them there are to be."""


def fitted(
    problem: Problem, found: Found, key: Array, draws: int, along: int | None = None
) -> tuple[AbstractCoordinates, Report]:
    """The best coordinates that pass their check, or those of the problem."""
    best, size = found.modes[0], problem.base.size
    arrived = best.decrement <= 0.1
    reasons = rivals(found.modes) if arrived else []
    report = Report(
        CoordinatesKind.NONE,
        0,
        search_gradients=round(problem.spent),
        newton_decrement=best.decrement,
        starts=found.starts,
        condition=condition_number(best.curvature),
        log_density=-best.potential,
        mode=tuple(best.z.tolist()),
        doubts=(*few_reached(*found.starts), *found.doubts),
    )

    def finished(coordinates: AbstractCoordinates, **changes):
        gradients = round(problem.spent)
        return coordinates, replace(report, gradients=gradients, reasons=tuple(reasons), **changes)

    if reasons:
        return finished(problem.base, modes=tuple(tuple(end.z.tolist()) for end in found.modes))
    keys = jax.random.split(key, 8)
    linear = weighed = check = curved = None
    if arrived:
        linear = whitened(problem.base, best.z, best.factor, CoordinatesKind.DENSE)
        weighed, check = _looked_at(problem, linear, (keys[0], keys[5], keys[4]), draws)
        if along is not None or not sufficient(weighed):
            curved = nested(problem, best.z, best.curvature, weighed, keys[1], draws, along)
    else:
        reasons.append(no_mode(best.decrement))
    doubts, starts = report.doubts, found.starts
    if _hopeless(curved.weighed if curved else weighed) and size <= LARGEST:
        other, reached = _elsewhere(problem, keys[2], draws, along)
        if other and (not curved or other.weighed.unevenness < curved.weighed.unevenness):
            # There is no mode to be found then, or it is not where the mass is: what speaks against
            # the search of it says nothing.
            curved, starts = other, reached
            doubts = (*few_reached(*starts), *found.doubts)
    if curved:
        # By draws that no choice was made on.
        bent = weigh(problem, curved.coordinates, keys[3], draws)
        trouble = bent.trouble
        if trouble is None:
            missing = _left_out(problem, curved.coordinates, bent.weighed, found, keys[6])
            trouble = missing and missing.said
        if trouble is None:
            reasons[:] = [] if bent.remark is None else [bent.remark]
            return finished(
                curved.coordinates,
                kind=CoordinatesKind.NESTED,
                **_of_weights(bent.weighed),
                along=curved.along,
                bends=curved.bends,
                starts=starts,
                doubts=doubts,
            )
        reasons.append(f"nested, along {', '.join(curved.along)}: {trouble}")
    if linear is None:
        return finished(problem.base)
    coordinates, kind, check, more = _linear(problem, best, weighed, check, keys[4], draws)
    reasons += more
    missing = None
    if kind is not CoordinatesKind.NONE:
        missing = _left_out(problem, coordinates, check.weighed, found, keys[7])
    return finished(
        coordinates,
        kind=kind,
        **_of_weights(check.weighed),
        doubts=(*report.doubts, *([missing.said] if missing else [])),
        modes=(report.mode, tuple(missing.z.tolist())) if missing else (),
    )


def _looked_at(
    problem: Problem, linear: AbstractLayer, keys: tuple[Array, Array, Array], draws: int
) -> tuple[Weighed, Verdict | None]:
    """Draws of a linear fit, few where it is bad; and the verdict on it where it looks sufficient.

    It may look so by luck: the draws that settle a verdict come before a curve is ruled out.
    """
    weighed = draw(problem, linear, keys[0], part(draws))
    if weighed.efficiency < EFFICIENT / 2:
        return weighed, None
    weighed += draw(problem, linear, keys[1], draws - part(draws))
    if not sufficient(weighed):
        return weighed, None
    check = weigh(problem, linear, keys[2], draws, known=weighed)
    return check.weighed, check


def _of_weights(weighed: Weighed) -> dict[str, float]:
    """What the weights of a fit's draws tell of it."""
    k_hat = weighed.k_hat
    return {
        "k_hat": k_hat,
        "efficiency": weighed.efficiency,
        "log_evidence": weighed.log_evidence,
        "log_evidence_error": log_mean_error(weighed.weights, k_hat),
    }


def _linear(
    problem: Problem,
    best: End,
    weighed: Weighed | None,
    check: Verdict | None,
    key: Array,
    draws: int,
) -> tuple[Any, CoordinatesKind, Verdict, list[str]]:
    """Linear coordinates that pass their check, or those of the problem; and what is said of it.

    `weighed` are draws of the dense ones, and `check` their verdict, as far as they are known.
    """
    reasons = []
    for kind, known in ((CoordinatesKind.DENSE, weighed), (CoordinatesKind.DIAGONAL, None)):
        coordinates = whitened(problem.base, best.z, best.factor, kind)
        if check is None or kind is not CoordinatesKind.DENSE:
            check = weigh(problem, coordinates, key, draws, known=known)
        if check.trouble is None:
            reasons += [] if check.remark is None else [check.remark]
            return coordinates, kind, check, reasons
        reasons.append(f"{kind}: {check.trouble}")
    assert check is not None
    return problem.base, CoordinatesKind.NONE, check, reasons


def _hopeless(weighed: Weighed | None) -> bool:
    """Whether a fit has next to nothing to do with the posterior, or there is none."""
    if weighed is None or not weighed.k_hat <= K_HAT_LIMIT:
        return True
    return not weighed.efficiency >= LEAST_EFFICIENT / 10


def _elsewhere(problem, key, draws, along) -> tuple[Straightened | None, tuple[int, int]]:
    """Nested coordinates from where there is a mode with some of a prior added; and its search."""
    best, starts = None, (0, 0)
    for i, extra in enumerate(EXTRA):
        keys = jax.random.split(jax.random.fold_in(key, i), 3)
        end, reached = regularised(problem, extra, keys[0])
        if end is None:
            continue
        # As wide as the density is there with no more than the unit of z added.
        curvature = end.curvature + (1 - extra) * np.eye(len(end.z))
        factor = factor_of_curvature(curvature)
        linear = whitened(problem.base, end.z, factor, CoordinatesKind.DENSE)
        weighed = draw(problem, linear, keys[1], draws)
        # Its draws say along what it bends, and not whether it is any good.
        found = nested(problem, end.z, curvature, weighed, keys[2], draws, along, whatever=True)
        if found and (best is None or found.weighed.unevenness < best.weighed.unevenness):
            best, starts = found, reached
        if best and not _hopeless(best.weighed):
            break
    return best, starts


@dataclass(frozen=True)
class _Missing:
    """A place that a fit leaves out."""

    z: np.ndarray
    said: str


def _left_out(
    problem: Problem, coordinates: AbstractLayer, weighed: Weighed, found: Found, key: Array
) -> _Missing | None:
    """Whether a search has come where there is much that the fit does not know of.

    There the density, of the coordinates' w, is within e^10 of that at the fit's middle, and the
    weight far above the mean one: two heaps, or a ring of which the fit has a part. Beyond the ends
    of a curve it is the marginal along it that decides.
    """

    seen = _seen(problem, coordinates, found, key)
    z = jnp.asarray(seen, problem.dtype)
    inside, w = np.ones(len(z), bool), z
    layers = depth(problem.base, coordinates)
    stack: list[Any] = [coordinates]
    while len(stack) < layers:
        stack.append(stack[-1].base)
    for layer in reversed(stack):
        w = rows_up(layer, w)
        if isinstance(layer, NestedLaplace):
            inside &= np.abs(np.asarray(w)[:, layer.along]) <= layer.reach
    inside &= np.isfinite(np.asarray(w)).all(1)
    w = jnp.concatenate([jnp.zeros_like(w[:1]), w])
    z, log_det = rows_down(coordinates, layers, w)
    log = np.asarray(log_det - problem.potentials(z), np.float64)
    distance = (np.asarray(w, np.float64)[1:] ** 2).sum(1)
    beyond = log[1:] + distance / 2 - weighed.log_mean_weight
    gap = log[0] - log[1:]
    heavy = inside & (gap < MODE_GAP) & (beyond > HEAVY)
    if not heavy.any():
        return None
    i = int(np.argmin(np.where(heavy, gap, np.inf)))
    return _Missing(seen[i], left_out(float(np.sqrt(distance[i])), float(gap[i])))


def _seen(problem: Problem, coordinates: AbstractLayer, found: Found, key: Array) -> np.ndarray:
    """Where searches have come: those before the fit, and others that begin around it.

    The first began all over the unit of z. A fit that is as wide as that is not surrounded by them.
    """
    if found.search is None:
        return found.seen
    w = jax.random.normal(key, (found.count, problem.base.size), problem.dtype)
    layers = depth(problem.base, coordinates)
    if np.std(rows_down(coordinates, layers, w)[0], axis=0).max() < NARROW:
        return found.seen
    return np.concatenate([found.seen, found.search(rows_down(coordinates, layers, WIDER * w)[0])])
