"""Coordinates from a log-density: a wide search, its best polished, and the curvature there."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.blocks import Blocks
from scalejax.calibrate.compiled import callable_leaf
from scalejax.calibrate.fit import Found, fitted
from scalejax.calibrate.guard import guarded
from scalejax.calibrate.low_rank import low_rank_fit
from scalejax.calibrate.modes import polished
from scalejax.calibrate.problem import Problem, check_starts, draws_of, place_of, refused, spread
from scalejax.calibrate.report import NOWHERE_FINITE, Report
from scalejax.calibrate.search import minimised
from scalejax.calibrate.target import OfDensity, Summed
from scalejax.coordinates import AbstractCoordinates
from scalejax.progress import Told, untold

DENSE_LIMIT = 2000
ROUNDS = 3  # of a search that has reached its best mode only once
# Items of data in blocks that are searched on: for each parameter, and at least; where they are one
# in so many.
PART_EACH, PART, THINNED = 64, 4096, 4


def from_log_density(
    log_density: Callable[..., Float[ArrayLike, "..."]],
    coordinates: AbstractCoordinates,
    *,
    key: Array,
    blocks: Blocks | None = None,
    log_prior: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]] | None = None,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 64,
    draws: int | None = None,
    along: str | None = None,
    max_steps: int = 1000,
    rank: int = 20,
    told: Told = untold,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from the curvature at the mode of a log-density of θ, of shape (P,).

    The mode in z is sought by BFGS (L-BFGS from 200 parameters on) from `starts` points, side by
    side: from `start`, a θ (by default that at z = 0), and from quasi-random normal z. Each takes
    up to 50 steps, of at most 1.5 units of z in each parameter; those that are lowest, and all that
    end in different places, go on by Newton's method. Where only one start has reached the best
    mode, the search is widened, up to three times as far; where the fit is about as wide as the
    unit of z, it goes on around it, three times as wide. No direction is taken to be wider than the
    unit of z. `draws` of the fitted Gaussian, by default 1000, are weighed against the density.

    With `blocks`, many data cut into them, it is `log_density(theta, block)`, of shape (…, items),
    whose sum over all of them is the log-likelihood, and `log_prior` that of θ. The search is on a
    part of the data then, and 400 draws are weighed by default.

    For more than 2000 parameters there are at most 4 starts, the curvature is a diagonal and `rank`
    directions, from Hessian-vector products, and the density must fall towards draws of the fit
    as its curvature says, since weights say nothing there.

    Where the posterior bends along a parameter, the coordinates do so too; `along` names it, if it
    is known. `told` hears how far it has come; see `scalejax.progress`.

    **Raises** `ValueError` for starts below 1, an `along` that is no parameter, blocks without a
    `log_prior` or that without blocks, and nothing for a hard posterior.

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
    if (blocks is None) != (log_prior is None):
        raise ValueError("expected both blocks and log_prior, or none of them")
    of_theta, thin = callable_leaf(log_density), None
    if blocks is not None:
        of_theta = Summed(of_theta, callable_leaf(log_prior), blocks)
        count = max(PART_EACH * coordinates.size, PART)
        if count * THINNED <= blocks.items:
            part = of_theta.part(jax.random.fold_in(key, 1), count)
            thin = Problem(OfDensity(coordinates, part), told=told)
    problem = Problem(OfDensity(coordinates, of_theta), told=told)
    count = draws_of(problem.target, draws)
    return guarded(
        problem, lambda: _fit(problem, thin, key, start, starts, count, max_steps, rank, bend)
    )


def _fit(problem, thin, key, start, starts, draws, max_steps, rank, bend):
    size = problem.base.size
    search_key, check_key = jax.random.split(key)
    first = problem.first(start)
    if size > DENSE_LIMIT:
        count = min(starts, 4)
        z = jnp.concatenate([first[None], spread(search_key, count, size, problem.dtype)])[:count]
        ends, potentials = _searched(problem, thin, z, max_steps)
        return low_rank_fit(problem, ends, potentials, check_key, rank)
    tried, found, modes, steps = 0, 0, [], min(max_steps, 50)
    zs, values, begun = np.zeros((0, size)), np.zeros(0), []
    for i in range(ROUNDS):
        points = spread(jax.random.fold_in(search_key, i), starts, size, problem.dtype)
        points = jnp.concatenate([first[None], points])[:starts] if i == 0 else points
        more, potentials = _searched(problem, thin, points, steps)
        tried += len(more)
        begun.append(np.asarray(points, np.float64))
        zs, values = np.concatenate([zs, more]), np.concatenate([values, potentials])
        order = np.argsort(values)
        lowest = zs[order[np.isfinite(values[order])]]
        if not len(lowest):
            continue
        if thin is not None:
            lowest = _modes_of(thin, lowest, problem)
        modes, led = polished(problem, lowest, most=8)
        if not modes:
            continue
        # What a search has reached, or what Newton's method has reached from where it ended. A
        # part of the data knows the mode that much less.
        wider = 1.0 if thin is None else np.sqrt(_items(problem) / _items(thin))
        near = [modes[0].apart(z) < 3 * np.sqrt(size) * wider for z in zs]
        lower = modes[0].potential if thin is None else -np.inf
        found = max(led, int(np.sum(near | (values <= lower + 1e-3))))
        if found > 1 or starts == 1 or modes[0].decrement > 0.1:
            break
    if not modes:
        return refused(problem, NOWHERE_FINITE, (0, tried))
    # Places where searches began, too: a search leaves the lower half of a ring.
    seen = np.concatenate([zs[np.isfinite(values)], *begun])

    def search(points):
        ends, potentials = _searched(problem, thin, points, steps)
        return ends[np.isfinite(potentials)]

    what = Found(modes, seen, (found, tried), search=search, count=starts)
    return fitted(problem, what, check_key, draws, bend)


def _searched(problem, thin, points, steps):
    """Where searches end, and how high, by a part of the data if there is one."""
    if thin is None:
        return minimised(problem, points, steps)
    return _on_part(problem, thin, lambda: minimised(thin, points, steps))


def _modes_of(thin, lowest, problem):
    """The modes of a part of the data that may be the best of all of them, best first."""
    modes, _ = _on_part(problem, thin, lambda: polished(thin, lowest, most=8))
    if not modes:
        return lowest
    slack = 10.0 * _items(problem) / _items(thin)
    return np.array([end.z for end in modes if end.potential <= modes[0].potential + slack])


def _on_part(problem, thin, work):
    """What is done on a part of the data, which counts by that part."""
    before = thin.spent
    found = work()
    problem.spent += (thin.spent - before) * _items(thin) / _items(problem)
    return found


def _items(problem) -> int:
    return problem.target.of_theta.blocks.items
