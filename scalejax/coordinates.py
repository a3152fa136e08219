"""Coordinates of a named vector of bounded parameters: what every system of them offers.

A `Scaling` is one, a dense whitening on top of a Scaling another; what stands downstream takes
either. This module knows names and sizes. It knows nothing of bounds, priors or samplers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

if TYPE_CHECKING:
    from scalejax.scaling import Scaling


class Group(NamedTuple):
    """A name and the shape behind it: a scalar, or a vector along a named dimension."""

    name: str
    size: int | None = None  # None: a scalar
    dim: str | None = None  # such as "phi"; for labels only

    @property
    def width(self) -> int:
        """How many places the group takes in the vector."""
        return 1 if self.size is None else self.size

    @property
    def flat_names(self) -> list[str]:
        """One name for each place: `D0`, or `contrast_0`, `contrast_1`, …"""
        if self.size is None:
            return [self.name]
        return [f"{self.name}_{i}" for i in range(self.size)]


class AbstractCoordinates(eqx.Module):
    """A map between θ, shape (…, P), in physical units, and coordinates of the same shape.

    The coordinates are unconstrained and, of a posterior that they suit, of order one. They are
    worked out by way of those of a Scaling, the `base`, in which the normal prior is stated.
    """

    groups: eqx.AbstractVar[tuple[Group, ...]]

    @property
    @abstractmethod
    def base(self) -> Scaling:
        """The Scaling beneath: its bounds, and the z of the normal prior."""

    @abstractmethod
    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """These coordinates as those of `base`, and log |det| of their derivative."""

    @abstractmethod
    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The inverse of `to_base_and_log_det`."""

    def to_original_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """`to_original(z)` and `log_det(z)`, sharing their work."""
        base_z, log_det = self.to_base_and_log_det(z)
        theta, base_log_det = self.base.to_original_and_log_det(base_z)
        return theta, log_det + base_log_det

    def to_original(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """θ(z), in physical units, strictly inside the bounds for every z but NaN."""
        return self.to_original_and_log_det(z)[0]

    def log_det(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch"]:
        """log |det ∂θ/∂z|, summed over the last axis."""
        return self.to_original_and_log_det(z)[1]

    def to_normalized(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """z(θ), finite for every finite θ; one on or over a bound is taken as just inside it."""
        return self.from_base(self.base.to_normalized(theta))

    def pullback(
        self, log_density: Callable[[Float[Array, " P"]], Float[Array, ""]]
    ) -> Callable[[Float[Array, " P"]], Float[Array, ""]]:
        """The density of θ as a density of z: z ↦ log_density(θ(z)) + log_det(z).

        It is a plain function of z of shape (P,), for any sampler or optimiser. (An optimiser
        finds the mode in z then; without the log_det, that in θ.)

        Examples:
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.0, 1.0, low=-1.0, high=1.0)
            >>> uniform = scaling.pullback(lambda theta: -jnp.log(2.0))

        """

        def log_density_of_z(z: Float[Array, " P"]) -> Float[Array, ""]:
            theta, log_det = self.to_original_and_log_det(z)
            return log_density(theta) + log_det

        return log_density_of_z

    # --- names ---

    def __len__(self) -> int:
        """P, the number of parameters."""
        return sum(group.width for group in self.groups)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the groups, in the order of the vector."""
        return tuple(group.name for group in self.groups)

    @property
    def flat_names(self) -> list[str]:
        """P names: that of a scalar as it is, those of a vector as `contrast_0`, `contrast_1`, …"""
        return [name for group in self.groups for name in group.flat_names]

    @property
    def dims(self) -> dict[str, list[str]]:
        """The named dimension of each vector group, for ArviZ: `{"contrast": ["phi"]}`."""
        return {group.name: [group.dim] for group in self.groups if group.dim is not None}

    def coords(self, **values: ArrayLike) -> dict[str, np.ndarray]:
        """The labels along each named dimension, for ArviZ: those given, or 0, 1, 2…

        **Raises** `ValueError` for a dimension that no group has, and for labels that are too few
        or too many.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace, Scaling
            >>> space = ParameterSpace(contrast=Parameter(0, 1, dim="phi"), D0=Parameter(1, 9))
            >>> scaling = Scaling.from_space(space, {"phi": 3})
            >>> scaling.dims, scaling.coords(phi=[0.0, 60.0, 120.0])
            ({'contrast': ['phi']}, {'phi': array([  0.,  60., 120.])})
        """
        sizes = {group.dim: group.width for group in self.groups if group.dim is not None}
        if unknown := sorted(set(values) - set(sizes)):
            raise ValueError(
                f"coords: {unknown[0]!r} is none of the dimensions {', '.join(sizes) or '(none)'}"
            )
        found = {dim: np.asarray(values.get(dim, np.arange(size))) for dim, size in sizes.items()}
        for dim, labels in found.items():
            if labels.shape != (sizes[dim],):
                raise ValueError(
                    f"coords: expected {sizes[dim]} labels along {dim!r}; got shape {labels.shape}"
                )
        return found

    def pack(self, values: Mapping[str, Float[ArrayLike, "..."]]) -> Float[Array, "*batch P"]:
        """One array of shape (…, P) from an array a group: (…, n) for a vector, (…,) for a scalar.

        Batch axes broadcast. **Raises** `ValueError` for a group that is missing, a name that is
        none, and a shape that does not fit.

        Examples:
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})
            >>> scaling.pack({"a": jnp.zeros((10, 3)), "b": 2.0}).shape
            (10, 4)
        """
        if set(values) != set(self.names):
            missing, unknown = set(self.names) - set(values), set(values) - set(self.names)
            raise ValueError(
                f"pack: expected a value for each of {', '.join(self.names)}"
                + (f"; missing {', '.join(sorted(missing))}" if missing else "")
                + (f"; unknown {', '.join(sorted(map(str, unknown)))}" if unknown else "")
            )
        columns = []
        for group in self.groups:
            value = jnp.asarray(values[group.name])
            if group.size is None:
                value = value[..., None]
            elif value.ndim == 0 or value.shape[-1] != group.size:
                raise ValueError(
                    f"pack: {group.name!r} expects shape (…, {group.size}), got {value.shape}"
                )
            columns.append(value)
        batch = jnp.broadcast_shapes(*(c.shape[:-1] for c in columns))
        dtype = jnp.result_type(self.base.center, *columns)
        return jnp.concatenate(
            [jnp.broadcast_to(c, (*batch, c.shape[-1])).astype(dtype) for c in columns], axis=-1
        )

    def unpack(self, array: Float[ArrayLike, "*batch P"]) -> dict[str, Float[Array, "..."]]:
        """An array a group, from one of shape (…, P): the inverse of `pack`.

        Examples:
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})
            >>> {name: value.shape for name, value in scaling.unpack(jnp.zeros((10, 4))).items()}
            {'a': (10, 3), 'b': (10,)}
        """
        array = self._checked_axis(array, "unpack")
        return {
            group.name: array[..., part.start] if group.size is None else array[..., part]
            for group, part in self._slices()
        }

    def _slices(self):
        stop = 0
        for group in self.groups:
            start, stop = stop, stop + group.width
            yield group, slice(start, stop)

    def _checked_axis(self, value, method):
        value = jnp.asarray(value)
        if value.ndim == 0 or value.shape[-1] != len(self):
            raise ValueError(
                f"{method}: expected shape (…, {len(self)}), the last axis being that of the "
                f"{len(self)} parameters; got {value.shape}"
            )
        return value
