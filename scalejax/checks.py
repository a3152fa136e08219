"""Assertions on a Scaling, for a user's own tests: shapes, values, and where the arrays live.

On top of chex. What fails is an AssertionError. Shapes and dtypes are looked at under tracing too;
values only where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, Float

from scalejax.scaling import Scaling


def assert_scaling(
    scaling: Scaling,
    *,
    platform: str | Sequence[str] | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> None:
    """Assert that a Scaling is whole: four arrays (P,) of one floating dtype, with sound values.

    Values are sound if they would pass at construction; a Scaling may have been changed since, by
    `eqx.tree_at` or a gradient step. `platform` (such as `"cpu"` or `("gpu", "tpu")`) and
    `sharding` say where all of its arrays must be.

    **Raises** `AssertionError`.

    Examples:
        >>> from scalejax import Scaling
        >>> from scalejax.checks import assert_scaling
        >>> assert_scaling(Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3}), platform="cpu")
    """
    arrays = (scaling.center, scaling.scale, scaling.low, scaling.high)
    chex.assert_shape(arrays, (scaling.size,))
    chex.assert_type(arrays, float)
    if len(dtypes := {array.dtype for array in arrays}) > 1:
        raise AssertionError(f"a Scaling has arrays of one dtype; got {sorted(map(str, dtypes))}")
    if any(isinstance(array, Tracer) for array in arrays):
        return
    try:
        scaling.checked()
    except ValueError as error:
        raise AssertionError(str(error)) from error
    platforms = {platform} if isinstance(platform, str) else set(platform or ())
    for name, array in zip(("center", "scale", "low", "high"), arrays, strict=True):
        # Not by chex.assert_tree_is_on_device, which refuses arrays on several devices.
        found = {device.platform for device in array.devices()}
        if platform is not None and not found <= platforms:
            raise AssertionError(f"{name} is on {sorted(found)}; expected {sorted(platforms)}")
        if sharding is not None and not array.sharding.is_equivalent_to(sharding, array.ndim):
            raise AssertionError(f"{name} is sharded as {array.sharding}; expected {sharding}")


def assert_round_trip(
    scaling: Scaling, z: Float[ArrayLike, "*batch P"] | None = None, *, roundings: float = 32
) -> None:
    """Assert that `to_normalized(to_original(z))` is z, as nearly as rounding allows.

    θ carries roundings of the bounds and the center it is made of, and the inverse magnifies them
    by 1/(∂θ/∂z): where the map is flat, next to a bound, z cannot be told from θ so well. z that
    cannot be told to 1 % is passed over. `z` is a grid over −3…3 by default; `roundings` is how
    many eps of each term are allowed.

    **Raises** `AssertionError`, naming the parameter; `TypeError` under tracing.

    Examples:
        >>> from scalejax import Scaling
        >>> from scalejax.checks import assert_round_trip
        >>> assert_round_trip(Scaling(0.5, 0.25, 0.0, 1.0))
    """
    if isinstance(scaling.center, Tracer):
        raise TypeError("assert_round_trip looks at values: call it outside of jit")
    dtype = scaling.center.dtype
    if z is None:
        z = np.linspace(-3, 3, 25)[:, None] * np.ones(scaling.size)
    z = jnp.asarray(z, dtype)
    theta, log_derivative = scaling.forward_and_log_derivative(z)
    back = np.asarray(scaling.to_normalized(theta), np.float64)
    center, scale, low, high = (
        np.asarray(a, np.float64)
        for a in (scaling.center, scaling.scale, scaling.low, scaling.high)
    )
    pinned = low == high
    bounds_size = sum(np.where(np.isfinite(b), np.abs(b), 0) for b in (low, high))
    terms = np.abs(center) + bounds_size
    slope = np.exp(np.asarray(log_derivative, np.float64))
    reach = (terms + np.abs(np.asarray(theta, np.float64))) / slope
    allowed = roundings * float(jnp.finfo(dtype).eps) * (reach + np.abs(z) + terms / scale)
    error = np.abs(back - np.where(pinned, 0, np.asarray(z, np.float64)))
    told = (allowed < 0.01) & (np.abs(np.asarray(theta)) < float(jnp.finfo(dtype).max))
    excess = np.where(told, error - allowed, 0)
    if (excess > 0).any():
        worst = np.unravel_index(np.argmax(excess), excess.shape)
        raise AssertionError(
            f"parameter {scaling.flat_names[worst[-1]]!r}: z → θ → z is off by {error[worst]:.3g} "
            f"at z = {float(z[worst]):.3g}, where rounding explains {allowed[worst]:.3g}"
        )
