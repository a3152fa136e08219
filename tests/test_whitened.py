"""Whitened coordinates: the interface of a Scaling, by property, in either form."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density

from scalejax import (
    AbstractCoordinates,
    Parameter,
    ParameterSpace,
    Reflected,
    Scaling,
    Whitened,
    WhitenedLowRank,
)
from scalejax.numpyro import (
    ScalingTransform,
    declared_prior,
    init_to_original,
    normal_prior,
    sample_scaled,
)

SPACE = ParameterSpace(
    a=Parameter(0, 1, mu=0.3, sigma=0.2, dim="k"),
    b=Parameter(0, np.inf, mu=-1, sigma=1, family="LogNormal"),
    c=Parameter(2, 2),
).sized(k=2)
SIZE = 4


def coordinates(form):
    """z of the pinned parameter is left as it is."""
    scaling, rng = Scaling.from_space(SPACE), np.random.default_rng(0)
    loc = np.array([0.3, -0.2, 0.5, 0.0])
    if form == "dense":
        factor = np.tril(rng.normal(size=(SIZE, SIZE)), -1) + np.diag([0.1, 0.5, 0.02, 1.0])
        factor[3, :3] = 0
        return Whitened(scaling, loc, factor)
    if form == "reflected":
        return Reflected.exchanging(scaling, 1, [0.6, -0.5, 0.3, 0.0])
    directions = np.linalg.qr(rng.normal(size=(3, 2)))[0]
    directions = np.concatenate([directions, np.zeros((1, 2))])
    return WhitenedLowRank(scaling, loc, [0.1, 0.5, 0.02, 1.0], directions, [0.05, 3.0])


FORMS = ("dense", "low rank", "reflected")


@pytest.mark.parametrize("form", FORMS)
def test_the_map_and_its_inverse(form, float64):
    c = coordinates(form)
    assert isinstance(c, AbstractCoordinates)
    w = jax.random.normal(jax.random.key(0), (5, SIZE))
    theta, log_det = c.to_original_and_log_det(w)
    assert theta.shape == (5, SIZE)
    assert log_det.shape == (5,)
    np.testing.assert_array_equal(theta, c.to_original(w))
    np.testing.assert_array_equal(log_det, c.log_det(w))
    np.testing.assert_allclose(c.to_normalized(theta)[:, :3], w[:, :3], rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(theta[:, 3], 2.0)
    for row, value in zip(w, log_det, strict=True):
        # Of the parameters that are free: the pinned one has its place in w, and no derivative.
        jacobian = jax.jacfwd(c.to_original)(row)[:3, :3]
        np.testing.assert_allclose(jnp.linalg.slogdet(jacobian)[1], value, rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(c.to_original)(w), theta, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda c, w: c.to_original(w))(c, w), theta, rtol=1e-12)
    base, _ = c.to_base_and_log_det(w)
    np.testing.assert_allclose(c.from_base(base), w, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_names_and_pullback(form, float64):
    c = coordinates(form)
    scaling = c.base
    assert (c.names, c.flat_names, c.size) == (scaling.names, scaling.flat_names, SIZE)
    theta = c.unpack(c.to_original(jnp.zeros(SIZE)))
    assert {name: value.shape for name, value in theta.items()} == {"a": (2,), "b": (), "c": ()}
    np.testing.assert_array_equal(c.pack(theta), c.to_original(jnp.zeros(SIZE)))
    w = jnp.array([0.3, -1.0, 0.5, 0.0])
    value = c.pullback(lambda theta: -(theta**2).sum())(w)
    pinned = -0.5 * float(jnp.log(2 * jnp.pi))  # z of what is pinned, at 0
    want = -(c.to_original(w) ** 2).sum() + c.log_det(w) + pinned
    np.testing.assert_allclose(value, want, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_both_priors_are_those_of_the_scaling(form, float64):
    """Densities of θ are the same as in the Scaling's own coordinates, whichever the prior."""
    c = coordinates(form)
    scaling, prior = c.base, declared_prior(SPACE)
    w = jnp.array([0.3, -1.0, 0.5, 0.7])
    z, log_det = c.to_base_and_log_det(w)
    for options in (
        {"prior": prior},
        {"prior": normal_prior()},
        {"prior": normal_prior(2.0)},
        {"prior": prior, "shards": 3},
    ):
        of_w, sites = log_density(sample_scaled, ("theta", c), options, {"theta_z": w})
        of_z, known = log_density(sample_scaled, ("theta", scaling), options, {"theta_z": z})
        shards = options.get("shards", 1)
        np.testing.assert_allclose(of_w, of_z + log_det / shards, rtol=1e-9)
        np.testing.assert_allclose(sites["a"]["value"], known["a"]["value"], rtol=1e-12)
    transform = ScalingTransform(c)
    theta = transform(w)
    np.testing.assert_allclose(transform.inv(theta)[:3], w[:3], rtol=1e-8)
    np.testing.assert_allclose(transform.log_abs_det_jacobian(w, theta), c.log_det(w), rtol=1e-12)
    assert transform.codomain(theta)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_starting_points(form):
    c = coordinates(form)
    start = init_to_original("theta", c, {"a": [0.2, 0.4], "b": 0.5})
    kernel = NUTS(lambda: sample_scaled("theta", c, prior=normal_prior()), init_strategy=start)
    w = kernel.init(jax.random.key(0), 1, None, (), {}).z["theta_z"]
    np.testing.assert_allclose(c.to_original(w)[:3], [0.2, 0.4, 0.5], rtol=1e-4)


@pytest.mark.slow
def test_the_posterior_is_that_of_the_scaling():
    """Means within 4 standard errors of 500 effective draws, of 2000 in each coordinates."""
    prior = declared_prior(SPACE)

    def model(c):
        theta = sample_scaled("theta", c, prior=prior)
        numpyro.sample("y", dist.Normal(theta["a"].sum() * theta["b"], 0.1), obs=0.4)

    draws = {}
    for c in (coordinates("dense"), coordinates("low rank"), coordinates("dense").base):
        mcmc = MCMC(NUTS(model, dense_mass=True), num_warmup=500, num_samples=2000,
                    progress_bar=False)  # fmt: skip
        mcmc.run(jax.random.key(0), c)
        draws[type(c)] = np.asarray(mcmc.get_samples()["a"])
    known = draws.pop(Scaling)
    for found in draws.values():
        error = known.std(0) / np.sqrt(500)
        assert (abs(found.mean(0) - known.mean(0)) < 4 * np.sqrt(2) * error).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: Whitened(s, 0.0, np.ones((SIZE, SIZE))), "lower-triangular"),
        (lambda s: Whitened(s, 0.0, np.eye(3)), r"factor: expected shape \(4, 4\); got \(3, 3\)"),
        (lambda s: Whitened(s, np.nan, np.eye(SIZE)), "loc: expected finite numbers"),
        (lambda s: Whitened(s, 0.0, -np.eye(SIZE)), "must be positive; got -1.0 for 'a_0'"),
        (lambda s: WhitenedLowRank(s, 0.0, 0.0), "scale must be positive; got 0.0 for 'a_0'"),
        (
            lambda s: WhitenedLowRank(s, 0.0, 1.0, np.ones((SIZE, 1)), [2.0]),
            "directions: expected orthonormal columns",
        ),
        (
            lambda s: WhitenedLowRank(s, 0.0, 1.0, np.eye(SIZE)[:, :1], [-1.0]),
            "stretch must be positive",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make(Scaling.from_space(SPACE))
