"""The map in arbitrary precision, written from its definition and not from the implementation."""

import mpmath
import numpy as np

# Digits of all reference values: enough for 1 − 10^-40 beside 1.
mpmath.mp.dps = 60


def exact(z, center, scale, low, high):
    """θ, x·∂θ/∂x, ∂θ/∂z, and log ∂θ/∂z as mpmath numbers, of floats taken as exact.

    x is the argument of the map's one transcendental function: twice that of the tanh for an
    interval, that of the exponential for a single bound, center + scale·z for none. x·∂θ/∂x is the
    change of θ for a relative change of x: what one rounding of x does.
    """
    z, c, s, lo, hi = map(_number, (z, center, scale, low, high))
    if lo == hi:
        return lo, mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0)
    if mpmath.isfinite(lo) and mpmath.isfinite(hi):
        half = (hi - lo) / 2
        x = 2 * (c + s * z - (lo + hi) / 2) / half
        near = 2 * half / (1 + mpmath.exp(abs(x)))
        theta = lo + near if x < 0 else hi - near
        slope = 2 * half * mpmath.exp(-abs(x)) / (1 + mpmath.exp(-abs(x))) ** 2  # ∂θ/∂x
        return theta, x * slope, slope * 2 * s / half, mpmath.log(slope * 2 * s / half)
    if mpmath.isfinite(lo):
        x = s * z / (c - lo)
        return (
            lo + (c - lo) * mpmath.exp(x),
            x * (c - lo) * mpmath.exp(x),
            s * mpmath.exp(x),
            mpmath.log(s) + x,
        )
    if mpmath.isfinite(hi):
        theta, dx, slope, log_slope = exact(-z, -c, s, -hi, mpmath.inf)
        return -theta, -dx, slope, log_slope
    return c + s * z, c + s * z, s, mpmath.log(s)


def inverse(theta, center, scale, low, high):
    """z(θ) as an mpmath number, of floats taken as exact."""
    t, c, s, lo, hi = map(_number, (theta, center, scale, low, high))
    if lo == hi:
        return mpmath.mpf(0)
    if mpmath.isfinite(lo) and mpmath.isfinite(hi):
        return ((hi - lo) / 4 * mpmath.log((t - lo) / (hi - t)) + (lo + hi) / 2 - c) / s
    if mpmath.isfinite(lo):
        return mpmath.log((t - lo) / (c - lo)) * (c - lo) / s
    if mpmath.isfinite(hi):
        return -inverse(-t, -c, s, -hi, mpmath.inf)
    return (t - c) / s


def inverse_offset(center, scale, low, high):
    """What `inverse` takes from a multiple of a logarithm, or of θ."""
    c, s, lo, hi = map(_number, (center, scale, low, high))
    if not mpmath.isfinite(hi - lo):
        return c / s if not (mpmath.isfinite(lo) or mpmath.isfinite(hi)) else mpmath.mpf(0)
    return (c - (lo + hi) / 2) / s


def ulp(value, dtype):
    """The spacing of `dtype` at |value|, and at the smallest normal number below it."""
    info = np.finfo(dtype)
    size = max(abs(float(value)), float(info.tiny))
    return float(np.spacing(np.asarray(min(size, float(info.max)), dtype)))


def argument(z, center, scale, low, high):
    """x of `exact`."""
    z, c, s, lo, hi = map(_number, (z, center, scale, low, high))
    if lo == hi:
        return mpmath.mpf(0)
    if mpmath.isfinite(lo) and mpmath.isfinite(hi):
        return 4 * (c + s * z - (lo + hi) / 2) / (hi - lo)
    if mpmath.isfinite(lo):
        return s * z / (c - lo)
    if mpmath.isfinite(hi):
        return -s * z / (hi - c)
    return c + s * z


def offset(center, scale, low, high):
    """|x| at z = 0."""
    return abs(argument(0.0, center, scale, low, high))


def innermost(low, high, dtype):
    """The first and the last number of `dtype` strictly inside, none being subnormal."""
    low, high = np.asarray(low, dtype), np.asarray(high, dtype)
    if low == high:
        return float(low), float(high)
    tiny, info = float(np.finfo(dtype).tiny), np.finfo(dtype)
    first = tiny if low == 0 else float(np.nextafter(low, high))
    last = -tiny if high == 0 else float(np.nextafter(high, low))
    return max(first, -float(info.max)), min(last, float(info.max))


def distance_to_anchor(theta, center, scale, low, high):
    """How far θ is from the nearest of what it is computed from; 0 unless 0 is within bounds."""
    _, c, _, lo, hi = map(_number, (0, center, scale, low, high))
    if not lo < 0 < hi or not (mpmath.isfinite(lo) or mpmath.isfinite(hi)):
        return mpmath.mpf(0)
    middle = (lo + hi) / 2 if mpmath.isfinite(hi - lo) else c
    return min(abs(theta - anchor) for anchor in (lo, middle, hi) if mpmath.isfinite(anchor))


def _number(value):
    return value if isinstance(value, mpmath.mpf) else mpmath.mpf(float(value))
