"""What is calibrated: a log-density in the z of some coordinates, and where searches begin."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.coordinates import AbstractCoordinates


class Problem:
    """A log-density of z, of shape (P,), in coordinates; `Coordinates.pullback` makes it."""

    def __init__(self, base: AbstractCoordinates, log_density: Callable[[Array], Float[Array, ""]]):
        self.base, self.log_density = base, log_density
        self.dtype = jnp.result_type(float)  # what optimisers compute in, whatever the base has
        self.potentials = jax.jit(jax.vmap(self.potential))

    def potential(self, z: Array) -> Array:
        """−log density, and infinity where that is no number."""
        value = -self.log_density(z)
        return jnp.where(jnp.isnan(value), jnp.inf, value)


def check_starts(starts: int) -> None:
    """Raise for fewer than one."""
    if starts < 1:
        raise ValueError(f"starts: expected at least 1; got {starts}")


def searches_of(solve, key, start, problem) -> Iterator[tuple[Array, int]]:
    """Where searches end, in z, and what each has cost, of as many as are asked for.

    The first starts at θ = `start`, or z = 0, the others at normal draws of z. They run one after
    the other: together, all would take as many steps as the slowest.
    """
    size = problem.base.size
    z = jnp.zeros(size) if start is None else problem.base.to_normalized(start)
    for i in itertools.count():
        end, cost = solve(z.astype(problem.dtype))
        yield end, int(cost)
        z = jax.random.normal(jax.random.fold_in(key, i), (size,), problem.dtype)


def nowhere_finite(problem, spent, starts) -> tuple[AbstractCoordinates, Report]:
    """The coordinates as they were: there is nothing to fit."""
    reason = "the log-density is not finite where the searches ended"
    return problem.base, Report(CoordinatesKind.NONE, spent, starts=(0, starts), reasons=(reason,))


def no_mode(length: float) -> str:
    """That a search has ended where there is no mode."""
    return (
        f"no mode was found: the gradient where the best search ended is {length:.2g} in units of "
        "the fitted standard deviations"
    )
