"""ScalingTransform and DeclaredPrior within NumPyro: its distributions, reparametrisation, SVI."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import ComposeTransform
from numpyro.handlers import reparam, seed, trace
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.initialization import init_to_median
from numpyro.infer.reparam import ExplicitReparam
from numpyro.infer.util import log_density
from numpyro.optim import Adam
from scipy import stats

from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.numpyro import DeclaredPrior, ScalingTransform, declared_prior
from tests import cases

ALL = Scaling(*cases.COLUMNS)
SPACE = ParameterSpace(
    contrast=Parameter(0, 1, mu=0.2, sigma=0.2, dim="phi"),
    D0=Parameter(100, 1e5, mu=1000, sigma=1000),
    sigma=Parameter(0, jnp.inf, mu=-3, sigma=1, family="LogNormal"),
    alpha=Parameter(-1.2, -1.2),
).sized(phi=2)
Z = np.array([0.3, -0.7, 1.1, 0.2, 5.0])


def test_a_transform_is_the_map_of_its_scaling(dtype):
    with jax.enable_x64(dtype == "float64"):
        scaling = Scaling(*cases.COLUMNS)
    transform = ScalingTransform(scaling)
    z = jax.random.normal(jax.random.key(0), (5, scaling.size))
    theta = transform(z)
    np.testing.assert_array_equal(theta, scaling.to_original(z))
    np.testing.assert_array_equal(transform._inverse(theta), scaling.to_normalized(theta))
    np.testing.assert_array_equal(transform.inv(theta), scaling.to_normalized(theta))
    log_det = scaling.log_det(z)
    np.testing.assert_array_equal(transform.log_abs_det_jacobian(z, theta), log_det)
    np.testing.assert_array_equal(transform.inv.log_abs_det_jacobian(theta, z), -log_det)
    again, intermediates = transform.call_with_intermediates(z)
    np.testing.assert_array_equal(again, theta)
    np.testing.assert_array_equal(transform.log_abs_det_jacobian(z, theta, intermediates), log_det)
    assert transform.inv.inv is transform
    assert transform.forward_shape((3, scaling.size)) == (3, scaling.size)


def test_domain_and_codomain():
    transform = ScalingTransform(ALL)
    assert transform.domain is constraints.real_vector
    assert transform.codomain.event_dim == 1
    theta = transform(jax.random.normal(jax.random.key(0), (3, ALL.size)))
    assert transform.codomain(theta).tolist() == [True] * 3
    i = cases.NAMES.index("unit")
    assert transform.codomain(theta.at[1, i].set(2.0)).tolist() == [True, False, True]
    assert transform.codomain(transform.codomain.feasible_like(theta)).all()


def test_equal_by_value():
    transform, same = ScalingTransform(ALL), ScalingTransform(Scaling(*cases.COLUMNS))
    columns = list(cases.COLUMNS)
    columns[1] = 2 * columns[1]
    other = ScalingTransform(Scaling(*columns))
    renamed = ScalingTransform(Scaling(*cases.COLUMNS, groups={"x": ALL.size}))
    assert transform == same
    assert transform.inv == same.inv
    assert transform.codomain == same.codomain
    for different in (other, renamed, dist.transforms.ExpTransform(), None):
        assert transform != different
    assert transform.codomain != other.codomain

    @jax.jit
    def compare(one, two):
        return one.eq(two), one == two

    # Traced, the values can be compared only at run time.
    assert [bool(result) for result in compare(transform, same)] == [True, False]
    assert not compare(transform, other)[0]


def test_pytrees():
    for value in (ScalingTransform(ALL), ScalingTransform(ALL).codomain):
        leaves, tree = jax.tree.flatten(value)
        assert len(leaves) == 4
        assert jax.tree.unflatten(tree, leaves) == value
    prior = declared_prior(SPACE)
    again = jax.tree.map(lambda x: x, prior)
    assert again.event_shape == (5,)
    np.testing.assert_array_equal(again.log_prob(prior.icdf(0.3)), prior.log_prob(prior.icdf(0.3)))


def test_a_transformed_normal_is_the_normal_prior(float64):
    """Its density is the normal one less the log-determinant; a pinned parameter adds nothing."""
    scaling = Scaling.from_space(SPACE)
    image = dist.TransformedDistribution(
        dist.Normal(0, 1).expand([5]).to_event(1), ScalingTransform(scaling)
    )
    theta = scaling.to_original(Z)
    want = dist.Normal(0, 1).log_prob(Z[:4]).sum() - scaling.log_det(Z)
    pinned = stats.norm.logpdf(0)  # at z = 0, which is its inverse
    np.testing.assert_allclose(image.log_prob(theta), want + pinned, rtol=1e-9)
    draws = image.sample(jax.random.key(0), (7,))
    assert draws.shape == (7, 5)
    assert image.support(draws).all()


def test_a_scalar_group_acts_on_scalars(float64):
    scaling = Scaling.from_space(SPACE)["D0"]
    transform = ScalingTransform(scaling)
    assert transform.domain is constraints.real
    assert transform.codomain.event_dim == 0
    for shape in ((), (4,), (2, 3)):
        z = jax.random.normal(jax.random.key(1), shape)
        theta = transform(z)
        assert theta.shape == transform.log_abs_det_jacobian(z, theta).shape == shape
        np.testing.assert_allclose(transform.inv(theta), z, rtol=1e-9)
    normal = dist.TransformedDistribution(dist.Normal(0, 1), transform)
    known = stats.norm.cdf(0.3)
    np.testing.assert_allclose(normal.cdf(transform(0.3)), known, rtol=1e-9)
    np.testing.assert_allclose(normal.icdf(known), transform(0.3), rtol=1e-9)


def test_composition_and_vmap(float64):
    """After an affine transform; and a stack of transforms, one for each z."""
    transform = ComposeTransform([dist.transforms.AffineTransform(1.0, 2.0), ScalingTransform(ALL)])
    z = jnp.linspace(-1, 1, ALL.size)
    np.testing.assert_array_equal(transform(z), ALL.to_original(1 + 2 * z))
    np.testing.assert_allclose(transform.inv(transform(z))[:3], z[:3], rtol=1e-9)
    stack = jax.vmap(lambda c: ScalingTransform(Scaling(c, 1.0, -5.0, 5.0, kinds=("interval",))))(
        jnp.arange(6.0).reshape(3, 2)
    )
    found = jax.vmap(lambda transform, z: transform(z))(stack, jnp.ones((3, 2)))
    for i in range(3):
        alone = Scaling(jnp.arange(6.0).reshape(3, 2)[i], 1.0, -5.0, 5.0)
        np.testing.assert_allclose(found[i], alone.to_original(jnp.ones(2)), rtol=1e-12)


def growth():
    """Scalar sites, one of them in a plate."""
    numpyro.sample("D0", dist.TruncatedNormal(1000.0, 1000.0, low=100.0, high=1e5))
    with numpyro.plate("angles", 3):
        numpyro.sample("contrast", dist.TruncatedNormal(0.2, 0.2, low=0.0, high=1.0))


def test_explicit_reparam_of_scalar_sites_and_plates(float64):
    """The density in z is that of θ with the log-determinant; θ comes back under its name."""
    scalings = {
        name: Scaling.from_space(ParameterSpace({name: parameter}))
        for name, parameter in {
            "D0": Parameter(100, 1e5, mu=1000, sigma=1000),
            "contrast": Parameter(0, 1, mu=0.2, sigma=0.2),
        }.items()
    }
    moved = reparam(
        growth,
        {name: ExplicitReparam(ScalingTransform(s).inv) for name, s in scalings.items()},
    )
    z = {"D0_base": jnp.array(0.7), "contrast_base": jnp.array([0.1, -2.0, 1.0])}
    got, sites = log_density(moved, (), {}, z)
    theta = {name: ScalingTransform(s)(z[f"{name}_base"]) for name, s in scalings.items()}
    for name, value in theta.items():
        np.testing.assert_allclose(sites[name]["value"], value, rtol=1e-12)
    want, _ = log_density(growth, (), {}, theta)
    want += sum(
        ScalingTransform(s).log_abs_det_jacobian(z[f"{name}_base"], None).sum()
        for name, s in scalings.items()
    )
    np.testing.assert_allclose(got, want, rtol=1e-12)


def sampled(model, *args, kernel=NUTS, **kwargs):
    mcmc = MCMC(kernel(model, **kwargs), num_warmup=300, num_samples=1000, progress_bar=False)
    mcmc.run(jax.random.key(0), *args, extra_fields=("num_steps", "diverging"))
    return mcmc.get_samples(), mcmc.get_extra_fields()


@pytest.mark.slow
def test_sites_with_either_distribution_are_sampled_in_normalized_space():
    """NUTS needs few steps, as if all were of one scale, and draws follow the declared marginals.

    A pinned parameter, along whose coordinate the density is flat, does not make chains wander.
    Kolmogorov–Smirnov at the level 10⁻³, on every 5th draw.
    """
    scaling = Scaling.from_space(SPACE)
    normal = dist.TransformedDistribution(
        dist.Normal(0, 1).expand([5]).to_event(1), ScalingTransform(scaling)
    )
    for site in (declared_prior(SPACE), normal):
        draws, extra = sampled(lambda site=site: numpyro.sample("theta", site))
        assert extra["num_steps"].mean() <= 15
        assert not extra["diverging"].any()
        theta = np.asarray(draws["theta"])[::5]
        np.testing.assert_array_equal(theta[:, 4], np.float32(-1.2))
        if site is normal:
            known = stats.norm.cdf
            theta = np.asarray(scaling.to_normalized(theta))[:, :1]
        else:
            known = stats.truncnorm(-0.9, 99, 1000, 1000).cdf
            theta = theta[:, 2:3]
        assert stats.kstest(theta[:, 0].astype(float), known).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_svi(guide):
    """An autoguide finds the image of the normal, which in z it can match exactly."""
    scaling = Scaling.from_space(SPACE)

    def model():
        base = dist.Normal(0, 1).expand([5]).to_event(1)
        numpyro.sample("theta", dist.TransformedDistribution(base, ScalingTransform(scaling)))

    auto = guide(model, init_loc_fn=init_to_median)
    result = SVI(model, auto, Adam(0.02), Trace_ELBO(8)).run(
        jax.random.key(0), 2000, progress_bar=False
    )
    draws = auto.sample_posterior(jax.random.key(1), result.params, sample_shape=(2000,))["theta"]
    z = np.asarray(scaling.to_normalized(draws))[:, :4]
    # 5 standard errors of 2000 draws, and as much again for the optimiser's last wobble.
    np.testing.assert_allclose(z.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1, atol=0.2)


def test_declared_prior_in_a_plate():
    prior = declared_prior(SPACE)

    def model():
        with numpyro.plate("samples", 3):
            return numpyro.sample("theta", prior)

    found = trace(seed(model, jax.random.key(0))).get_trace()["theta"]
    assert found["value"].shape == (3, 5)
    assert found["fn"].log_prob(found["value"]).shape == (3,)
    assert log_density(model, (), {}, {"theta": found["value"]})[0] == pytest.approx(
        float(prior.log_prob(found["value"]).sum()), rel=1e-6
    )


def test_declared_prior(float64):
    prior = declared_prior(SPACE)
    assert isinstance(prior, DeclaredPrior)
    assert (prior.batch_shape, prior.event_shape) == ((), (5,))
    theta = prior.icdf(jnp.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    known = [
        stats.truncnorm(-1, 4, 0.2, 0.2).logpdf(theta[0]),
        stats.truncnorm(-1, 4, 0.2, 0.2).logpdf(theta[1]),
        stats.truncnorm(-0.9, 99, 1000, 1000).logpdf(theta[2]),
        stats.lognorm(1, scale=np.exp(-3)).logpdf(theta[3]),
    ]
    np.testing.assert_allclose(prior.log_prob(theta), sum(known), rtol=1e-9)
    assert prior.support(theta)
    assert not prior.support(theta.at[2].set(99.0))
    assert prior.log_prob(theta.at[2].set(99.0)) == -jnp.inf
    assert prior.sample(jax.random.key(0), (2, 3)).shape == (2, 3, 5)
    assert biject_to(prior.support)(Z).shape == (5,)
    # Of one scalar: its event is a vector of one element all the same.
    one = declared_prior(ParameterSpace(D0=SPACE["D0"]))
    assert one.event_shape == (1,)
    assert biject_to(one.support)(jnp.zeros((4, 1))).shape == (4, 1)
    assert one.support(one.sample(jax.random.key(0), (4,))).tolist() == [True] * 4


def test_declared_prior_errors():
    with pytest.raises(ValueError, match="'contrast' is a vector along 'phi': say how long"):
        declared_prior(ParameterSpace(contrast=SPACE["contrast"]))
    with pytest.raises(ValueError, match=r"parameter 'x': .* alone set no scale"):
        declared_prior(ParameterSpace(x=Parameter(0, jnp.inf)))
