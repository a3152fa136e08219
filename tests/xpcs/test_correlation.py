"""The two-time correlation against loops over pairs and integrals by another route."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from scalejax.xpcs import Experiment, simulate, to_matrix, two_time
from scalejax.xpcs.correlation import (
    _levelled,
    power_law_integral,
    two_time_at,
    two_time_of_pairs,
)

STATIC = {
    "contrast": np.array([0.06, 0.05]),
    "offset": np.array([1.0, 1.02]),
    "D0": 3000.0,
    "alpha": -1.2,
    "D_offset": 50.0,
    "sigma": 0.003,
}
FLOW = {
    **STATIC,
    "alpha": 0.3,
    "gamma_dot_t0": 0.0015,
    "beta": 0.2,
    "gamma_dot_t_offset": 0.0005,
    "phi0": -2.0,
}


def experiment(dt):
    return Experiment(t=np.arange(12) * dt, phi=np.array([0.0, 60.0]), q=0.0054, gap=2e6)


def by_loops(theta, experiment):
    """Every pair of frames on its own, from the formulas of the paper, by the trapezoidal rule."""
    t = np.asarray(experiment.t, float)
    at = np.where(t == 0, (t[1] - t[0]) / 2, t)
    q, gap = float(experiment.q), float(experiment.gap)
    result = []
    for i_phi, phi in enumerate(np.asarray(experiment.phi)):
        row = []
        for i in range(len(t)):
            for j in range(i + 1, len(t)):
                rate = theta["D0"] * at ** theta["alpha"] + theta["D_offset"]
                decay = np.exp(-(q**2) * np.trapezoid(rate[i : j + 1], t[i : j + 1]))
                if "beta" in theta:
                    rate = theta["gamma_dot_t0"] * at ** theta["beta"] + theta["gamma_dot_t_offset"]
                    strain = np.trapezoid(rate[i : j + 1], t[i : j + 1])
                    x = q * gap * np.cos(np.radians(phi - theta["phi0"])) * strain / 2
                    decay *= (np.sin(x) / x) ** 2
                row.append(theta["offset"][i_phi] + theta["contrast"][i_phi] * decay)
        result.append(row)
    return np.array(result)


@pytest.mark.parametrize(("theta", "dt"), [(STATIC, 0.001), (FLOW, 0.05)])
def test_against_loops(theta, dt, dtype):
    got = jax.jit(two_time)(theta, experiment(dt))
    tolerance = {"float32": 2e-5, "float64": 1e-10}[dtype]  # of the smooth floors, in float64
    np.testing.assert_allclose(got, by_loops(theta, experiment(dt)), atol=tolerance)


def test_some_pairs(float64):
    at = experiment(0.05)
    i, j = (pairs[::7] for pairs in at.pairs)
    got = jax.jit(two_time_of_pairs)(FLOW, at, i, j)
    np.testing.assert_allclose(got, jax.jit(two_time)(FLOW, at)[:, ::7], rtol=1e-13)


def test_integral_converges_to_the_power_law(float64):
    t = jnp.linspace(0.5, 3.0, 20_001)
    got = power_law_integral(t, 7.0, -1.3, 0.4, 1e-9)[-1]
    want, _ = quad(lambda s: 7.0 * s**-1.3 + 0.4, 0.5, 3.0)
    np.testing.assert_allclose(got, want, rtol=1e-7)


@given(x=st.just(0.0) | st.floats(-1e6, 1e6), floor=st.sampled_from([0.1, 1e-8]))
def test_floor_is_positive_and_keeps_its_gradient(dtype, x, floor):
    x = jnp.asarray(x, dtype)
    value, slope = jax.value_and_grad(_levelled)(x, floor)
    assert value > 0
    # floor²/(4·x²) for negative x, as long as the number can be held.
    assert slope > 0 or (floor / x) ** 2 < 5 * np.finfo(dtype).tiny
    assert jnp.isfinite(slope)
    # From below, by no more than half the floor.
    assert abs(value - max(x, 0)) <= 0.5 * floor * (1 + 1e-6) + 2 * np.finfo(dtype).eps * abs(x)


def test_gradient_where_the_shear_phase_vanishes(float64):
    """sinc has its maximum there: cos(φ − φ0) = 0 at 90°."""
    at = Experiment(t=np.arange(5) * 0.05, phi=np.array([88.0, 90.0]), q=0.0054, gap=2e6)
    gradient = jax.jit(jax.jacfwd(lambda phi0: two_time({**FLOW, "phi0": phi0}, at)))(0.0)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[1], 0.0, atol=1e-12)


def test_simulated_noise(float64):
    """Symmetric, and of the standard deviation asked for: 4 standard errors at 132 pairs."""
    at = experiment(0.001)
    c2 = simulate(jax.random.key(0), STATIC, at)
    np.testing.assert_array_equal(c2, c2.transpose(0, 2, 1))
    i, j = at.pairs
    residual = c2[:, i, j] - two_time(STATIC, at)
    np.testing.assert_allclose(residual.std(), 0.003, rtol=4 / np.sqrt(2 * residual.size))


def test_to_matrix():
    matrix = to_matrix(np.array([[1.0, 2.0, 3.0]]), np.array([9.0]), 3)
    np.testing.assert_array_equal(matrix[0], [[9, 1, 2], [1, 9, 3], [2, 3, 9]])


@pytest.mark.parametrize("n_t", [2, 3, 12, 57])
def test_every_place_is_that_of_its_pair(n_t, dtype):
    at = Experiment(t=np.arange(n_t) * 0.05, phi=np.array([0.0, 60.0]), q=0.0054, gap=2e6)
    index = np.arange(2 * n_t * (n_t - 1) // 2)
    found = jax.jit(two_time_at)(FLOW, at, index)
    want = np.ravel(jax.jit(two_time)(FLOW, at))
    np.testing.assert_allclose(found, want, rtol=4 * np.finfo(dtype).eps)
