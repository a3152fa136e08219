"""sinc and its derivatives against mpmath's spherical Bessel functions."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from scalejax.xpcs.sinc import _ratio, sinc
from tests.oracle import mpmath


def exact(n, x):
    """jₙ(x)/xⁿ."""
    x = abs(mpmath.mpf(float(x)))
    if x < 1e-9:
        return 1 / mpmath.fac2(2 * n + 1)
    return mpmath.sqrt(mpmath.pi / (2 * x)) * mpmath.besselj(n + mpmath.mpf(1) / 2, x) / x**n


@given(x=st.floats(-1e4, 1e4, width=32) | st.floats(-3, 3, width=32))
@example(x=0.0)
@example(x=1e-20)
@example(x=1.0)
@example(x=0.99999994)
@example(x=-1.0000001)
@example(x=31.415926)
def test_value_and_derivatives(dtype, x):
    x = jnp.asarray(x, dtype)
    eps = np.finfo(dtype).eps
    # Where the recurrence takes over, at 1, each order costs it a factor of 5 or so.
    for n, roundings in enumerate((1, 2, 5, 20)):
        np.testing.assert_allclose(_ratio(n, x), float(exact(n, x)), rtol=0, atol=roundings * eps)
    j1, j2 = (float(exact(n, x)) for n in (1, 2))
    slope = jax.grad(sinc)
    value = float(x)
    np.testing.assert_allclose(slope(x), -value * j1, rtol=0, atol=4 * eps)
    np.testing.assert_allclose(jax.grad(slope)(x), value**2 * j2 - j1, rtol=0, atol=16 * eps)


@given(x=st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_bounded_everywhere(dtype, x):
    """Beyond where its phase is known it is no more than 1/|x|, and a number."""
    x = jnp.asarray(x, dtype)
    assert abs(sinc(x)) <= 1.1 / max(abs(float(x)), 1)
    assert jnp.isfinite(jax.grad(sinc)(x))
