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


def kind_masks(low: Any, high: Any) -> dict[str, Any]:
    """Where each of `KINDS` applies: a boolean array a kind, of NumPy or JAX as the bounds are.

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


def strictly_inside(
    theta: Float[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
) -> Float[Array, "..."]:
    """θ, moved to the nearest number inside its bounds where it lies on or over one.

    A pinned element is its bound.

    Examples:
        >>> inside = strictly_inside(jnp.array([-1.0, 0.5, 1.0]), jnp.zeros(3), jnp.ones(3))
        >>> bool((inside > 0).all() & (inside < 1).all()), float(inside[1])
        (True, 0.5)
    """
    first = jnp.where(low > -jnp.inf, low + _inward_step(low), low)
    last = jnp.where(high < jnp.inf, high - _inward_step(high), high)
    return jnp.where(low == high, low, jnp.clip(theta, first, last))


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


def _promote(*arrays: ArrayLike) -> tuple[Array, ...]:
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(jnp.asarray(a, dtype) for a in arrays)


# --- interval -------------------------------------------------------------------------------------

# The argument of the logistic function is counted in bits, u = x·log2(e), so that the exponential
# beneath it is a power of two: an exponent to set and a polynomial of what is left.
LOG_2 = 0.6931471805599453


def _interval(z, center, scale, low, high):
    width, offset = high - low, _from_middle(center, low, high)
    unit = width * (LOG_2 / 4)
    u = offset / unit + (scale / unit) * z
    log_slope = jnp.log(scale) + (np.log(4.0) + _log_logistic_density(u))
    # Finite at every finite z. It is also what keeps a sum over log_slope fast on a CPU, where XLA
    # hands sums of plain arithmetic to a library that works this out ten times slower.
    return _logistic_between(u, low, high), _finite(log_slope)


def _interval_inverse(theta, center, scale, low, high):
    width = high - low
    margin = INVERSE_MARGIN * width
    under, over = theta <= low, theta >= high
    to_low = jnp.where(under, margin, jnp.where(over, width - margin, theta - low))
    to_high = jnp.where(over, margin, jnp.where(under, width - margin, high - theta))
    # to_low − to_high, from θ and not from the two, each of which is already rounded.
    excess = jnp.where(under | over, to_low - to_high, 2 * _from_middle(theta, low, high))
    x = _log_ratio(to_low, to_high, excess)
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
    furthest = exponent - _biased(u.dtype.type(2 - jnp.finfo(u.dtype).maxexp))
    n, p = _power_of_two(jnp.where(size > furthest, furthest, size))
    power = _two_to_the(exponent - n)
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
    shrink = _two_to_the(_biased(-exponent))
    values = (
        jnp.where(low == 0, low, low + _inward_step(low)),
        jnp.where(high == 0, high, high - _inward_step(high)),
        low + width / 2,
        width / 2,
        -width * shrink,
        _biased(exponent),
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
        q = _half_sech_half(u)
        # Two factors, not their square, which would underflow long before the derivative does.
        dtheta += ((high - low) * q) * (q * (LOG_2 * du))
    if not isinstance(dlow, SymbolicZero):
        dtheta += jax.nn.sigmoid(-LOG_2 * u) * dlow
    if not isinstance(dhigh, SymbolicZero):
        dtheta += jax.nn.sigmoid(LOG_2 * u) * dhigh
    return theta, dtheta


_logistic_between.defjvp(_logistic_between_jvp, symbolic_zeros=True)


# |u| has a kink at u = 0 for autodiff, though the maps have none, and z = 0 is where chains start.
# Derivatives are therefore stated, each in terms of the functions below and of tanh, so that those
# of every order are right at every u.


@jax.custom_jvp
def _half_sech_half(u):
    """sech(x/2)/2 with x = u·log 2: the square root of σ(x)·σ(−x)."""
    most = jnp.finfo(u.dtype).maxexp - 2
    half = jnp.abs(u) / 2
    n, p = _power_of_two(jnp.where(half > most, most, half))
    s = _two_to_the(_biased(-n))
    return s * (1 + p) / ((1 + p) ** 2 + s * s)


@_half_sech_half.defjvp
def _half_sech_half_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    q = _half_sech_half(u)
    return q, -q / 2 * jnp.tanh(u * (LOG_2 / 2)) * (LOG_2 * du)


@jax.custom_jvp
def _log_logistic_density(u):
    """log σ(x)·σ(−x) = −|x| − 2·log(1 + e) with x = u·log 2 and e = exp(−|x|)."""
    most = jnp.finfo(u.dtype).maxexp - 2
    size = jnp.abs(u)
    # With −f in place of f: 2^−size = 2^−n·2^−f.
    n, p = _power_of_two(jnp.where(size > most, most, size), sign=-1)
    s = _two_to_the(_biased(-n))
    e = s + s * p
    return -LOG_2 * size - 2 * (e * _horner(_LOG1P[u.dtype.name], e))


@_log_logistic_density.defjvp
def _log_logistic_density_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    return _log_logistic_density(u), -jnp.tanh(u * (LOG_2 / 2)) * (LOG_2 * du)


# (2^f − 1)/f for |f| ≤ 1/2, lowest power first: Chebyshev interpolation, done in 40 digits. Its
# absolute error is 7.8e-9 (float32) and 1.7e-19 (float64), a ninth and less of a rounding of it.
_EXP2M1 = {
    "float32": (
        *(0.69314718803, 0.24022650761, 0.055503571142),
        *(0.0096180825573, 0.0013390863365, 0.00015453162945),
    ),
    "float64": (
        *(0.69314718055994530925, 0.24022650695910071233, 0.055504108664821627039),
        *(0.0096181291076284794928, 0.0013333558146406470697, 0.00015403530393370733411),
        *(1.5252733841556772589e-5, 1.321548680870556279e-6, 1.0178057087733941105e-7),
        *(7.0548973041554992774e-9, 4.455817908336064493e-10, 2.5729324177362304214e-11),
    ),
}


# log(1 + e)/e for 0 ≤ e ≤ 1, likewise, with an absolute error of 3.3e-8 and 1.7e-18.
_LOG1P = {
    "float32": (
        *(0.99999996593, -0.49999444976, 0.33318121708),
        *(-0.24835398989, 0.19076880736, -0.13602247622),
        *(0.07751608674, -0.029074064677, 0.005126102141),
    ),
    "float64": (
        *(0.99999999999999999829, -0.49999999999999833902, 0.33333333333306460695),
        *(-0.249999999982648114, 0.1999999994034981464, -0.16666665403691092447),
        *(0.14285696309567309626, -0.1249981776951395388, 0.11109740896460193256),
        *(-0.099921278217600168255, 0.090555675155907330957, -0.082071636804374289723),
        *(0.073290152555349543793, -0.062887546707831462656, 0.050077423953917040277),
        *(-0.035530525401441245436, 0.021511022653356974242, -0.010614696363585529783),
        *(0.0040478098934675120205, -0.0011093809681700343293, 0.00019330794553431145575),
        -0.000016020216725538193085,
    ),
}


def _power_of_two(size, sign=1):
    """n and p with size = n ± f, |f| ≤ 1/2 and p = 2^f − 1: for sign 1, 2^size = 2^n·(1 + p).

    p keeps its relative precision next to 0, which 2^f − 1 taken by subtraction would not.
    """
    n = jax.lax.round(size, jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    f = sign * (size - n)
    return n, f * _horner(_EXP2M1[size.dtype.name], f)


# 1.5·2^nmant. Added to a whole number it leaves that number in the lowest bits: a conversion to an
# integer for the price of an addition, where XLA's own would check its range first.
_TO_BITS = {"float32": 1.5 * 2.0**23, "float64": 1.5 * 2.0**52}


def _biased(exponent):
    """An exponent as `_two_to_the` takes it; whole numbers may be added to it before."""
    return exponent + (_TO_BITS[exponent.dtype.name] + (jnp.finfo(exponent.dtype).maxexp - 1))


def _two_to_the(biased):
    """2^exponent, of whole exponents of normal numbers: their lowest bits become the exponent's."""
    bits = jax.lax.bitcast_convert_type(biased, f"int{8 * biased.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(bits << jnp.finfo(biased.dtype).nmant, biased.dtype)


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
    log = jnp.where(theta < jnp.inf, _log_ratio(distance, reach, excess), theta)
    return log * reach / scale


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


@jax.custom_jvp
def _log_ratio(a, b, excess):
    """log(a/b) for positive a and b, given excess = a − b to full relative precision.

    It is 2·artanh of (a − b)/(a + b) while the ratio is below 3. Beyond, with a = 2^i·m and
    b = 2^j·n, it is (i − j)·log 2 and the same of m and n: one quotient and one series for both.
    """
    half_sum = a / 2 + b / 2
    far = jnp.abs(excess) >= half_sum  # not so of NaN, which stays
    (i, m), (j, n) = _exponent_and_mantissa(a), _exponent_and_mantissa(b)
    ratio = jnp.where(far, m - n, excess / 2) / jnp.where(far, m + n, half_sum)
    log = ratio * _horner(_ARTANH[a.dtype.name], ratio * ratio)
    return log + jnp.where(far, (i - j).astype(a.dtype), 0) * LOG_2


@_log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    a, b, _ = primals
    da, db, _ = tangents  # the excess only says the same more precisely
    return _log_ratio(*primals), da / a - db / b


# 2·artanh(√t)/√t for 0 ≤ t ≤ 1/4, likewise, with an absolute error of 3.0e-9 and 1.5e-17.
_ARTANH = {
    "float32": (
        *(2.0000000023, 0.66666575581, 0.40005761485),
        *(0.28436344589, 0.23704260756, 0.10101961931),
        0.35534285562,
    ),
    "float64": (
        *(1.9999999999999999883, 0.66666666666668501973, 0.39999999999524263173),
        *(0.28571428619872783855, 0.22222219655617565588, 0.18181899355350280659),
        *(0.1538295923947998607, 0.13356143920331811806, 0.11547361478885256494),
        *(0.11969989625348814229, 0.029018630785211166891, 0.28995940992912038355),
        *(-0.30574303579580472809, 0.44942360234086353545),
    ),
}


def _exponent_and_mantissa(x):
    """i, an integer, and m in [1, 2) with x = 2^i·m, but for an i the same for all; x normal."""
    info = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(x, f"int{info.bits}")
    fraction = bits & (2**info.nmant - 1)
    mantissa = fraction | ((info.maxexp - 1) << info.nmant)
    return bits >> info.nmant, jax.lax.bitcast_convert_type(mantissa, x.dtype)


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
