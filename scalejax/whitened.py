"""Whitened coordinates: a linear map on top of others, for posteriors whose parameters are bound up
with each other.

They are coordinates and nothing else: what a prior is, and how they were found, this module does
not know (`calibrate` finds them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float, Num

from scalejax.coordinates import AbstractCoordinates, AbstractLayer, Spread


class Whitened(AbstractLayer):
    """w ↦ z = loc + factor·w ↦ θ, with a lower-triangular factor: a dense whitening.

    Where loc is the mode of a posterior in z and factor·factorᵀ its covariance there, w is close to
    a standard normal. What is traced is not looked at.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, a factor that
    is not lower-triangular, and a diagonal that is not positive.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling, Whitened
        >>> scaling = Scaling(0.0, 1.0, low=-5.0, high=5.0, groups={"a": None, "b": None})
        >>> coordinates = Whitened(scaling, [0.5, 0.0], [[0.1, 0.0], [0.3, 0.2]])
        >>> theta = coordinates.to_original(jnp.array([1.0, -1.0]))
        >>> print(coordinates.to_normalized(theta).round(3))
        [ 1. -1.]
    """

    base: AbstractCoordinates
    loc: Float[Array, " P"]
    factor: Float[Array, "P P"]

    def __init__(
        self,
        base: AbstractCoordinates,
        loc: Spread,
        factor: Num[ArrayLike, "P P"] | Sequence[Sequence[float]],
    ):
        size = base.size
        self.base = base
        self.loc = _array("loc", loc, (size,), base)
        self.factor = _array("factor", factor, (size, size), base)
        if not isinstance(self.factor, Tracer):
            values = np.asarray(self.factor)
            if np.triu(values, 1).any():
                raise ValueError("factor: expected a lower-triangular matrix")
            _check_positive("the diagonal of factor", np.diag(values), base.flat_names)

    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """loc + factor·w, and log |det factor|."""
        w = self.checked_axis(z, "to_base_and_log_det")
        log_det = jnp.log(jnp.diagonal(self.factor)).sum()
        # In full precision: accelerators would round the factors of the product.
        product = jnp.matmul(w, self.factor.T, precision=jax.lax.Precision.HIGHEST)
        return self.loc + product, jnp.broadcast_to(log_det, w.shape[:-1])

    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """factor⁻¹·(z − loc)."""
        rest = self.checked_axis(z, "from_base") - self.loc
        columns = rest.reshape(-1, self.size).T
        return solve_triangular(self.factor, columns, lower=True).T.reshape(rest.shape)


class WhitenedLowRank(AbstractLayer):
    """w ↦ z = loc + scale·(w + U·((stretch − 1)·Uᵀw)) ↦ θ: a diagonal and a few directions.

    For more parameters than a dense factor can hold. `directions` is U, of shape (P, k), with
    orthonormal columns; along each of them w is stretched. With k = 0 it is a diagonal whitening.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, a scale or
    stretch that is not positive, and directions that are not orthonormal.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling, WhitenedLowRank
        >>> scaling = Scaling(0.0, 1.0, low=-5.0, high=[5.0, 5.0, 5.0])
        >>> coordinates = WhitenedLowRank(scaling, 0.0, [0.1, 0.2, 0.3])
        >>> print(coordinates.to_base_and_log_det(jnp.ones(3))[0])
        [0.1 0.2 0.3]
    """

    base: AbstractCoordinates
    loc: Float[Array, " P"]
    scale: Float[Array, " P"]
    directions: Float[Array, "P k"]
    stretch: Float[Array, " k"]

    def __init__(
        self,
        base: AbstractCoordinates,
        loc: Spread,
        scale: Spread,
        directions: Num[ArrayLike, "P k"] | None = None,
        stretch: Num[ArrayLike, " k"] | Sequence[float] | None = None,
    ):
        size = base.size
        self.base = base
        self.loc = _array("loc", loc, (size,), base)
        self.scale = _array("scale", scale, (size,), base)
        columns = jnp.zeros((size, 0)) if directions is None else jnp.asarray(directions)
        rank = columns.shape[-1]
        self.directions = _array("directions", columns, (size, rank), base)
        self.stretch = _array("stretch", 1.0 if stretch is None else stretch, (rank,), base)
        arrays = (self.scale, self.stretch, self.directions)
        if not any(isinstance(array, Tracer) for array in arrays):
            _check_positive("scale", np.asarray(self.scale), base.flat_names)
            _check_positive("stretch", np.asarray(self.stretch), range(rank))
            gram = np.asarray(self.directions).T @ np.asarray(self.directions)
            if not np.allclose(gram, np.eye(rank), atol=1e-3):
                raise ValueError("directions: expected orthonormal columns")

    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """z of the base, and log |det| = Σ log scale + Σ log stretch."""
        w = self.checked_axis(z, "to_base_and_log_det")
        log_det = jnp.log(self.scale).sum() + jnp.log(self.stretch).sum()
        stretched = self._stretched(w, self.stretch - 1)
        return self.loc + self.scale * stretched, jnp.broadcast_to(log_det, w.shape[:-1])

    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The inverse, by (I + U·(s − 1)·Uᵀ)⁻¹ = I + U·(1/s − 1)·Uᵀ."""
        rest = (self.checked_axis(z, "from_base") - self.loc) / self.scale
        return self._stretched(rest, 1 / self.stretch - 1)

    def _stretched(self, w, by):
        highest = jax.lax.Precision.HIGHEST
        along = jnp.matmul(w, self.directions, precision=highest)
        return w + jnp.matmul(by * along, self.directions.T, precision=highest)


class Reflected(AbstractLayer):
    """w ↦ w − 2·normal·(normal·w) ↦ θ: a reflection, which is its own inverse.

    It turns one direction into another and changes no length, so that a standard normal stays one:
    `exchanging` puts a combination of parameters where one of them is.

    **Raises:** `ValueError` for a normal of another shape, or whose length is not 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Reflected, Scaling
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": None, "b": None})
        >>> turned = Reflected.exchanging(scaling, 0, [0.6, -0.8])  # in place of a
        >>> print(turned.to_base_and_log_det(jnp.array([1.0, 0.0]))[0])
        [ 0.6 -0.8]
    """

    base: AbstractCoordinates
    normal: Float[Array, " P"]

    def __init__(self, base: AbstractCoordinates, normal: Spread):
        self.base = base
        self.normal = _array("normal", normal, (base.size,), base)
        if not isinstance(self.normal, Tracer):
            length = float(np.linalg.norm(np.asarray(self.normal, np.float64)))
            if abs(length - 1) > 1e-3:
                raise ValueError(f"normal: expected a vector of length 1; its length is {length}")

    @classmethod
    def exchanging(cls, base: AbstractCoordinates, along: int, direction: Spread) -> Reflected:
        """The reflection that exchanges the unit vector of one place and a direction.

        **Raises:** `ValueError` for a direction that is the unit vector itself, or has no length.
        """
        given = np.asarray(direction, np.float64)
        unit = given / np.linalg.norm(given)
        normal = np.eye(base.size)[along] - unit
        if not np.linalg.norm(normal) > 1e-6:
            raise ValueError(f"direction: expected another than that of place {along}; got {given}")
        return cls(base, normal / np.linalg.norm(normal))

    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """The reflected vector, and 0."""
        w = self.checked_axis(z, "to_base_and_log_det")
        return self._reflected(w), jnp.zeros(w.shape[:-1], w.dtype)

    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The same."""
        return self._reflected(self.checked_axis(z, "from_base"))

    def _reflected(self, w: Array) -> Array:
        # As sums of products, which accelerators do not round as they do a matrix product.
        along = (w * self.normal).sum(-1, keepdims=True) / (self.normal**2).sum()
        return w - 2 * along * self.normal


def _array(name: str, value: Any, shape: tuple[int, ...], base: AbstractCoordinates) -> Array:
    array = jnp.asarray(value, base.low.dtype)
    if array.ndim == 0:
        array = jnp.broadcast_to(array, shape)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}; got {array.shape}")
    if not isinstance(array, Tracer) and not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers; got {np.asarray(array)}")
    return array


def _check_positive(name: str, values: np.ndarray, names: Any) -> None:
    if not (values > 0).all():
        i = int(np.argmin(values > 0))
        raise ValueError(f"{name} must be positive; got {values[i]} for {list(names)[i]!r}")
