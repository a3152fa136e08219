"""The map of an interval, both of whose bounds are finite.

With x = 4·(center + scale·z − mid)/w it is θ = low + w·σ(x), w = high − low, mid = low + w/2 and σ
the logistic function: the familiar mid + (w/2)·tanh((center + scale·z − mid)/(w/2)), arranged so
that nothing cancels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from scalejax.bounds.conditions import INVERSE_MARGIN, in_proportion, not_far_away, spans
from scalejax.bounds.elementary import (
    LOG_2,
    biased,
    finite,
    half_sech_half,
    inward_step,
    log_logistic_density,
    log_ratio,
    power_of_two,
    two_to_the,
)
from scalejax.bounds.kind import Condition, Kind


def interval(z, center, scale, low, high):
    """θ and log ∂θ/∂z."""
    width, offset = high - low, _from_middle(center, low, high)
    unit = width * (LOG_2 / 4)
    u = offset / unit + (scale / unit) * z
    log_slope = jnp.log(scale) + (np.log(4.0) + log_logistic_density(u))
    # Finite at every finite z. It is also what keeps a sum over log_slope fast on a CPU, where XLA
    # hands sums of plain arithmetic to a library that works this out ten times slower.
    return _logistic_between(u, low, high), finite(log_slope)


def interval_inverse(theta, center, scale, low, high):
    """z."""
    width = high - low
    margin = INVERSE_MARGIN * width
    under, over = theta <= low, theta >= high
    to_low = jnp.where(under, margin, jnp.where(over, width - margin, theta - low))
    to_high = jnp.where(over, margin, jnp.where(under, width - margin, high - theta))
    # to_low − to_high, from θ and not from the two, each of which is already rounded.
    excess = jnp.where(under | over, to_low - to_high, 2 * _from_middle(theta, low, high))
    x = log_ratio(to_low, to_high, excess)
    return x / 4 * (width / scale) - _from_middle(center, low, high) / scale


def _from_middle(value, low, high):
    """value − (low + high)/2, of which only the result is rounded where it is small."""
    half = (high - low) / 2
    mid = low + half
    # What rounding took from mid (Knuth's two-sum): with bounds far from 0 it is not little.
    back = mid - low
    lost = (low - (mid - back)) + (half - back)
    return (value - mid) - lost


@jax.custom_jvp
def _logistic_between(u, low, high):
    """θ = low + (high − low)·σ(x) with x = u·log 2.

    It is a distance added to the nearest of low, mid and high. A sum keeps the relative precision
    of its terms only if it does not cancel: measured from the nearer bound it does not in the
    outer quarters of the range, however small θ − low is; measured from the middle it does not in
    the inner half, where an interval such as (−a, a) crosses 0. With 2^|u| = 2^n·(1 + p) and
    s = 2^−n, the distances over the width are σ(−|x|) = s/(1 + p + s) to the bound and
    tanh(|x|/2)/2 = (1 + p − s)/(1 + p + s)/2 to the middle: one division for either.

    The anchors at bounds other than 0 are the first floats inside them, and no distance is less
    than the smallest normal number, so that no u reaches a bound and θ needs no clamp.
    """
    first, last, mid, half, minus_mantissa, exponent, shrink = _per_bound(low, high, u)
    size, negative = jnp.abs(u), u < 0
    central = size < 1.5849625  # log2(3), where the distances to mid and to the bound are equal
    # width·2^−n is mantissa·2^(exponent − n): as far down as the product can be held, not only s.
    # How far that is could come with the rest, but it is cheaper to work out than to load.
    furthest = exponent - biased(u.dtype.type(2 - jnp.finfo(u.dtype).maxexp))
    n, p = power_of_two(jnp.where(size > furthest, furthest, size))
    power = two_to_the(exponent - n)
    s = power * shrink
    # For u ≥ 0; the other half is its mirror image. The sign goes to the top, since a quotient that
    # is used twice, in a sum and in a difference, is a pass over the array of its own on a CPU.
    top = jnp.where(central, half * ((1 - s) + p), minus_mantissa * power)
    anchor = jnp.where(central, mid, jnp.where(negative, first, last))
    return anchor + jnp.where(negative, -top, top) / ((1 + s) + p)


def _per_bound(low, high, u):
    """What `_logistic_between` needs to know of the bounds."""
    info = jnp.finfo(low.dtype)
    width = high - low
    exponent = jnp.minimum(jnp.frexp(width)[1] - 1, info.maxexp - 2).astype(low.dtype)
    shrink = two_to_the(biased(-exponent))
    values = (
        jnp.where(low == 0, low, low + inward_step(low)),
        jnp.where(high == 0, high, high - inward_step(high)),
        low + width / 2,
        width / 2,
        -width * shrink,
        biased(exponent),
        shrink,
    )
    return _once(values) if u.size > _FEW * low.size else _once_over_a_batch(values, u)


# Rows for which doing the above again is cheaper than a program that does it once.
_FEW = 64


def _once(values):
    """The same values. XLA's fusion for the CPU would work them out again in every row of a batch,
    but for what ends in a division, which it takes to be dear."""
    one = jnp.where(values[-1] > 0, 1, values[-1])  # which XLA cannot know to be 1
    return tuple(value / one for value in values)


@jax.custom_batching.custom_vmap
def _once_over_a_batch(values, u):
    """`_once`, where `vmap` makes a batch of u alone."""
    del u
    return values


@_once_over_a_batch.def_vmap
def _once_over_a_batch_vmap(axis_size, in_batched, values, u):
    del u
    batched, u_batched = in_batched
    alone = u_batched and not any(batched)
    return _once(values) if alone and axis_size > _FEW else values, batched


def _logistic_between_jvp(primals, tangents):
    u, low, high = primals
    du, dlow, dhigh = tangents
    theta = _logistic_between(u, low, high)
    dtheta = jnp.zeros_like(theta)
    if not isinstance(du, SymbolicZero):
        q = half_sech_half(u)
        # Two factors, not their square, which would underflow long before the derivative does.
        dtheta += ((high - low) * q) * (q * (LOG_2 * du))
    if not isinstance(dlow, SymbolicZero):
        dtheta += jax.nn.sigmoid(-LOG_2 * u) * dlow
    if not isinstance(dhigh, SymbolicZero):
        dtheta += jax.nn.sigmoid(LOG_2 * u) * dhigh
    return theta, dtheta


_logistic_between.defjvp(_logistic_between_jvp, symbolic_zeros=True)


def _center_at(theta: float, low: float, high: float) -> float:
    """The inverse of mid + half·tanh((center − mid)/half)."""
    return low + (high - low) / 2 + (high - low) / 4 * math.log((theta - low) / (high - theta))


def _conditions(center, scale, low, high, *, dtype, xp):
    width = high - low
    return (
        Condition(
            f"the range must span at least four {np.dtype(dtype).name} numbers and be finite",
            ("low", "high"),
            spans(low, high, 5, dtype=dtype, xp=xp),
        ),
        not_far_away((center - low) / width, xp=xp),
        in_proportion(scale / width, "the range", ("scale", "low", "high")),
    )


INTERVAL = Kind(
    "interval",
    lambda low, high: (low > -jnp.inf) & (high < jnp.inf) & (low != high),
    interval,
    interval_inverse,
    _center_at,
    safe=(0.0, 1.0, -1.0, 1.0),
    conditions=_conditions,
)
