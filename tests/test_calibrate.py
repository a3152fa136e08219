"""Calibration: what it finds on known posteriors, and when it refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.targets import TARGETS, YEARS, counts, line, line_prior, line_residuals
from scalejax import Parameter, ParameterSpace, Scaling, Whitened, WhitenedLowRank
from scalejax.calibrate import from_draws, from_log_density, from_residuals

KEY = jax.random.key(0)
PLAIN = Scaling(0.0, 1.0, -1e3, 1e3, groups={"x": 2})

LINE = TARGETS["a line through calendar years"].scaling()


def covariance(coordinates):
    """Of the fitted Gaussian, in θ, for linear coordinates."""
    slope = np.asarray(jax.jacfwd(coordinates.to_original)(jnp.zeros(coordinates.size)), float)
    return slope @ slope.T


def known_line():
    design = np.stack([np.ones(30), np.asarray(YEARS, float)], 1)
    return np.linalg.inv(design.T @ design + np.diag([1e-6, 4.0]))


@pytest.mark.parametrize("how", ["residuals", "density"])
def test_a_line_through_calendar_years(how, float64):
    """Its posterior is Gaussian: mode and covariance are those of the normal equations."""
    scaling = TARGETS["a line through calendar years"].scaling()
    if how == "residuals":
        found, report = from_residuals(line_residuals, scaling, log_prior=line_prior, key=KEY)
    else:
        found, report = from_log_density(line, scaling, key=KEY)
    assert isinstance(found, Whitened)
    assert report.kind == "dense"
    assert report.starts == (4, 4)
    assert report.newton_decrement < 1e-3
    assert report.condition > 1e4
    assert report.k_hat < 0.5
    assert 0 < report.gradients < 20_000
    want = known_line()
    np.testing.assert_allclose(covariance(found), want, rtol=1e-4)
    design = np.stack([np.ones(30), np.asarray(YEARS, float)], 1)
    mode = want @ design.T @ np.asarray(counts(), float)
    np.testing.assert_allclose(found.to_original(jnp.zeros(2)), mode, rtol=1e-4)


def test_a_line_in_single_precision():
    """Still within a few per cent of what the covariance is."""
    found, report = from_residuals(line_residuals, LINE, log_prior=line_prior, key=KEY)
    assert report.kind == "dense", str(report)
    np.testing.assert_allclose(np.diag(covariance(found)), np.diag(known_line()), rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["residuals", "density"])
def test_a_model_in_another_dtype_than_the_scaling(how, float64):
    """Data in double precision, as JAX then has it, and a Scaling in single precision."""
    wide = TARGETS["a line through calendar years"].scaling()
    scaling = jax.tree.map(lambda a: a.astype("float32"), wide)
    if how == "residuals":
        found, report = from_residuals(line_residuals, scaling, log_prior=line_prior, key=KEY)
    else:
        found, report = from_log_density(line, scaling, key=KEY)
    assert report.kind == "dense", str(report)
    assert found.base.low.dtype == jnp.float32


def test_the_noise_as_a_parameter(float64):
    """−M·log σ in log_prior: the mode of σ is the maximum-likelihood one, for a flat prior on it.

    It is that of the density of z = log σ, in which M·log σ + S/(2σ²) − log σ is least.
    """
    data = jnp.linspace(-1.0, 1.0, 41) + 0.3
    scaling = Scaling(
        [0.0, 1.0], [1.0, 1.0], [-9.0, 0.0], [9.0, jnp.inf], groups={"m": None, "s": None}
    )
    found, report = from_residuals(
        lambda theta: (data - theta[0]) / theta[1],
        scaling,
        log_prior=lambda theta: -data.size * jnp.log(theta[1]),
        key=KEY,
    )
    assert report.kind == "dense", str(report)
    m, s = found.to_original(jnp.zeros(2))
    np.testing.assert_allclose(m, 0.3, atol=1e-3)
    np.testing.assert_allclose(s**2, ((data - 0.3) ** 2).sum() / (data.size - 1), rtol=1e-3)


def test_pinned_parameters_are_left_alone(float64):
    space = ParameterSpace(a=Parameter(-5, 5, mu=0, sigma=1), fixed=Parameter(3, 3))
    scaling = Scaling.from_space(space)
    found, report = from_log_density(
        lambda theta: -(((theta[0] - 1) / 0.01) ** 2) / 2 - theta[1] ** 2, scaling, key=KEY
    )
    assert report.kind == "dense"
    assert isinstance(found, Whitened)
    np.testing.assert_allclose(found.loc[1], 0, atol=1e-6)
    np.testing.assert_allclose(found.factor[1], [0, 1], atol=1e-6)
    assert found.to_original(jnp.ones(2))[1] == 3


def test_no_direction_is_wider_than_the_unit_of_z(float64):
    found, _ = from_log_density(lambda theta: -((theta[0] / 0.1) ** 2) / 2, PLAIN, key=KEY)
    if isinstance(found, Whitened):
        assert np.linalg.eigvalsh(covariance(found)).max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a banana", "condition number|misses some of the posterior"),
        ("Neal's funnel, 10 parameters", "misses some of the posterior|no mode was found"),
        ("two modes", "another mode, .* is as much as e\\^-"),
    ],
)
def test_it_refuses_what_it_cannot_fit(name, reason, float64):
    target = TARGETS[name]
    assert not target.linear
    scaling = target.scaling()
    refused(from_log_density(target.log_density, scaling, key=KEY), scaling, reason)


def test_it_refuses_what_has_no_density():
    result = from_log_density(lambda theta: jnp.nan * theta.sum(), PLAIN, key=KEY)
    refused(result, PLAIN, "not finite")


def refused(result, scaling, reason):
    found, report = result
    assert found is scaling
    assert report.kind == "none"
    assert any(re.search(reason, text) for text in report.reasons), report.reasons
    assert len(set(report.reasons)) == len(report.reasons)
    assert "no calibration: the coordinates as they were" in str(report)


def test_starts_are_needed():
    with pytest.raises(ValueError, match="starts: expected at least 1; got 0"):
        from_log_density(line, LINE, key=KEY, starts=0)
    with pytest.raises(ValueError, match="starts: expected at least 1; got 0"):
        from_residuals(line_residuals, LINE, log_prior=line_prior, key=KEY, starts=0)


def test_a_saddle_is_left():
    """z = 0 is one, between the two modes: no search may end there."""
    target = TARGETS["two modes"]
    _, report = from_log_density(target.log_density, target.scaling(), key=KEY, starts=1)
    assert report.starts[0] >= 1
    rivals = [text for text in report.reasons if "another mode" in text]
    assert len(rivals) <= 1


@pytest.mark.slow
def test_many_parameters_by_products(float64):
    """2100 of them, of different widths and with one stiff sum: a diagonal and a few directions."""
    size = 2100
    widths = jnp.linspace(0.01, 0.1, size)
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": size})

    def density(theta):
        return -((theta / widths) ** 2).sum() / 2 - (theta.sum() / 0.05) ** 2 / 2

    found, report = from_log_density(density, scaling, key=KEY, starts=1, rank=4)
    assert isinstance(found, WhitenedLowRank), str(report)
    # By the known Hessian, which a linear map carries over: z is theta here.
    slope = np.asarray(
        jax.vmap(lambda w: found.to_base_and_log_det(w)[0])(jnp.eye(size)) - found.loc
    )
    before = np.diag(1 / np.asarray(widths) ** 2) + 1 / 0.05**2
    after = slope @ before @ slope.T
    assert np.linalg.cond(before) > 5000
    assert np.linalg.cond(after) < 50


@pytest.mark.slow
def test_many_parameters_that_are_not_gaussian(float64):
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": 2100})

    def density(theta):
        return -(theta**2).sum() / 2 - (theta**4).sum() * 100

    found, report = from_log_density(density, scaling, key=KEY, starts=1, rank=4)
    assert found is scaling
    assert "times as far as its curvature says" in report.reasons[0]


def test_draws(float64):
    rng = np.random.default_rng(0)
    mixing = np.array([[0.1, 0.0], [0.3, 0.001]])
    z = 0.5 + rng.normal(size=(2, 500, 2)) @ mixing.T
    found, report = from_draws(z, PLAIN)
    assert isinstance(found, Whitened)
    assert report.kind == "dense"
    factor = np.asarray(found.factor)
    # 4 standard errors of a variance from 1000 draws, and the shrinkage of a correlation near 1.
    np.testing.assert_allclose(np.diag(factor @ factor.T), np.diag(mixing @ mixing.T), rtol=0.2)
    with pytest.raises(ValueError, match=r"at least 4 draws of shape \(…, 2\); got \(3, 2\)"):
        from_draws(np.zeros((3, 2)), PLAIN)
    with pytest.raises(ValueError, match="expected finite draws"):
        from_draws(np.full((9, 2), np.nan), PLAIN)


def test_draws_that_say_nothing_of_later_ones(float64):
    """A chain that has moved on: coordinates from its first half do not suit its second."""
    rng = np.random.default_rng(0)
    early, late = (np.array([[1.0, r], [r, 1.0]]) for r in (0.999, -0.999))
    z = np.concatenate([rng.multivariate_normal([0, 0], c, 300) for c in (early, late)])
    _, report = from_draws(z, PLAIN)
    assert report.kind != "dense"
    assert "dense: the later draws have a condition number of" in report.reasons[0]
