"""Rules against reference values by quadrature and root finding, not by the code's own means."""

import math

import numpy as np
import pytest

from scalejax import Parameter, ParameterSpace, Prior, Scaling
from scalejax.rules import matched
from scalejax.xpcs.homodyne import center_and_scale, homodyne
from tests.oracle import mpmath

inf = math.inf

# family, mu, sigma, low, high
PRIORS = [
    Prior("TruncatedNormal", 0.06, 0.05, 0.0, 0.5),
    Prior("TruncatedNormal", 1000.0, 1000.0, 100.0, 1e5),
    Prior("TruncatedNormal", 0.0, 150.0, -1e5, 1e5),
    Prior("TruncatedNormal", 0.01, 0.1, 1e-6, 0.5),
    Prior("TruncatedNormal", 3.0, 0.5, 0.0, 1.0),
    Prior("Normal", -1.2, 0.3, -2.0, 2.0),
    Prior("Normal", 1.0, 2.0, 0.0, inf),
    Prior("Normal", 1.0, 2.0, -inf, 0.0),
    Prior("Normal", 1.0, 2.0, -inf, inf),
    Prior("Uniform", None, None, -3.0, 5.0),
    Prior("LogNormal", -4.6, 1.0, 0.0, inf),
    Prior("LogNormal", 0.0, 0.5, 0.5, 3.0),
    Prior("BetaScaled", 0.3, 0.1, 0.0, 1.0),
    Prior("BetaScaled", -1.0, 0.7, -2.0, 2.0),
]


def declared(prior):
    return Parameter(prior.low, prior.high, prior.mu, prior.sigma, prior.family)


def density(prior):
    """The unnormalized density, from its definition."""
    mu, sigma = prior.mu, prior.sigma
    if prior.family == "Uniform":
        return lambda x: mpmath.mpf(1)
    if prior.family == "LogNormal":
        return lambda x: mpmath.exp(-(((mpmath.log(x) - mu) / sigma) ** 2) / 2) / x if x else 0
    if prior.family == "BetaScaled":
        width = mpmath.mpf(prior.high - prior.low)
        mean, sd = (mu - prior.low) / width, sigma / width
        total = mean * (1 - mean) / sd**2 - 1
        a, b = mean * total, (1 - mean) * total
        return lambda x: (
            ((x - prior.low) / width) ** (a - 1) * ((prior.high - x) / width) ** (b - 1)
        )
    return lambda x: mpmath.exp(-(((x - mu) / sigma) ** 2) / 2)


@pytest.mark.parametrize("prior", PRIORS, ids=str)
@pytest.mark.parametrize("q", [0.1587, 0.5, 0.8413])
def test_quantiles_by_quadrature(prior, q):
    """The share of the density below a quantile is q."""
    (x,) = prior.ppf([q])
    f = density(prior)
    low, high = prior.low, prior.high
    # Cut where the integrand is, so that the quadrature sees it.
    mu, sigma = (prior.mu, prior.sigma) if prior.mu is not None else ((low + high) / 2, 1.0)
    if prior.family == "LogNormal":
        cuts = [math.exp(mu + k * sigma) for k in range(-8, 9)]
    else:
        cuts = [mu + k * sigma for k in range(-8, 9)]
    below = sorted({max(low, cuts[0]), *(c for c in cuts if low < c < x), x})
    above = sorted({x, *(c for c in cuts if x < c < high), min(high, max(cuts[-1], x))})
    mass = [mpmath.quad(f, part) for part in (below, above)]
    assert abs(float(mass[0] / (mass[0] + mass[1])) - q) < 1e-7


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_matched_meets_the_quantiles(prior, float64):
    """θ(0) is the median; in the coordinate before the bound, ±1 are the quantiles on average."""
    scaling = Scaling(*(np.array([v]) for v in matched(declared(prior))))
    below, median, above = prior.ppf([0.15865525393145707, 0.5, 0.8413447460685429])
    np.testing.assert_allclose(
        scaling.to_original(np.array([0.0]))[0], median, rtol=1e-12, atol=1e-12
    )
    z = [float(scaling.to_normalized(np.array([v]))[0]) for v in (below, above)]
    assert z[0] < 0 < z[1]
    np.testing.assert_allclose(z[1] - z[0], 2.0, rtol=1e-10)


def test_matched_without_a_prior():
    assert matched(Parameter(0, 8)) == (4.0, 2.0, 0.0, 8.0)


def test_homodyne():
    assert center_and_scale(0.0, 1.0, 0.06, 0.05) == (0.06, 0.1)
    assert center_and_scale(-2.0, 2.0, None, None) == (0.0, 1.0)
    assert center_and_scale(0.0, 1e-7, None, None) == (5e-8, 1e-6)


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("prior", [{}, {"mu": 0.3, "sigma": 0.2}, {"mu": 0.9, "sigma": 0.02}])
def test_matched_does_not_depend_on_units(unit, prior):
    """The same parameter in other units has the same center and scale in these units."""
    one = matched(Parameter(0.01, 1.0, **prior))
    scaled = {name: unit * value for name, value in prior.items()}
    other = matched(Parameter(0.01 * unit, unit, **scaled))
    np.testing.assert_allclose(np.array(other) / unit, one, rtol=1e-9)


def test_where_the_homodyne_rule_has_no_range_matched_serves():
    noise = Parameter(0.0, inf, math.log(0.01), 1.0, "LogNormal")
    assert homodyne(noise) == matched(noise)
    np.testing.assert_allclose(matched(noise)[:2], (0.01, 0.01), rtol=1e-12)


def test_the_prior_range_bounds_matched_coordinates_only():
    parameter = Parameter(0, 1, 0.06, 0.05, prior_high=0.5)
    assert matched(parameter)[2:] == (0.0, 0.5)
    assert homodyne(parameter) == (0.06, 0.1, 0.0, 1.0)


@pytest.mark.parametrize("bounds", [(0, inf), (-inf, 0), (-inf, inf)])
def test_no_scale_without_a_prior(bounds):
    with pytest.raises(ValueError, match=r"parameter 'a': bounds .* alone set no scale"):
        Scaling.from_space(ParameterSpace(a=Parameter(*bounds)))
