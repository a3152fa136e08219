"""A point to begin at where a density has no mode: the mode with some of a prior added.

A funnel is highest where it has no width, or without bound; most of its mass is elsewhere. Any
point of its spine will do to follow it from.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array

from scalejax.calibrate.modes import MODE_GAP, End, polished
from scalejax.calibrate.problem import Problem, spread
from scalejax.calibrate.search import minimised
from scalejax.calibrate.target import WithPrior

STARTS, STEPS = 8, 100


def regularised(problem: Problem, extra: float, key: Array) -> tuple[End | None, tuple[int, int]]:
    """The mode of the density times a normal one on z, of precision `extra`; None without one.

    And how many of its searches reached it, of how many.
    """
    inner = Problem(WithPrior(problem.base, problem.target, extra), problem.kept, problem.told)
    size = problem.base.size
    points = spread(key, STARTS, size, problem.dtype).at[0].set(0.0)
    ends, potentials = minimised(inner, points, STEPS)
    order = np.argsort(potentials)
    lowest = ends[order[np.isfinite(potentials[order])]]
    modes, led = polished(inner, lowest, most=3) if len(lowest) else ([], 0)
    problem.spent += inner.spent
    if not modes or modes[0].decrement > 0.1:
        return None, (0, STARTS)
    best = modes[0]
    near = [best.apart(z) < 3 * np.sqrt(size) for z in ends]
    if any(end.decrement < 0.1 and end.potential - best.potential < MODE_GAP for end in modes[1:]):
        return None, (0, STARTS)
    return best, (max(led, int(np.sum(near))), STARTS)
