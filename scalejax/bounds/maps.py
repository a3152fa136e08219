"""θ(z), log ∂θ/∂z and z(θ), element by element, whatever the kinds of the elements.

Plain functions on arrays that broadcast against each other. They know nothing of parameters,
groups, priors or samplers; `scalejax.Scaling` gives the numbers their meaning.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from scalejax.bounds.elementary import inward_step
from scalejax.bounds.kind import Kind
from scalejax.bounds.kinds import BY_BOUNDS, Chosen, kind_masks


@partial(jax.jit, static_argnames=("kinds", "chosen"), inline=True)
def forward_and_log_det(
    z: Num[ArrayLike, "..."],
    center: Num[ArrayLike, "..."],
    scale: Num[ArrayLike, "..."],
    low: Num[ArrayLike, "..."],
    high: Num[ArrayLike, "..."],
    *,
    kinds: tuple[Kind, ...] = BY_BOUNDS,
    chosen: Chosen = (),
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """θ(z) and log ∂θ/∂z, element by element.

    `kinds` are those that can occur; leaving out those that cannot saves their work. `chosen` says
    which places of the last axis are of a kind that their bounds alone do not make them. θ is
    strictly inside its bounds for every z but NaN, which gives NaN. Under `jit`, whichever of the
    two results is not used costs nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.bounds import forward_and_log_det
        >>> theta, log_det = forward_and_log_det(jnp.array(0.0), 0.5, 0.25, 0.0, 1.0)
        >>> print(theta, jnp.exp(log_det))
        0.5 0.25
    """

    def forward(kind, z, *factors):
        return kind.forward(z, *factors)

    return _by_kind(forward, z, center, scale, low, high, kinds, chosen)


@partial(jax.jit, static_argnames=("kinds", "chosen"), inline=True)
def inverse(
    theta: Num[ArrayLike, "..."],
    center: Num[ArrayLike, "..."],
    scale: Num[ArrayLike, "..."],
    low: Num[ArrayLike, "..."],
    high: Num[ArrayLike, "..."],
    *,
    kinds: tuple[Kind, ...] = BY_BOUNDS,
    chosen: Chosen = (),
) -> Float[Array, "..."]:
    """z(θ), element by element: the inverse of the map of `forward_and_log_det`.

    A θ on or over a bound is taken `INVERSE_MARGIN` of the range inside it (of |center − bound|
    where there is only one bound), so that z is finite; one strictly inside is taken as it is.
    A pinned element gives 0.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.bounds import inverse
        >>> print(inverse(jnp.array([0.5, 1.0, 7.0]), 0.5, 0.25, 0.0, 1.0).round())
        [ 0. 15. 15.]
    """

    def backward(kind, theta, *factors):
        return kind.inverse(theta, *factors)

    return _by_kind(backward, theta, center, scale, low, high, kinds, chosen)


def strictly_inside(
    theta: Float[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
) -> Float[Array, "..."]:
    """θ, moved to the nearest number inside its bounds where it lies on or over one.

    A pinned element is its bound.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.bounds import strictly_inside
        >>> inside = strictly_inside(jnp.array([-1.0, 0.5, 1.0]), jnp.zeros(3), jnp.ones(3))
        >>> bool((inside > 0).all() & (inside < 1).all()), float(inside[1])
        (True, 0.5)
    """
    first = jnp.where(low > -jnp.inf, low + inward_step(low), low)
    last = jnp.where(high < jnp.inf, high - inward_step(high), high)
    return jnp.where(low == high, low, jnp.clip(theta, first, last))


def _by_kind(apply, value, center, scale, low, high, kinds, chosen) -> Any:
    value, center, scale, low, high = _promote(value, center, scale, low, high)
    first, *others = kinds
    if not others:
        return apply(first, value, center, scale, low, high)
    masks = kind_masks(low, high, kinds=kinds, chosen=chosen)

    def of(kind):
        # Elements of another kind get harmless numbers before the map, not only a `where` after
        # it: an inf or NaN that is selected away still poisons the gradient.
        mask, arrays = masks[kind], (center, scale, low, high)
        safe = (jnp.where(mask, a, s) for a, s in zip(arrays, kind.safe, strict=True))
        return apply(kind, value, *safe)

    result = of(first)
    for kind in others:
        select = partial(jnp.where, masks[kind])
        result = jax.tree.map(select, of(kind), result)
    return result


def _promote(*arrays: ArrayLike) -> tuple[Array, ...]:
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(jnp.asarray(a, dtype) for a in arrays)
