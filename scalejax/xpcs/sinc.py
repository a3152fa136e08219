"""sin(x)/x and its derivatives: accurate next to 0, and vectorised where the sine is not.

XLA calls a scalar function for each sine of a CPU, in double precision, which is most of what the
correlation of a sheared sample costs. It knows nothing of correlations.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# π/2 in three parts, of which the first two have so few bits that their multiples by a quadrant's
# number are exact, up to 2^20 quadrants in double precision (as in fdlibm) and 2^13 in single.
_PARTS = {
    8: (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21),
    4: (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8),
}
_TERMS = 10  # of a power series within |x| < 1: what is left out is below 1e-19
# Chebyshev's economised series of sin and cos within ±π/4 (fdlibm), of x², beyond x and 1 − x²/2.
_SIN = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
_COS = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
    -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip


def sinc(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """sin(x)/x, not normalised, with derivatives of every order.

    Beyond 10⁶ (10⁴ in single precision) the sine's phase is lost, where the quotient is next to 0.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from scalejax.xpcs.sinc import sinc
        >>> print(sinc(jnp.array([0.0, 1.0])).round(4), jax.grad(jax.grad(sinc))(0.0).round(4))
        [1.     0.8415] -0.3333
    """
    return _ratio(0, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _ratio(n: int, x: Array) -> Array:
    """jₙ(x)/xⁿ of the spherical Bessel functions (DLMF 10.47); the derivative is −x times the next.

    Next to 0 by its series Σ (−x²/2)^k/(k!·(2n + 2k + 1)!!), elsewhere by recurrence from sine and
    cosine.
    """
    near = jnp.abs(x) < 1
    y = jnp.where(near, x * x, 0)
    odd = math.prod(range(1, 2 * n + 2, 2))
    terms = [(-0.5) ** k / math.factorial(k) / odd / math.prod(range(2 * n + 3, 2 * (n + k) + 2, 2))
             for k in range(_TERMS)]  # fmt: skip
    far = jnp.where(near, 1, x)
    sine, cosine = _sin_and_cos(far)
    inverse = 1 / far
    square = inverse * inverse
    before, found = cosine, sine * inverse
    for k in range(n):
        before, found = found, ((2 * k + 1) * found - before) * square
    return jnp.where(near, _polynomial(terms, y), found)


@_ratio.defjvp
def _slope(n, primals, tangents):
    (x,), (dx,) = primals, tangents
    return _ratio(n, x), -x * _ratio(n + 1, x) * dx


def _sin_and_cos(x: Array) -> tuple[Array, Array]:
    """Both, by the remainder of x after a number of quadrants."""
    quadrant = jnp.round(x * (2 / math.pi))
    rest = x
    for part in _PARTS[np.dtype(x.dtype).itemsize]:
        rest = rest - quadrant * part
    # Where x is so large that the remainder is lost, it is at least a remainder.
    rest = jnp.clip(rest, -0.8, 0.8)
    y = rest * rest
    sine = rest + rest * y * _polynomial(_SIN, y)
    cosine = 1 - y / 2 + y * y * _polynomial(_COS, y)
    # Of floats, since a conversion to integers would take longer than all of the above.
    turn = quadrant - 4 * jnp.floor(quadrant / 4)
    swapped = (turn == 1) | (turn == 3)
    return (
        jnp.where(turn >= 2, -1, 1) * jnp.where(swapped, cosine, sine),
        jnp.where((turn == 1) | (turn == 2), -1, 1) * jnp.where(swapped, sine, cosine),
    )


def _polynomial(coefficients, y: Array) -> Array:
    found = jnp.zeros_like(y)
    for coefficient in reversed(coefficients):
        found = found * y + coefficient
    return found
