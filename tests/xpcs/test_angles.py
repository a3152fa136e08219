"""Contrast and offset as maps from fewer numbers, and what is fixed at a value for each angle."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpyro.infer import MCMC, NUTS
from scipy import stats

from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.numpyro import declared_prior
from scalejax.xpcs import Experiment, default_space, for_mode, two_time
from scalejax.xpcs.angles import PER_ANGLE_MODES, at_angles, true_values, with_angles
from scalejax.xpcs.correlation import two_time_at
from scalejax.xpcs.model import model

PHI = np.array([0.0, 30.0, 75.0, 130.0, 160.0])
STATIC = for_mode(default_space("static"), "static")


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
def test_a_series_against_loops(float64, coefficients):
    half = len(coefficients) // 2
    c, s = np.array(coefficients[:half]), np.array(coefficients[half:])
    found = at_angles({"offset": 1.0, "offset_cos": c, "offset_sin": s}, "offset", PHI)
    for value, phi in zip(found, np.radians(PHI), strict=True):
        want = 1 + sum(
            c[k] * np.cos((k + 1) * phi) + s[k] * np.sin((k + 1) * phi) for k in range(half)
        )
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-12)


def test_c2_is_that_of_the_values_at_each_angle(float64):
    experiment = Experiment(t=np.arange(8) * 0.001, phi=PHI, q=0.0054, gap=1.0)
    decay = {"D0": 3000.0, "alpha": -1.2, "D_offset": 50.0, "sigma": 0.003}
    series = {
        "contrast": 0.06, "contrast_cos": np.array([0.01]), "contrast_sin": np.array([-0.02]),
        "offset": 1.0, "offset_cos": np.array([0.0]), "offset_sin": np.array([0.03]), **decay,
    }  # fmt: skip
    one_each = {name: at_angles(series, name, PHI) for name in ("contrast", "offset")} | decay
    want = two_time(one_each, experiment)
    np.testing.assert_allclose(two_time(series, experiment), want, rtol=1e-14)
    index = np.array([0, 30, 139])
    np.testing.assert_allclose(
        two_time_at(series, experiment, index), np.asarray(want).ravel()[index], rtol=1e-13
    )


def test_spaces():
    assert with_angles(STATIC, PHI, "individual").sizes == {"phi": 5}
    one = with_angles(STATIC, PHI, "constant")
    assert one["contrast"].dim is None
    assert one.get_prior("contrast") == STATIC.get_prior("contrast")
    assert Scaling.from_space(one).size == 6
    series = with_angles(STATIC, PHI, "fourier", 2)
    assert list(series)[:4] == ["contrast", "contrast_cos", "contrast_sin", "offset"]
    assert Scaling.from_space(series).size == 6 + 8
    # At an angle the series varies by as much as the declared prior: 2 harmonics of σ²/2 each.
    below, above = STATIC.get_prior("offset").ppf([0.15865525393145707, 0.8413447460685429])
    np.testing.assert_allclose(series["offset_cos"].sigma, (above - below) / 2 / np.sqrt(2))
    own = ParameterSpace({**STATIC, "offset_sin": Parameter(-0.1, 0.1)})
    assert with_angles(for_mode(own, "static"), PHI, "fourier", 1)["offset_sin"].high == 0.1
    assert "offset_sin" not in with_angles(for_mode(own, "static"), PHI, "individual")
    truth = true_values(series, {name: np.ones(5) * 0.5 for name in STATIC})
    assert set(truth) == set(series)
    assert (truth["offset_cos"] == 0).all()


@pytest.mark.parametrize(
    ("how", "order", "phi", "message"),
    [
        ("mean", 1, PHI, "--per-angle: expected one of " + ", ".join(PER_ANGLE_MODES)),
        ("fourier", 3, PHI, "3 harmonics needs 7 angles; there are 5"),
        ("fourier", 0, PHI, "0 harmonics"),
        ("fourier", 1, [0.0, 0.0, 360.0], "needs 3 angles; there are 1"),
    ],
)
def test_what_there_is_not(how, order, phi, message):
    with pytest.raises(ValueError, match=message):
        with_angles(STATIC, phi, how, order)


@pytest.mark.parametrize("values", [{"initial": (0.1,) * 5}, {"fixed": (0.1,) * 5}])
def test_values_for_each_angle_beside_one_for_all(values):
    space = ParameterSpace({**STATIC, "contrast": Parameter(0, 1, dim="phi", **values)})
    with pytest.raises(ValueError, match="contrast: it has a value for each angle"):
        with_angles(space, PHI, "constant")


def test_fixed_at_a_value_for_each_angle(float64):
    """They are at these values whatever z is, and count for nothing in the prior."""
    held = Parameter(0, 1, mu=0.3, sigma=0.1, dim="phi", fixed=(0.05, 0.06, 0.07))
    space = ParameterSpace(contrast=held, D0=Parameter(1, 9)).sized(phi=3)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    theta = scaling.to_original(jnp.full(4, 2.5))
    np.testing.assert_array_equal(theta[:3], held.fixed)
    np.testing.assert_array_equal(scaling.pinned, [True, True, True, False])
    np.testing.assert_allclose(prior.log_prob(theta), -np.log(8))
    assert held.prior is None
    for wrong, message in (
        ({"fixed": (0.05, 2.0), "dim": "phi"}, r"fixed must be within \[0.0, 1.0\]"),
        ({"fixed": (0.05,)}, "a value for each element along a dim"),
        ({"fixed": 0.05, "dim": "phi"}, "a value for each element along a dim"),
        ({"fixed": (None,), "dim": "phi"}, "fixed must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            ParameterSpace(contrast=Parameter(0, 1, **wrong))
    with pytest.raises(ValueError, match="fixed has 3 values, where phi = 4"):
        ParameterSpace(contrast=held).sized(phi=4)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["constant", "fourier"])
def test_simulation_based_calibration(how, float64):
    """Ranks of the truth among draws of the posterior are uniform (Talts et al. 2018).

    Of the static model at 3 angles and 6 frames, with a prior that counts for as much as the data.
    Chi-squared tests of 160 ranks in 8 bins for each parameter, together at the level 10⁻³
    (Bonferroni). Draws are thinned to be next to independent.
    """
    declared = ParameterSpace(
        contrast=Parameter(0.0, 1.0, mu=0.3, sigma=0.1, dim="phi"),
        offset=Parameter(0.5, 1.5, mu=1.0, sigma=0.1, dim="phi"),
        D0=Parameter(0.0, 1e5, mu=3000.0, sigma=1000.0),
        alpha=Parameter(-2.0, 2.0, mu=0.0, sigma=0.3),
        D_offset=Parameter(0.0, 0.0),
        sigma=Parameter(0.1, 0.1),
    )
    phi = np.array([0.0, 60.0, 120.0])
    space = with_angles(declared, phi, how, 1)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    experiment = Experiment(t=np.arange(6) * 1.0, phi=phi, q=0.0054, gap=1.0)
    simulations, kept, thin, bins = 160, 63, 4, 8

    def rank(key):
        key_theta, key_noise, key_run = jax.random.split(key, 3)
        theta = prior.sample(key_theta)
        values = scaling.unpack(theta)
        mean = two_time(values, experiment)
        c2 = dist.Normal(mean, values["sigma"]).sample(key_noise)
        mcmc = MCMC(NUTS(model), num_warmup=300, num_samples=kept * thin, thinning=thin,
                    progress_bar=False)  # fmt: skip
        mcmc.run(key_run, scaling, experiment, c2, prior=prior)
        return (scaling.to_original(mcmc.get_samples()["theta_z"]) < theta).sum(0)

    ranks = np.asarray(jax.jit(jax.vmap(rank))(jax.random.split(jax.random.key(3), simulations)))
    free = np.flatnonzero(~np.asarray(scaling.pinned))
    assert len(free) == {"constant": 4, "fourier": 8}[how]
    counts = [np.bincount(ranks[:, i] * bins // (kept + 1), minlength=bins) for i in free]
    p_values = [stats.chisquare(count).pvalue for count in counts]
    assert min(p_values) > 1e-3 / len(free), p_values
