"""What is calibrated: a log-density in the z of some coordinates, and what it has cost so far."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.coordinates import AbstractCoordinates

# How many potentials are worked out side by side.
FEW, MANY = 16, 200


class Problem:
    """A log-density of z, of shape (P,), in coordinates, and its curvature.

    `spent` counts gradients over all data; an evaluation counts as one, a Jacobian as 1 + P, and
    what is done on a part of the data by that part.
    """

    def __init__(
        self,
        base: AbstractCoordinates,
        log_density: Callable[[Array], Float[Array, ""]],
        curvature: Callable[[Array], Float[Array, "P P"]] | None = None,
    ):
        self.base, self.log_density = base, log_density
        self.dtype = jnp.result_type(float)  # what optimisers compute in, whatever the base has
        self.spent = 0.0
        self._side_by_side = jax.jit(jax.vmap(self.potential))
        self.value_and_gradient = jax.jit(jax.value_and_grad(self.potential))
        self.curvature = jax.jit(curvature or self._hessian)

    def first(self, start: Float[ArrayLike, " P"] | None) -> Array:
        """Where the first search begins: z of a θ, or 0."""
        z = jnp.zeros(self.base.size) if start is None else self.base.to_normalized(start)
        return jnp.asarray(z, self.dtype)

    def potential(self, z: Array) -> Array:
        """−log density, and infinity where that is no number."""
        value = -self.log_density(z)
        return jnp.where(jnp.isnan(value), jnp.inf, value)

    def potentials(self, z: Float[Array, "n P"]) -> np.ndarray:
        """−log density at each of z.

        A few or many side by side, so that two shapes are compiled, and not one for each n.
        """
        count = len(z)
        if not count:
            return np.zeros(0)
        size = FEW if count <= FEW else MANY
        rows = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)
        found = [np.asarray(self._side_by_side(z[part])) for part in rows]
        return np.concatenate(found)[:count]

    def _hessian(self, z: Array) -> Array:
        gradient = jax.grad(self.potential)
        return derivative(gradient, forwards=runs_forwards(gradient, z))(z)


def runs_forwards(f: Callable[[Array], Array], like: Array) -> bool:
    """Whether JAX can differentiate a function forwards: not one with a custom_vjp."""

    try:
        # Lowered and not only traced, since the refusal may come as late as that.
        jax.jit(jax.jacfwd(f)).lower(jax.ShapeDtypeStruct(like.shape, like.dtype))
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        return False
    return True


def derivative(f: Callable[[Array], Array], *, forwards: bool) -> Callable[[Array], Array]:
    """The Jacobian, forwards, or backwards for a function that JAX knows backwards alone."""
    return jax.jacfwd(f) if forwards else jax.jacrev(f)


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
