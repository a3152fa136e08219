"""What is calibrated, as a pytree: a log-density of z, with its data and coordinates as arrays.

Its methods are traced. `problem` compiles them, and counts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from scalejax.blocks import Blocks, scattered
from scalejax.coordinates import AbstractCoordinates


class AbstractTarget(eqx.Module):
    """A log-density of z, of shape (P,), in coordinates, and its curvature."""

    base: eqx.AbstractVar[AbstractCoordinates]

    @abstractmethod
    def log_density(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """Of z."""

    @abstractmethod
    def curvature(self, z: Float[Array, " P"], *, forwards: bool) -> Float[Array, "P P"]:
        """That of −log density; `forwards` as `runs_forwards` finds it."""

    @property
    @abstractmethod
    def tangents(self) -> float:
        """What `curvature` costs, in derivatives of `log_density` along one direction."""

    @abstractmethod
    def probe(self, z: Float[Array, " P"]) -> Array:
        """What `curvature` differentiates."""

    @property
    def at_once(self) -> bool:
        """Whether densities at many places are best worked out side by side.

        Those of data in blocks are not, which fill a processor's cache with one.
        """
        return True

    def potential(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """−log density, and infinity where that is no number."""
        value = -self.log_density(z)
        return jnp.where(jnp.isnan(value), jnp.inf, value)


class OfDensity(AbstractTarget):
    """A log-density of θ."""

    base: AbstractCoordinates
    of_theta: Callable[[Array], Float[ArrayLike, ""]]

    @property
    def at_once(self) -> bool:
        """Unless there are data in blocks in it."""
        leaves = jax.tree.leaves(self.of_theta, is_leaf=lambda x: isinstance(x, Blocks))
        return not any(isinstance(leaf, Blocks) for leaf in leaves)

    def log_density(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """By the pullback of the coordinates."""
        # A model may compute in another dtype than the coordinates'; the search is in one.
        of_z = self.base.pullback(lambda theta: jnp.asarray(self.of_theta(theta), theta.dtype))
        return of_z(z)

    @property
    def tangents(self) -> float:
        """Those of a gradient, along each of P directions: two gradients each, at most."""
        return 2.0 * self.base.size

    def probe(self, z: Float[Array, " P"]) -> Float[Array, " P"]:
        """The gradient."""
        return jax.grad(self.potential)(z)

    def curvature(self, z: Float[Array, " P"], *, forwards: bool) -> Float[Array, "P P"]:
        """The Hessian."""
        return with_derivative(self.probe, z, forwards=forwards)[1]


class Summed(eqx.Module):
    """A log-density of θ that is a sum over data in blocks, and the rest of it."""

    of_items: Callable[[Array, Any], Array]
    """Of θ and a block, with a value for each item."""
    rest: Callable[[Array], Float[ArrayLike, ""]]
    blocks: Blocks
    weight: float = 1.0
    """Of an item: how many a part stands for."""

    def __call__(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        """Of θ."""
        return self.weight * self.blocks.sum(self.of_items, theta) + self.rest(theta)

    def part(self, key: Array, count: int) -> Summed:
        """As a part of the items says, spread over all of them."""
        index = jnp.asarray(scattered(key, count, self.blocks.items))
        picked = eqx.filter_jit(Blocks.take)(self.blocks, index)
        return Summed(self.of_items, self.rest, picked, self.blocks.items / count)


class WithPrior(AbstractTarget):
    """A target times a normal density of z with some precision."""

    base: AbstractCoordinates
    target: AbstractTarget
    precision: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def log_density(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """The sum of both."""
        return self.target.log_density(z) - self.precision * (z**2).sum() / 2

    @property
    def at_once(self) -> bool:
        """As the target's."""
        return self.target.at_once

    @property
    def tangents(self) -> float:
        """Those of the target."""
        return self.target.tangents

    def probe(self, z: Float[Array, " P"]) -> Array:
        """That of the target."""
        return self.target.probe(z)

    def curvature(self, z: Float[Array, " P"], *, forwards: bool) -> Float[Array, "P P"]:
        """The sum of both."""
        more = self.precision * jnp.eye(len(z), dtype=z.dtype)
        return self.target.curvature(z, forwards=forwards) + more


def with_derivative(
    f: Callable[[Array], Array], at: Array, *, forwards: bool
) -> tuple[Array, Array]:
    """f and its Jacobian in one pass, forwards, or backwards where JAX knows f backwards alone."""

    def twice(x):
        value = f(x)
        return value, value

    jacobian = jax.jacfwd if forwards else jax.jacrev
    slopes, value = jacobian(twice, has_aux=True)(at)
    return value, slopes


def runs_forwards(target: AbstractTarget) -> bool:
    """Whether JAX can differentiate what a target probes forwards: not one with a custom_vjp."""
    slopes: Any = eqx.filter_jit(lambda target, z: jax.jacfwd(target.probe)(z))
    z = jnp.zeros(target.base.size, jnp.result_type(float))
    try:
        # Lowered and not only traced, since the refusal may come as late as that.
        slopes.lower(target, z)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        return False
    return True
