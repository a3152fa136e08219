"""The direction along which weights change: found where there is one, and no other."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from scalejax.calibrate.direction import _explained, directions
from scalejax.calibrate.weights import Weighed

FREE = np.ones(6, bool)


def weighed(log, x):
    return Weighed(x, x, log)


def drawn(seed, count=600):
    return np.random.default_rng(seed).normal(size=(count, 6))


@pytest.mark.parametrize("seed", range(5))
def test_a_combination_of_parameters(seed):
    """The weights change along it, and a seventh of their variance is noise."""
    x = drawn(seed)
    e = np.array([0.0, 0.8, -0.5, 0.0, 0.3, 0.0])
    e /= np.linalg.norm(e)
    log = -((x @ e - 1) ** 2) + np.random.default_rng(seed + 100).normal(size=len(x))
    found, *_ = directions(x, weighed(log, x), FREE, off=False, combined=True)
    assert abs(found @ e) > 0.97
    (single, *_) = directions(x, weighed(log, x), FREE, off=False, combined=False)
    np.testing.assert_array_equal(single, np.eye(6)[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_parameter_is_taken_for_itself(seed):
    """A combination that is hardly better is noise."""
    x = drawn(seed)
    log = x[:, 3] ** 3 + np.random.default_rng(seed + 100).normal(size=len(x))
    found, *_ = directions(x, weighed(log, x), FREE, off=False, combined=True)
    np.testing.assert_array_equal(found, np.eye(6)[3])


def test_nothing_where_nothing_explains_the_weights():
    x = drawn(0, 2000)
    log = np.random.default_rng(1).normal(size=len(x))
    assert directions(x, weighed(log, x), FREE, off=False, combined=True) == []
    assert directions(x, weighed(0 * log, x), FREE, off=False, combined=True) == []
    assert directions(x[:20], weighed(log[:20], x[:20]), FREE, off=False, combined=True) == []


def test_what_is_pinned_is_in_no_direction():
    x = drawn(2)
    free = FREE.copy()
    free[1] = False
    log = -((x[:, 1] + x[:, 2] + x[:, 4]) ** 2)
    found = directions(x, weighed(log, x), free, off=False, combined=True)
    assert all(e[1] == 0 for e in found)


def test_slopes_are_no_reason_where_the_fit_is_off():
    """Of a point that is no mode every parameter has a slope; the one with a curve counts."""
    x = drawn(3)
    log = 5 * x[:, 0] - x[:, 4] ** 2
    assert directions(x, weighed(log, x), FREE, off=False, combined=False)[0][0] == 1
    assert directions(x, weighed(log, x), FREE, off=True, combined=False)[0][4] == 1


def test_the_gradient_of_what_is_explained():
    x = drawn(4)
    log = np.sin(x[:, 0] + 0.5 * x[:, 1]) - x[:, 2] ** 2
    e = np.array([0.5, 0.4, -0.2, 0.6, 0.1, 0.3])
    slope = approx_fprime(e, lambda e: _explained(e, x, log)[0], 1e-6)
    np.testing.assert_allclose(_explained(e, x, log)[1], slope, atol=1e-5)
