"""Scaling: the coordinate system of a named vector of bounded parameters, as one pytree.

It knows arrays, names and sizes. It knows nothing of priors (`rules` chooses center and scale),
file formats, samplers or physics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from scalejax import bounds
from scalejax.coordinates import AbstractCoordinates, Group

if TYPE_CHECKING:
    from scalejax.space import ParameterSpace


class Scaling(AbstractCoordinates):
    """A map between θ, strictly inside its bounds, and z, unconstrained and of order one.

    Each parameter has a center, a scale and two bounds, any of which may be infinite; where the
    two are equal the parameter is pinned to that value. Its maps act on the last axis of arrays of
    shape (…, P). For an interval it is the one of homodyne's scaling module,
    θ = mid + half·tanh((center + scale·z − mid)/half), in a form that is accurate next to the
    bounds; `scalejax.bounds` has the formulas of all kinds. A Scaling is a coordinate system and
    not a prior. Its methods are compiled as they are, and may be called inside any transformation
    of JAX, with the Scaling as a constant or as an argument.

    **Arguments:** `center`, `scale`, `low`, `high`: shape (P,), in physical units, or scalars to
    be spread over the others. `center` is the value at z = 0 before the bounds bend it (with one
    bound, the value itself), `scale` the slope there. `groups`: names in the order of the vector,
    as `{"contrast": 23, "D0": None}` (None for a scalar) or `Group`s; by default one vector,
    `theta`. `kinds`: which of `bounds.KINDS` can occur; found from the bounds, so say it only
    where those are traced, to spare the work for the others.

    **Raises:** `ValueError`, naming the parameter, for a center or scale that is not finite,
    scale ≤ 0, low > high, a center on or over the only bound, bounds with fewer than four floats
    between them, a center or scale that is out of all proportion to them, shapes that differ, and
    names that repeat. What is traced is not looked at; `checked` does that.

    Examples:
        >>> scaling = Scaling(center=[0.3, 1e3], scale=[0.1, 500.0], low=[0.0, 100.0],
        ...                   high=[1.0, 1e5], groups={"contrast": None, "D0": None})
        >>> theta = scaling.unpack(scaling.to_original(jnp.zeros(2)))
        >>> print(theta["contrast"].round(2), theta["D0"].round(0))
        0.31 12392.0
    """

    center: Float[Array, " P"]
    scale: Float[Array, " P"]
    low: Float[Array, " P"]
    high: Float[Array, " P"]
    groups: tuple[Group, ...] = eqx.field(static=True)
    kinds: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        center: Float[ArrayLike, " P"],
        scale: Float[ArrayLike, " P"],
        low: Float[ArrayLike, " P"],
        high: Float[ArrayLike, " P"],
        *,
        groups: Mapping[str, int | None] | Iterable[Group] | None = None,
        kinds: tuple[str, ...] | None = None,
    ):
        given = {"center": center, "scale": scale, "low": low, "high": high}
        given = {k: v if isinstance(v, jax.Array) else np.asarray(v) for k, v in given.items()}
        dtype = jnp.promote_types(jnp.result_type(*given.values()), jnp.float32)
        self.groups = _as_groups(groups, _common_size(given))
        size = len(self)
        arrays = {k: jnp.broadcast_to(jnp.asarray(v, dtype), (size,)) for k, v in given.items()}
        self.center, self.scale = arrays["center"], arrays["scale"]
        self.low, self.high = arrays["low"], arrays["high"]
        if any(isinstance(a, Tracer) for a in arrays.values()):
            self.kinds = bounds.KINDS if kinds is None else _ordered(kinds)
        else:
            declared = [np.broadcast_to(np.asarray(v, np.float64), (size,)) for v in given.values()]
            _check_values(self.groups, dtype, *declared)
            masks = bounds.kind_masks(np.asarray(self.low), np.asarray(self.high))
            found = tuple(kind for kind in bounds.KINDS if masks[kind].any())
            self.kinds = found if kinds is None else _ordered({*kinds, *found})

    @classmethod
    def from_space(
        cls,
        space: ParameterSpace,
        sizes: Mapping[str, int] | None = None,
        rule: str = "matched",
    ) -> Scaling:
        """The Scaling of a `ParameterSpace`, a group for each of its parameters, in its order.

        **Arguments:** `sizes`: the length of each named dimension, as `{"phi": 23}`. `rule`:
        `"matched"` (z = 0 is the declared prior's median and z = ±1 its quantiles at one standard
        deviation, on average) or `"homodyne"` (the rule of homodyne's scaling module, which logs a
        warning for each declared prior that it would distort were z normal).

        **Raises:** `ValueError` for a rule there is not, a dimension without a size, and a
        parameter for which bounds and prior set no scale.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace
            >>> space = ParameterSpace(contrast=Parameter(0, 1, dim="phi"), alpha=Parameter(-2, 2))
            >>> Scaling.from_space(space, {"phi": 2}).flat_names
            ['contrast_0', 'contrast_1', 'alpha']
        """
        # Here and not at the top: the core stands without the rules, which need SciPy.
        from scalejax.rules import factors

        groups = [Group(name, _size(name, p.dim, sizes or {}), p.dim) for name, p in space.items()]
        return cls.from_groups(groups, [factors(name, p, rule) for name, p in space.items()])

    @classmethod
    def from_groups(
        cls, groups: Iterable[Group], columns: Iterable[tuple[float, float, float, float]]
    ) -> Scaling:
        """A Scaling from one (center, scale, low, high) a group, that of all its elements.

        Examples:
            >>> groups, columns = [Group("a", 2), Group("b")], [(0.0, 1.0, -5.0, 5.0)] * 2
            >>> Scaling.from_groups(groups, columns).flat_names
            ['a_0', 'a_1', 'b']
        """
        groups = list(groups)
        widths = [group.width for group in groups]
        return cls(*np.repeat(np.array(list(columns)).T, widths, axis=1), groups=groups)

    # --- the map ---

    @property
    def base(self) -> Scaling:
        """Itself."""
        return self

    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """z itself, and 0."""
        z = self._checked_axis(z, "to_base_and_log_det")
        return z, jnp.zeros(z.shape[:-1], z.dtype)

    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """z itself."""
        return self._checked_axis(z, "from_base")

    def to_original_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """θ(z), strictly inside the bounds for every z but NaN, and log |det ∂θ/∂z|.

        Examples:
            >>> scaling = Scaling(0.0, [1.0, 2.0], low=-jnp.inf, high=jnp.inf)
            >>> theta, log_det = scaling.to_original_and_log_det(jnp.ones((3, 2)))
            >>> theta.shape, log_det.shape
            ((3, 2), (3,))
        """
        theta, log_derivative = self.forward_and_log_derivative(z)
        return theta, log_derivative.sum(-1)

    def to_normalized(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """z(θ), finite for every finite θ.

        A value on or over a bound is first taken 5e-7 of the range inside it (with one bound, of
        |center − bound|); one strictly inside is taken as it is. A pinned parameter has z = 0.

        Examples:
            >>> scaling = Scaling(0.5, 0.25, low=0.0, high=1.0)
            >>> print(scaling.to_normalized(scaling.to_original(jnp.array([-2.0]))))
            [-2.]
        """
        theta = self._checked_axis(theta, "to_normalized")
        return bounds.inverse(theta, self.center, self.scale, self.low, self.high, kinds=self.kinds)

    def forward_and_log_derivative(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch P"]]:
        """θ(z) and log ∂θ/∂z by element: what the methods above are made of."""
        z = self._checked_axis(z, "to_original and log_det")
        return bounds.forward_and_log_det(
            z, self.center, self.scale, self.low, self.high, kinds=self.kinds
        )

    def checked(self) -> Scaling:
        """This Scaling, with its values checked as at construction; for what was traced or changed.

        Under tracing it puts the check into the computation (`equinox.error_if`), where it costs
        a pass over the arrays, and reports a group rather than an element. Nothing else pays.

        **Raises** `ValueError`; under `jit`, at run time, whatever `equinox.error_if` does.

        Examples:
            >>> @jax.jit
            ... def start(scale):
            ...     return Scaling(0.0, scale, -1.0, 1.0).checked().to_original(jnp.zeros(1))
            >>> print(start(jnp.array([0.5])))
            [0.]
        """
        arrays = (self.center, self.scale, self.low, self.high)
        if not any(isinstance(a, Tracer) for a in arrays):
            values = (np.asarray(a, np.float64) for a in arrays)
            _check_values(self.groups, self.center.dtype, *values)
            return self
        messages, bad = [], []
        for text, _, good in _conditions(self.center.dtype, *arrays, xp=jnp):
            for group, part in self._slices():
                messages.append(f"in {group.name!r}: {text}")
                bad.append(~good[part].all())
        which = jnp.argmax(jnp.stack(bad))
        center = eqx.branched_error_if(self.center, jnp.stack(bad), which, messages)
        return eqx.tree_at(lambda s: s.center, self, center)

    def __getitem__(self, name: str) -> Scaling:
        """The Scaling of one group.

        Examples:
            >>> Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})["a"].flat_names
            ['a_0', 'a_1', 'a_2']
        """
        for group, part in self._slices():
            if group.name == name:
                arrays = (a[part] for a in (self.center, self.scale, self.low, self.high))
                return Scaling(*arrays, groups=(group,), kinds=self.kinds)
        raise KeyError(f"no group {name!r} in this Scaling, which has {', '.join(self.names)}")


def _ordered(kinds: Iterable[str]) -> tuple[str, ...]:
    if unknown := set(kinds) - set(bounds.KINDS):
        raise ValueError(f"kinds: expected some of {', '.join(bounds.KINDS)}; got {unknown}")
    return tuple(kind for kind in bounds.KINDS if kind in set(kinds))


def _common_size(given: Mapping[str, Any]) -> int | None:
    """P, or None where all four are scalars and the groups decide."""
    shapes = {name: value.shape for name, value in given.items()}
    if not any(shapes.values()):
        return None
    sizes = {shape for shape in shapes.values() if shape}
    if len(sizes) > 1 or len(min(sizes)) > 1 or min(sizes) == (0,):
        raise ValueError(
            "center, scale, low and high must have one shape (P,), P ≥ 1, or be scalars; got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
    return min(sizes)[0]


def _as_groups(groups, size: int | None) -> tuple[Group, ...]:
    if groups is None:
        return (Group("theta", size or 1),)
    pairs: Iterable[Any] = groups.items() if isinstance(groups, Mapping) else groups
    result = tuple(Group(*pair) for pair in pairs)
    if not result:
        raise ValueError("groups: expected at least one")
    for group in result:
        if not isinstance(group.name, str) or not group.name:
            raise ValueError(f"groups: a name must be a non-empty string, got {group.name!r}")
        if group.size is not None and group.size < 1:
            raise ValueError(
                f"groups: {group.name!r} must have a size of at least 1, or None for a scalar; "
                f"got {group.size}"
            )
    seen: set[str] = set()
    for group in result:
        names = {group.name, *group.flat_names}
        if repeated := sorted(seen & names):
            raise ValueError(f"groups: {repeated[0]!r} would name more than one thing")
        seen |= names
    total = sum(group.width for group in result)
    if size not in (None, total):
        raise ValueError(f"groups: sizes add up to {total}, but there are {size} parameters")
    return result


def _size(name: str, dim: str | None, sizes: Mapping[str, int]) -> int | None:
    if dim is None:
        return None
    if dim not in sizes:
        raise ValueError(
            f"parameter {name!r} is a vector along {dim!r}: say how long, as sizes={{{dim!r}: 23}}"
        )
    return int(sizes[dim])


def _conditions(dtype, center, scale, low, high, *, xp) -> list[tuple[str, tuple[str, ...], Any]]:
    """What must hold of every element, in words, of which arrays, and where it does; in order."""
    info = jnp.finfo(dtype)
    low_, high_, center_ = (a.astype(dtype) for a in (low, high, center))
    masks = bounds.kind_masks(low, high)
    # A step is at least the smallest normal number: what lies below that is flushed to zero.
    fifth = low_
    for _ in range(5):
        fifth = xp.maximum(xp.nextafter(fifth, xp.asarray(np.inf, dtype)), fifth + info.tiny)
    width = high_ - low_
    # Distances to a bound keep their precision down to eps times the range.
    wide = (fifth <= high_) & (width >= info.tiny / info.eps) & (width <= info.max)
    # In these units the map is worked out; beyond these sizes its numbers would overflow.
    reach = xp.where(masks["lower"], center_ - low_, xp.where(masks["upper"], high_ - center_, 1))
    unit = xp.where(masks["interval"], width, reach)
    away = xp.where(masks["interval"], xp.abs(center_ - low_) / unit, 0)
    ratio = xp.where(masks["pinned"] | masks["unbounded"], 1, scale.astype(dtype) / unit)
    name = np.dtype(dtype).name
    return [
        ("low must be a number below inf", ("low",), ~xp.isnan(low) & (low < np.inf)),
        ("high must be a number above -inf", ("high",), ~xp.isnan(high) & (high > -np.inf)),
        ("low must not exceed high", ("low", "high"), low <= high),
        ("center must be finite", ("center",), xp.abs(center) <= info.max),
        (
            "scale must be positive and finite",
            ("scale",),
            (scale >= info.tiny) & (scale <= info.max),
        ),
        (
            "center must be above the only bound",
            ("center", "low"),
            ~masks["lower"] | (center_ > low_),
        ),
        (
            "center must be below the only bound",
            ("center", "high"),
            ~masks["upper"] | (center_ < high_),
        ),
        (
            f"the range must span at least four {name} numbers and be finite",
            ("low", "high"),
            ~masks["interval"] | wide,
        ),
        (
            "center must lie within 2^20 ranges of the bounds",
            ("center", "low", "high"),
            away <= 2.0**20,
        ),
        (
            "scale must be within a factor 2^100 of the range (|center − bound| for one bound)",
            ("scale", "center", "low", "high"),
            (ratio >= 2.0**-100) & (ratio <= 2.0**100),
        ),
    ]


def _check_values(groups, dtype, center, scale, low, high):
    """Raise for the first value that is not sound; all as declared, in float64, before rounding."""
    values = {"center": center, "scale": scale, "low": low, "high": high}
    with np.errstate(all="ignore"):
        conditions = _conditions(dtype, **values, xp=np)
    for text, about, good in conditions:
        if not good.all():
            i = int(np.argmin(good))
            name = [name for group in groups for name in group.flat_names][i]
            shown = ", ".join(f"{key} = {values[key][i]:.9g}" for key in about)
            raise ValueError(f"parameter {name!r}: {text}; got {shown}")
