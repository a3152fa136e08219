"""Nested-Laplace coordinates and their splines: by property, and against SciPy and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from scalejax import NestedLaplace, Parameter, ParameterSpace, Scaling, Whitened
from scalejax.spline import coefficients, evaluate, place

SPACE = ParameterSpace(
    a=Parameter(0, 1, mu=0.3, sigma=0.2, dim="k"),
    b=Parameter(0, np.inf, mu=-1, sigma=1, family="LogNormal"),
    c=Parameter(-5, 5, mu=0, sigma=1),
).sized(k=3)
SIZE, ALONG, REACH, PLACES = 5, 1, 4.0, 17


def tables(n):
    rng, u = np.random.default_rng(0), np.linspace(-REACH, REACH, PLACES)
    wave = np.sin(u)[:, None, None]
    return {
        "point": 0.3 * np.sinh(u / 2) + 0.1,
        "mean": 0.2 * u[:, None] ** np.arange(n) / 4 ** np.arange(n),
        "log_width": np.linspace(-0.5, 0.5, n) * u[:, None] - 1,
        "mixing": np.eye(n) + np.triu(rng.normal(size=(n, n)), 1) * wave,
        "factor": np.tril(rng.normal(size=(n, n)), -1) + np.diag(np.linspace(0.2, 2, n)),
        "reach": REACH,
    }


def coordinates(base=None):
    base = Scaling.from_space(SPACE) if base is None else base
    return NestedLaplace(base, along=ALONG, **tables(SIZE - 1))


down = eqx.filter_jit(lambda c, u: c.to_base_and_log_det(u))
up = eqx.filter_jit(lambda c, z: c.from_base(z))
to_original = eqx.filter_jit(lambda c, u: c.to_original(u))


def points(count=20, scale=2.0):
    return scale * jax.random.normal(jax.random.key(0), (count, SIZE))


def test_the_inverse_and_the_determinant(dtype):
    """To the roundings of the dtype, which the conditional widths divide by at most 20."""
    c, u = coordinates(), points()
    z, log_det = down(c, u)
    assert z.dtype == log_det.dtype == c.low.dtype == jnp.dtype(dtype)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(up(c, z), u, atol=5e3 * eps)
    slope = jax.jit(jax.vmap(jax.jacfwd(lambda u: c.to_base_and_log_det(u)[0])))(u)
    np.testing.assert_allclose(jnp.linalg.slogdet(slope)[1], log_det, atol=200 * eps)


def test_batches_jit_vmap_and_traced_tables(dtype):
    c, u = coordinates(), points(6)
    want = c.to_base_and_log_det(u)
    eps = float(jnp.finfo(dtype).eps)
    for found in (
        jax.jit(jax.vmap(c.to_base_and_log_det))(u),
        jax.jit(lambda c, u: c.to_base_and_log_det(u))(c, u),
        jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), down(c, u.reshape(2, 3, SIZE))),
        jax.tree.map(lambda *x: jnp.stack(x), *[down(c, row) for row in u]),
    ):
        for one, other in zip(found, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=50 * eps, atol=50 * eps)

    def made(mean):
        options = {**tables(SIZE - 1), "mean": mean}
        return NestedLaplace(c.base, along=ALONG, **options).to_base_and_log_det(u)[0].sum()

    slope = jax.jit(jax.grad(made))(jnp.asarray(tables(SIZE - 1)["mean"], dtype))
    # Each of six points has the four others' means once: splines of 1 are 1.
    np.testing.assert_allclose(slope.sum(), 6 * (SIZE - 1), rtol=1e-4)


def test_theta_is_inside_for_every_finite_u(dtype):
    scaling = Scaling.from_space(SPACE)
    c = coordinates(base=scaling)
    for size in (1.0, 10.0, 1e3, 1e6):
        theta = to_original(c, points(50, size))
        assert (theta > scaling.low).all()
        assert (theta < scaling.high).all()


@pytest.mark.slow
def test_derivatives_against_finite_differences(float64):
    c = coordinates()

    def f(u):
        z, log_det = c.to_base_and_log_det(u)
        return (jnp.sin(z) * jnp.arange(1.0, SIZE + 1)).sum() + log_det

    def g(z):
        return (jnp.sin(c.from_base(z)) * jnp.arange(1.0, SIZE + 1)).sum()

    for function, at in ((f, points(8)), (g, c.to_base_and_log_det(points(8))[0])):
        value, gradient, hessian = (
            jax.jit(jax.vmap(f)) for f in (function, jax.grad(function), jax.hessian(function))
        )
        for row in at:
            step = 1e-5 * jnp.eye(SIZE)
            slope = (value(row + step) - value(row - step)) / 2e-5
            np.testing.assert_allclose(gradient(row[None])[0], slope, rtol=1e-5, atol=1e-6)
            bend = (gradient(row + step) - gradient(row - step)) / 2e-5
            np.testing.assert_allclose(hessian(row[None])[0], bend, rtol=1e-4, atol=1e-4)


def test_first_derivatives_have_no_steps(float64):
    """Next to every knot and end, of the map and of its log-determinant."""
    c = coordinates()
    slope = jax.jit(jax.jacfwd(lambda t: jnp.concatenate([
        jnp.atleast_1d(x) for x in c.to_base_and_log_det(jnp.full(SIZE, 0.7).at[ALONG].set(t))
    ])))  # fmt: skip
    for knot in np.linspace(-REACH, REACH, PLACES):
        np.testing.assert_allclose(slope(knot - 1e-9), slope(knot + 1e-9), atol=1e-6)


def test_the_curve_rises_everywhere(dtype):
    c = coordinates()
    u = jnp.linspace(-50.0, 50.0, 20_001)
    z = down(c, jnp.zeros((u.size, SIZE)).at[:, ALONG].set(u))[0][:, ALONG]
    assert (jnp.diff(z) > 0).all()


def test_a_funnel_in_closed_form(float64):
    """v = 3u₀, x = exp(v/2)·u: Neal's, whose density of u is a standard normal."""
    size, u = 6, np.linspace(-4.5, 4.5, 19)
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"v": None, "x": size - 1})
    width = np.repeat(1.5 * u[:, None], size - 1, 1)
    c = NestedLaplace(scaling, along=0, point=3 * u, mean=np.zeros((19, size - 1)), log_width=width)

    def density(theta):
        v, x = theta[0], theta[1:]
        return -(v**2) / 18 - (x**2).sum() * jnp.exp(-v) / 2 - (size - 1) * v / 2

    w = jax.random.normal(jax.random.key(0), (100, size))
    log = jax.jit(jax.vmap(c.pullback(density)))(w) + (w**2).sum(1) / 2
    np.testing.assert_allclose(log, np.log(3), rtol=1e-9)


@pytest.mark.slow
def test_on_layers_and_under_them(float64):
    scaling = Scaling.from_space(SPACE)
    under = coordinates(base=Whitened(scaling, 0.1, 0.5 * np.eye(SIZE)))
    over = Whitened(coordinates(base=scaling), 0.1, 0.5 * np.eye(SIZE))
    twice = NestedLaplace(under, along=3, **tables(SIZE - 1))
    for c in (under, over, twice):
        u = points(5, 1.0)
        by_root = jax.jit(lambda u, c=c: c.from_root(c.to_root_and_log_det(u)[0]))
        by_theta = jax.jit(lambda u, c=c: c.to_normalized(c.to_original(u)))
        np.testing.assert_allclose(by_root(u), u, atol=1e-9)
        np.testing.assert_allclose(by_theta(u), u, atol=1e-6)
        assert c.root is scaling


def test_saved_and_loaded(tmp_path, dtype):
    c = coordinates()
    eqx.tree_serialise_leaves(tmp_path / "c.eqx", c)
    blank = jax.tree.map(jnp.zeros_like, c)
    found = eqx.tree_deserialise_leaves(tmp_path / "c.eqx", blank)
    np.testing.assert_array_equal(to_original(found, points()), to_original(c, points()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"along": 5}, "along: expected a place from 0 to 4; got 5"),
        ({"along": -1}, "along: expected a place from 0 to 4; got -1"),
        ({"reach": 0.0}, "reach: expected a positive number; got 0.0"),
        ({"reach": np.nan}, "reach: expected a positive number; got nan"),
        ({"point": np.zeros(3)}, "point: expected values at four places or more; got 3"),
        ({"point": np.zeros(PLACES)}, "point: expected values whose spline rises, in float32"),
        ({"point": 1e9 + np.linspace(0, 1, PLACES)}, "point: expected values whose spline rises"),
        ({"mean": np.zeros((PLACES, 2))}, r"mean: expected shape \(17, 4\); got \(17, 2\)"),
        ({"log_width": np.full((PLACES, 4), np.inf)}, "log_width: expected finite numbers"),
        ({"mixing": np.ones((PLACES, 4, 4))}, "mixing: expected upper-triangular matrices"),
        ({"factor": np.ones((4, 4))}, "factor: expected a lower-triangular, positive diagonal"),
        ({"factor": -np.eye(4)}, "factor: expected a lower-triangular, positive diagonal"),
    ],
)
def test_errors(changed, message):
    options = {"along": ALONG, **tables(SIZE - 1), **changed}
    with pytest.raises(ValueError, match=message):
        NestedLaplace(Scaling.from_space(SPACE), **options)


@settings(max_examples=25)
@given(st.integers(4, 40), st.integers(0, 2**31))
def test_splines_are_scipys(count, seed):
    rng = np.random.default_rng(seed)
    values, x = rng.normal(size=(count, 2)), np.linspace(-1, 1, count)
    want = CubicSpline(x, values, bc_type="natural")
    table = coefficients(values)
    with jax.enable_x64(True):
        for u in rng.uniform(-1, 1, 5):
            found, slope = evaluate(jnp.asarray(table), place(jnp.asarray(u), 1.0, count + 2))
            np.testing.assert_allclose(found, want(u), atol=1e-9)
            np.testing.assert_allclose(slope, want(u, 1), atol=1e-7 * count)
        # Straight on beyond the ends.
        end, slope = evaluate(jnp.asarray(table), place(jnp.asarray(3.0), 1.0, count + 2))
        np.testing.assert_allclose(end, want(1.0) + 2 * want(1.0, 1), atol=1e-7 * count)
