"""Scaling: the coordinate system of a named vector of bounded parameters, as one pytree.

It knows arrays, names and sizes, and asks a rule for center and scale. It knows nothing of what
a prior is, of file formats, samplers or physics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from scalejax import bounds
from scalejax.coordinates import AbstractCoordinates, Spread
from scalejax.groups import Group
from scalejax.rules import Rule, matched
from scalejax.space import ParameterSpace


class Scaling(AbstractCoordinates):
    """A map between θ, strictly inside its bounds, and z, unconstrained and of order one.

    Each parameter has a center, a scale and two bounds, any of which may be infinite; where the
    two are equal the parameter is pinned to that value. Its maps act on the last axis of arrays of
    shape (…, P). For an interval it is the one of homodyne's scaling module,
    θ = mid + half·tanh((center + scale·z − mid)/half), in a form that is accurate next to the
    bounds; `scalejax.bounds.kinds` has the formulas of all kinds. A Scaling is a coordinate system
    and not a prior. Its methods are compiled as they are, and may be called inside any
    transformation of JAX, with the Scaling as a constant or as an argument.

    **Arguments:** `center`, `scale`, `low`, `high`: shape (P,), in physical units, or scalars to
    be spread over the others. `center` is the value at z = 0 before the bounds bend it (with one
    bound, the value itself), `scale` the slope there. `groups`: names in the order of the vector,
    as `{"contrast": 23, "D0": None}` (None for a scalar) or `Group`s; by default one vector,
    `theta`. `kinds`: which kinds of bounds can occur, by name or as `bounds.Kind`s; found from the
    bounds, so say it only where those are traced, to spare the work for the others. A kind that
    bounds alone do not say, such as `log_interval`, is that of its `Group`.

    **Raises:** `ValueError`, naming the parameter, for a center or scale that is not finite,
    scale ≤ 0, low > high, a center on or over the only bound, bounds with fewer than four floats
    between them, a center or scale that is out of all proportion to them, shapes that differ, and
    names that repeat. What is traced is not looked at; `checked` does that.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling
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
    kinds: tuple[bounds.Kind, ...] = eqx.field(static=True)

    def __init__(
        self,
        center: Spread,
        scale: Spread,
        low: Spread,
        high: Spread,
        *,
        groups: Mapping[str, int | None] | Iterable[Group] | None = None,
        kinds: Iterable[str | bounds.Kind] | None = None,
    ):
        given = {"center": center, "scale": scale, "low": low, "high": high}
        given = {k: v if isinstance(v, jax.Array) else np.asarray(v) for k, v in given.items()}
        dtype = jnp.promote_types(jnp.result_type(*given.values()), jnp.float32)
        self.groups = _as_groups(groups, _common_size(given))
        arrays = {
            k: jnp.broadcast_to(jnp.asarray(v, dtype), (self.size,)) for k, v in given.items()
        }
        self.center, self.scale = arrays["center"], arrays["scale"]
        self.low, self.high = arrays["low"], arrays["high"]
        if any(isinstance(a, Tracer) for a in arrays.values()):
            asked = bounds.BY_BOUNDS if kinds is None else map(bounds.as_kind, kinds)
            self.kinds = _ordered({*asked, *(kind for kind, _, _ in self._chosen)})
        else:
            declared = (np.broadcast_to(np.asarray(v, np.float64), (self.size,))
                        for v in given.values())  # fmt: skip
            self._check_values(*declared)
            found = self._kinds_found(np.asarray(self.low), np.asarray(self.high))
            self.kinds = _ordered({*map(bounds.as_kind, kinds or ()), *found})

    @classmethod
    def from_space(cls, space: ParameterSpace, *, rule: Rule = matched) -> Scaling:
        """The Scaling of a `ParameterSpace`, a group for each of its parameters, in its order.

        **Arguments:** `space`: with the length of each named dimension, as
        `space.sized(phi=23)`. `rule`: any callable `Parameter -> (center, scale, low, high)`; by
        default `scalejax.rules.matched`, by which z = 0 is the declared prior's median and z = ±1
        its quantiles at one standard deviation, on average.

        **Raises** `ValueError`, naming the parameter, for a dimension without a size, for one of
        which the rule makes nothing, as where bounds and prior set no scale, and for a rule that
        returns anything but four numbers.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace, Scaling
            >>> space = ParameterSpace(contrast=Parameter(0, 1, dim="phi"), alpha=Parameter(-2, 2))
            >>> Scaling.from_space(space.sized(phi=2)).flat_names
            ['contrast_0', 'contrast_1', 'alpha']
        """
        if not callable(rule):
            raise ValueError(
                f"rule: expected a callable Parameter -> (center, scale, low, high); got {rule!r}"
            )
        columns, widths = [], []
        for name, parameter, width in space.parts:
            try:
                center, scale, low, high = map(float, rule(parameter))
            except (TypeError, ValueError) as error:
                raise ValueError(f"parameter {name!r}: {error}") from error
            columns.append((center, scale, low, high))
            widths.append(width)
        return cls(*np.repeat(np.array(columns).T, widths, axis=1), groups=space.groups)

    @classmethod
    def from_groups(
        cls, groups: Iterable[Group], columns: Iterable[tuple[float, float, float, float]]
    ) -> Scaling:
        """A Scaling from one (center, scale, low, high) a group, that of all its elements.

        Examples:
            >>> from scalejax import Group, Scaling
            >>> groups, columns = [Group("a", 2), Group("b")], [(0.0, 1.0, -5.0, 5.0)] * 2
            >>> Scaling.from_groups(groups, columns).flat_names
            ['a_0', 'a_1', 'b']
        """
        groups = list(groups)
        widths = [group.width for group in groups]
        return cls(*np.repeat(np.array(list(columns)).T, widths, axis=1), groups=groups)

    # --- the map ---

    def to_original_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """θ(z), strictly inside the bounds for every z but NaN, and log |det ∂θ/∂z|.

        Examples:
            >>> import jax.numpy as jnp
            >>> from scalejax import Scaling
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
            >>> import jax.numpy as jnp
            >>> from scalejax import Scaling
            >>> scaling = Scaling(0.5, 0.25, low=0.0, high=1.0)
            >>> print(scaling.to_normalized(scaling.to_original(jnp.array([-2.0]))))
            [-2.]
        """
        theta = self.checked_axis(theta, "to_normalized")
        arrays = (self.center, self.scale, self.low, self.high)
        return bounds.inverse(theta, *arrays, kinds=self.kinds, chosen=self._chosen)

    def forward_and_log_derivative(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch P"]]:
        """θ(z) and log ∂θ/∂z by element: what the methods above are made of."""
        z = self.checked_axis(z, "to_original and log_det")
        arrays = (self.center, self.scale, self.low, self.high)
        return bounds.forward_and_log_det(z, *arrays, kinds=self.kinds, chosen=self._chosen)

    def checked(self) -> Scaling:
        """This Scaling, with its values checked as at construction; for what was traced or changed.

        Under tracing it puts the check into the computation (`equinox.error_if`), where it costs
        a pass over the arrays, and reports a group rather than an element. Nothing else pays.

        **Raises** `ValueError`; under `jit`, at run time, whatever `equinox.error_if` does.

        Examples:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> from scalejax import Scaling
            >>> @jax.jit
            ... def start(scale):
            ...     return Scaling(0.0, scale, -1.0, 1.0).checked().to_original(jnp.zeros(1))
            >>> print(start(jnp.array([0.5])))
            [0.]
        """
        arrays = (self.center, self.scale, self.low, self.high)
        if not any(isinstance(a, Tracer) for a in arrays):
            self._check_values(*(np.asarray(a, np.float64) for a in arrays))
            return self
        messages, bad = [], []
        for text, _, good in self._conditions(*arrays, xp=jnp):
            for group, part in self.slices():
                messages.append(f"in {group.name!r}: {text}")
                bad.append(~good[part].all())
        which = jnp.argmax(jnp.stack(bad))
        center = eqx.branched_error_if(self.center, jnp.stack(bad), which, messages)
        return eqx.tree_at(lambda s: s.center, self, center)

    def __getitem__(self, name: str) -> Scaling:
        """The Scaling of one group.

        Examples:
            >>> from scalejax import Scaling
            >>> Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})["a"].flat_names
            ['a_0', 'a_1', 'a_2']
        """
        for group, part in self.slices():
            if group.name == name:
                arrays = (a[part] for a in (self.center, self.scale, self.low, self.high))
                return Scaling(*arrays, groups=(group,), kinds=self.kinds)
        raise KeyError(f"no group {name!r} in this Scaling, which has {', '.join(self.names)}")

    # --- kinds and conditions ---

    @property
    def _chosen(self) -> bounds.Chosen:
        """The places whose kind their group says, neighbours of one kind together."""
        found: list[tuple[bounds.Kind, int, int]] = []
        for group, part in self.slices():
            if group.kind is None:
                continue
            if found and found[-1][0] is group.kind and found[-1][2] == part.start:
                found[-1] = (group.kind, found[-1][1], part.stop)
            else:
                found.append((group.kind, part.start, part.stop))
        return tuple(found)

    def _kinds_found(self, low: np.ndarray, high: np.ndarray) -> tuple[bounds.Kind, ...]:
        masks = self._masks(low, high)
        return tuple(kind for kind, mask in masks.items() if mask.any())

    def _masks(self, low, high) -> dict[bounds.Kind, Any]:
        """Where each kind applies that the bounds or a group can make one."""
        kinds = _ordered({*bounds.BY_BOUNDS, *(kind for kind, _, _ in self._chosen)})
        return bounds.kind_masks(low, high, kinds=kinds, chosen=self._chosen)

    def _conditions(self, center, scale, low, high, *, xp) -> list[bounds.Condition]:
        """What must hold of every element; in order."""
        arrays = (center, scale, low, high)
        found = list(bounds.of_every_kind(*arrays, dtype=self.center.dtype, xp=xp))
        masks = self._masks(low, high)
        # The map is worked out in the working dtype, in which a distance may be none at all.
        rounded = tuple(array.astype(self.center.dtype) for array in arrays)
        for kind, mask in masks.items():
            for text, about, good in kind.conditions(*rounded, dtype=self.center.dtype, xp=xp):
                found.append(bounds.Condition(text, about, good | ~mask))
        if hasattr(self, "kinds"):
            known = sum(masks[kind] for kind in self.kinds if kind in masks) > 0
            text = f"its kind of bounds must be one of {', '.join(k.name for k in self.kinds)}"
            found.append(bounds.Condition(text, ("low", "high"), known))
        return found

    def _check_values(self, center, scale, low, high) -> None:
        """Raise for the first value that is not sound; all in float64, before rounding."""
        values = {"center": center, "scale": scale, "low": low, "high": high}
        with np.errstate(all="ignore"):
            conditions = self._conditions(**values, xp=np)
        for text, about, good in conditions:
            if not good.all():
                i = int(np.argmin(good))
                shown = ", ".join(f"{key} = {values[key][i]:.9g}" for key in about)
                raise ValueError(f"parameter {self.flat_names[i]!r}: {text}; got {shown}")


def _ordered(kinds: Iterable[bounds.Kind]) -> tuple[bounds.Kind, ...]:
    """In the order of the table, those of one's own last."""
    known = tuple(bounds.KINDS.values())
    own = sorted((kind for kind in kinds if kind not in known), key=lambda kind: kind.name)
    return (*(kind for kind in known if kind in kinds), *own)


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
