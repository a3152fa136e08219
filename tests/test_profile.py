"""The profile along a parameter: widths beside those of quadrature, where curvatures mislead."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from scalejax import Scaling
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.profile import Frame, profile
from scalejax.calibrate.target import OfDensity

PLAIN = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": None, "y": None})


def fork(x, y):
    """−log density: a valley along x that forks in two where x = 1, flat between them."""
    return x**2 / 2 + (1 - x) * y**2 / 2 + y**4


def knots_of(potential):
    problem = Problem(OfDensity(PLAIN, lambda theta: -potential(theta[0], theta[1])))
    found, trouble = profile(problem, Frame.about(np.zeros(2), np.eye(2), 0))
    assert trouble is None
    return found


def sd(potential, x):
    """Of y at x, about 0."""

    def moment(power):
        return quad(lambda y: y**power * np.exp(-potential(x, y)), -8, 8, limit=200)[0]

    return np.sqrt(moment(2) / moment(0))


def test_widths_where_a_density_forks(float64):
    """Within a third of the sd from where the curvature is next to nothing, and then negative."""
    forked = [knot for knot in knots_of(fork) if knot.s > 0.9]
    assert len(forked) > 2
    assert max(knot.s for knot in forked) > 3
    for knot in forked:
        np.testing.assert_allclose(1 / knot.root[0, 0], sd(fork, knot.s), rtol=0.34)


@pytest.mark.parametrize("rate", [-1.0, 0.5])
def test_widths_of_a_funnel_are_exact(rate, float64):
    """Secants of a normal density are its curvature, however wide it becomes."""

    def funnel(x, y):
        return x**2 / 2 + rate * x + y**2 / 2 * jnp.exp(-2 * rate * x)

    knots = knots_of(funnel)
    assert np.ptp([knot.s for knot in knots]) > 8
    for knot in knots:
        np.testing.assert_allclose(1 / knot.root[0, 0], np.exp(rate * knot.s), rtol=1e-6)
