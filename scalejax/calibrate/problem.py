"""A target with its compiled functions, and what they have cost so far."""

from __future__ import annotations

from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate.compiled import MANY, Compiled, in_parts, store
from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.calibrate.target import AbstractTarget, runs_forwards
from scalejax.coordinates import AbstractCoordinates
from scalejax.progress import Told, untold

# What an evaluation costs beside a gradient, and a derivative forwards along one direction. A
# gradient costs three to four evaluations (Griewank and Walther 2008, chapter 4); side by side, as
# they are here, 0.02 to 0.18 gradients were measured for an evaluation and 0.18 to 0.45 for each
# direction of a Jacobian.
EVALUATION, TANGENT = 1 / 3, 1 / 2
# How far a step of a search may go in one coordinate, whose unit is about the width of a prior.
LONGEST = 1.5
DRAWS, FEWER_DRAWS = 1000, 400  # that a fit is checked with; of data in blocks
FEW = 16  # potentials that are worked out side by side, where there are no more


class Problem:
    """A target, its functions compiled, and what they have cost.

    `compiled(f, **static)` is the function (…) ↦ f(target, …, **static).

    `spent` counts gradients over all data, and what else its methods work out by what that costs
    beside one; what is done on a part of the data counts by that part.

    `told` hears how far what takes long has come.
    """

    def __init__(self, target: AbstractTarget, kept: Compiled | None = None, told: Told = untold):
        self.target, self.base, self.told = target, target.base, told
        self.dtype = jnp.result_type(float)  # what optimisers compute in, whatever the base has
        self.spent = 0.0
        self.kept = store(target) if kept is None else kept
        # To tell a target from others takes as long as a gradient of a small one.
        self.compiled = cache(partial(self.kept, target))

    def first(self, start: Float[ArrayLike, " P"] | None) -> Array:
        """Where the first search begins: z of a θ, or 0."""
        z = jnp.zeros(self.base.size) if start is None else self.base.to_normalized(start)
        return jnp.asarray(z, self.dtype)

    @cached_property
    def forwards(self) -> bool:
        """Whether the curvature runs forwards."""
        return self.kept.once(self.target, runs_forwards)

    def potentials(self, z: Float[Array, "n P"]) -> np.ndarray:
        """−log density at each of z.

        A few or many side by side, so that two shapes are compiled, and not one for each n.
        """
        count = len(z)
        if not count:
            return np.zeros(0)
        self.spent += EVALUATION * count
        side_by_side = self.target.at_once
        f = self.compiled(_potentials if side_by_side else _one_by_one)
        size, found = FEW if side_by_side and count <= FEW else MANY, []
        for i, part in enumerate(in_parts(z, size)):
            left = count - i * size
            found.append(np.asarray(f(part) if side_by_side else f(part, min(left, size))))
            if count > size:
                self.told("draws of a fit", min((i + 1) * size, count), count)
        return np.concatenate(found)[:count]

    def value_and_gradient(self, z: Float[Array, " P"]) -> tuple[Array, Array]:
        """Of −log density."""
        self.spent += 1
        return self.compiled(_value_and_gradient)(z)

    def curvature(self, z: Float[Array, " P"]) -> Array:
        """Of −log density."""
        self.spent += self.target.tangents * TANGENT
        return self.compiled(_curvature, forwards=self.forwards)(z)


def _potentials(target: AbstractTarget, z: Array) -> Array:
    return jax.vmap(target.potential)(z)


def _one_by_one(target: AbstractTarget, z: Array, count: int | Array) -> Array:
    """Of the first rows of z alone."""

    def step(i, found):
        return found.at[i].set(target.potential(z[i]))

    return jax.lax.fori_loop(0, count, step, jnp.zeros(len(z), z.dtype))


def _value_and_gradient(target: AbstractTarget, z: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(target.potential)(z)


def _curvature(target: AbstractTarget, z: Array, *, forwards: bool) -> Array:
    return target.curvature(z, forwards=forwards)


def spread(key: Array, count: int, size: int, dtype) -> Array:
    """Quasi-random points with the distribution of a standard normal, of shape (count, size).

    A scrambled Sobol sequence, while SciPy has as many dimensions.
    """
    from scipy import stats

    if size > stats.qmc.Sobol.MAXDIM:
        return jax.random.normal(key, (count, size), dtype)
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    sobol = stats.qmc.Sobol(size, rng=np.random.default_rng(seed))
    points = sobol.random_base2(int(np.ceil(np.log2(max(count, 2)))))[:count]
    return jnp.asarray(stats.norm.ppf(np.clip(points, 1e-12, 1 - 1e-12)), dtype)


def draws_of(target: AbstractTarget, draws: int | None) -> int:
    """How many draws a fit is checked with: where data are many each takes a pass over them."""
    if draws is None:
        return DRAWS if target.at_once else FEWER_DRAWS
    return draws


def check_starts(starts: int) -> None:
    """Raise for fewer than one."""
    if starts < 1:
        raise ValueError(f"starts: expected at least 1; got {starts}")


def place_of(coordinates: AbstractCoordinates, name: str | None) -> int | None:
    """Where a parameter is in the vector. **Raises** `ValueError` for a name that is none."""
    if name is None:
        return None
    if name not in coordinates.flat_names:
        raise ValueError(
            f"along: expected one of {', '.join(coordinates.flat_names)}; got {name!r}"
        )
    return coordinates.flat_names.index(name)


def refused(
    problem: Problem, reason: str, starts: tuple[int, int] = (0, 0)
) -> tuple[AbstractCoordinates, Report]:
    """The coordinates as they were, and why."""
    spent = round(problem.spent)
    return problem.base, Report(CoordinatesKind.NONE, spent, starts=starts, reasons=(reason,))
