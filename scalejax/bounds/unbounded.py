"""The maps without a bound, θ = center + scale·z, and without room: θ = low = high for every z."""

import jax.numpy as jnp

from scalejax.bounds.elementary import finite
from scalejax.bounds.kind import Kind


def unbounded(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    del low, high
    return finite(center + scale * z), jnp.log(scale) + jnp.zeros_like(z)


def unbounded_inverse(theta, center, scale, low, high):
    """z."""
    del low, high
    return (theta - center) / scale


def pinned(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    del center, scale, high
    zero = jnp.where(jnp.isnan(z), z, 0)
    return low + zero, zero


def pinned_inverse(theta, center, scale, low, high):
    """z."""
    return jnp.zeros(jnp.broadcast_shapes(*map(jnp.shape, (theta, low))), theta.dtype)


UNBOUNDED = Kind(
    "unbounded",
    lambda low, high: (low == -jnp.inf) & (high == jnp.inf),
    unbounded,
    unbounded_inverse,
    lambda theta, low, high: theta,
    safe=(0.0, 1.0, -float("inf"), float("inf")),
)
PINNED = Kind(
    "pinned",
    lambda low, high: low == high,
    pinned,
    pinned_inverse,
    lambda theta, low, high: low,
    safe=(0.0, 1.0, 0.0, 0.0),
)
