"""The map of an interval of positive numbers on a logarithmic scale: log θ as θ in `interval`.

With L = log(high/low), mid = √(low·high) and x = 4·log(center/mid)/L + 4·(scale/center)/L·z it is
log θ = log low + L·σ(x), σ the logistic function. `center` is θ at z = 0 and `scale` the slope
there before the bounds bend it. A parameter asks for it: bounds alone do not say that it is wanted.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from scalejax.bounds.conditions import INVERSE_MARGIN, in_proportion, not_far_away, spans
from scalejax.bounds.elementary import (
    LOG_2,
    finite,
    half_sech_half,
    inward_step,
    log_logistic_density,
    log_ratio,
)
from scalejax.bounds.kind import Condition, Kind


def log_interval(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    unit = log_ratio(high, low, high - low) * (LOG_2 / 4)
    u = _log_from_middle(center, low, high) / unit + (scale / center / unit) * z
    theta = _between(u, low, high)
    log_slope = jnp.log(scale / center) + jnp.log(theta)
    return theta, finite(log_slope + (np.log(4.0) + log_logistic_density(u)))


def log_interval_inverse(theta, center, scale, low, high):
    """z."""
    width = log_ratio(high, low, high - low)
    under, over = theta <= low, theta >= high
    safe = jnp.where(under | over, low + (high - low) / 2, theta)
    margin = INVERSE_MARGIN * width
    to_low, to_high = log_ratio(safe, low, safe - low), log_ratio(high, safe, high - safe)
    to_low = jnp.where(under, margin, jnp.where(over, width - margin, to_low))
    to_high = jnp.where(over, margin, jnp.where(under, width - margin, to_high))
    x = log_ratio(to_low, to_high, to_low - to_high)
    z = (x / 4 * width - _log_from_middle(center, low, high)) * (center / scale)
    return jnp.where(jnp.isnan(theta), theta, z)


def _log_from_middle(center, low, high):
    """log(center/√(low·high))."""
    to_low, to_high = log_ratio(center, low, center - low), log_ratio(high, center, high - center)
    return (to_low - to_high) / 2


@jax.custom_jvp
def _between(u, low, high):
    """θ with log θ = log low + L·σ(x), x = u·log 2.

    It is measured from the nearest of low, √(low·high) and high, by the exponential of a distance
    that is taken to no less than its relative precision. Its error is that of the exponential: as
    many roundings as the distance is long, at most L/4, and a few.
    """
    width = log_ratio(high, low, high - low)
    size, negative = jnp.abs(u) * LOG_2, u < 0
    e = jnp.exp(-size)
    central = size < np.log(3.0)
    to_middle = width / 2 * (-jnp.expm1(-size)) / (1 + e)
    to_bound = -width * e / (1 + e)
    middle = jnp.sqrt(low) * jnp.sqrt(high)
    first, last = low + inward_step(low), high - inward_step(high)
    anchor = jnp.where(central, middle, jnp.where(negative, first, last))
    size = jnp.where(central, to_middle, to_bound)
    distance = jnp.where(negative, -size, size)
    # Next to an anchor the sum keeps what the product would round away; far below, it cancels.
    near = anchor + anchor * jnp.expm1(distance)
    theta = jnp.where(distance > -0.5, near, anchor * jnp.exp(distance))
    # Of a NaN nothing is to be said; what is flushed to 0 next to a tiny bound is put back inside.
    return jnp.where(theta < first, first, jnp.where(theta > last, last, theta))


@_between.defjvp
def _between_jvp(primals, tangents):
    u, low, high = primals
    du, dlow, dhigh = tangents
    theta = _between(u, low, high)
    q = half_sech_half(u)
    width = log_ratio(high, low, high - low)
    # Two factors, not their square, which would underflow long before the derivative does.
    along = (width * q) * (q * (LOG_2 * du))
    ends = jax.nn.sigmoid(-LOG_2 * u) * (dlow / low) + jax.nn.sigmoid(LOG_2 * u) * (dhigh / high)
    return theta, theta * (along + ends)


def _center_at(theta: float, low: float, high: float) -> float:
    width, to_low = math.log(high / low), math.log(theta / low)
    bent = width / 4 * math.log(to_low / (width - to_low))
    return math.sqrt(low) * math.sqrt(high) * math.exp(bent)


def _conditions(center, scale, low, high, *, dtype, xp):
    info = jnp.finfo(dtype)
    positive = (low >= info.tiny) & (high <= info.max)
    yield Condition(
        "a log_interval needs bounds that are positive and finite", ("low", "high"), positive
    )
    yield Condition("a log_interval needs a positive center", ("center",), center >= info.tiny)
    yield Condition(
        f"the range must span at least 32 {np.dtype(dtype).name} numbers and be finite",
        ("low", "high"),
        spans(low, high, 33, dtype=dtype, xp=xp),
    )
    width = xp.log(high) - xp.log(low)
    yield not_far_away((xp.log(center) - xp.log(low)) / width, xp=xp)
    unit = "the center times the logarithm of high/low"
    yield in_proportion(scale / center / width, unit, ("scale", "center", "low", "high"))


LOG_INTERVAL = Kind(
    "log_interval",
    None,
    log_interval,
    log_interval_inverse,
    _center_at,
    safe=(1.0, 1.0, 0.5, 2.0),
    conditions=_conditions,
)
