"""Coordinates of a named vector of bounded parameters: what every system of them offers.

`AbstractCoordinates` is any of them; `AbstractLayer` one that stands on others, whatever these are.
This module knows names, sizes and bounds. It knows no kind of coordinates, no prior and no sampler.

To make coordinates of your own that stand on others, derive from `AbstractLayer`, declare a field
`base`, and write two methods: `to_base_and_log_det`, from these coordinates to those of `base`
with the logarithm of the determinant, and its inverse `from_base`. To make some that stand on
nothing, derive from `AbstractCoordinates`, declare `groups`, `low` and `high`, and write
`to_original_and_log_det` and `to_normalized`. All else follows.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from scalejax.groups import Group

# What is spread over a vector: an array (P,), a scalar, or a list of numbers.
Spread = Num[ArrayLike, " P"] | Num[ArrayLike, ""] | Sequence[float]


class AbstractCoordinates(eqx.Module):
    """A map between θ, shape (…, P), in physical units, and coordinates z of the same shape.

    The coordinates are unconstrained and, of a posterior that they suit, of order one. It is a
    mapping's equal in names: `"D0" in coordinates`, `for name in coordinates`, and `len` counts
    the groups; `size` is P.
    """

    groups: eqx.AbstractVar[tuple[Group, ...]]
    low: eqx.AbstractVar[Float[Array, " P"]]
    high: eqx.AbstractVar[Float[Array, " P"]]

    @abstractmethod
    def to_original_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """θ(z), in physical units, and log |det ∂θ/∂z|, summed over the last axis.

        θ is strictly inside the bounds for every z but NaN. A pinned parameter adds nothing.
        """

    @abstractmethod
    def to_normalized(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """z(θ), finite for every finite θ; one on or over a bound is taken as just inside it."""

    @property
    def root(self) -> "AbstractCoordinates":
        """What these coordinates stand on in the end: themselves, unless they are a layer.

        In the root's z the normal prior is stated.
        """
        return self

    def to_root_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """These coordinates as those of `root`, and log |det| of their derivative."""
        z = self.checked_axis(z, "to_root_and_log_det")
        return z, jnp.zeros(z.shape[:-1], z.dtype)

    def from_root(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The inverse of `to_root_and_log_det`."""
        return self.checked_axis(z, "from_root")

    # --- what follows from these ---

    @property
    def pinned(self) -> Bool[Array, " P"]:
        """Which parameters have one value, low = high."""
        return self.low == self.high

    def to_original(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """θ(z), in physical units, strictly inside the bounds for every z but NaN.

        For `jax.jit` write `jax.jit(lambda z: coordinates.to_original(z))`, or pass the
        coordinates as an argument; a bound method of a module with arrays is what
        `equinox.filter_jit(coordinates.to_original)` takes.
        """
        return self.to_original_and_log_det(z)[0]

    def log_det(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch"]:
        """log |det ∂θ/∂z|, summed over the last axis."""
        return self.to_original_and_log_det(z)[1]

    def log_density_of_pinned(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch"]:
        """The density of z of what is pinned: a standard normal one in the root's z.

        θ does not depend on it. Without a density of its own a sampler would wander off along it.
        """
        root_z, _ = self.to_root_and_log_det(z)
        return jnp.where(self.pinned, norm.logpdf(root_z), 0).sum(-1)

    def pullback(
        self, log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]]
    ) -> Callable[[Float[ArrayLike, " P"]], Float[Array, ""]]:
        """The density of θ as a density of z: z ↦ log_density(θ(z)) + log_det(z).

        It is a plain function of z of shape (P,), for any sampler or optimiser. (An optimiser
        finds the mode in z then; without the log_det, that in θ.) z of a pinned parameter is given
        a standard normal density, `log_density_of_pinned`.

        Examples:
            >>> import jax.numpy as jnp
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.0, 1.0, low=-1.0, high=1.0)
            >>> uniform = scaling.pullback(lambda theta: -jnp.log(2.0))
            >>> print(jnp.exp(uniform(jnp.zeros(1))))
            0.5
        """

        def log_density_of_z(z: Float[ArrayLike, " P"]) -> Float[Array, ""]:
            theta, log_det = self.to_original_and_log_det(z)
            return jnp.asarray(log_density(theta)) + log_det + self.log_density_of_pinned(z)

        return log_density_of_z

    # --- names ---

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(group.width for group in self.groups)

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.groups)

    def __iter__(self) -> Iterator[str]:
        """Over the names of the groups, in the order of the vector."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether there is a group of this name."""
        return name in self.names

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

    def coords(self, **values: ArrayLike | Sequence[Any]) -> dict[str, np.ndarray]:
        """The labels along each named dimension, for ArviZ: those given, or 0, 1, 2…

        **Raises** `ValueError` for a dimension that no group has, and for labels that are too few
        or too many.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace, Scaling
            >>> space = ParameterSpace(contrast=Parameter(0, 1, dim="phi"), D0=Parameter(1, 9))
            >>> scaling = Scaling.from_space(space.sized(phi=3))
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

    def pack(self, values: Mapping[str, Num[ArrayLike, "..."]]) -> Float[Array, "*batch P"]:
        """One array of shape (…, P) from an array a group: (…, n) for a vector, (…,) for a scalar.

        Batch axes broadcast. **Raises** `ValueError` for a group that is missing, a name that is
        none, and a shape that does not fit.

        Examples:
            >>> import jax.numpy as jnp
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
        dtype = jnp.result_type(self.low, *columns)
        return jnp.concatenate(
            [jnp.broadcast_to(c, (*batch, c.shape[-1])).astype(dtype) for c in columns], axis=-1
        )

    def unpack(self, array: Float[ArrayLike, "*batch P"]) -> dict[str, Float[Array, "..."]]:
        """An array a group, from one of shape (…, P): the inverse of `pack`.

        Examples:
            >>> import jax.numpy as jnp
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})
            >>> {name: value.shape for name, value in scaling.unpack(jnp.zeros((10, 4))).items()}
            {'a': (10, 3), 'b': (10,)}
        """
        array = self.checked_axis(array, "unpack")
        return {
            group.name: array[..., part.start] if group.size is None else array[..., part]
            for group, part in self.slices()
        }

    def slices(self) -> Iterator[tuple[Group, slice]]:
        """Each group with its places in the vector."""
        stop = 0
        for group in self.groups:
            start, stop = stop, stop + group.width
            yield group, slice(start, stop)

    def checked_axis(self, value: ArrayLike, method: str) -> Array:
        """The value as an array. **Raises** `ValueError` unless its last axis has P places."""
        value = jnp.asarray(value)
        if value.ndim == 0 or value.shape[-1] != self.size:
            raise ValueError(
                f"{method}: expected shape (…, {self.size}), the last axis being that of the "
                f"{self.size} parameters; got {value.shape}"
            )
        return value


class AbstractLayer(AbstractCoordinates):
    """Coordinates that stand on others, `base`, whatever these are; so layers stack.

    Names, bounds and the root are those of `base`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling, Whitened
        >>> scaling = Scaling(0.0, 1.0, low=-5.0, high=5.0)
        >>> stack = Whitened(Whitened(scaling, 0.1, jnp.eye(1)), 0.2, 2 * jnp.eye(1))
        >>> print(stack.to_root_and_log_det(jnp.ones(1))[0])
        [2.3]
    """

    base: eqx.AbstractVar[AbstractCoordinates]

    @abstractmethod
    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """These coordinates as those of `base`, and log |det| of their derivative."""

    @abstractmethod
    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The inverse of `to_base_and_log_det`."""

    @property
    def groups(self) -> tuple[Group, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the base."""
        return self.base.groups

    @property
    def low(self) -> Float[Array, " P"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the base."""
        return self.base.low

    @property
    def high(self) -> Float[Array, " P"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the base."""
        return self.base.high

    @property
    def root(self) -> AbstractCoordinates:
        """That of the base."""
        return self.base.root

    def to_original_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """θ(z), strictly inside the bounds for every z but NaN, and log |det ∂θ/∂z|."""
        base_z, log_det = self.to_base_and_log_det(z)
        theta, base_log_det = self.base.to_original_and_log_det(base_z)
        return theta, log_det + base_log_det

    def to_normalized(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """z(θ), finite for every finite θ."""
        return self.from_base(self.base.to_normalized(theta))

    def to_root_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """By way of the base."""
        base_z, log_det = self.to_base_and_log_det(z)
        root_z, base_log_det = self.base.to_root_and_log_det(base_z)
        return root_z, log_det + base_log_det

    def from_root(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """By way of the base."""
        return self.from_base(self.base.from_root(z))
