"""Coordinates from a least-squares model: a search on part of the data, and the curvature of all.

The search goes from many points with few data to few points with all of them. The noise, if it is a
parameter, is not free on the way: it is the size of the residuals, wherever the search is, so that
the prior leads while the model is far off and the data take over as it gets better. Parameters that
enter linearly are solved for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from scalejax.blocks import Blocks
from scalejax.calibrate.compiled import callable_leaf
from scalejax.calibrate.fit import Found, fitted
from scalejax.calibrate.guard import guarded
from scalejax.calibrate.least_squares import OfResiduals
from scalejax.calibrate.levenberg import Fit, LeastSquares
from scalejax.calibrate.modes import End, polished
from scalejax.calibrate.problem import (
    EVALUATION,
    Problem,
    check_starts,
    draws_of,
    place_of,
    refused,
    spread,
)
from scalejax.calibrate.report import NOWHERE_FINITE, Report, few_reached
from scalejax.coordinates import AbstractCoordinates
from scalejax.progress import Told, untold

FEWEST_AND_MOST = (8, 11)  # points to begin at, where their number is not given: log2
ROUNDS = 3  # of a search that has reached its best mode only once, or left much unexplained
# Residuals that are larger than their neighbours' differences by more than this are no noise.
UNEXPLAINED = 1.5
# Where data are in blocks: how many stretches of them are looked at, and of how many items.
STRETCHES, STRETCH = 8, 5000


def from_residuals(
    residuals: Callable[..., Float[Array, "..."]],
    coordinates: AbstractCoordinates,
    *,
    log_prior: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    key: Array,
    residuals_at: Callable[[Float[Array, " P"], Any], Float[Array, " m"]] | None = None,
    pick: Callable[[Int[np.ndarray, " m"]], Any] | None = None,
    blocks: Blocks | None = None,
    linear: Sequence[str] = (),
    rowwise: Sequence[str] = (),
    noise: str | None = None,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int | None = None,
    draws: int | None = None,
    along: str | None = None,
    told: Told = untold,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from a least-squares model: log-density = −½·Σ residuals² + log_prior, of θ.

    Residuals are in units of the noise. `noise` names the parameter that is their standard
    deviation, if there is one: residuals are then as 1/noise, and `log_prior` is more than the
    prior, for it holds the −M·log(noise) of M residuals as well. `linear` names the groups that
    enter the residuals linearly, which are solved for. `residuals_at(theta, index)` gives some of
    the residuals, by their places in `residuals(theta).ravel()`: with it the search begins on a
    small part of the data. With `pick` it is `residuals_at(theta, pick(index))`: so it needs no
    more of the data than are picked out, in NumPy, once for each part.

    With `blocks`, the data cut into them, it is `residuals(theta, block)`, of shape (…, items), and
    memory is that of a block, however many there are. Parts are of their items then, or, with
    `residuals_at`, of all residuals in the order of rows. `rowwise` names groups whose k-th element
    enters row k of the residuals alone, the first axis: one derivative does for each of these then.

    Of `starts` points, `start` (a θ; by default that at z = 0) and quasi-random normal z, the best
    are looked at with more of the data, the best of those go on by Levenberg and Marquardt's
    method, then the best ends on more of the data, and what is left by Newton's method on all. By
    default there are 256 to 2048 points, the more the more parameters there are that are not solved
    for. Where only one has led to the best mode, or the residuals there are far larger than the
    differences of their neighbours, the search is widened, up to three times. The curvature of the
    residuals is that of Gauss and Newton, JᵀJ, which is never negative. The fit is checked as by
    `from_log_density`, with 400 draws where data are in blocks, and 1000 elsewhere.

    Where the posterior bends along a parameter, the coordinates do so too; `along` names it, if it
    is known. `told` hears how far it has come; see `scalejax.progress`.

    **Raises** `ValueError` for starts below 1, names in `linear`, `rowwise` or `noise` that are no
    group, `rowwise` without blocks or of another number of rows, an `along` that is no parameter,
    and nothing for a hard posterior.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_residuals
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> x = jnp.linspace(100.0, 101.0, 20)
        >>> coordinates, report = from_residuals(
        ...     lambda theta: (theta[0] + theta[1] * (x - 100.0) - 2.0) / 0.1, scaling,
        ...     log_prior=lambda theta: -0.5 * (theta**2).sum(), key=jax.random.key(0))
        >>> print(report.kind)
        dense
    """
    if starts is not None:
        check_starts(starts)
    bend = place_of(coordinates, along)
    named = {*linear, *rowwise, *(() if noise is None else (noise,))}
    if unknown := sorted(named - set(coordinates)):
        raise ValueError(
            f"{', '.join(unknown)} is none of the groups {', '.join(coordinates)}: expected their "
            "names in linear, rowwise and noise"
        )
    if rowwise and blocks is None:
        raise ValueError("rowwise: expected only with data in blocks")

    target = OfResiduals.of(
        coordinates,
        callable_leaf(residuals),
        callable_leaf(residuals_at),
        callable_leaf(log_prior),
        linear,
        noise,
        blocks,
        rowwise,
    )
    if starts is None:
        starts = 2 ** int(np.clip(4 + target.nonlinear, *FEWEST_AND_MOST))
    problem = Problem(target, told=told)
    squares = LeastSquares(problem, pick)
    count = draws_of(target, draws)
    return guarded(problem, lambda: _fit(squares, key, start, starts, count, bend))


def _fit(squares, key, start, starts, draws, bend):
    problem = squares.problem
    size = problem.base.size
    search_key, check_key = jax.random.split(key)
    first = problem.first(start)
    tried, found, modes, best, doubts = 0, 0, [], [], ()
    # Of very many data a wider search is next to nothing beside one look at all of them.
    begin = WIDER_ROUND if squares.count >= VERY_MANY else 0
    for i in range(begin, begin + ROUNDS):
        keys = jax.random.split(jax.random.fold_in(search_key, i), 3)
        points = spread(keys[0], starts * 2**i, size, problem.dtype)
        points = jnp.concatenate([first[None], points])[: starts * 2**i]
        fits = _narrowed(squares, points, keys[1], widened=2**i)
        tried += len(points)
        candidates = _closer(_promising(fits, squares), squares, keys[2])
        if not candidates:
            continue
        before = modes[:1]
        best = [*(end.z for end in modes), *(fit.z for fit in candidates)]
        modes, led = polished(problem, np.array(best), most=4 + i - begin)
        if not modes:
            continue
        # A search that comes to the mode of the one before it speaks for it as well.
        same = any(modes[0].apart(end.z) < 1.0 for end in before)
        if not same:
            found = _agreeing(fits, squares.count)
        elif led > 1:
            found += _agreeing(fits, squares.count)
        doubts = _unexplained(modes[0], squares)
        if not few_reached(found, tried) and not doubts:
            break
    if not modes:
        return refused(problem, NOWHERE_FINITE, (0, tried))
    seen = np.array(best)
    return fitted(problem, Found(modes, seen, (found, tried), doubts), check_key, draws, bend)


# Residuals, per parameter and at least, in four stages: of all points, of the best of those, of
# those that descend, and of the ends that go on; and how many there are then: a part of all points,
# and so many.
DATA = ((4, 128), (16, 512), (16, 512), (32, 1024))
SECOND, THIRD, FOURTH = 1 / 8, 20, 6
CANDIDATES = 3  # for Newton's method on all data
# Of very many data parts of so many residuals, in so many steps at most, bring what is left next to
# the modes of all: there a step is a hundredth of one of Newton's, and does not lose its way in
# curved valleys.
MORE, VERY_MANY, WIDER_ROUND = ((2**14, 100), (2**16, 30)), 2**20, 2


def _narrowed(squares: LeastSquares, points: Array, key: Array, *, widened: int) -> list[Fit]:
    """From many points with few data to few with more, best first."""
    size, count = points.shape[1], squares.count
    keys = jax.random.split(key, len(DATA))
    parts = [
        squares.part(k, min(count, widened * max(each * size, least)))
        for k, (each, least) in zip(keys, DATA, strict=True)
    ]
    third = THIRD * widened
    second = third if parts[1] is None else max(int(SECOND * len(points)), third)
    tell = squares.problem.told
    for i, (part, most) in enumerate(((parts[0], second), (parts[1], third))):
        tell("search, stages", i, len(DATA))
        if len(points) > most:
            # The first is the one that the user has named.
            order = np.argsort(squares.heights(points, part))
            points = points[np.array(list(dict.fromkeys([0, *order[: most - 1]])))]
    tell("search, stages", 2, len(DATA))
    first = squares.descended(points, parts[2], steps=25)
    if squares.whole(parts[2]):  # there is no smaller part, and these are fits to all of the data
        return first
    ends = jnp.asarray(np.array([fit.z for fit in first[: FOURTH * widened]]), points.dtype)
    tell("search, stages", 3, len(DATA))
    return squares.descended(ends, parts[3], steps=20)


def _agreeing(fits: list[Fit], count: int) -> int:
    """How many have ended as high as the best, as nearly as they have converged.

    Or next to it, and as high as their part of the data can tell.
    """
    best, size = fits[0], len(fits[0].z)
    if not np.isfinite(best.height):
        return 0
    off = np.array([fit.height - best.height for fit in fits]) / max(5.0, size)
    told = count / max(best.used, 1)
    return sum(
        bool(apart <= 1 or (apart <= told and best.near(fit.z)))
        for fit, apart in zip(fits, off, strict=True)
    )


def _promising(fits: list[Fit], squares: LeastSquares) -> list[Fit]:
    """The best fit, and others that all of the data may yet prefer, in other places."""
    kept = _distinct(fits)
    slack = 10.0 * squares.count / max(fits[0].used, 1)
    return [fit for fit in kept if fit.height <= kept[0].height + slack][:CANDIDATES]


def _closer(fits: list[Fit], squares: LeastSquares, key: Array) -> list[Fit]:
    """Fits as more of very many data have them: less is left to do for all of those."""
    if squares.count < VERY_MANY or not fits:
        return fits
    for i, (count, steps) in enumerate(MORE):
        squares.problem.told("search, more data", i, len(MORE))
        part = squares.part(jax.random.fold_in(key, i), count)
        # One by one: each is as much as a processor can do at once.
        ends = [squares.descended(jnp.asarray(fit.z)[None], part, steps=steps)[0] for fit in fits]
        fits = _promising(sorted(ends, key=lambda fit: fit.height), squares)
    return fits


def _distinct(fits: list[Fit]) -> list[Fit]:
    """Of fits that ended in one place, best first, the best."""
    kept: list[Fit] = []
    for fit in fits:
        if np.isfinite(fit.height) and not any(other.near(fit.z) for other in kept):
            kept.append(fit)
    return kept


def _unexplained(end: End, squares: LeastSquares) -> tuple[str, ...]:
    """Whether residuals at a mode are larger than what the differences of neighbours say of noise.

    Along the last axis of the residuals, or some stretches of it where data are in blocks. Where
    neighbours have nothing to do with each other, both are the same, and nothing is said.
    """
    problem, blocks = squares.problem, squares.target.blocks
    z = jnp.asarray(end.z, problem.dtype)
    if blocks is None:
        residual = problem.compiled(_residuals)(z)
        problem.spent += EVALUATION
    else:
        length = min(STRETCH, blocks.items)
        begins = np.unique(np.linspace(0, blocks.items - length, STRETCHES).astype(int))
        part = squares.items(np.concatenate([np.arange(b, b + length) for b in begins]))
        residual = squares.light.compiled(_residuals)(z, part.data)
        problem.spent += EVALUATION * squares.target.share(part)
    residual = np.asarray(residual, np.float64)
    residual = residual.reshape(-1, residual.shape[-1]) if residual.ndim else residual[None, None]
    if residual.shape[-1] < 20:
        return ()
    steps = np.abs(np.diff(residual, axis=-1))
    noise = float(np.median(steps)) / 0.6745 / np.sqrt(2)
    # Both as medians, so that a few outliers make no difference.
    size = float(np.median(np.abs(residual))) / 0.6745
    ratio = size / noise if noise > 0 else 1.0
    if not ratio > UNEXPLAINED:
        return ()
    return (
        f"the residuals at the mode are {ratio:.2g} times as large as the differences of their "
        "neighbours say of the noise: the model does not fit there, or a better mode was missed",
    )


def _residuals(target: OfResiduals, z: Array, *block: Any) -> Array:
    return target.of_z(z, *block)
