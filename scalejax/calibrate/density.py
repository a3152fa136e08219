"""Coordinates from a log-density: a wide search, its best polished, and the curvature there."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate.compiled import callable_leaf
from scalejax.calibrate.fit import Found, fitted
from scalejax.calibrate.guard import guarded
from scalejax.calibrate.low_rank import low_rank_fit
from scalejax.calibrate.modes import polished
from scalejax.calibrate.problem import Problem, check_starts, place_of, refused, spread
from scalejax.calibrate.report import NOWHERE_FINITE, Report
from scalejax.calibrate.search import minimised
from scalejax.calibrate.target import OfDensity
from scalejax.coordinates import AbstractCoordinates

DENSE_LIMIT = 2000
ROUNDS = 3  # of a search that has reached its best mode only once


def from_log_density(
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    coordinates: AbstractCoordinates,
    *,
    key: Array,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 64,
    draws: int = 1000,
    along: str | None = None,
    max_steps: int = 1000,
    rank: int = 20,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from the curvature at the mode of a log-density of θ, of shape (P,).

    The mode in z is sought by BFGS (L-BFGS from 200 parameters on) from `starts` points, side by
    side: from `start`, a θ (by default that at z = 0), and from quasi-random normal z. Each takes
    a few dozen steps; those that are lowest, and all that end in different places, go on by
    Newton's method. Where only one start has reached the best mode, the search is widened, up to
    three times as far; where the fit is about as wide as the unit of z, it goes on around it, three
    times as wide. No direction is taken to be wider than the unit of z. `draws` of the fitted
    Gaussian are weighed against the density.

    For more than 2000 parameters there are at most 4 starts, the curvature is a diagonal and `rank`
    directions, from Hessian-vector products, and the density must fall towards draws of the fit
    as its curvature says, since weights say nothing there.

    Where the posterior bends along a parameter, the coordinates do so too; `along` names it, if it
    is known.

    **Raises** `ValueError` for starts below 1, an `along` that is no parameter, and nothing for
    a hard posterior.

    Examples:
        >>> import jax
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_log_density
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> def log_density(theta):
        ...     a, b = theta
        ...     return -((a + b) ** 2) / 0.02 - (a - b) ** 2 / 2
        >>> coordinates, report = from_log_density(log_density, scaling, key=jax.random.key(0))
        >>> print(report.kind)
        dense
    """
    check_starts(starts)
    bend = place_of(coordinates, along)
    problem = Problem(OfDensity(coordinates, callable_leaf(log_density)))
    return guarded(problem, lambda: _fit(problem, key, start, starts, draws, max_steps, rank, bend))


def _fit(problem, key, start, starts, draws, max_steps, rank, bend):
    size = problem.base.size
    search_key, check_key = jax.random.split(key)
    first = problem.first(start)
    if size > DENSE_LIMIT:
        count = min(starts, 4)
        z = jnp.concatenate([first[None], spread(search_key, count, size, problem.dtype)])[:count]
        ends, potentials = minimised(problem, z, max_steps)
        return low_rank_fit(problem, ends, potentials, check_key, rank)
    tried, found, modes, steps = 0, 0, [], min(max_steps, 50)
    zs, values, begun = np.zeros((0, size)), np.zeros(0), []
    for i in range(ROUNDS):
        points = spread(jax.random.fold_in(search_key, i), starts, size, problem.dtype)
        points = jnp.concatenate([first[None], points])[:starts] if i == 0 else points
        more, potentials = minimised(problem, points, steps)
        tried += len(more)
        begun.append(np.asarray(points, np.float64))
        zs, values = np.concatenate([zs, more]), np.concatenate([values, potentials])
        order = np.argsort(values)
        lowest = zs[order[np.isfinite(values[order])]]
        if not len(lowest):
            continue
        modes, led = polished(problem, lowest, most=8)
        if not modes:
            continue
        # What a search has reached, or what Newton's method has reached from where it ended.
        near = [modes[0].apart(z) < 3 * np.sqrt(size) for z in zs]
        found = max(led, int(np.sum(near | (values <= modes[0].potential + 1e-3))))
        if found > 1 or starts == 1 or modes[0].decrement > 0.1:
            break
    if not modes:
        return refused(problem, NOWHERE_FINITE, (0, tried))
    # Places where searches began, too: a search leaves the lower half of a ring.
    seen = np.concatenate([zs[np.isfinite(values)], *begun])

    def search(points):
        ends, potentials = minimised(problem, points, steps)
        return ends[np.isfinite(potentials)]

    what = Found(modes, seen, (found, tried), search=search, count=starts)
    return fitted(problem, what, check_key, draws, bend)
