"""What must hold of center, scale, low and high, whatever the kind, and parts of what kinds ask.

NumPy at construction, and JAX where `Scaling.checked` puts the check into a computation. What holds
whatever the kind is asked of values as they were declared, in float64 and before they are rounded;
the rest in the working dtype.
"""

import jax.numpy as jnp
import numpy as np

from scalejax.bounds.kind import Condition

# The fraction of the range by which inverses move a value that lies on or over a bound inside it.
INVERSE_MARGIN = 5e-7


def of_every_kind(center, scale, low, high, *, dtype, xp):
    """What must hold of every element, in the order in which it is to be said."""
    info = jnp.finfo(dtype)
    yield Condition("low must be a number below inf", ("low",), ~xp.isnan(low) & (low < np.inf))
    yield Condition(
        "high must be a number above -inf", ("high",), ~xp.isnan(high) & (high > -np.inf)
    )
    yield Condition("low must not exceed high", ("low", "high"), low <= high)
    yield Condition("center must be finite", ("center",), xp.abs(center) <= info.max)
    positive = (scale >= info.tiny) & (scale <= info.max)
    yield Condition("scale must be positive and finite", ("scale",), positive)


def spans(low, high, count, *, dtype, xp):
    """Whether there are `count` − 1 numbers of the dtype between bounds, and the range is one."""
    info = jnp.finfo(dtype)
    low, high = low.astype(dtype), high.astype(dtype)
    # A step is at least the smallest normal number: what lies below that is flushed to zero.
    last = low
    for _ in range(count):
        last = xp.maximum(xp.nextafter(last, xp.asarray(np.inf, dtype)), last + info.tiny)
    width = high - low
    # Distances to a bound keep their precision down to eps times the range.
    return (last <= high) & (width >= info.tiny / info.eps) & (width <= info.max)


def not_far_away(away, *, xp):
    """The center, in ranges from a bound: beyond, the argument of the map loses its digits."""
    text = "center must lie within 2^20 ranges of the bounds"
    return Condition(text, ("center", "low", "high"), xp.abs(away) <= 2.0**20)


def in_proportion(ratio, unit, about):
    """The scale in the unit that the map is worked out in: beyond, its numbers would overflow."""
    text = f"scale must be within a factor 2^100 of {unit}"
    return Condition(text, about, (ratio >= 2.0**-100) & (ratio <= 2.0**100))
