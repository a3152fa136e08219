"""Elementary functions in floating point, each with the reason for its form.

Powers of two, logarithms of ratios, and guards at the ends of the range of numbers, in float32 and
float64, with derivatives that are stated where autodiff would get them wrong. It knows no bounds.
"""

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

# The argument of the logistic function is counted in bits, u = x·log2(e), so that the exponential
# beneath it is a power of two: an exponent to set and a polynomial of what is left.
LOG_2 = 0.6931471805599453

# |u| has a kink at u = 0 for autodiff, though the maps have none, and z = 0 is where chains start.
# Derivatives are therefore stated, each in terms of the functions below and of tanh, so that those
# of every order are right at every u.


@jax.custom_jvp
def half_sech_half(u):
    """sech(x/2)/2 with x = u·log 2: the square root of σ(x)·σ(−x)."""
    most = jnp.finfo(u.dtype).maxexp - 2
    half = jnp.abs(u) / 2
    n, p = power_of_two(jnp.where(half > most, most, half))
    s = two_to_the(biased(-n))
    return s * (1 + p) / ((1 + p) ** 2 + s * s)


@half_sech_half.defjvp
def _half_sech_half_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    q = half_sech_half(u)
    return q, -q / 2 * jnp.tanh(u * (LOG_2 / 2)) * (LOG_2 * du)


@jax.custom_jvp
def log_logistic_density(u):
    """log σ(x)·σ(−x) = −|x| − 2·log(1 + e) with x = u·log 2 and e = exp(−|x|)."""
    most = jnp.finfo(u.dtype).maxexp - 2
    size = jnp.abs(u)
    # With −f in place of f: 2^−size = 2^−n·2^−f.
    n, p = power_of_two(jnp.where(size > most, most, size), sign=-1)
    s = two_to_the(biased(-n))
    e = s + s * p
    return -LOG_2 * size - 2 * (e * horner(_LOG1P[u.dtype.name], e))


@log_logistic_density.defjvp
def _log_logistic_density_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    return log_logistic_density(u), -jnp.tanh(u * (LOG_2 / 2)) * (LOG_2 * du)


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


def power_of_two(size, sign=1):
    """n and p with size = n ± f, |f| ≤ 1/2 and p = 2^f − 1: for sign 1, 2^size = 2^n·(1 + p).

    p keeps its relative precision next to 0, which 2^f − 1 taken by subtraction would not.
    """
    n = jax.lax.round(size, jax.lax.RoundingMethod.TO_NEAREST_EVEN)
    f = sign * (size - n)
    return n, f * horner(_EXP2M1[size.dtype.name], f)


# 1.5·2^nmant. Added to a whole number it leaves that number in the lowest bits: a conversion to an
# integer for the price of an addition, where XLA's own would check its range first.
_TO_BITS = {"float32": 1.5 * 2.0**23, "float64": 1.5 * 2.0**52}


def biased(exponent):
    """An exponent as `two_to_the` takes it; whole numbers may be added to it before."""
    return exponent + (_TO_BITS[exponent.dtype.name] + (jnp.finfo(exponent.dtype).maxexp - 1))


def two_to_the(biased):
    """2^exponent, of whole exponents of normal numbers: their lowest bits become the exponent's."""
    bits = jax.lax.bitcast_convert_type(biased, f"int{8 * biased.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(bits << jnp.finfo(biased.dtype).nmant, biased.dtype)


def horner(coefficients, x):
    """A polynomial, its coefficients by rising powers."""
    result = jnp.asarray(coefficients[-1], x.dtype)
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


@jax.custom_jvp
def log_ratio(a, b, excess):
    """log(a/b) for positive a and b, given excess = a − b to full relative precision.

    It is 2·artanh of (a − b)/(a + b) while the ratio is below 3. Beyond, with a = 2^i·m and
    b = 2^j·n, it is (i − j)·log 2 and the same of m and n: one quotient and one series for both.
    """
    half_sum = a / 2 + b / 2
    far = jnp.abs(excess) >= half_sum  # not so of NaN, which stays
    (i, m), (j, n) = _exponent_and_mantissa(a), _exponent_and_mantissa(b)
    ratio = jnp.where(far, m - n, excess / 2) / jnp.where(far, m + n, half_sum)
    log = ratio * horner(_ARTANH[a.dtype.name], ratio * ratio)
    return log + jnp.where(far, (i - j).astype(a.dtype), 0) * LOG_2


@log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    a, b, _ = primals
    da, db, _ = tangents  # the excess only says the same more precisely
    return log_ratio(*primals), da / a - db / b


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


def inward_step(bound):
    """A distance that, added to or taken from `bound`, moves it to a neighbouring float.

    Three quarters of eps·|bound| lies strictly between half a spacing and one and a half spacings.
    Next to 0 it is the smallest normal number: smaller ones are flushed to 0 on most devices.
    """
    dtype = jnp.finfo(bound.dtype)
    return jnp.maximum(0.75 * dtype.eps * jnp.abs(bound), dtype.tiny)


def at_least(step, distance):
    """The larger of the two."""
    return jnp.where(distance < step, step, distance)  # NaN stays NaN


# it there. They act on the value alone: the derivative is that of the exact map, which has no edge.


@jax.custom_jvp
def finite(x):
    """x, with ±inf replaced by the largest finite numbers."""
    largest = jnp.finfo(x.dtype).max
    return jnp.where(x > largest, largest, jnp.where(x < -largest, -largest, x))


@finite.defjvp
def _finite_jvp(primals, tangents):
    return finite(*primals), tangents[0]


@jax.custom_jvp
def exponential(z, rate, amplitude):
    """amplitude·exp(rate·z); neither it nor any derivative in z exceeds the largest number."""
    # Half the exponent twice: the product is there whenever it can be held, though exp may not be.
    root = jnp.exp(rate * z / 2)
    return finite((amplitude * root) * root)


def _exponential_jvp(primals, tangents):
    z, rate, amplitude = primals
    dz, drate, damplitude = tangents
    value = exponential(z, rate, amplitude)
    parts = []
    if not isinstance(dz, SymbolicZero):
        parts.append(exponential(z, rate, amplitude * rate) * dz)
    if not isinstance(drate, SymbolicZero):
        parts.append(finite(z * value) * drate)
    if not isinstance(damplitude, SymbolicZero):
        parts.append(exponential(z, rate, jnp.ones_like(amplitude)) * damplitude)
    return value, sum(parts, jnp.zeros_like(value))


exponential.defjvp(_exponential_jvp, symbolic_zeros=True)
