"""The maps of one bound.

θ = low + (center − low)·exp(scale·z/(center − low)), and its mirror image for an upper one.
`center` is θ at z = 0 and `scale` the slope there.
"""

import jax
import jax.numpy as jnp

from scalejax.bounds.conditions import INVERSE_MARGIN, in_proportion
from scalejax.bounds.elementary import at_least, exponential, finite, inward_step, log_ratio
from scalejax.bounds.kind import Condition, Kind


def lower(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    del high
    reach = center - low
    rate = scale / reach
    distance = exponential(z, rate, reach)
    return _above(low, distance, center, rate * z), jnp.log(scale) + finite(rate * z)


def lower_inverse(theta, center, scale, low, high):
    """z."""
    del high
    reach = center - low
    under = theta <= low
    distance = jnp.where(under, INVERSE_MARGIN * reach, theta - low)
    excess = jnp.where(under, distance - reach, theta - center)
    log = jnp.where(theta < jnp.inf, log_ratio(distance, reach, excess), theta)
    return log * reach / scale


def upper(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    theta, log_det = lower(-z, -center, scale, -high, -low)
    return -theta, log_det


def upper_inverse(theta, center, scale, low, high):
    """z."""
    return -lower_inverse(-theta, -center, scale, -high, -low)


@jax.custom_jvp
def _above(low, distance, center, exponent):
    """low + distance, strictly above low and finite; distance = (center − low)·exp(exponent).

    Where the center is nearer than the bound the sum is taken from there, lest it cancel.
    """
    central = exponent > -0.6931  # −log 2
    small = jnp.where(central & (exponent < 1), exponent, 0)
    rise = jnp.where(exponent < 1, (center - low) * jnp.expm1(small), distance - (center - low))
    theta = jnp.where(central, center + rise, low + at_least(inward_step(low), distance))
    return finite(theta)


@_above.defjvp
def _above_jvp(primals, tangents):
    dlow, ddistance, _, _ = tangents  # the other two only say the same more precisely
    return _above(*primals), dlow + ddistance


def _conditions_above(center, scale, low, high, *, dtype, xp):
    del high, dtype, xp
    yield Condition("center must be above the only bound", ("center", "low"), center > low)
    yield in_proportion(scale / (center - low), "|center − bound|", ("scale", "center", "low"))


def _conditions_below(center, scale, low, high, *, dtype, xp):
    del low, dtype, xp
    yield Condition("center must be below the only bound", ("center", "high"), center < high)
    yield in_proportion(scale / (high - center), "|center − bound|", ("scale", "center", "high"))


def _center_at(theta: float, low: float, high: float) -> float:
    del low, high
    return theta


LOWER = Kind(
    "lower",
    lambda low, high: (low > -jnp.inf) & (high == jnp.inf),
    lower,
    lower_inverse,
    _center_at,
    safe=(0.0, 1.0, -1.0, float("inf")),
    conditions=_conditions_above,
)
UPPER = Kind(
    "upper",
    lambda low, high: (low == -jnp.inf) & (high < jnp.inf),
    upper,
    upper_inverse,
    _center_at,
    safe=(0.0, 1.0, -float("inf"), 1.0),
    conditions=_conditions_below,
)
