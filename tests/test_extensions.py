"""The recipes for extending the library: what they add behaves as what is built in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scalejax import Group, Parameter, ParameterSpace, Scaling, Whitened
from scalejax.checks import assert_round_trip, assert_scaling
from scalejax.density import Density
from scalejax.families import FAMILIES
from scalejax.numpyro import declared_prior, sample_scaled
from tests.test_density import PRIORS
from tests.test_readme import ROOT, run_page

RECIPES = ROOT / "docs" / "pages" / "recipes"


def test_own_kind(float64):
    names = run_page(RECIPES / "own-kind.md")
    kind, scaling, space = names["SOFTPLUS"], names["scaling"], names["space"]
    assert kind in scaling.kinds
    assert_scaling(scaling)
    assert_round_trip(scaling)
    np.testing.assert_allclose(names["theta"]["width"], space.get_prior("width").ppf(0.5))
    z = jax.random.normal(jax.random.key(0), (20, 2))
    slope = jax.vmap(jax.jacfwd(scaling.to_original))(z)
    np.testing.assert_allclose(jnp.linalg.slogdet(slope)[1], scaling.log_det(z), rtol=1e-9)
    far = scaling.to_original(jnp.array([[-1e6, 0.0], [1e6, 0.0]]))
    assert (far[:, 0] > 0).all()
    with pytest.raises(ValueError, match="parameter 'width': center must be above the bound"):
        Scaling(-1.0, 1.0, 0.0, jnp.inf, groups=[Group("width", kind=kind)])


def test_own_rule():
    names = run_page(RECIPES / "own-rule.md")
    assert float(names["scaling"]["D0"].center[0]) == 3000.0
    assert float(names["scaling"]["D0"].scale[0]) == 300.0
    assert float(names["scaling"]["alpha"].scale[0]) == 1.0


def test_own_prior(float64):
    """Against SciPy: density, quantiles and draws of both, cut by their bounds."""
    names = run_page(RECIPES / "own-prior.md")
    known = [stats.halfcauchy(scale=5.0), stats.t(3, scale=2.0)]
    cuts = [(0.0, 100.0), (-50.0, 50.0)]
    mass = [d.cdf(high) - d.cdf(low) for d, (low, high) in zip(known, cuts, strict=True)]
    want = sum(d.logpdf(x) - np.log(m) for d, x, m in zip(known, [1.0, 0.0], mass, strict=True))
    np.testing.assert_allclose(names["log_density"], want, rtol=1e-9)
    draws = np.asarray(names["draws"])
    for column, d, (low, _), m in zip(draws.T, known, cuts, mass, strict=True):
        # Kolmogorov-Smirnov at the level 1e-3 for both together.
        pit = (d.cdf(column) - d.cdf(low)) / m
        assert stats.kstest(pit, "uniform").pvalue > 5e-4
    median = names["scaling"].to_original(jnp.zeros(2))
    np.testing.assert_allclose(names["prior"].icdf(0.5), median, rtol=1e-9, atol=1e-9)
    gradient = jax.grad(names["prior"].log_prob)(median)
    h = 1e-6
    for i, (d, x) in enumerate(zip(known, np.asarray(median), strict=True)):
        np.testing.assert_allclose(
            gradient[i], (d.logpdf(x + h) - d.logpdf(x - h)) / (2 * h), atol=1e-6
        )


def test_own_coordinates(float64):
    names = run_page(RECIPES / "own-coordinates.md")
    bent = names["bent"]
    z = jax.random.normal(jax.random.key(0), (20, 2))
    theta, log_det = bent.to_original_and_log_det(z)
    jacobian = jax.vmap(jax.jacfwd(bent.to_original))(z)
    np.testing.assert_allclose(jnp.linalg.slogdet(jacobian)[1], log_det, rtol=1e-9)
    np.testing.assert_allclose(bent.to_normalized(theta), z, rtol=1e-7, atol=1e-9)
    assert bent.root is names["scaling"]
    with pytest.raises(ValueError, match=r"to_base_and_log_det: expected shape \(…, 2\)"):
        bent.to_original(jnp.zeros(3))


def test_layers_stack(float64):
    """Whitened over Whitened over Scaling is the product of their maps, priors included."""
    space = ParameterSpace(a=Parameter(0, 1, mu=0.3, sigma=0.2), b=Parameter(2, 2),
                           c=Parameter(0, np.inf, mu=1, sigma=1))  # fmt: skip
    scaling = Scaling.from_space(space)
    first = Whitened(scaling, [0.1, 0.0, -0.2], np.diag([0.5, 1.0, 0.3]))
    factor = np.array([[1.2, 0, 0], [0, 1, 0], [0.4, 0, 0.8]])
    stack = Whitened(first, [0.3, 0.0, 0.0], factor)
    w = jax.random.normal(jax.random.key(0), (5, 3))
    by_hand = np.asarray(first.loc) + (np.asarray(stack.loc) + w @ factor.T) * np.diag(first.factor)
    root_z, log_det = stack.to_root_and_log_det(w)
    np.testing.assert_allclose(root_z, by_hand, rtol=1e-12)
    total = np.linalg.slogdet(factor)[1] + np.log(np.diag(first.factor)).sum()
    np.testing.assert_allclose(log_det, np.full(5, total), rtol=1e-12)
    np.testing.assert_allclose(stack.from_root(root_z), w, rtol=1e-9)
    np.testing.assert_allclose(stack.to_original(w), scaling.to_original(by_hand), rtol=1e-12)
    assert stack.root is scaling
    assert stack.pinned.tolist() == [False, True, False]
    prior = declared_prior(space)
    value = stack.pullback(prior.log_prob)(w[0])
    at_root = scaling.pullback(prior.log_prob)(root_z[0])
    np.testing.assert_allclose(value, at_root + total, rtol=1e-12)
    from numpyro.infer.util import log_density

    found, _ = log_density(sample_scaled, ("t", stack), {"prior": prior}, {"t_z": w[0]})
    np.testing.assert_allclose(found, value, rtol=1e-12)


# What NumPy says of each declared family: (parameter, SciPy's distribution before the cut).
DECLARED = {
    "HalfNormal": (Parameter(0, 9, sigma=2.0, family="HalfNormal"), stats.halfnorm(scale=2.0)),
    "LogUniform": (Parameter(1e-3, 1e2, family="LogUniform"), stats.loguniform(1e-3, 1e2)),
    "Gamma": (
        Parameter(0.5, 7, mu=3.0, sigma=1.5, family="Gamma"),
        stats.gamma(4.0, scale=0.75),
    ),
    "Gamma, whole": (
        Parameter(0, np.inf, mu=0.2, sigma=0.3, family="Gamma"),
        stats.gamma(4 / 9, scale=0.45),
    ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_declared_families(name, dtype):
    parameter, whole = DECLARED[name]
    space = ParameterSpace(x=parameter)
    density = Density.from_space(space)
    below, above = whole.cdf(parameter.low), whole.cdf(parameter.high)
    q = np.linspace(0.001, 0.999, 31)
    theta = whole.ppf(below + (above - below) * q)
    rtol = {"float32": 3e-5, "float64": 1e-9}[dtype]
    found = density.log_prob(jnp.asarray(theta)[:, None])[:, 0]
    at = np.asarray(jnp.asarray(theta), float)
    np.testing.assert_allclose(
        found, whole.logpdf(at) - np.log(above - below), rtol=rtol, atol=rtol
    )
    np.testing.assert_allclose(density.quantile(jnp.asarray(q)[:, None])[:, 0], theta, rtol=rtol)
    np.testing.assert_allclose(space.get_prior("x").ppf(q), theta, rtol=1e-9)
    draws = np.asarray(density.sample(jax.random.key(0), (2000,)), float)[:, 0]
    assert ((draws > parameter.low) & (draws < parameter.high)).all()
    pit = (whole.cdf(draws) - below) / (above - below)
    assert stats.kstest(pit, "uniform").pvalue > 1e-3
    scaling = Scaling.from_space(space)
    np.testing.assert_allclose(
        whole.cdf(scaling.to_original(jnp.zeros(1))), (below + above) / 2, rtol=10 * rtol
    )
    jitted = jax.jit(jax.vmap(density.sample))(jax.random.split(jax.random.key(1)))
    assert jitted.shape == (2, 1)


def test_every_family_has_a_test():
    tested = {parameter.family for parameter, _ in (*DECLARED.values(), *PRIORS.values())}
    assert tested == set(FAMILIES)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (Parameter(0, 1, mu=0.5, family="HalfNormal"), "a HalfNormal prior needs sigma; got mu"),
        (Parameter(0, 1, family="LogUniform"), "a LogUniform prior needs bounds that are positive"),
        (Parameter(-1, 1, family="LogUniform"), "a LogUniform prior needs bounds that are positi"),
        (Parameter(0, 1, -1.0, 1.0, "Gamma"), "a Gamma prior needs a positive mu; got mu = -1"),
        (Parameter(9, 10, 1.0, 0.1, "Gamma"), "needs 1e-6 of its mass within the bounds; got"),
        (Parameter(0, 1, mu=0.0, family=stats.norm()), "has its numbers itself; got mu = 0.0"),
        (Parameter(0, 1, family=3.0), "family must be a name, or an object with logpdf and ppf"),
        (Parameter(50, 60, family=stats.norm()), "needs 1e-6 of its mass within the bounds"),
        (Parameter(0, 1, kind="lgo"), "kind: expected one of interval, lower, .* got 'lgo'"),
    ],
)
def test_refusals(parameter, message):
    with pytest.raises(ValueError, match=f"parameter 'x': .*{message}"):
        ParameterSpace(x=parameter)


def test_families_that_jax_cannot_trace():
    class NumPyOnly:
        def logpdf(self, x):
            return np.log(np.asarray(x) * 2)

        def ppf(self, q):
            return np.sqrt(q)

    def untraceable(x):
        raise TypeError("not for JAX")

    only = NumPyOnly()
    only.logpdf = untraceable
    with pytest.raises(ValueError, match="parameter 'x': expected a family whose logpdf JAX can"):
        Density.from_space(ParameterSpace(x=Parameter(0.1, 1, family=only)))
    with pytest.raises(ValueError, match=r"jax\.scipy\.stats has no logpdf of 'levy_stable'"):
        Density.from_space(ParameterSpace(x=Parameter(0, 1, family=stats.levy_stable(1.5, 0))))
