"""The posterior is the declared one: simulation-based calibration, coordinates, tempering.

Seeds are fixed. What is compared is said with its Monte Carlo standard error, or the level of its
test.
"""

from functools import partial

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, init_to_uniform
from numpyro.infer.util import log_density
from scipy import stats

from benchmarks import sites
from benchmarks.posterior import disagreement, statistics
from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.numpyro import DeclaredPrior, declared_prior, normal_prior, sample_scaled
from scalejax.rules import matched
from scalejax.xpcs import default_config, for_mode, read_space
from scalejax.xpcs.homodyne import homodyne
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.model import model as xpcs_model

inf = np.inf

MIXED = ParameterSpace(
    amplitude=Parameter(0, 1, mu=0.4, sigma=0.3, dim="k"),
    rate=Parameter(0, inf, mu=0.0, sigma=0.7, family="LogNormal"),
    phase=Parameter(-inf, inf, mu=0.5, sigma=1.0, family="Normal"),
    drift=Parameter(-1, 3, family="Uniform"),
    mixing=Parameter(0, 1, mu=0.3, sigma=0.2, family="BetaScaled"),
    height=Parameter(0, inf, mu=0.5, sigma=1.0),
    depth=Parameter(-inf, 2.0, mu=1.0, sigma=1.0),
    edge=Parameter(-1, 1, mu=-2.0, sigma=0.8),  # its prior is the tail of a normal
    gain=Parameter(1.5, 1.5),
).sized(k=3)
# So much that the prior counts for as much as the data: an error in either then shows.
NOISE = 1.0


def curve(theta, t):
    """Nonlinear in every parameter, none of which has a conjugate prior here."""
    a = theta["amplitude"]
    wave = jnp.sin(3 * t * theta["gain"] + theta["phase"])
    return (
        a[0] * jnp.exp(-theta["rate"] * t)
        + a[1] ** 2 * wave
        + jnp.tanh(a[2] * theta["drift"]) * t
        + theta["mixing"] * theta["height"] / (1 + t)
        + jnp.exp(theta["edge"]) * t**2
        + theta["depth"] * jnp.abs(t - 0.5)
    )


def mixed_model(scaling, prior, t, y=None):
    theta = sample_scaled("theta", scaling, prior=prior)
    numpyro.sample("y", dist.Normal(curve(theta, t), NOISE).to_event(1), obs=y)


@pytest.mark.slow
def test_simulation_based_calibration(float64):
    """Ranks of the truth among posterior draws are uniform (Talts et al. 2018, arXiv:1804.06788).

    Chi-squared tests of 160 ranks in 8 bins for each of the 10 parameters that are not pinned,
    together at the level 10⁻³ (Bonferroni). Draws are thinned to be next to independent.
    """
    scaling, prior = Scaling.from_space(MIXED), declared_prior(MIXED)
    t = jnp.linspace(0, 1, 15)
    simulations, kept, thin, bins = 160, 63, 5, 8

    def rank(key):
        key_theta, key_y, key_run = jax.random.split(key, 3)
        theta = prior.sample(key_theta)
        y = curve(scaling.unpack(theta), t) + NOISE * jax.random.normal(key_y, t.shape)
        mcmc = MCMC(NUTS(mixed_model), num_warmup=300, num_samples=kept * thin, thinning=thin,
                    progress_bar=False)  # fmt: skip
        mcmc.run(key_run, scaling, prior, t, y)
        draws = scaling.to_original(mcmc.get_samples()["theta_z"])
        return (draws < theta).sum(0)

    ranks = np.asarray(jax.jit(jax.vmap(rank))(jax.random.split(jax.random.key(8), simulations)))
    free = [i for i, name in enumerate(scaling.flat_names) if name != "gain"]
    assert len(free) == 10
    assert ranks.max() <= kept
    counts = [np.bincount(ranks[:, i] * bins // (kept + 1), minlength=bins) for i in free]
    p_values = [stats.chisquare(count).pvalue for count in counts]
    assert min(p_values) > 1e-3 / len(free), p_values


def random_scaling(space, seed):
    """Centers and scales that have nothing to do with the priors; the bounds as they are."""
    reference = Scaling.from_space(space, rule=homodyne)
    matched = Scaling.from_space(space)
    rng = np.random.default_rng(seed)
    one_sided = ~np.isfinite(matched.high)
    shift = np.where(one_sided, 0, rng.normal(size=matched.size))
    return Scaling(
        matched.center + shift * matched.scale,
        matched.scale * 10 ** rng.uniform(-0.5, 0.5, matched.size),
        reference.low, reference.high, groups=matched.groups,
    )  # fmt: skip


@pytest.mark.slow
def test_the_posterior_does_not_depend_on_the_coordinates(float64):
    """The static XPCS model: all means and sds within 4 Monte Carlo standard errors.

    Of NumPyro's own sites, for 10 parameters under two Scalings: by luck one of the 40 numbers
    would be further off in one run of four hundred, but the seeds are fixed.
    """
    config = default_config("static")
    space = for_mode(read_space(config), "static")
    measurement = simulate_measurement(config, space, "static", 3, 0)
    space = space.sized(phi=measurement.experiment.phi.size)
    data = (measurement.experiment, measurement.c2)

    def sample(model, *args, **kwargs):
        kernel = NUTS(model, dense_mass=True, target_accept_prob=0.9, init_strategy=init_to_uniform)
        mcmc = MCMC(kernel, num_warmup=1000, num_samples=1500, num_chains=2, progress_bar=False,
                    chain_method="parallel")  # fmt: skip
        mcmc.run(jax.random.key(1), *args, *data, **kwargs)
        assert not mcmc.get_extra_fields()["diverging"].any()
        draws = mcmc.get_samples(group_by_chain=True)
        return statistics(az.from_dict({name: draws[name] for name in space}))

    reference = sample(sites.model, space)
    prior = declared_prior(space)
    scalings = [Scaling.from_space(space, rule=matched), random_scaling(space, 0)]
    for scaling in scalings:
        found = sample(xpcs_model, scaling, prior=prior)
        assert found.shape == (4, 10)
        assert disagreement(found, reference) < 4


def test_shards_of_a_linear_gaussian_model(float64):
    """The product of K tempered sub-posteriors is the posterior, for both kinds of prior.

    Each log-density is quadratic in z, so that its gradient and Hessian at 0 say all of it; they
    are compared with those of conjugate regression, worked out by hand.
    """
    rng = np.random.default_rng(0)
    x, noise, shards = rng.normal(size=(24, 2)), 0.5, 4
    y = x @ [1.5, -0.7] + noise * rng.normal(size=24)
    mu, sigma = np.array([1.0, 0.2]), np.array([0.8, 2.0])
    space = ParameterSpace({
        name: Parameter(-inf, inf, mu=m, sigma=s, family="Normal")
        for name, m, s in zip("ab", mu, sigma, strict=True)
    })  # fmt: skip
    center, scale = np.array([0.3, -1.0]), np.array([2.0, 0.4])
    scaling = Scaling(center, scale, -inf, inf, groups={"a": None, "b": None})

    def model(x, y, prior, shards):
        theta = sample_scaled("theta", scaling, prior=prior, shards=shards)
        mean = x @ jnp.stack([theta["a"], theta["b"]])
        numpyro.sample("y", dist.Normal(mean, noise).to_event(1), obs=y)

    @partial(jax.jit, static_argnames="shards")
    def natural(x, y, prior, shards):
        """Gradient and Hessian of the log-density at z = 0."""

        def of_z(z):
            return log_density(model, (x, y, prior, shards), {}, {"theta_z": z})[0]

        gradient, hessian = jax.grad(of_z)(jnp.zeros(2)), jax.hessian(of_z)(jnp.zeros(2))
        return jnp.concatenate([gradient[None], hessian])

    for prior in (declared_prior(space), normal_prior()):
        parts = zip(np.split(x, shards), np.split(y, shards), strict=True)
        product = sum(natural(*part, prior, shards) for part in parts)
        # The likelihood in z, then the prior: of θ, or of z.
        design = x * scale
        gradient = design.T @ (y - x @ center) / noise**2
        hessian = -design.T @ design / noise**2
        if isinstance(prior, DeclaredPrior):
            gradient -= scale * (center - mu) / sigma**2
            hessian -= np.diag((scale / sigma) ** 2)
        else:
            hessian -= np.eye(2)
        want = np.stack([gradient, *hessian])
        np.testing.assert_allclose(product, want, rtol=1e-10)
        np.testing.assert_allclose(natural(x, y, prior, 1), want, rtol=1e-10)


@pytest.mark.slow
def test_shards_of_any_model(float64):
    """Up to a constant, the densities of K shards add up to that of all the data."""
    prior = declared_prior(MIXED)
    t = jnp.linspace(0, 1, 12)
    y = jax.random.normal(jax.random.key(0), t.shape)
    z = jax.random.normal(jax.random.key(1), (6, prior.scaling.size))

    def of(model_prior, shards, part):
        def model():
            theta = sample_scaled("theta", prior.scaling, prior=model_prior, shards=shards)
            mean = curve(theta, t[part])
            numpyro.sample("y", dist.Normal(mean, NOISE).to_event(1), obs=y[part])

        return jax.vmap(lambda z: log_density(model, (), {}, {"theta_z": z})[0])(z)

    for model_prior in (prior, normal_prior()):
        whole = of(model_prior, 1, slice(None))
        shards = sum(of(model_prior, 3, slice(4 * k, 4 * k + 4)) for k in range(3))
        np.testing.assert_allclose(np.ptp(shards - whole), 0, atol=1e-9)
