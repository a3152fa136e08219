"""Declared priors in numbers: against SciPy and arbitrary precision, for priors cut hard too."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.density import Density
from tests.oracle import mpmath

inf = np.inf

# A prior, and its distribution in SciPy's words.
PRIORS = {
    "cut": (Parameter(0, 1, mu=0.3, sigma=0.4), stats.truncnorm(-0.75, 1.75, 0.3, 0.4)),
    "one-sided": (Parameter(0, inf, mu=0.3, sigma=0.4), stats.truncnorm(-0.75, inf, 0.3, 0.4)),
    "from above": (Parameter(-inf, 2, mu=3, sigma=2), stats.truncnorm(-inf, -0.5, 3, 2)),
    "normal": (Parameter(-inf, inf, mu=3, sigma=2, family="Normal"), stats.norm(3, 2)),
    "uniform": (Parameter(-1, 3, family="Uniform"), stats.uniform(-1, 4)),
    "no prior": (Parameter(2, 4), stats.uniform(2, 2)),
    "log-normal": (
        Parameter(0, inf, mu=-1, sigma=0.7, family="LogNormal"),
        stats.lognorm(0.7, scale=np.exp(-1)),
    ),
    "beta": (
        Parameter(-1, 3, mu=0, sigma=0.8, family="BetaScaled"),
        stats.beta(0.9218750, 2.765625, -1, 4),
    ),
    "narrower than the bounds": (
        Parameter(0, 1, mu=0.1, sigma=0.2, prior_low=0.05, prior_high=0.5),
        stats.truncnorm(-0.25, 2, 0.1, 0.2),
    ),
    "mu on a bound": (Parameter(0, 1, mu=0, sigma=0.1), stats.truncnorm(0, 10, 0, 0.1)),
    "mu far outside": (Parameter(0, 1, mu=-3, sigma=0.1), stats.truncnorm(30, 40, -3, 0.1)),
    "mu beyond": (Parameter(0, 1, mu=9, sigma=0.5), stats.truncnorm(-18, -16, 9, 0.5)),
    "wide sigma": (Parameter(0, 1, mu=5, sigma=1e3), stats.truncnorm(-5e-3, -4e-3, 5, 1e3)),
}  # fmt: skip
NAMES = list(PRIORS)


def density(name):
    return Density.from_space(ParameterSpace({"x": PRIORS[name][0]}))


def together():
    """All of them side by side, and one that is pinned."""
    space = {f"p{i}": parameter for i, (parameter, _) in enumerate(PRIORS.values())}
    return Density.from_space(ParameterSpace(space, pinned=Parameter(7, 7)))


def test_log_density(dtype):
    """Each alone and all together, at quantiles of SciPy's distribution."""
    q = np.linspace(0.001, 0.999, 25)
    theta = np.stack([known.ppf(q) for _, known in PRIORS.values()] + [np.full(25, 7.0)], axis=-1)
    theta = jnp.asarray(theta)
    found = together().log_prob(theta)
    assert found.dtype == dtype
    tolerance = {"float32": 2e-5, "float64": 1e-9}[dtype]
    for i, (name, (_, known)) in enumerate(PRIORS.items()):
        # At the number that was asked about: in single precision it is not the quantile itself.
        want = known.logpdf(np.asarray(theta[:, i], float))
        np.testing.assert_allclose(found[:, i], want, rtol=tolerance, atol=tolerance, err_msg=name)
        alone = density(name).log_prob(theta[:, i, None])[:, 0]
        np.testing.assert_allclose(alone, found[:, i], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found[:, -1], 0)


@pytest.mark.parametrize("name", ["mu far outside", "mu beyond", "wide sigma"])
def test_log_density_of_priors_cut_hard_in_single_precision(name):
    """Nothing cancels: to 2·10⁻⁵ of the logarithm, or in absolute terms, of 50 digits' value."""
    p, _ = PRIORS[name]
    theta = np.linspace(0.001, 0.999, 11, dtype=np.float32)
    found = density(name).log_prob(theta[:, None])[:, 0]
    mu, sigma = mpmath.mpf(p.mu), mpmath.mpf(p.sigma)
    norm = mpmath.quad(lambda x: mpmath.npdf(x, mu, sigma), [0, 0.01, 0.1, 0.9, 0.99, 1])
    want = [float(mpmath.log(mpmath.npdf(mpmath.mpf(float(x)), mu, sigma) / norm)) for x in theta]
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)


def test_off_the_support(dtype):
    """−inf, with gradient 0 and not NaN; a pinned element has density 1 wherever it is."""
    found = together()
    for at in (-1e6, 1e6):
        theta = jnp.full(len(found.low), at)
        value = found.log_prob(theta)
        unbounded = np.asarray((found.low <= at) & (at <= found.high))
        assert (np.isneginf(value) | unbounded | (found.low == found.high)).all()
        assert value[-1] == 0
        gradient = jax.grad(lambda x: jnp.where(jnp.isfinite(found.log_prob(x)), x, 0).sum())(theta)
        assert np.isfinite(gradient).all()
    assert found.log_prob(jnp.zeros(len(found.low)))[NAMES.index("log-normal")] == -inf


def test_gradient(dtype):
    """That of SciPy's log-density by central differences; none is NaN beside those of others."""
    q = np.array([0.1, 0.5, 0.9])[:, None]
    theta = np.concatenate([[known.ppf(q[:, 0]) for _, known in PRIORS.values()], [[7.0] * 3]]).T
    gradient = jax.vmap(jax.grad(lambda x: together().log_prob(x).sum()))(jnp.asarray(theta))
    for i, (name, (_, known)) in enumerate(PRIORS.items()):
        at = theta[:, i]
        step = 1e-5 * (known.ppf(0.75) - known.ppf(0.25))
        want = (known.logpdf(at + step) - known.logpdf(at - step)) / (2 * step)
        spread = 1 / (known.ppf(0.75) - known.ppf(0.25))
        np.testing.assert_allclose(
            gradient[:, i], want, rtol=1e-3, atol=1e-4 * spread, err_msg=name
        )
    np.testing.assert_array_equal(gradient[:, -1], 0)


@pytest.mark.parametrize("name", NAMES)
def test_quantile(name, dtype):
    """SciPy's distribution function takes the quantiles back to q."""
    found, (_, known) = density(name), PRIORS[name]
    q = np.concatenate([[1e-6], np.linspace(0.001, 0.999, 41), [1 - 1e-6]])
    theta = np.asarray(found.quantile(q[:, None]))[:, 0]
    assert theta.dtype == dtype
    assert ((theta > found.low[0]) & (theta < found.high[0])).all()
    tolerance = {"float32": 5e-5, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(known.cdf(theta.astype(float)), q, atol=tolerance)


@settings(max_examples=60)
@given(
    left=st.floats(-60, 60),
    width=st.floats(-6, 3).map(lambda x: 10**x),
    scale=st.floats(-6, 6).map(lambda x: 10**x),
)
def test_quantiles_of_normals_cut_anywhere(left, width, scale):
    """In double precision, θ at the quantile q has the fraction q of the prior below it.

    The fraction is worked out in 60 digits; that of θ rounded to a float is allowed for.
    """
    with jax.enable_x64(True):
        low, high = left * scale, (left + width) * scale
        space = ParameterSpace(x=Parameter(low, high, mu=0.0, sigma=scale))
        q = np.array([0.01, 0.3, 0.5, 0.9])
        theta = np.asarray(Density.from_space(space).quantile(q[:, None]))[:, 0]
        assert (np.diff(theta) >= 0).all()
        spacing = 8 * np.spacing(max(abs(low), abs(high)))
        for value, fraction in zip(theta, q, strict=True):
            below, whole = mass(low, value, scale), mass(low, high, scale)
            slope = mpmath.npdf(mpmath.mpf(value) / scale) / scale / whole
            assert abs(below / whole - fraction) < 1e-7 + slope * spacing


def mass(a, b, scale):
    """Of Normal(0, scale) between a and b; on the side where the terms are small."""
    a, b = mpmath.mpf(float(a)) / mpmath.mpf(scale), mpmath.mpf(float(b)) / mpmath.mpf(scale)
    a, b = (-b, -a) if a > 0 else (a, b)
    return mpmath.ncdf(b) - mpmath.ncdf(a)


@pytest.mark.parametrize("sigma", [0.1, 1e-2, 1e-3, 1e-4])
def test_narrow_betas_in_single_precision(sigma):
    """Exponents up to 10⁷: to 2·10⁻⁵, beyond what rounding θ itself does, at SciPy's quantiles."""
    space = ParameterSpace(x=Parameter(0, 1, mu=0.3, sigma=sigma, family="BetaScaled"))
    total = 0.3 * 0.7 / sigma**2 - 1
    known = stats.beta(0.3 * total, 0.7 * total)
    theta = np.asarray(known.ppf(np.linspace(0.01, 0.99, 21)), np.float32)
    found = Density.from_space(space).log_prob(theta[:, None])[:, 0]
    want = known.logpdf(theta.astype(float))
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5 + 3e-8 / sigma)


def test_derivative_of_the_quantile(float64):
    """dθ/dq is one over the density, and is itself differentiable."""
    found = density("cut")

    def at(q):
        return found.quantile(q[None])[0]

    for q in (0.1, 0.7):
        h = 1e-5
        first = (at(jnp.array(q + h)) - at(jnp.array(q - h))) / (2 * h)
        np.testing.assert_allclose(jax.grad(at)(jnp.array(q)), first, rtol=1e-6)
        gradient = jax.grad(at)
        second = (gradient(jnp.array(q + h)) - gradient(jnp.array(q - h))) / (2 * h)
        np.testing.assert_allclose(jax.grad(gradient)(jnp.array(q)), second, rtol=1e-6)


def test_quantiles_outside_the_unit_interval_are_nan():
    assert np.isnan(density("normal").quantile(jnp.array([[-0.1], [1.1], [np.nan]]))).all()


def test_draws(dtype):
    """They follow SciPy's distributions: Kolmogorov–Smirnov, together at the level 10⁻³."""
    draws = np.asarray(together().sample(jax.random.key(0), (4000,)))
    found = together()
    assert ((draws[:, :-1] > found.low[:-1]) & (draws[:, :-1] < found.high[:-1])).all()
    np.testing.assert_array_equal(draws[:, -1], 7)
    for i, (name, (_, known)) in enumerate(PRIORS.items()):
        p_value = stats.kstest(draws[:, i].astype(float), known.cdf).pvalue
        assert p_value > 1e-3 / len(PRIORS), name


def test_the_computation_does_not_grow():
    """As many operations for 30 parameters as for 10 000."""

    def operations(width):
        space = ParameterSpace({n: replace(p, dim="k") for n, (p, _) in PRIORS.items()})
        wide = Density.from_space(space.sized(k=width))
        jaxpr = jax.make_jaxpr(lambda x: wide.log_prob(x).sum())(jnp.zeros(width * len(space)))
        return len(jaxpr.eqns)

    assert operations(3) == operations(1000)


@pytest.mark.parametrize("name", NAMES)
def test_matched_scalings(name):
    """z = 0 at the median and z = ±1 at the quantiles on average, by SciPy's distribution."""
    parameter, known = PRIORS[name]
    if name == "no prior":
        return
    with jax.enable_x64(True):
        scaling = Scaling.from_space(ParameterSpace({"x": parameter}))
        median = scaling.to_original(jnp.zeros(1))[0]
        z = np.ravel(scaling.to_normalized(known.ppf(stats.norm.cdf([[-1.0], [1.0]]))))
    assert abs(known.cdf(median) - 0.5) < 1e-6
    np.testing.assert_allclose(z[1] - z[0], 2, rtol=1e-5)


@given(
    low=st.sampled_from([0.0, -1.0, 1e-6, 100.0]),
    width=st.sampled_from([1e-3, 1.0, 1e5]),
    away=st.floats(-30, 30),
    sigma=st.floats(-4, 12).map(lambda x: 10**x),
    one_sided=st.booleans(),
)
def test_matched_scalings_of_priors_cut_hard_are_sensible(low, width, away, sigma, one_sided):
    """mu at or outside a bound, sigma far above or below the range: still of the prior's size."""
    mu, sigma = low + away * width, sigma * width
    if one_sided and sigma > 1e6 * width:
        return  # on half a line such a prior is no prior
    parameter = Parameter(low, inf if one_sided else low + width, mu=mu, sigma=sigma)
    if abs(away) * width > 1e3 * sigma:
        return  # where nothing is left of it
    with jax.enable_x64(True):
        scaling = Scaling.from_space(ParameterSpace(x=parameter))
        below, median, above = np.ravel(scaling.to_original(jnp.array([[-1.0], [0.0], [1.0]])))
    quarter = parameter.prior.ppf([0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(median, quarter[2], rtol=1e-6)
    assert quarter[0] <= below < quarter[2] < above <= quarter[4]
