"""Calibration of posteriors that bend: nested coordinates, found and checked, and resampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gamma

from benchmarks.targets import TARGETS
from scalejax import NestedLaplace, Scaling
from scalejax.calibrate import NotTrusted, from_log_density, from_residuals, resample

KEY = jax.random.key(0)
FUNNEL = "Neal's funnel, 10 parameters"
# log of the integral over theta, in closed form.
EVIDENCE = {
    "a banana": np.log(2 * np.pi * 0.1),
    FUNNEL: 5 * np.log(2 * np.pi) + np.log(3),
    "Neal's funnel, 100 parameters": 50 * np.log(2 * np.pi) + np.log(3),
}


def calibrated(name, **options):
    target = TARGETS[name]
    return from_log_density(target.log_density, target.scaling(), key=KEY, **options)


@pytest.fixture(scope="module")
def banana():
    with jax.enable_x64(True):
        return calibrated("a banana")


def test_a_banana_is_straightened(banana, float64):
    coordinates, report = banana
    assert isinstance(coordinates, NestedLaplace)
    assert report.kind == "nested"
    assert report.good
    assert report.along == ("x_0",)
    assert "the rest bends with x_0, by" in str(report)
    assert report.efficiency > 0.99
    # In u it is a standard normal, but for the rounding of splines.
    w = jax.random.normal(KEY, (200, 2))
    log = jax.vmap(coordinates.pullback(TARGETS["a banana"].log_density))(w) + (w**2).sum(1) / 2
    assert float(log.std()) < 0.01


def test_resampled_draws_and_their_errors(banana, float64):
    """Against exact values: means 0 and 1, sds 1 and sqrt(2 + 0.1²); 4 standard errors."""
    target = TARGETS["a banana"]
    found = resample(banana[0], target.log_density, jax.random.key(3))
    exact_sd = np.sqrt([1, 2.01])
    assert (np.abs(found.mean - [0, 1]) < 4 * found.mean_error).all()
    assert (np.abs(found.sd - exact_sd) < 4 * found.sd_error).all()
    # 4000 draws that are next to independent: the errors are those of as many.
    np.testing.assert_allclose(found.mean_error, exact_sd / np.sqrt(4000), rtol=0.1)
    assert abs(found.log_evidence - EVIDENCE["a banana"]) < 4 * found.log_evidence_error + 1e-4
    assert found.draws.shape == found.theta.shape == (4000, 2)
    # Systematic resampling: its means are those of the weighed draws to a part of their error.
    assert (np.abs(found.draws.mean(0) - found.mean) < found.mean_error).all()
    with pytest.raises(ValueError, match="draws: expected at least 100; got 99"):
        resample(banana[0], target.log_density, KEY, 99)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 105])
def test_a_linear_fit_is_not_taken_for_sufficient_by_luck(seed, float64):
    """With these keys a thousand draws of it say so, and three thousand that it is not."""
    target = TARGETS["against a bound"]
    key = jax.random.split(jax.random.key(seed), 3)[2]
    _, report = from_log_density(target.log_density, target.scaling(), key=key)
    assert report.kind == "nested", str(report)
    assert report.good
    assert report.efficiency > 0.98


def test_what_does_not_fit_is_not_resampled(float64):
    """A standard normal of half the width that the posterior has: its weights have no variance."""
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": 5})
    with pytest.raises(NotTrusted, match=r"cannot be trusted here: k̂ = .*; sample by NUTS"):
        resample(scaling, lambda theta: -(theta**2).sum() / 18, KEY)
    with pytest.raises(NotTrusted, match="k̂ = nan"):
        resample(scaling, lambda theta: jnp.nan * theta.sum(), KEY)


@pytest.mark.slow
@pytest.mark.parametrize("name", [FUNNEL, "eight schools, centered"])
def test_what_has_no_mode_to_speak_of_is_straightened(name, float64):
    """Where the density is highest, in the neck, there is next to nothing of the posterior."""
    coordinates, report = calibrated(name)
    assert report.good, str(report)
    assert report.along == (("v",) if name == FUNNEL else ("tau",))
    assert report.efficiency > 0.9
    found = resample(coordinates, TARGETS[name].log_density, jax.random.key(1))
    if name == FUNNEL:
        assert abs(found.mean[0]) < 4 * found.mean_error[0]
        assert abs(found.sd[0] - 3) < 4 * found.sd_error[0]
        assert abs(found.log_evidence - EVIDENCE[name]) < 4 * found.log_evidence_error + 1e-4
    else:
        # Of 10 000 reference draws (posteriordb, eight_schools): mu 4.41 ± 3.3, tau 3.6 ± 3.2.
        np.testing.assert_allclose(found.mean[:2], [4.41, 3.60], atol=0.3)
        np.testing.assert_allclose(found.sd[:2], [3.3, 3.2], atol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Neal's funnel, 100 parameters", "a hierarchy of 50 groups",
                                  "against a bound"])  # fmt: skip
def test_others_are_straightened(name, float64):
    coordinates, report = calibrated(name)
    assert report.good, str(report)
    found = resample(coordinates, TARGETS[name].log_density, jax.random.key(1))
    if name in EVIDENCE:
        assert abs(found.log_evidence - EVIDENCE[name]) < 4 * found.log_evidence_error + 1e-3


@pytest.mark.slow
def test_in_single_precision():
    _, report = calibrated("a banana")
    assert report.kind == "nested"
    assert report.efficiency > 0.9


@pytest.mark.slow
def test_a_combination_of_parameters_is_straightened(float64):
    """A banana, and beside it a difference of two parameters with a wall and a long tail."""

    def log_density(theta):
        a, b, c, d = theta
        tail = (c - d) / jnp.sqrt(2)
        banana = -(a**2) / 2 - ((b - a**2) / 0.1) ** 2 / 2
        return banana - jnp.exp(3 * tail) + tail - (c + d) ** 2 / 4

    scaling = Scaling(0.0, 1.0, -50.0, 50.0, groups=dict.fromkeys("abcd"))
    coordinates, report = from_log_density(log_density, scaling, key=KEY)
    assert report.good, str(report)
    assert report.along[0] == "a"
    assert report.along[1] in {"c − d", "d − c"}, str(report)
    assert report.efficiency > 0.95
    # ∫exp(t − e^(3t))dt = Γ(1/3)/3, and √(4π) for the sum, in units of √2; 2π/10 for the banana.
    exact = np.log(gamma(1 / 3) / 3 * np.sqrt(2 * np.pi) * 2 * np.pi / 10)
    found = resample(coordinates, log_density, KEY)
    assert abs(found.log_evidence - exact) < 4 * found.log_evidence_error + 1e-3


@pytest.mark.slow
def test_the_parameter_can_be_named(float64):
    _, report = calibrated(FUNNEL, along="v")
    assert report.along[0] == "v"
    with pytest.raises(ValueError, match=r"along: expected one of v, x_0, .*; got 'w'"):
        calibrated(FUNNEL, along="w")


def free(size):
    return Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": size})


@pytest.mark.slow
@pytest.mark.parametrize(
    "log_density",
    [
        lambda t: -(((jnp.sqrt((t**2).sum()) - 1) / 0.1) ** 2) / 2,
        lambda t: -(((jnp.sqrt((t**2).sum()) - 1) / 0.1) ** 2) / 2 + 0.5 * t[0],
        lambda t: -(((t[1] ** 2 - 1 - t[0]) / 0.1) ** 2) / 2 - (t**2).sum() / 2,
    ],
    ids=["ring", "ring with a best place", "fork"],
)
def test_half_of_a_ring_is_never_good(log_density, float64):
    """A curve that turns back has two places for one value of any parameter."""
    for seed in range(3):
        _, report = from_log_density(log_density, free(2), key=jax.random.key(seed))
        assert not report.good, str(report)


@pytest.mark.slow
def test_two_funnels_are_good_or_refused(float64):
    """Of two independent ones, the joint mode along either is far from where the mass is."""

    def log_density(theta):
        v, x, y = theta[:2], theta[2:6], theta[6:]
        return (
            -(v**2).sum() / 18
            - ((x**2).sum() * jnp.exp(-v[0]) + (y**2).sum() * jnp.exp(-v[1])) / 2
            - 2 * v.sum()
        )

    coordinates, report = from_log_density(log_density, free(10), key=KEY)
    if report.good:
        found = resample(coordinates, log_density, KEY)
        assert (np.abs(found.sd[:2] - 3) < 4 * found.sd_error[:2]).all()
        assert (np.abs(found.mean[:2]) < 4 * found.mean_error[:2]).all()


@pytest.mark.slow
def test_least_squares_that_bend(float64):
    """y = a·(b − x)²-like data that know a product of two parameters: a curved ridge."""
    x = jnp.linspace(0.5, 1.5, 50)
    data = 2.0 * x + 0.1 * jax.random.normal(KEY, x.shape)
    scaling = Scaling([1.0, 1.0], 1.0, 0.0, jnp.inf, groups={"a": None, "b": None})
    coordinates, report = from_residuals(
        lambda t: (data - t[0] * t[1] * x) / 0.1, scaling, key=KEY,
        log_prior=lambda t: -(t**2).sum() / 2,
    )  # fmt: skip
    assert report.good, str(report)

    def log_density(t):
        return -(t**2).sum() / 2 - (((data - t[0] * t[1] * x) / 0.1) ** 2).sum() / 2

    found = resample(coordinates, log_density, KEY)
    # By quadrature over a grid that holds all of it.
    a, b = np.meshgrid(*[np.linspace(1e-3, 6, 1200)] * 2, indexing="ij")
    log = -(a**2 + b**2) / 2
    for value, at in zip(np.asarray(data), np.asarray(x), strict=True):
        log -= ((value - a * b * at) / 0.1) ** 2 / 2
    weight = np.exp(log - log.max())
    mean = [(weight * part).sum() / weight.sum() for part in (a, b)]
    assert (np.abs(found.mean - mean) < 4 * found.mean_error + 1e-3).all()
    cell = (6 - 1e-3) / 1199
    evidence = log.max() + np.log(weight.sum() * cell**2)
    assert abs(found.log_evidence - evidence) < 4 * found.log_evidence_error + 1e-3
