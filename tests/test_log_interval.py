"""The logarithmic interval: against arbitrary precision, and alone and beside other kinds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalejax import Group, Parameter, ParameterSpace, Scaling, bounds
from tests import cases, oracle
from tests.oracle import mpmath

KIND = bounds.KINDS["log_interval"]
forward = partial(bounds.forward_and_log_det, kinds=(KIND,))


def exact(z, center, scale, low, high):
    """θ, d log θ/dz and log ∂θ/∂z by definition; x, the distance in log θ, and d log θ/dx."""
    z, c, s, lo, hi = (mpmath.mpf(float(v)) for v in (z, center, scale, low, high))
    width = mpmath.log(hi / lo)
    x = 4 / width * (mpmath.log(c / mpmath.sqrt(lo * hi)) + s / c * z)
    sigma, other = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    theta = lo * mpmath.exp(width * sigma)
    rate = width * sigma * other * 4 / width * s / c
    away = min(width * sigma, width * other, abs(width * (sigma - 0.5)))
    return theta, rate, mpmath.log(theta * rate), x, away, width * sigma * other


@st.composite
def factors(draw):
    """From bounds in a few per cent of each other to forty orders of magnitude apart."""
    low = 10.0 ** draw(st.floats(-15, 5))
    width = draw(st.floats(0.02, 40))
    high = low * np.exp(width)
    center = low * np.exp(width * draw(st.floats(-1, 2)))
    return center, center * width * 10 ** draw(st.floats(-2, 1)), low, high


@settings(max_examples=60)
@given(data=st.data())
def test_matches_arbitrary_precision(dtype, data):
    """θ to 8 roundings and as many as the distance in log θ is long, beyond those of x itself."""
    eps = float(np.finfo(dtype).eps)
    arrays = [jnp.asarray(v, dtype) for v in data.draw(factors())]
    low, high = (float(a) for a in arrays[2:])
    z = jnp.asarray(data.draw(st.lists(cases.numbers(8), min_size=6, max_size=6)), dtype)
    theta, log_slope = forward(z, *arrays)
    back = bounds.inverse(theta, *arrays, kinds=(KIND,))
    for zi, got, got_log, again in zip(z, theta, log_slope, back, strict=True):
        want, rate, want_log, x, away, in_x = exact(zi, *arrays)
        origin = abs(exact(0, *arrays)[3])
        # x is a sum of two terms, each of which is worked out from logarithms in a few roundings.
        of_x = 6 * eps * (abs(x) + 2 * origin + 4)
        allowed = (8 + 4 * float(away)) * eps + of_x * in_x
        assert low < float(got) < high
        assert abs(float(got) / want - 1) <= allowed
        assert abs(float(got_log) - want_log) <= allowed + of_x + 8 * eps * max(1, abs(want_log))
        if allowed / rate < 1e-2:  # where z can be told from θ at all
            # What θ is off by, once more for its own rounding in the inverse, and x again.
            error = abs(float(again) - float(zi))
            assert error <= 2 * allowed / rate + of_x * in_x / rate + 8 * eps * abs(float(zi))


@given(data=st.data())
def test_strictly_inside_and_monotone(dtype, data):
    arrays = [jnp.asarray(v, dtype) for v in data.draw(factors())]
    z = np.sort(data.draw(st.lists(cases.numbers(60), min_size=8, max_size=8)))
    z = jnp.asarray([*cases.EXTREME_Z[:5], *z, *cases.EXTREME_Z[5:]], dtype)
    theta = np.asarray(forward(z, *arrays)[0], np.float64)
    assert ((theta > float(arrays[2])) & (theta < float(arrays[3]))).all()
    slack = 64 * np.finfo(dtype).eps * theta
    assert (np.diff(theta) >= -slack[1:]).all()
    assert np.isnan(forward(jnp.asarray(jnp.nan, dtype), *arrays)[0])
    at_bounds = jnp.asarray([arrays[2] / 2, arrays[2], arrays[3], arrays[3] * 2], dtype)
    assert np.isfinite(bounds.inverse(at_bounds, *arrays, kinds=(KIND,))).all()


def test_derivatives(float64):
    """First to third in z by differences of the one below; those in the numbers of the map."""
    arrays = [jnp.asarray(v) for v in (20.0, 30.0, 0.5, 3000.0)]

    def theta(z, *arrays):
        return forward(z, *arrays)[0]

    step = 1e-5
    for z in (-3.0, -0.4, 0.0, 0.2, 2.0, 6.0):
        f = theta
        for _ in range(3):
            slope = jax.grad(f)
            at = (f(z + step, *arrays) - f(z - step, *arrays)) / (2 * step)
            np.testing.assert_allclose(slope(z, *arrays), at, rtol=1e-6, atol=1e-8)
            f = slope
        np.testing.assert_allclose(jnp.log(jax.grad(theta)(z, *arrays)), forward(z, *arrays)[1])
        for i in range(4):
            h = 1e-6 * float(arrays[i])
            moved = [[a + d * (j == i) for j, a in enumerate(arrays)] for d in (h, -h)]
            at = (theta(z, *moved[0]) - theta(z, *moved[1])) / (2 * h)
            found = jax.grad(theta, i + 1)(z, *arrays)
            np.testing.assert_allclose(found, at, rtol=1e-5, atol=1e-7)


SPACE = ParameterSpace(
    a=Parameter(-1, 1, dim="k"),
    rate=Parameter(1e-6, 1e3, family="LogUniform", kind="log_interval", dim="k"),
    time=Parameter(1e-3, 1e1, mu=0.5, sigma=0.3, kind="log_interval"),
    fixed=Parameter(2, 2, kind="log_interval"),
    b=Parameter(0, np.inf, mu=1, sigma=1),
).sized(k=3)


@pytest.mark.slow
def test_beside_other_kinds(dtype):
    scaling = Scaling.from_space(SPACE)
    assert [k.name for k in scaling.kinds] == ["interval", "lower", "pinned", "log_interval"]
    z = jax.random.normal(jax.random.key(0), (50, scaling.size))
    theta, log_slope = jax.jit(lambda s, z: s.forward_and_log_derivative(z))(scaling, z)
    for name, part in scaling.slices():
        alone = scaling[name.name]
        found, slope = alone.forward_and_log_derivative(z[:, part])
        np.testing.assert_allclose(theta[:, part], found, rtol=2e-6)
        np.testing.assert_allclose(log_slope[:, part], slope, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(
        scaling.to_normalized(theta)[:, ~np.asarray(scaling.pinned)],
        z[:, ~np.asarray(scaling.pinned)], rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    gradient = jax.vmap(jax.grad(lambda z: scaling.log_det(z) + scaling.to_original(z).sum()))(z)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(jax.vmap(scaling.to_original)(z), theta, rtol=2e-6)
    # The prior's median at z = 0, and its quantiles at z = ±1 on average.
    median = scaling.unpack(scaling.to_original(jnp.zeros(scaling.size)))
    np.testing.assert_allclose(median["rate"], np.sqrt(1e-6 * 1e3), rtol=1e-5)
    np.testing.assert_allclose(median["time"], SPACE.get_prior("time").ppf(0.5), rtol=1e-5)


def test_the_trace_does_not_grow():
    """Nor does it hold a constant as long as the vector."""

    def jaxpr(size):
        scaling = Scaling(1.0, 1.0, 0.5, 2.0, groups=[
            Group("a", size - 4), Group("b", 4, kind=KIND)])  # fmt: skip
        return jax.make_jaxpr(lambda s, z: s.to_original_and_log_det(z))(scaling, jnp.zeros(size))

    small, large = jaxpr(10), jaxpr(10_000)
    assert len(str(small)) < 1.05 * len(str(large)) < 1.2 * len(str(small))
    assert not any(np.size(c) > 100 for c in large.consts)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1.0, 1.0, 0.0, 2.0), "a log_interval needs bounds that are positive and finite; got low"),
        ((1.0, 1.0, 0.5, np.inf), "a log_interval needs bounds that are positive and finite"),
        ((-1.0, 1.0, 0.5, 2.0), "a log_interval needs a positive center; got center = -1"),
        ((1.0, 1.0, 1.0, 1.000001), "the range must span at least 32 float32 numbers"),
        ((1.0, 1e-40, 0.5, 2.0), "scale must be positive and finite"),
        ((1.0, 1e-35, 0.5, 2.0), "scale must be within a factor 2.100 of the center times the log"),
    ],
)
def test_errors(numbers, message):
    with pytest.raises(ValueError, match=f"parameter 'x': {message}"):
        Scaling(*numbers, groups=[Group("x", kind=KIND)])


def test_oracle_agrees_with_the_interval_of_logarithms():
    """The definition, by that of the plain interval: log θ is one of log low to log high."""
    z, center, scale, low, high = 0.7, 3.0, 2.0, 0.5, 40.0
    logs = [float(mpmath.log(v)) for v in (center, low, high)]
    want = oracle.exact(z, logs[0], scale / center, *logs[1:])[0]
    assert abs(mpmath.log(exact(z, center, scale, low, high)[0]) - want) < 1e-12
