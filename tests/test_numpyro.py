"""The NumPyro adapter: sites, densities, tempering, and where chains start."""

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import seed, trace
from numpyro.infer import MCMC, NUTS, Predictive, init_to_uniform
from numpyro.infer.util import initialize_model
from numpyro.infer.util import log_density as numpyro_log_density
from scipy import stats

from scalejax import Parameter, ParameterSpace, Scaling, Whitened
from scalejax.numpyro import (
    declared_prior,
    init_to_original,
    log_density,
    normal_prior,
    sample_scaled,
)
from scalejax.rules import matched
from scalejax.xpcs.homodyne import homodyne

SCALING = Scaling(
    center=[0.3, 0.3, 0.3, 1000.0, 0.01, -1.2],
    scale=[0.1, 0.1, 0.1, 9990.0, 0.01, 1.0],
    low=[0.0, 0.0, 0.0, 100.0, 0.0, -1.2],
    high=[1.0, 1.0, 1.0, 1e5, jnp.inf, -1.2],
    groups={"contrast": 3, "D0": None, "sigma": None, "alpha": None},
)


def sites(model, *args, **kwargs):
    return trace(seed(model, jax.random.key(0))).get_trace(*args, **kwargs)


def test_sites():
    found = sites(sample_scaled, "theta", SCALING, prior=normal_prior())
    assert {name: (s["type"], s["value"].shape) for name, s in found.items()} == {
        "theta_z": ("sample", (6,)),
        "contrast": ("deterministic", (3,)),
        "D0": ("deterministic", ()),
        "sigma": ("deterministic", ()),
        "alpha": ("deterministic", ()),
    }
    theta = SCALING.unpack(SCALING.to_original(found["theta_z"]["value"]))
    for name, value in theta.items():
        np.testing.assert_array_equal(found[name]["value"], value)


@pytest.mark.parametrize("prior_scale", [1.0, 2.0])
def test_density_is_that_of_the_normal_prior(prior_scale):
    z = jnp.array([0.5, -1.0, 2.0, 0.1, -0.3, 1.5])

    def model():
        sample_scaled("theta", SCALING, prior=normal_prior(prior_scale))

    got, _ = numpyro_log_density(model, (), {}, {"theta_z": z})
    want = dist.Normal(0, prior_scale).log_prob(z).sum()
    np.testing.assert_allclose(got, want, rtol=1e-6)


DECLARED = ParameterSpace(
    contrast=Parameter(0, 1, mu=0.3, sigma=0.1, dim="phi"),
    D0=Parameter(100, 1e5, mu=1000, sigma=1000),
    sigma=Parameter(0, jnp.inf, mu=-4.6, sigma=1, family="LogNormal"),
    alpha=Parameter(-1.2, -1.2),
).sized(phi=3)
RULES = (matched, homodyne)


@pytest.mark.parametrize("rule", RULES)
def test_density_is_that_of_a_prior_pulled_back(rule, float64):
    """The density of θ and the log-determinant; a normal one for z of what is pinned."""
    scaling, prior = Scaling.from_space(DECLARED, rule=rule), declared_prior(DECLARED)
    z = jnp.array([0.5, -1.0, 2.0, 0.1, -0.3, 1.5])

    def model(shards=1):
        sample_scaled("theta", scaling, prior=prior, shards=shards)

    got, found = numpyro_log_density(model, (), {}, {"theta_z": z})
    want = scaling.pullback(prior.log_prob)(z)
    at = scaling.unpack(scaling.to_original(z))
    sums = prior.log_prob(scaling.to_original(z)) + scaling.log_det(z)
    np.testing.assert_allclose(want, sums + stats.norm.logpdf(1.5), rtol=1e-12)
    assert at["alpha"] == -1.2
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_array_equal(found["D0"]["value"], scaling.to_original(z)[3])
    tempered, _ = numpyro_log_density(model, (4,), {}, {"theta_z": z})
    np.testing.assert_allclose(tempered, want / 4, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_draws_without_data_follow_the_declared_marginals(rule, dtype):
    """Kolmogorov–Smirnov on 3000 draws of each parameter, together at the level 10⁻³."""
    scaling, prior = Scaling.from_space(DECLARED, rule=rule), declared_prior(DECLARED)

    def model():
        sample_scaled("theta", scaling, prior=prior)

    draws = Predictive(model, num_samples=3000)(jax.random.key(1))
    known = {
        "contrast": stats.truncnorm(-3, 7, 0.3, 0.1),
        "D0": stats.truncnorm(-0.9, 99, 1000, 1000),
        "sigma": stats.lognorm(1, scale=np.exp(-4.6)),
    }
    for name, distribution in known.items():
        for column in np.asarray(draws[name], float).reshape(3000, -1).T:
            assert stats.kstest(column, distribution.cdf).pvalue > 1e-3 / 5, name
    np.testing.assert_array_equal(draws["alpha"], np.asarray(-1.2, dtype))


def test_shards_of_the_normal_prior_are_its_scale():
    z = jnp.linspace(-1, 1, 6)
    values = [
        numpyro_log_density(sample_scaled, ("theta", SCALING), given, {"theta_z": z})[0]
        for given in (
            {"prior": normal_prior(), "shards": 4},
            {"prior": normal_prior(2.0)},
        )
    ]
    assert values[0] == values[1]


def test_shards_may_be_traced():
    prior = declared_prior(DECLARED)

    @jax.jit
    def density(shards, prior, scaling):
        given = {"prior": prior, "shards": shards}
        return numpyro_log_density(
            sample_scaled, ("theta", scaling), given, {"theta_z": jnp.ones(6)}
        )[0]

    one, four = (density(shards, prior, prior.scaling) for shards in (1.0, 4.0))
    np.testing.assert_allclose(four, one / 4, rtol=1e-6)


def test_any_distribution_of_theta_can_be_the_prior(float64):
    """A correlated one, say, on a Scaling that covers it."""
    scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"a": None, "b": None})
    joint = dist.MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.8], [0.8, 1.0]]))
    z = jnp.array([0.3, -0.2])
    found, _ = numpyro_log_density(
        sample_scaled, ("theta", scaling), {"prior": joint}, {"theta_z": z}
    )
    np.testing.assert_allclose(found, joint.log_prob(z), rtol=1e-12)


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior": normal_prior(), "shards": 0}, "shards must be at least 1; got 0"),
        ({"prior": normal_prior(), "shards": np.nan}, "shards must be at least 1; got nan"),
        ({"prior": None}, r"expected a distribution of θ, .* or normal_prior\(scale\); got None"),
        ({"prior": "normal"}, r"expected a distribution of θ, .*; got 'normal'"),
        (
            {"prior": dist.Normal(0, 1).expand([6])},
            r"event shape \(6,\), .* got batch shape \(6,\) and event shape \(\)",
        ),
        (
            {"prior": declared_prior(DECLARED.sized(phi=4))},
            r"got batch shape \(\) and event shape \(7,\)",
        ),
        (
            {
                "prior": declared_prior(
                    ParameterSpace({**DECLARED, "D0": Parameter(10, 1e3)}).sized(phi=3)
                )
            },
            r"prior of 'D0': expected .* within .* \[100.0, 100000.0\], .* got \[10.0, 1000.0\]",
        ),
        (
            {
                "prior": declared_prior(
                    ParameterSpace({**DECLARED, "D0": Parameter(1e3, 1e3)}).sized(phi=3)
                )
            },
            "prior of 'D0': expected .* both pinned or neither",
        ),
        (
            {
                "prior": declared_prior(
                    ParameterSpace({n.lower(): p for n, p in DECLARED.items()}).sized(phi=3)
                )
            },
            "expected that of contrast, D0, sigma, alpha, as in the Scaling; got .* contrast, d0",
        ),
    ],
)
def test_errors_of_priors(given, message):
    with pytest.raises(ValueError, match=message):
        seed(sample_scaled, jax.random.key(0))("theta", SCALING, **given)


def test_a_prior_must_be_said():
    with pytest.raises(TypeError, match="prior"):
        sample_scaled("theta", SCALING)
    with pytest.raises(ValueError, match=r"scale must be positive; got -1\.0"):
        normal_prior(-1.0)


def test_prior_predictive_draws():
    """Means and standard deviations of z within 5 standard errors of Normal(0, 2)."""
    n = 4000

    def model():
        sample_scaled("theta", SCALING, prior=normal_prior(2.0))

    draws = Predictive(model, num_samples=n)(jax.random.key(1))
    assert draws["contrast"].shape == (n, 3)
    z = draws["theta_z"]
    np.testing.assert_allclose(z.mean(0), 0.0, atol=5 * 2 / np.sqrt(n))
    np.testing.assert_allclose(z.std(0), 2.0, rtol=5 / np.sqrt(2 * n))


def start(model, **kwargs):
    return initialize_model(jax.random.key(3), model, **kwargs).param_info.z


def test_init_to_original():
    def model():
        sample_scaled("theta", SCALING, prior=normal_prior())
        numpyro.sample("other", dist.Normal(0, 1))

    strategy = init_to_original("theta", SCALING, {"contrast": [0.1, 0.2, 0.3], "D0": 3000.0})
    z = start(model, init_strategy=strategy)
    theta = SCALING.unpack(SCALING.to_original(z["theta_z"]))
    np.testing.assert_allclose(theta["contrast"], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(theta["D0"], 3000.0, rtol=1e-5)
    assert z["theta_z"][4] == 0
    assert "other" in z
    one = start(model, init_strategy=init_to_original("theta", SCALING, {"contrast": 0.2}))
    np.testing.assert_allclose(SCALING.to_original(one["theta_z"])[:3], 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d0": 1.0}, "d0 is none of the groups contrast, D0, sigma, alpha"),
        ({"contrast": [0.1, 0.2]}, r"'contrast' takes one number or 3; got shape \(2,\)"),
        ({"D0": [1e3]}, r"'D0' takes one number; got shape \(1,\)"),
        ({"D0": 1.0}, r"'D0' must start within \[100.0, 100000.0\]; got 1.0"),
        ({"D0": np.nan}, "'D0' must start within .*; got nan"),
    ],
)
def test_init_to_original_errors(values, message):
    with pytest.raises(ValueError, match=message):
        init_to_original("theta", SCALING, values)


@pytest.mark.slow
def test_posterior_of_a_normal_mean():
    """NUTS through the adapter finds the posterior that quadrature over z finds.

    The mean within 4 standard errors, at no fewer than 400 effective draws of 2000.
    """
    scaling = SCALING["D0"]
    data, noise = jnp.array([2500.0, 3100.0, 2900.0]), 400.0

    def model():
        theta = sample_scaled("theta", scaling, prior=normal_prior())
        numpyro.sample("y", dist.Normal(theta["D0"], noise), obs=data)

    mcmc = MCMC(NUTS(model, init_strategy=init_to_uniform), num_warmup=500, num_samples=2000,
                progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(0))
    z = jnp.linspace(-8, 8, 20_001)
    theta = scaling.to_original(z[:, None])[:, 0]
    log_weight = -(z**2) / 2 - (((data - theta[:, None]) / noise) ** 2).sum(-1) / 2
    weight = jnp.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = float((weight * theta).sum())
    sd = float(jnp.sqrt((weight * (theta - mean) ** 2).sum()))
    draws = mcmc.get_samples()["D0"]
    assert abs(float(draws.mean()) - mean) < 4 * sd / np.sqrt(400)
    assert abs(float(draws.std()) / sd - 1) < 4 / np.sqrt(2 * 400)


# --- the density of a model ---


def own_sites(y):
    a = numpyro.sample(
        "a", dist.TruncatedNormal(0.2, 0.3, low=0.0, high=1.0).expand([2]).to_event(1)
    )
    b = numpyro.sample("b", dist.Uniform(-3.0, 3.0))
    numpyro.sample("y", dist.Normal(a.sum() * b, 0.1), obs=y)


def scaled_sites(scaling, y, prior):
    theta = sample_scaled("theta", scaling, prior=prior)
    numpyro.sample("y", dist.Normal(theta["a"].sum() * theta["b"], 0.1), obs=y)


SPACE_AB = ParameterSpace(
    a=Parameter(0, 1, mu=0.2, sigma=0.3, dim="phi"), b=Parameter(-3, 3, family="Uniform")
)


@pytest.mark.slow
def test_the_density_of_a_model(float64):
    """Against SciPy; of NumPyro's own sites and of sample_scaled alike, for any coordinates."""
    scaling = Scaling.from_space(SPACE_AB.sized(phi=2))
    theta = jnp.array([0.3, 0.6, -1.2])
    cut = stats.truncnorm(-2 / 3, 0.8 / 0.3, 0.2, 0.3)
    want = (
        cut.logpdf([0.3, 0.6]).sum() - np.log(6) + stats.norm.logpdf(0.5, 0.9 * -1.2, 0.1)
    )  # fmt: skip
    of_sites = log_density(own_sites, (0.5,), scaling=scaling)
    np.testing.assert_allclose(of_sites(theta), want, rtol=1e-9)
    prior = declared_prior(SPACE_AB.sized(phi=2))
    whitened = Whitened(scaling, 0.1, np.diag([0.5, 0.2, 0.3]))
    for coordinates in (scaling, whitened):
        args = (coordinates, 0.5)
        found = log_density(scaled_sites, args, {"prior": prior}, scaling=coordinates)
        np.testing.assert_allclose(found(theta), want, rtol=1e-9)
        np.testing.assert_allclose(jax.grad(found)(theta), jax.grad(of_sites)(theta), rtol=1e-6)


def test_the_density_of_a_model_without_its_pinned_parameter(float64):
    space = ParameterSpace(a=SPACE_AB["a"], b=SPACE_AB["b"], fixed=Parameter(2, 2))
    scaling = Scaling.from_space(space.sized(phi=2))
    theta = jnp.array([0.3, 0.6, -1.2, 2.0])
    plain = log_density(own_sites, (0.5,), scaling=Scaling.from_space(SPACE_AB.sized(phi=2)))
    found = log_density(own_sites, (0.5,), scaling=scaling)
    np.testing.assert_allclose(found(theta), plain(theta[:3]))


def test_models_that_do_not_fit_their_coordinates(float64):
    scaling = Scaling.from_space(SPACE_AB.sized(phi=2))
    with pytest.raises(ValueError, match=r"a \(3,\), b \(\), or .* got a \(2,\), b \(\)"):
        log_density(own_sites, (0.5,), scaling=Scaling.from_space(SPACE_AB.sized(phi=3)))
    with pytest.raises(ValueError, match="got none"):
        log_density(lambda: None, scaling=scaling)
    other = Scaling.from_space(SPACE_AB.sized(phi=2), rule=homodyne)
    with pytest.raises(ValueError, match="give those that the model has"):
        log_density(scaled_sites, (other, 0.5, normal_prior()), scaling=scaling)


@pytest.mark.slow
def test_arviz_labels_by_angle(float64):
    scaling = Scaling.from_space(SPACE_AB.sized(phi=2))
    mcmc = MCMC(NUTS(scaled_sites), num_warmup=5, num_samples=5, progress_bar=False)
    mcmc.run(jax.random.key(0), scaling, 0.5, normal_prior())
    data = az.from_numpyro(mcmc, dims=scaling.dims, coords=scaling.coords(phi=[0.0, 90.0]))
    assert data["posterior"]["a"].dims == ("chain", "draw", "phi")
    np.testing.assert_array_equal(data["posterior"]["phi"], [0.0, 90.0])
    np.testing.assert_array_equal(scaling.coords()["phi"], [0, 1])
    with pytest.raises(ValueError, match=r"expected 2 labels along 'phi'; got shape \(3,\)"):
        scaling.coords(phi=[1, 2, 3])
    with pytest.raises(ValueError, match="'angle' is none of the dimensions phi"):
        scaling.coords(angle=[1, 2])
