"""Elementwise bijections between the real line and bounded sets: forward, inverse, log-derivative.

Plain functions on arrays that broadcast against each other. This module knows nothing of
parameters, groups, priors or samplers; `scalejax.Scaling` gives the numbers their meaning.

There is one map for each *kind* of bounds:

| kind | bounds | θ(z) |
|---|---|---|
| `interval` | both finite | low + (high − low)·σ(x), x = 4·(center − mid)/w + (4·scale/w)·z |
| `lower` | only low finite | low + (center − low)·exp(scale·z/(center − low)) |
| `upper` | only high finite | high − (high − center)·exp(−scale·z/(high − center)) |
| `unbounded` | none finite | center + scale·z |
| `pinned` | low = high | low |

with w = high − low, mid = low + w/2 and σ the logistic function; the interval map is the familiar
mid + (w/2)·tanh((center + scale·z − mid)/(w/2)), arranged so that nothing cancels.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Float

KINDS = ("interval", "lower", "upper", "unbounded", "pinned")

# The fraction of the range by which `inverse` moves a value that lies on or over a bound inside it.
INVERSE_MARGIN = 5e-7

# Coefficients in y², lowest power first, of the numerator and denominator of tanh(y)/y: the
# convergents of its continued fraction y/(1 + y²/(3 + y²/(5 + …))) (DLMF 4.39.1). Up to
# y = log(3)/2 their relative error is 2.2e-10 at depth 5 and 8.3e-19 at depth 8.
_TANH_FRACTION = {
    np.dtype("float32"): ((945, 105, 1), (945, 420, 15)),
    np.dtype("float64"): ((2027025, 270270, 6930, 36), (2027025, 945945, 51975, 630, 1)),
}


def kind_masks(low: Any, high: Any) -> dict[str, Any]:
    """Where each of `KINDS` applies: a boolean array a kind, of the shape
    of the bounds, by NumPy or JAX as they are.

    Examples:
        >>> masks = kind_masks(jnp.array([0.0, 0.0, 2.0]), jnp.array([1.0, jnp.inf, 2.0]))
        >>> [str(kind) for kind in masks if masks[kind].any()]
        ['interval', 'lower', 'pinned']
    """
    has_low, has_high, pinned = low > -jnp.inf, high < jnp.inf, low == high
    return {
        "interval": has_low & has_high & ~pinned,
        "lower": has_low & ~has_high,
        "upper": ~has_low & has_high,
        "unbounded": ~has_low & ~has_high,
        "pinned": pinned,
    }


@partial(jax.jit, static_argnames="kinds", inline=True)
def forward_and_log_det(
    z: Float[Array, "..."],
    center: Float[Array, "..."],
    scale: Float[Array, "..."],
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    *,
    kinds: tuple[str, ...] = KINDS,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """θ(z) and log ∂θ/∂z, element by element.

    `kinds` names the kinds that can occur; leaving out those that cannot saves their work. θ is
    strictly inside its bounds for every z but NaN, which gives NaN. Under `jit`, whichever of the
    two results is not used costs nothing.

    Examples:
        >>> theta, log_det = forward_and_log_det(jnp.array(0.0), 0.5, 0.25, 0.0, 1.0)
        >>> print(theta, jnp.exp(log_det))
        0.5 0.25
    """
    return _by_kind(_FORWARD, z, center, scale, low, high, kinds)


@partial(jax.jit, static_argnames="kinds", inline=True)
def inverse(
    theta: Float[Array, "..."],
    center: Float[Array, "..."],
    scale: Float[Array, "..."],
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    *,
    kinds: tuple[str, ...] = KINDS,
) -> Float[Array, "..."]:
    """z(θ), element by element: the inverse of the map of `forward_and_log_det`.

    A θ on or over a bound is taken `INVERSE_MARGIN` of the range inside it (of |center − bound|
    where there is only one bound), so that z is finite; one strictly inside is taken as it is.
    A pinned element gives 0.

    Examples:
        >>> print(inverse(jnp.array([0.5, 1.0, 7.0]), 0.5, 0.25, 0.0, 1.0).round())
        [ 0. 15. 15.]
    """
    return _by_kind(_INVERSE, theta, center, scale, low, high, kinds)


def _by_kind(table, value, center, scale, low, high, kinds) -> Any:
    value, center, scale, low, high = _promote(value, center, scale, low, high)
    first, *others = kinds
    if not others:
        return table[first](value, center, scale, low, high)
    masks = kind_masks(low, high)

    def apply(kind):
        # Elements of another kind get harmless numbers before the map, not only a `where` after
        # it: an inf or NaN that is selected away still poisons the gradient.
        mask, arrays = masks[kind], (center, scale, low, high)
        safe = (jnp.where(mask, a, s) for a, s in zip(arrays, _SAFE[kind], strict=True))
        return table[kind](value, *safe)

    result = apply(first)
    for kind in others:
        select = partial(jnp.where, masks[kind])
        result = jax.tree.map(select, apply(kind), result)
    return result


def _promote(*arrays: ArrayLike) -> tuple[Array, "..."]:
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(jnp.asarray(a, dtype) for a in arrays)


# --- interval -------------------------------------------------------------------------------------


def _interval(z, center, scale, low, high):
    width, offset = high - low, _from_middle(center, low, high)
    x = 4 * offset / width + (4 * scale / width) * z
    return _logistic_between(x, low, high), jnp.log(4 * scale) + _log_logistic_density(x)


def _interval_inverse(theta, center, scale, low, high):
    width = high - low
    margin = INVERSE_MARGIN * width
    under, over = theta <= low, theta >= high
    to_low = jnp.where(under, margin, jnp.where(over, width - margin, theta - low))
    to_high = jnp.where(over, margin, jnp.where(under, width - margin, high - theta))
    # to_low − to_high, from θ and not from the two, each of which is already rounded.
    excess = jnp.where(under | over, to_low - to_high, 2 * _from_middle(theta, low, high))
    x = _log_ratio(to_low, to_high, excess)
    return (x * width - 4 * _from_middle(center, low, high)) / (4 * scale)


def _from_middle(value, low, high):
    """value − (low + high)/2, of which only the result is rounded where it is small."""
    half = (high - low) / 2
    mid = low + half
    # What rounding took from mid (Knuth's two-sum): with bounds far from 0 it is not little.
    back = mid - low
    lost = (low - (mid - back)) + (half - back)
    return (value - mid) - lost


@jax.custom_jvp
def _logistic_between(x, low, high):
    """low + (high − low)·σ(x), as a small distance from the nearest of low, mid and high.

    A sum keeps the relative precision of its terms only if it does not cancel. Measured from the
    nearer bound nothing cancels in the outer quarters of the range, whatever θ − low is; measured
    from the middle, nothing does in the inner half, where an interval such as (−a, a) crosses 0.
    One division serves both: σ(−|x|) = 1/(1 + exp|x|), and tanh(x/2) is a ratio of polynomials.
    """
    width = high - low
    ax, negative = jnp.abs(x), x < 0
    central = ax < 1.0986  # log 3, where the distances to mid and to the nearer bound are equal
    numerator, denominator = _TANH_FRACTION[np.dtype(x.dtype)]
    y2 = x * x / 4
    top = jnp.where(central, (x / 4) * _horner(numerator, y2), 1.0)
    bottom = jnp.where(central, _horner(denominator, y2), 1 + jnp.exp(ax))
    distance = width * top / bottom
    # At least one float inside the bound: then no z reaches it, and no clamp on θ is needed.
    step = jnp.where(negative, _inward_step(low), _inward_step(high))
    distance = jnp.where(central, distance, _at_least(step, distance))
    anchor = jnp.where(central, low + width / 2, jnp.where(negative, low, high))
    return jnp.where(central | negative, anchor + distance, anchor - distance)


def _logistic_between_jvp(primals, tangents):
    x, low, high = primals
    theta = _logistic_between(x, low, high)
    dx, dlow, dhigh = tangents
    parts = []
    if not isinstance(dx, SymbolicZero):
        q = _half_sech_half(x)
        # Two factors, not their square, which would underflow long before the derivative does.
        parts.append(((high - low) * q) * (q * dx))
    if not isinstance(dlow, SymbolicZero):
        parts.append(jax.nn.sigmoid(-x) * dlow)
    if not isinstance(dhigh, SymbolicZero):
        parts.append(jax.nn.sigmoid(x) * dhigh)
    return theta, sum(parts, jnp.zeros_like(theta))


_logistic_between.defjvp(_logistic_between_jvp, symbolic_zeros=True)


# |x| has a kink at x = 0 for autodiff, though the functions below have none there, and z = 0 is
# where chains start. Their derivatives are therefore stated: each is made of the same two
# functions and tanh, so that derivatives of every order are right at every x.


@jax.custom_jvp
def _half_sech_half(x):
    """sech(x/2)/2, the square root of σ(x)·σ(−x)."""
    e = jnp.exp(-jnp.abs(x) / 2)
    return e / (1 + e * e)


@_half_sech_half.defjvp
def _half_sech_half_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    q = _half_sech_half(x)
    return q, -q / 2 * jnp.tanh(x / 2) * dx


@jax.custom_jvp
def _log_logistic_density(x):
    """log(σ(x)·σ(−x))."""
    ax = jnp.abs(x)
    # log1p would be slower and no better: beside |x| ≥ 0 only the absolute error counts.
    return -ax - 2 * jnp.log(1 + jnp.exp(-ax))


@_log_logistic_density.defjvp
def _log_logistic_density_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_logistic_density(x), -jnp.tanh(x / 2) * dx


# --- one bound, or none ---------------------------------------------------------------------------


def _lower(z, center, scale, low, high):
    del high
    reach = center - low
    rate = scale / reach
    distance = _exponential(z, rate, reach)
    return _above(low, distance, center, rate * z), jnp.log(scale) + _finite(rate * z)


def _lower_inverse(theta, center, scale, low, high):
    del high
    reach = center - low
    under = theta <= low
    distance = jnp.where(under, INVERSE_MARGIN * reach, theta - low)
    excess = jnp.where(under, distance - reach, theta - center)
    return _log_ratio(distance, reach, excess) * reach / scale


def _upper(z, center, scale, low, high):
    theta, log_det = _lower(-z, -center, scale, -high, -low)
    return -theta, log_det


def _upper_inverse(theta, center, scale, low, high):
    return -_lower_inverse(-theta, -center, scale, -high, -low)


def _unbounded(z, center, scale, low, high):
    del low, high
    return _finite(center + scale * z), jnp.log(scale) + jnp.zeros_like(z)


def _unbounded_inverse(theta, center, scale, low, high):
    del low, high
    return (theta - center) / scale


def _pinned(z, center, scale, low, high):
    del center, scale, high
    zero = jnp.where(jnp.isnan(z), z, 0)
    return low + zero, zero


def _pinned_inverse(theta, center, scale, low, high):
    return jnp.zeros(jnp.broadcast_shapes(*map(jnp.shape, (theta, low))), theta.dtype)


_FORWARD = {
    "interval": _interval,
    "lower": _lower,
    "upper": _upper,
    "unbounded": _unbounded,
    "pinned": _pinned,
}
_INVERSE = {
    "interval": _interval_inverse,
    "lower": _lower_inverse,
    "upper": _upper_inverse,
    "unbounded": _unbounded_inverse,
    "pinned": _pinned_inverse,
}
# center, scale, low, high for elements to which a kind's map does not apply.
_SAFE = {
    "interval": (0.0, 1.0, -1.0, 1.0),
    "lower": (0.0, 1.0, -1.0, jnp.inf),
    "upper": (0.0, 1.0, -jnp.inf, 1.0),
    "unbounded": (0.0, 1.0, -jnp.inf, jnp.inf),
    "pinned": (0.0, 1.0, 0.0, 0.0),
}


# --- pieces ---------------------------------------------------------------------------------------


def _horner(coefficients, x):
    result = jnp.asarray(coefficients[-1], x.dtype)
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


def _log_ratio(a, b, excess):
    """log(a/b) for positive a and b, given excess = a − b to full relative precision."""
    above = excess >= 0
    top, bottom = jnp.where(above, excess, -excess), jnp.where(above, b, a)
    # The ratio itself may overflow. Where it would, 1 is nothing beside it, scaled down or not.
    exponent = jnp.finfo(top.dtype).maxexp
    huge = bottom < top * 2.0 ** (2 - exponent)
    shift = round(0.6 * exponent)
    log = jnp.log1p(top * jnp.where(huge, 2.0**-shift, 1.0) / bottom)
    log = log + jnp.where(huge, shift * np.log(2.0), 0.0)
    return jnp.where(above, log, -log)


def _inward_step(bound):
    """A distance that, added to or taken from `bound`, moves it to a neighbouring float.

    Three quarters of eps·|bound| lies strictly between half a spacing and one and a half spacings.
    Next to 0 it is the smallest normal number: smaller ones are flushed to 0 on most devices.
    """
    dtype = jnp.finfo(bound.dtype)
    return jnp.maximum(0.75 * dtype.eps * jnp.abs(bound), dtype.tiny)


def _at_least(step, distance):
    return jnp.where(distance < step, step, distance)  # NaN stays NaN


# The guards below hold θ strictly inside its bounds and below infinity where rounding would carry
# it there. They act on the value alone: the derivative is that of the exact map, which has no edge.


@jax.custom_jvp
def _above(low, distance, center, exponent):
    """low + distance, strictly above low and finite; distance = (center − low)·exp(exponent).

    Where the center is nearer than the bound the sum is taken from there, lest it cancel.
    """
    central = exponent > -0.6931  # −log 2
    small = jnp.where(central & (exponent < 1), exponent, 0)
    rise = jnp.where(exponent < 1, (center - low) * jnp.expm1(small), distance - (center - low))
    theta = jnp.where(central, center + rise, low + _at_least(_inward_step(low), distance))
    return _finite(theta)


@_above.defjvp
def _above_jvp(primals, tangents):
    dlow, ddistance, _, _ = tangents  # the other two only say the same more precisely
    return _above(*primals), dlow + ddistance


@jax.custom_jvp
def _finite(x):
    """x, with ±inf replaced by the largest finite numbers."""
    largest = jnp.finfo(x.dtype).max
    return jnp.where(x > largest, largest, jnp.where(x < -largest, -largest, x))


@_finite.defjvp
def _finite_jvp(primals, tangents):
    return _finite(*primals), tangents[0]


@jax.custom_jvp
def _exponential(z, rate, amplitude):
    """amplitude·exp(rate·z); neither it nor any derivative in z exceeds the largest number."""
    # Half the exponent twice: the product is there whenever it can be held, though exp may not be.
    root = jnp.exp(rate * z / 2)
    return _finite((amplitude * root) * root)


def _exponential_jvp(primals, tangents):
    z, rate, amplitude = primals
    dz, drate, damplitude = tangents
    value = _exponential(z, rate, amplitude)
    parts = []
    if not isinstance(dz, SymbolicZero):
        parts.append(_exponential(z, rate, amplitude * rate) * dz)
    if not isinstance(drate, SymbolicZero):
        parts.append(_finite(z * value) * drate)
    if not isinstance(damplitude, SymbolicZero):
        parts.append(_exponential(z, rate, jnp.ones_like(amplitude)) * damplitude)
    return value, sum(parts, jnp.zeros_like(value))


_exponential.defjvp(_exponential_jvp, symbolic_zeros=True)
