"""The pictures: what is drawn where."""

import arviz as az
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.targets import TARGETS
from scalejax import NestedLaplace, Parameter, ParameterSpace, Scaling, Whitened, plotting
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


# --- a Scaling and its priors ---

SPACE = ParameterSpace(
    contrast=Parameter(0, 1, mu=0.2, sigma=0.1, dim="phi"),
    D0=Parameter(100, 1e5, mu=1000, sigma=1000, unit="Å²/s"),
    sigma=Parameter(0, np.inf, mu=-4.6, sigma=1.0, family="LogNormal"),
    fixed=Parameter(2, 2),
)


def test_mapping(float64):
    """The curve is θ(z), its derivative that of finite differences; bounds only where they show."""
    scaling = Scaling.from_space(SPACE.sized(phi=23))
    axis = plotting.mapping(scaling, "D0", unit="Å²/s")
    z, theta = axis.lines[0].get_data()
    np.testing.assert_allclose(
        theta, [scaling["D0"].to_original(np.array([x]))[0] for x in z], rtol=1e-9
    )
    (slope,) = (a for a in axis.figure.axes if a is not axis)
    np.testing.assert_allclose(
        slope.lines[0].get_ydata()[1:-1], np.gradient(theta, z)[1:-1], rtol=1e-2
    )
    assert [line.get_ydata()[0] for line in axis.lines[1:]] == [100.0]  # 1e5 is far above
    assert axis.get_ylabel() == "D0 (Å²/s)"
    assert slope.get_ylabel() == "derivative (Å²/s)"


@pytest.mark.parametrize("name", ["contrast", "D0", "sigma"])
def test_priors_are_densities(name, float64):
    """Each holds 99 % and more between its own quantiles, which are what is shown."""
    axis = plotting.priors(Scaling.from_space(SPACE.sized(phi=2)), SPACE, name)
    theta, image = axis.lines[0].get_data()
    area = axis.collections[0].get_paths()[0].vertices
    declared = area[np.isin(area[:, 0], theta) & (area[:, 1] > 0)]
    for x, y in ((theta, image), declared.T):
        order = np.argsort(x)
        mass = np.trapezoid(y[order], x[order])
        assert 0.97 < mass < 1.01
    assert axis.get_xlabel() == SPACE.label(name)


def test_maps_leaves_out_what_is_pinned():
    figure = plotting.maps(Scaling.from_space(SPACE.sized(phi=2)), SPACE)
    labels = {axis.get_xlabel() for axis in figure.axes}
    assert {"z", "contrast", "D0 (Å²/s)", "sigma"} <= labels
    assert "fixed" not in labels


def test_warmup():
    rng = np.random.default_rng(0)
    steps, trace = rng.uniform(0.1, 1, (2, 50)), rng.normal(size=(2, 50))
    figure = plotting.warmup(steps, trace, label="D0 (Å²/s)")
    upper, lower = figure.axes
    np.testing.assert_array_equal(upper.lines[1].get_ydata(), trace[1])
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), steps[0])
    assert (upper.get_ylabel(), lower.get_yscale()) == ("D0 (Å²/s)", "log")
    own = Figure()
    assert plotting.warmup(steps, trace, label="z", figure=own) is own


def test_along_angles():
    draws = np.random.default_rng(0).normal(0.2, 0.01, (2, 100, 23))
    phi = np.linspace(0, 172, 23)
    result = az.from_dict({"contrast": draws}, dims={"contrast": ["phi"]}, coords={"phi": phi})
    own = Figure().subplots()
    axis = plotting.along(result, SPACE, "contrast", truth=0.2, dim="φ (°)", ax=own)
    assert axis is own
    line = axis.lines[0]
    np.testing.assert_allclose(line.get_xdata(), phi)
    np.testing.assert_allclose(line.get_ydata(), np.median(draws, axis=(0, 1)))
    assert axis.get_xlabel() == "φ (°)"


def test_straightened(float64):
    """The panels, and what its curve is: the mean of the other along the first, here 0."""
    u = np.linspace(-4.5, 4.5, 19)
    scaling = Scaling(0.0, 1.0, -np.inf, np.inf, groups={"v": None, "x": None})
    funnel = NestedLaplace(scaling, along=0, point=3 * u, mean=np.zeros((19, 1)),
                           log_width=1.5 * u[:, None])  # fmt: skip
    draws = funnel.to_original(np.random.default_rng(0).normal(size=(500, 2)))
    figure = plotting.straightened(funnel, draws, along="v", other="x")
    panels = [axis.get_title() for axis in figure.axes]
    assert panels == ["", "z: v and x", "whitened: the best linear map", "nested coordinates"]
    _, curve, *_ = figure.axes[1].lines
    np.testing.assert_allclose(curve.get_ydata(), 0, atol=1e-9)
    np.testing.assert_allclose(curve.get_xdata(), 3 * np.linspace(-4, 4, 201), atol=1e-9)
    with pytest.raises(ValueError, match="expected one of v, x; got 'w'"):
        plotting.straightened(funnel, draws, along="w", other="x")
    with pytest.raises(ValueError, match="expected coordinates that are nested along 'x'"):
        plotting.straightened(funnel, draws, along="x", other="v")
