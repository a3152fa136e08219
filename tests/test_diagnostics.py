"""The gradient balance on densities whose gradients and Hessians are known."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.targets import TARGETS
from scalejax import Scaling, Whitened
from scalejax.diagnostics import gradient_balance

# z ↦ 1 + (2, 30, 0.5)·z without bounds, so that both sides are linear algebra.
SCALES = np.array([2.0, 30.0, 0.5])
PLAIN = {"center": 1.0, "scale": SCALES, "low": -jnp.inf, "high": jnp.inf,
         "groups": {"a": 2, "b": None}}  # fmt: skip
MATRIX = np.array([[2.0, 0.1, 0.0], [0.1, 0.5, 0.3], [0.0, 0.3, 40.0]])


def gaussian(theta):
    return -theta @ jnp.asarray(MATRIX) @ theta / 2


def condition(matrix):
    values = np.abs(np.linalg.eigvalsh(matrix))
    return values.max() / values.min()


def test_against_linear_algebra(float64):
    scaling = Scaling(**PLAIN)
    z = np.random.default_rng(0).normal(size=(4, 5, 3))
    found = gradient_balance(gaussian, scaling, z)
    assert found.names == ("a_0", "a_1", "b")
    assert found.groups == ("a", "a", "b")
    in_theta = np.abs((1 + SCALES * z.reshape(-1, 3)) @ MATRIX)
    for sizes, middle, ends in (
        (in_theta, found.theta, found.theta_range),
        (in_theta * SCALES, found.z, found.z_range),
    ):
        np.testing.assert_allclose(middle, np.median(sizes, 0))
        np.testing.assert_allclose(ends, np.quantile(sizes, [0.1, 0.9], axis=0))
    assert found.spread_z == found.z.max() / found.z.min()
    in_z = MATRIX * np.outer(SCALES, SCALES)
    np.testing.assert_allclose(found.curvature_theta, np.linalg.eigvalsh(MATRIX))
    np.testing.assert_allclose(found.curvature_z, np.linalg.eigvalsh(in_z))
    np.testing.assert_allclose(found.condition_theta, condition(MATRIX))
    np.testing.assert_allclose(found.condition_z, condition(in_z))
    covariance = np.linalg.inv(in_z)
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    np.testing.assert_allclose(found.condition_scaled, condition(correlation))
    # The textbook's variance inflation, 1/(1 − R²) of each on the others.
    for i in range(3):
        rest = np.delete(np.arange(3), i)
        r = correlation[i, rest]
        explained = r @ np.linalg.solve(correlation[np.ix_(rest, rest)], r)
        np.testing.assert_allclose(found.inflation[i], 1 / (1 - explained))
    assert found.pairs == ()
    assert found.negative == 0


def test_the_log_jacobian_is_in_the_gradient_of_z(float64):
    """A flat density between bounds: its pullback has the gradient of log sigmoid′."""
    scaling = Scaling(0.0, 1.0, -1.0, 1.0)
    found = gradient_balance(lambda theta: 0.0 * theta.sum(), scaling, jnp.array([0.3]))
    np.testing.assert_allclose(found.theta, [0.0])
    np.testing.assert_allclose(found.z, [2 * np.tanh(0.3)], rtol=1e-12)
    assert found.spread_theta == np.inf


def test_it_names_a_pair(float64):
    target = TARGETS["a line through calendar years"]
    found = gradient_balance(target.log_density, target.scaling(), jnp.zeros(2))
    ((names, correlation),) = [(p.names, p.correlation) for p in found.pairs]
    assert names == ("intercept", "slope")
    assert -1 < correlation < -0.999
    text = str(found)
    assert "no diagonal scaling will do" in text
    assert "correlated pairs: intercept and slope (-1.000)" in text
    years = np.linspace(1960, 2010, 30)
    np.testing.assert_allclose(found.inflation, (years**2).mean() / years.var(), rtol=0.1)


def test_three_that_are_bound_up_though_no_two_are(float64):
    """θ₀ + θ₁ + θ₂ alone is known well: correlations of −1/2, and an inflation far above 10."""
    curvature = jnp.eye(3) + 1e4 * jnp.ones((3, 3))
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"a": 2, "b": None})
    found = gradient_balance(lambda theta: -theta @ curvature @ theta / 2, scaling, jnp.ones(3))
    assert found.pairs == ()
    assert (found.inflation > 1e3).all()
    assert "no diagonal scaling will do: by the others, the variance is inflated of " in str(found)


def test_it_takes_other_coordinates(float64):
    scaling = Scaling(**PLAIN)
    covariance = np.linalg.inv(MATRIX * np.outer(SCALES, SCALES))
    whitened = Whitened(scaling, -1 / SCALES, np.linalg.cholesky(covariance))
    found = gradient_balance(gaussian, whitened, jnp.ones(3))
    np.testing.assert_allclose(found.curvature_z, 1)
    np.testing.assert_allclose(found.z, 1)


def test_upward_curvature_is_said(float64):
    target = TARGETS["two modes"]
    found = gradient_balance(target.log_density, target.scaling(), jnp.full(2, 1e-3))
    assert found.negative == 1
    assert "curves upwards in 1 directions" in str(found)


def test_pinned_parameters_are_left_out(float64):
    scaling = Scaling([0.0, 3.0], 1.0, [-5.0, 3.0], [5.0, 3.0], groups={"a": None, "fixed": None})
    found = gradient_balance(lambda theta: -(theta**2).sum(), scaling, jnp.ones(2))
    assert found.names == ("a",)
    assert found.curvature_z.shape == (1,)


def test_many_parameters_have_no_spectrum():
    scaling = Scaling(0.0, 1.0, -1.0, 1.0, groups={"x": 2001})
    found = gradient_balance(lambda theta: -(theta**2).sum(), scaling, jnp.ones(2001))
    assert found.condition_z is None
    assert "left out, for more than 2000" in str(found)


def test_errors():
    scaling = Scaling(**PLAIN)
    with pytest.raises(ValueError, match=r"z: expected shape \(…, 3\); got \(2,\)"):
        gradient_balance(gaussian, scaling, jnp.zeros(2))
    with pytest.raises(ValueError, match="'a_1' is nan at point 1"):
        gradient_balance(
            lambda theta: jnp.sqrt(theta[1]) + theta.sum(),
            scaling,
            jnp.array([[0.0] * 3, [-1.0] * 3]),
        )


def test_it_goes_into_json(float64):
    found = gradient_balance(gaussian, Scaling(**PLAIN), jnp.ones(3))
    read = json.loads(json.dumps(found.to_dict()))
    assert read["names"] == ["a_0", "a_1", "b"]
    assert read["condition_z"] == found.condition_z
    assert read["z"] == list(found.z)
