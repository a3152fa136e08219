"""The elementwise maps: exact values, derivatives, strict interior, hostile input."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalejax import bounds
from tests import cases, oracle

forward = jax.jit(bounds.forward_and_log_det)
by_case = pytest.mark.parametrize("name", cases.NAMES)


def arrays(values, dtype):
    return tuple(jnp.asarray(np.asarray(v), dtype) for v in values)


@partial(jax.jit, static_argnames="output")
def derivatives(z, factors, output):
    """First, second and third derivative in z of θ (output 0) or log ∂θ/∂z (1), by element."""

    def differentiate(f):
        return lambda z: jax.jvp(f, (z,), (jnp.ones_like(z),))[1]

    first = differentiate(lambda z: bounds.forward_and_log_det(z, *factors)[output])
    second = differentiate(first)
    return first(z), second(z), differentiate(second)(z)


def assert_accurate(z, factors, dtype):
    """θ within 8 ulp, ∂θ/∂z and log ∂θ/∂z to a few roundings, beyond one rounding of x itself.

    x = a + b·z is rounded in whatever precision it is computed, and the relative error of one eps
    that this leaves in a and in x is carried through the exact map into θ, ∂θ/∂z and log ∂θ/∂z: no
    formula in that precision can avoid it. Where the bounds hold 0 between them, θ is a sum that
    cancels there, and the ulp is that of its terms, the distance to the nearest anchor. What lies
    beyond the last float inside a bound is held to be that float, or one of the lowest binade
    where the bound is 0.
    """
    info = np.finfo(dtype)
    eps = float(info.eps)
    slope_tolerance, log_tolerance = {"float32": (4e-6, 2e-6), "float64": (1e-14, 1e-14)}[dtype]
    low, high = map(float, factors[2:])
    first, last = oracle.innermost(low, high, dtype)
    a = abs(oracle.argument(0.0, *factors))
    theta, log_slope = forward(z, *factors)
    slope = derivatives(z, factors, 0)[0]
    factors = [float(factor) for factor in factors]
    columns = (np.asarray(column, float).tolist() for column in (z, theta, slope, log_slope))
    for zi, got, got_slope, got_log in zip(*columns, strict=True):
        want, x_slope, want_slope, want_log = oracle.exact(zi, *factors)
        x = abs(oracle.argument(zi, *factors))
        if abs(want) > info.max:
            continue
        where = (factors, zi, got, want)
        rounding = eps * (1 + a / x) if x else mpmath.mpf(0)
        nearest = oracle.distance_to_anchor(want, *factors)
        floor = info.tiny if 0 in (low, high) and abs(want) < 2 * info.tiny else 0
        allowed = floor + 8 * max(oracle.ulp(want, dtype), oracle.ulp(nearest, dtype))
        want = min(max(want, first), last)
        assert abs(float(got) - want) <= allowed + abs(x_slope) * rounding, where
        if 2 * info.tiny < want_slope < info.max:
            error = abs(float(got_slope) / want_slope - 1)
            assert error <= slope_tolerance + x * rounding, where
        error = abs(float(got_log) - want_log)
        assert error <= log_tolerance * max(1, abs(want_log)) + x * rounding, where


kind = pytest.mark.parametrize("kind", cases.KIND_NAMES)


@by_case
def test_matches_arbitrary_precision(name, dtype):
    assert_accurate(jnp.asarray(cases.Z, dtype), arrays(cases.CASES[name], dtype), dtype)


@kind
@settings(max_examples=50)
@given(data=st.data())
def test_matches_arbitrary_precision_anywhere(kind, dtype, data):
    factors = arrays(data.draw(cases.factors(kind)), dtype)
    z = data.draw(st.lists(cases.numbers(30), min_size=8, max_size=8))
    assert_accurate(jnp.asarray(z, dtype), factors, dtype)


reals = st.lists(cases.numbers(60), min_size=8, max_size=8).map(sorted)


@kind
@given(data=st.data())
def test_strictly_inside_and_monotone(kind, dtype, data):
    factors = arrays(data.draw(cases.factors(kind)), dtype)
    z = jnp.asarray([*cases.EXTREME_Z[:5], *data.draw(reals), *cases.EXTREME_Z[5:]], dtype)
    theta = np.asarray(forward(z, *factors)[0])
    low, high = map(np.asarray, factors[2:])
    assert np.isfinite(theta).all()
    if kind == "pinned":
        assert (theta == low).all()
        return
    assert ((low < theta) & (theta < high)).all(), theta
    # Rounding is all by which a greater z may give a smaller θ.
    size = max((abs(f) for f in map(float, factors) if np.isfinite(f)), default=0)
    with np.errstate(over="ignore"):
        slack = 16 * np.finfo(dtype).eps * (size + np.abs(theta))
        assert (theta[1:] >= theta[:-1] - slack[1:]).all(), theta


@kind
@given(data=st.data())
def test_round_trip(kind, dtype, data):
    """z → θ → z, to what the map's conditioning at that θ allows.

    θ carries a few roundings of its terms, the largest of which is a bound or the center; the
    inverse magnifies them by 1/(∂θ/∂z). Roundings of x come on top, relative to its offset too.
    """
    factors = arrays(data.draw(cases.factors(kind)), dtype)
    z = np.asarray(jnp.asarray(data.draw(reals), dtype))
    theta, log_slope = forward(z, *factors)
    back = np.asarray(bounds.inverse(theta, *factors))
    assert np.isfinite(back).all()
    if kind == "pinned":
        assert (back == 0).all()
        return
    eps = float(np.finfo(dtype).eps)
    slope = np.exp(np.asarray(log_slope, np.float64))
    terms = sum(abs(f) for f in map(float, factors) if np.isfinite(f)) - float(factors[1])
    offset = float(oracle.offset(*factors)) * np.abs(z) / np.maximum(1e-30, np.abs(z))
    with np.errstate(divide="ignore", over="ignore"):
        conditioning = (terms + np.abs(np.asarray(theta, np.float64))) / slope
        allowed = 16 * eps * (conditioning + np.abs(z) + terms / float(factors[1]) + offset)
    # Where that is no longer small the inverse is not linear in the error, and z is lost.
    held = (allowed < 0.1) & (np.abs(theta) < np.finfo(dtype).max)
    assert (np.abs(back - z) <= allowed + np.finfo(dtype).tiny)[held].all(), (z, back, allowed)


@kind
@given(data=st.data())
def test_derivative_matches_finite_differences(kind, float64, data):
    factors = arrays(data.draw(cases.factors(kind)), "float64")
    z = jnp.asarray(data.draw(st.lists(st.floats(-3, 3), min_size=4, max_size=4)))
    step = 1e-5

    def difference(f):
        return (f(z + step) - f(z - step)) / (2 * step)

    theta, log_slope = (lambda z, i=i: forward(z, *factors)[i] for i in (0, 1))
    first, second, third = derivatives(z, factors, 0)
    # θ is rounded to eps of its largest term; over a difference of 2·step that is what remains.
    size = max(abs(f) for f in map(float, factors) if np.isfinite(f))
    noise = 1e-15 * (size + float(jnp.abs(theta(z)).max())) / step
    bend = step**2 * 10 * float(jnp.abs(third).max())
    np.testing.assert_allclose(first, difference(theta), rtol=1e-6, atol=noise + bend)
    by_difference = difference(lambda z: derivatives(z, factors, 0)[0])
    largest = float(jnp.abs(first).max())
    np.testing.assert_allclose(second, by_difference, rtol=1e-4, atol=1e-6 * largest)
    first = derivatives(z, factors, 1)[0]
    np.testing.assert_allclose(first, difference(log_slope), rtol=1e-6, atol=1e-3)


@by_case
def test_derivatives_where_the_argument_is_zero(name, float64):
    """|x| has a kink at x = 0; the map has none, to any order."""
    factors = arrays(cases.CASES[name], "float64")
    center, scale, low, high = map(float, factors)
    bounded = np.isfinite(high - low) and low < high
    z = jnp.asarray(((low + high) / 2 - center) / scale if bounded else 0.0)
    for output, of_oracle in ((0, 0), (1, 3)):

        def exact(v, of_oracle=of_oracle):
            return oracle.exact(v, *factors)[of_oracle]

        taylor = mpmath.taylor(exact, mpmath.mpf(float(z)), 3)[1:]
        wanted = np.array([float(v) for v in taylor]) * [1, 2, 6]
        # An order that vanishes is held to the size that its neighbours give it.
        np.testing.assert_allclose(
            derivatives(z, factors, output), wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max()
        )


def test_no_nan_or_inf_in_derivatives(dtype):
    factors = arrays(cases.COLUMNS, dtype)
    finite = cases.EXTREME_Z[np.isfinite(cases.EXTREME_Z)]
    z = jnp.asarray([*finite, *cases.Z], dtype)[:, None] * jnp.ones(len(cases.NAMES), dtype)
    for output in (0, 1):
        with jax.debug_nans(True):
            first, second, _ = derivatives(z, factors, output)
        assert jnp.isfinite(first).all()
        assert jnp.isfinite(second).all()


@pytest.mark.slow
def test_no_tracer_leaks():
    # Only here, and once: the check collects garbage at every step of a trace.
    with jax.checking_leaks():
        theta = jax.jit(jax.grad(lambda z: bounds.forward_and_log_det(z, 0.0, 1.0, -2.0, 2.0)[0]))
        assert jnp.isfinite(theta(jnp.zeros(())))


def test_nan_stays_where_it_is(dtype):
    factors = arrays(cases.COLUMNS, dtype)
    z = jnp.zeros(len(cases.NAMES), dtype)
    for i in range(len(cases.NAMES)):
        theta, _ = forward(z.at[i].set(jnp.nan), *factors)
        assert jnp.isnan(theta[i])
        assert jnp.isnan(theta).sum() == 1


def test_kinds_only_save_work(dtype):
    """Each kind on its own gives the same numbers as in a vector with all of them."""
    factors = arrays(cases.COLUMNS, dtype)
    z = jnp.asarray(cases.Z, dtype)[:, None]
    together = forward(z, *factors)
    back = bounds.inverse(together[0], *factors)
    masks = bounds.kind_masks(*map(np.asarray, factors[2:]))
    for name, mask in masks.items():
        alone = bounds.forward_and_log_det(z, *(f[mask] for f in factors), kinds=(name,))
        for one, many in zip(alone, together, strict=True):
            assert_same_rounding(one, many[:, mask], factors, mask, dtype)
        theta = together[0][:, mask]
        alone = bounds.inverse(theta, *(f[mask] for f in factors), kinds=(name,))
        np.testing.assert_allclose(alone, back[:, mask], rtol=1e-5, atol=1e-5)


def assert_same_rounding(one, other, factors, mask, dtype):
    """Equal but for the rounding of x, which compilers may do once or twice in a + b·z."""
    factors = [np.asarray(f) for f in factors]
    x = float(max(oracle.offset(*(f[i] for f in factors)) for i in np.flatnonzero(mask))) + 1200
    rtol = x * np.finfo(dtype).eps
    size = max(
        abs(float(f[i])) for f in factors for i in np.flatnonzero(mask) if abs(f[i]) < np.inf
    )
    np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * size)


@by_case
def test_inverse_matches_arbitrary_precision(name, dtype):
    """z within 8 roundings of the terms that it is a difference of, at every θ of the map."""
    factors = arrays(cases.CASES[name], dtype)
    theta = np.unique(forward(jnp.asarray(cases.Z, dtype), *factors)[0])
    first, last = oracle.innermost(*map(float, factors[2:]), dtype)
    theta = theta[(theta >= first) & (theta <= last)]
    found = np.asarray(bounds.inverse(jnp.asarray(theta), *factors), float).tolist()
    factors = [float(factor) for factor in factors]
    offset = oracle.inverse_offset(*factors)
    for t, got in zip(theta.astype(float).tolist(), found, strict=True):
        want = oracle.inverse(t, *factors)
        allowed = 8 * float(np.finfo(dtype).eps) * (abs(want + offset) + abs(offset))
        assert abs(float(got) - want) <= allowed, (t, got, mpmath.nstr(want, 20))


def test_inverse_margin(dtype):
    """On or over a bound a value is taken 5e-7 of the range inside it; nearer ones exactly."""
    eps = np.finfo(dtype).eps
    unit = arrays((0.5, 0.25, 0.0, 1.0), dtype)
    edge = float(mpmath.log(5e-7 / (1 - 5e-7)))
    got = bounds.inverse(jnp.asarray([-3.0, 0.0, 1.0, 9.0], dtype), *unit)
    np.testing.assert_allclose(got, [edge, edge, -edge, -edge], rtol=4 * eps)
    near = np.asarray([1e-30, 1e-12, 1e-8], dtype)
    wanted = [float(mpmath.log(mpmath.mpf(float(v)) / (1 - mpmath.mpf(float(v))))) for v in near]
    np.testing.assert_allclose(bounds.inverse(jnp.asarray(near), *unit), wanted, rtol=4 * eps)
    lower = arrays((3.0, 1.0, 1.0, np.inf), dtype)
    got = bounds.inverse(jnp.asarray([0.0, 1.0], dtype), *lower)
    np.testing.assert_allclose(got, 2 * np.log(5e-7), rtol=4 * eps)
    not_finite = jnp.asarray([jnp.nan, jnp.inf], dtype)
    assert jnp.isnan(bounds.inverse(not_finite, *unit)[0])
    got = bounds.inverse(not_finite, *lower)
    assert jnp.isnan(got[0]) and got[1] == jnp.inf


def test_inverse_next_to_zero_with_a_wide_range(dtype):
    """The ratio of the distances to the two bounds overflows; its logarithm does not."""
    tiny = float(np.finfo(dtype).tiny)
    got = bounds.inverse(jnp.asarray(tiny, dtype), *arrays((5e4, 2.5e4, 0.0, 1e5), dtype))
    np.testing.assert_allclose(got, np.log(tiny) - np.log(1e5), rtol=4 * np.finfo(dtype).eps)


def test_vmap_jit_eager_and_loop_agree(dtype):
    """By batch, by vmap of rows, of a batch of one, and of rows within Scalings of their own."""
    factors = arrays(cases.COLUMNS, dtype)
    z = jnp.asarray(np.random.default_rng(0).normal(0, 5, (70, len(cases.NAMES))), dtype)

    def over_rows(factors, z):
        return jax.vmap(lambda z: forward(z, *factors))(z)

    two = jax.tree.map(lambda x: jnp.stack([x, x]), factors)
    others = [
        over_rows(factors, z),
        [column[:, 0] for column in over_rows(factors, z[:, None])],
        [column[1] for column in jax.vmap(over_rows)(two, jnp.stack([-z, z]))],
        [np.stack(column) for column in zip(*(forward(row, *factors) for row in z), strict=True)],
    ]
    with jax.disable_jit():
        others.append(bounds.forward_and_log_det(z, *factors))
    for output, batch in enumerate(forward(z, *factors)):
        for other in others:
            for i, column in enumerate(np.eye(len(cases.NAMES), dtype=bool)):
                one, twin = np.asarray(batch)[:, i], np.asarray(other[output])[:, i]
                assert_same_rounding(one, twin, factors, column, dtype)


@kind
@pytest.mark.parametrize("argument", range(4))
def test_derivatives_in_the_factors(kind, argument, float64):
    """center, scale, low and high may be traced and learned."""
    factors = {
        "interval": (0.3, 0.4, -1.0, 2.0),
        "lower": (0.3, 0.4, -1.0, np.inf),
        "upper": (0.3, 0.4, -np.inf, 2.0),
        "unbounded": (0.3, 0.4, -np.inf, np.inf),
        "pinned": (0.3, 0.4, 2.0, 2.0),
    }[kind]
    if not np.isfinite(factors[argument]) or (kind == "pinned" and argument > 1):
        pytest.skip("an infinite bound, or one of two that are one, does not vary")
    for output, of_oracle in ((0, 0), (1, 3)):
        for z in (-1.0, 0.0, 0.7):

            def f(value, z=z, output=output, xp=jnp.asarray, of=bounds.forward_and_log_det):
                changed = [*factors[:argument], value, *factors[argument + 1 :]]
                return of(xp(z), *changed)[output]

            def exact(value, z=z, of_oracle=of_oracle):
                changed = [*factors[:argument], value, *factors[argument + 1 :]]
                return oracle.exact(z, *changed)[of_oracle]

            value = jnp.asarray(factors[argument])
            wanted = mpmath.diff(exact, mpmath.mpf(factors[argument]))
            np.testing.assert_allclose(jax.grad(f)(value), float(wanted), rtol=1e-9, atol=1e-12)
    for z in (-1.0, 0.0, 0.7):
        theta, log_slope = forward(jnp.asarray(z), *map(jnp.asarray, factors))
        gradient = jax.grad(bounds.inverse, argnums=(0, 1 + argument))(float(theta), *factors)

        def exact_inverse(value, theta=float(theta)):
            return oracle.inverse(theta, *factors[:argument], value, *factors[argument + 1 :])

        wanted = mpmath.diff(exact_inverse, mpmath.mpf(factors[argument]))
        np.testing.assert_allclose(gradient[1], float(wanted), rtol=1e-9, atol=1e-12)
        if kind != "pinned":
            np.testing.assert_allclose(gradient[0], np.exp(-log_slope), rtol=1e-12)
