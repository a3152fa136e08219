"""Calibration: what it finds on known posteriors, and when it refuses."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from benchmarks.targets import TARGETS, YEARS, counts, line, line_prior, line_residuals
from scalejax import Parameter, ParameterSpace, Scaling, Whitened, WhitenedLowRank
from scalejax.calibrate import (
    CoordinatesKind,
    Report,
    from_draws,
    from_log_density,
    from_residuals,
)

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


@pytest.mark.slow
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
    assert report.good
    assert report.starts[0] > 1
    at_mode = scaling.pullback(line)(jnp.asarray(report.mode))
    np.testing.assert_allclose(report.log_density, at_mode, rtol=1e-9)
    assert report.newton_decrement < 1e-3
    assert report.condition > 1e4
    assert report.k_hat < 0.5
    assert 0 < report.gradients < 20_000
    want = known_line()
    np.testing.assert_allclose(covariance(found), want, rtol=1e-4)
    design = np.stack([np.ones(30), np.asarray(YEARS, float)], 1)
    mode = want @ design.T @ np.asarray(counts(), float)
    np.testing.assert_allclose(found.to_original(jnp.zeros(2)), mode, rtol=1e-4)


@pytest.mark.parametrize("width", [1e-1, 1e-4])
def test_a_search_is_not_longer_where_a_posterior_is_narrow(width, float64):
    """Steps of a search are about as long as the unit of z, however steep the density is."""
    _, report = from_log_density(lambda x: -(x**2).sum() / width**2 / 2, PLAIN, key=KEY)
    assert report.kind == "dense"
    assert report.starts[0] > 32
    # Half a dozen steps a start would do where the density were as wide as the unit of z.
    assert report.search_gradients < 64 * 16


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_noise_as_a_parameter(float64):
    """−M·log σ in log_prior: the mode of σ is the maximum-likelihood one, for a flat prior on it.

    It is that of the density of z = log σ, in which M·log σ + S/(2σ²) − log σ is least.
    """
    data = jax.random.permutation(KEY, jnp.linspace(-1.0, 1.0, 201)) + 0.3
    scaling = Scaling(
        [0.0, 1.0], [1.0, 1.0], [-9.0, 0.0], [9.0, jnp.inf], groups={"m": None, "s": None}
    )
    found, report = from_residuals(
        lambda theta: (data - theta[0]) / theta[1],
        scaling,
        log_prior=lambda theta: -data.size * jnp.log(theta[1]),
        key=KEY,
        noise="s",
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


def test_it_refuses_what_it_cannot_fit(float64):
    target = TARGETS["two modes"]
    scaling = target.scaling()
    found = from_log_density(target.log_density, scaling, key=KEY)
    refused(found, scaling, "another mode, .* is as much as e\\^-")
    # Where chains may begin: at both.
    assert sorted(np.sign(mode[0]) for mode in found[1].modes) == [-1, 1]


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


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"k_hat": 0.71}, False),
        ({"efficiency": 0.09}, False),
        ({"efficiency": float("nan")}, True),
        ({"doubts": ("there is another",)}, False),
        ({"kind": CoordinatesKind.DIAGONAL}, False),
    ],
)
def test_what_is_good(changes, good):
    """Not what a k̂ says of a handful of draws that have all the weight."""
    report = Report(CoordinatesKind.NESTED, 10, k_hat=0.5, efficiency=0.5)
    assert replace(report, **changes).good is good


def test_starts_are_needed():
    with pytest.raises(ValueError, match="starts: expected at least 1; got 0"):
        from_log_density(line, LINE, key=KEY, starts=0)
    with pytest.raises(ValueError, match="starts: expected at least 1; got 0"):
        from_residuals(line_residuals, LINE, log_prior=line_prior, key=KEY, starts=0)


def test_a_saddle_is_left(float64):
    """z = 0 is one, between the two modes: no search may end there."""
    target = TARGETS["two modes"]
    scaling = target.scaling()
    _, report = from_log_density(target.log_density, scaling, key=KEY, starts=1)
    assert report.log_density > float(scaling.pullback(target.log_density)(jnp.zeros(2))) + 0.1


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
    with pytest.raises(ValueError, match=r"expected draws of shape \(…, 2\); got \(9, 3\)"):
        from_draws(np.zeros((9, 3)), PLAIN)
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


# --- what is wrong is said ---


def peaks(apart):
    """A standard normal prior, and two likelihood peaks of sd 0.1 with equal posterior mass."""
    weights = jnp.array([0.0, apart**2 / 2 / 1.01])

    def log_density(theta):
        at = jnp.array([theta[0], theta[0] - apart])
        return -(theta**2).sum() / 2 + logsumexp(weights - (at / 0.1) ** 2 / 2)

    return log_density


def mixture(means, sds):
    means, sds = jnp.asarray(means, float), jnp.asarray(sds, float)

    def log_density(theta):
        distance = ((theta - means) ** 2).sum(1) / 2 / sds**2
        return logsumexp(-distance - means.shape[1] * jnp.log(sds))

    return log_density


MULTIMODAL = {
    "three": (mixture([[0, 0], [1.5, 1], [-1, 1.2]], [0.1] * 3), 2),
    "two in ten dimensions": (mixture(np.eye(10)[:2] * 1.2, [0.15, 0.15]), 10),
    "wide and narrow": (mixture([[0, 0], [1, 0]], [1.0, 0.05]), 2),
    "ring": (lambda t: -(((jnp.sqrt((t**2).sum()) - 1) / 0.1) ** 2) / 2, 2),
    "waves": (lambda t: -(t**2).sum() / 2 + 5 * jnp.cos(6 * t).sum(), 2),
    "square": (lambda t: -(((t[0] ** 2 - 1) / 0.1) ** 2) / 2 - (t**2).sum() / 2, 3),
}


def free(size):
    return Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": size})


@pytest.mark.slow
@pytest.mark.parametrize("apart", [1.5, 2.0, 2.5])
def test_two_peaks_are_never_good_whatever_the_key(apart, float64):
    for seed in range(8):
        _, report = from_log_density(peaks(apart), free(2), key=jax.random.key(seed))
        assert not report.good
        assert any("another mode" in reason for reason in report.reasons)


@pytest.mark.slow
@pytest.mark.parametrize("name", MULTIMODAL)
def test_several_modes_are_never_good(name, float64):
    log_density, size = MULTIMODAL[name]
    _, report = from_log_density(log_density, free(size), key=KEY)
    assert not report.good
    assert report.reasons


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_mode_far_outside_the_unit_of_z_is_not_good(seed, float64):
    """No search from the unit of z comes there; those around the fit, which is as wide, do."""
    log_density = mixture([[0.0] * 4, [2.0, -2.0, 4.0, 19.0]], [3.0, 3.0])
    _, report = from_log_density(log_density, free(4), key=jax.random.key(seed))
    assert not report.good
    assert any("the fit leaves that out" in said for said in (*report.reasons, *report.doubts))


@jax.custom_vjp
def backwards_only(theta):
    return -50 * (theta**2).sum()


backwards_only.defvjp(lambda t: (backwards_only(t), t), lambda t, g: (-100 * g * t,))

HARD = {
    "steep": lambda t: -((t.sum() - 1) ** 2) * 1e20,
    "flat": lambda t: 0.0 * t.sum(),
    "not a number": lambda t: jnp.nan * t.sum(),
    "rising": lambda t: t.sum(),
    "convex": lambda t: (t**2).sum(),
    "cusp": lambda t: -10 * jnp.abs(t).sum(),
    "steps": lambda t: -3 * jnp.floor(jnp.abs(t)).sum(),
    "holes": lambda t: jnp.where(t[0] > 0, -(t**2).sum(), jnp.nan),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_hard_densities_end_in_a_report(name, float64):
    found, report = from_log_density(HARD[name], free(3), key=KEY)
    assert not report.good or name == "holes"
    if report.kind == "none":
        assert report.reasons
        assert isinstance(found, Scaling)


def test_a_model_with_a_derivative_of_its_own(float64):
    found, report = from_log_density(backwards_only, free(3), key=KEY)
    assert report.good, str(report)
    np.testing.assert_allclose(covariance(found), np.eye(3) / 100, rtol=1e-5, atol=1e-9)


def test_where_all_is_pinned():
    scaling = Scaling(1.0, 1.0, 1.0, 1.0, groups={"x": 3})
    results = (
        from_log_density(lambda t: t.sum(), scaling, key=KEY),
        from_residuals(lambda t: t, scaling, log_prior=lambda t: 0.0 * t.sum(), key=KEY),
        from_draws(np.zeros((100, 3)), scaling),
    )
    for found, report in results:
        assert found is scaling
        assert report.reasons == ("every parameter is pinned: there is nothing to calibrate",)


DRAWS = {
    "few": lambda rng: rng.normal(size=(4, 5)),
    "constant": lambda rng: np.c_[rng.normal(size=(200, 4)) @ np.diag([1, 2, 3, 4]), np.ones(200)],
    "duplicated": lambda rng: np.repeat(rng.normal(size=(2, 5)), 100, 0),
    "all the same": lambda rng: np.ones((200, 5)),
    "huge": lambda rng: rng.normal(size=(200, 5)) * 1e200,
    "tiny": lambda rng: rng.normal(size=(200, 5)) * 1e-200,
    "in one line": lambda rng: np.outer(rng.normal(size=200), np.ones(5)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_that_cannot_do_end_in_a_report(name, dtype):
    _, report = from_draws(DRAWS[name](np.random.default_rng(0)), free(5))
    assert not report.good
    assert report.reasons or report.doubts


def test_draws_say_how_many_are_needed():
    _, report = from_draws(np.random.default_rng(0).normal(size=(20, 100)), free(100))
    assert report.reasons == ("20 draws are too few for 100 parameters: give 404",)


def test_a_column_that_does_not_vary_is_unknown(float64):
    """Not narrow: it keeps the unit of z."""
    z = DRAWS["constant"](np.random.default_rng(0))
    found, report = from_draws(z, free(5))
    assert "the draws of x_4 do not vary" in report.doubts[0]
    slope = jax.jacfwd(lambda w: found.to_root_and_log_det(w)[0])(jnp.zeros(5))
    np.testing.assert_allclose(slope[4], [0, 0, 0, 0, 1], atol=1e-12)


@pytest.mark.slow
def test_residuals_larger_than_their_neighbours_differences_are_said(float64):
    """A model that cannot follow the data: its residuals are a curve, and not noise."""
    x = jnp.linspace(-1.0, 1.0, 200)
    data = jnp.sin(3 * x) + 0.01 * jax.random.normal(KEY, x.shape)
    _, report = from_residuals(
        lambda theta: (data - theta[0]) / 0.01, free(1), key=KEY,
        log_prior=lambda theta: -(theta**2).sum() / 2,
    )  # fmt: skip
    assert not report.good
    assert "times as large as the differences of their neighbours" in report.doubts[0]


@pytest.mark.slow
def test_parts_of_the_data_and_what_is_linear(float64):
    """The same fit with and without them, and with them fewer gradients."""
    x = jnp.linspace(0.0, 1.0, 2000)
    data = 2 + 3 * jnp.exp(-5 * x) + 0.05 * jax.random.normal(KEY, x.shape)
    groups = {"offset": None, "height": None, "rate": None, "noise": None}
    low, high = [-50.0, -50.0, 0.0, 0.0], [50.0, 50.0, 50.0, jnp.inf]
    scaling = Scaling([0.0, 0.0, 10.0, 0.1], [5.0, 5.0, 5.0, 0.1], low, high, groups=groups)

    def at(theta, index):
        mean = theta[0] + theta[1] * jnp.exp(-theta[2] * x[index])
        return (data[index] - mean) / theta[3]

    def log_prior(theta):
        return -len(x) * jnp.log(theta[3]) - theta[3]

    options = {"log_prior": log_prior, "key": KEY, "noise": "noise", "starts": 64}
    whole, plain = from_residuals(lambda t: at(t, jnp.arange(2000)), scaling, **options)
    part, thin = from_residuals(
        lambda t: at(t, jnp.arange(2000)), scaling, residuals_at=at,
        linear=("offset", "height"), **options,
    )  # fmt: skip
    assert plain.good, str(plain)
    assert thin.good, str(thin)
    np.testing.assert_allclose(part.loc, whole.loc, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part.factor, whole.factor, rtol=1e-3, atol=1e-6)
    assert thin.gradients < plain.gradients
    with pytest.raises(ValueError, match="sigma is none of the groups offset, height, rate, noise"):
        from_residuals(lambda t: t, scaling, log_prior=log_prior, key=KEY, noise="sigma")
