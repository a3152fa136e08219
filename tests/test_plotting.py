"""The pictures of a gradient balance: what is drawn where."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.targets import TARGETS
from scalejax import Scaling, Whitened, plotting
from scalejax.diagnostics import gradient_balance


@pytest.fixture
def balances():
    scaling = Scaling(0.0, [1.0, 1e3], -1e6, 1e6, groups={"a": None, "b": None})

    def log_density(theta):
        return -((theta[0] - 1) ** 2) / 2 - (theta[1] / 1e3 + 1) ** 2 / 2

    whitened = Whitened(scaling, 0.0, 2 * np.eye(2))
    return {
        "matched": gradient_balance(log_density, scaling, jnp.zeros(2)),
        "whitened": gradient_balance(log_density, whitened, jnp.zeros(2)),
    }


@pytest.mark.parametrize("draw", [plotting.gradients, plotting.curvature])
def test_on_axes_of_ones_own(draw, balances):
    own = Figure().subplots()
    assert draw(balances, ax=own) is own
    assert draw(balances).figure is not own.figure
    assert own.get_yscale() == "log"
    assert own.get_ylabel()


def test_gradients(balances):
    axis = plotting.gradients(balances)
    drawn = [line.get_ydata() for line in axis.lines]
    np.testing.assert_allclose(drawn[0], balances["matched"].theta)
    np.testing.assert_allclose(drawn[1], balances["matched"].z)
    np.testing.assert_allclose(drawn[2], balances["whitened"].z)
    assert [t.get_text() for t in axis.get_xticklabels()] == ["a", "b"]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[0] == "∂/∂θ: largest / smallest 1e+03"
    assert labels[2] == "∂/∂z, whitened: largest / smallest 1"


def test_curvature(balances):
    axis = plotting.curvature(balances)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[0] == "in θ: condition number 1e+06"
    assert labels[1] == "in z, matched: condition number 1"


def test_upward_curvature_is_hollow(float64):
    target = TARGETS["two modes"]
    balance = gradient_balance(target.log_density, target.scaling(), jnp.full(2, 1e-3))
    axis = plotting.curvature({"plain": balance})
    hollow = [line for line in axis.lines if line.get_fillstyle() == "none"]
    assert np.isfinite(hollow[-1].get_ydata()).sum() == 1


def test_no_spectrum_is_an_error():
    scaling = Scaling(0.0, 1.0, -1.0, 1.0, groups={"x": 2001})
    balance = gradient_balance(lambda theta: -(theta**2).sum(), scaling, jnp.ones(2001))
    with pytest.raises(ValueError, match="too many parameters"):
        plotting.curvature({"plain": balance})
