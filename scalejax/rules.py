"""Rules: from bounds and declared priors to the center and scale of a Scaling.

NumPy and SciPy in float64, run once at construction, over groups and never over elements. A rule
chooses coordinates only; it must not know what they are used for.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from scalejax.space import Parameter, Prior

RULES = ("matched", "homodyne")


def factors(name: str, parameter: Parameter, rule: str) -> tuple[float, float, float, float]:
    """(center, scale, low, high) of one parameter under a rule.

    Under `matched` the bounds are those of the declared prior's support, where it is narrower than
    those of the parameter; under `homodyne` they are the parameter's.

    **Raises** `ValueError` for a rule that there is not, and for a parameter with an infinite
    bound and no prior, which has no scale.
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}; got {rule!r}")
    low, high, prior = parameter.low, parameter.high, parameter.prior
    if parameter.pinned:
        return low, 1.0, low, high
    if math.isfinite(high - low):
        if rule == "homodyne" or prior is None:
            mu, sigma = (None, None) if prior is None else (prior.mu, prior.sigma)
            return *homodyne(low, high, mu, sigma), low, high
    elif prior is None:
        raise ValueError(
            f"parameter {name!r}: bounds ({low}, {high}) alone set no scale; declare a prior "
            "(mu and sigma)"
        )
    # The homodyne rule is in terms of a finite range. Where there is none, `matched` serves both.
    assert prior is not None
    return *matched(prior), prior.low, prior.high


def homodyne(low: float, high: float, mu: float | None, sigma: float | None) -> tuple[float, float]:
    """Center and scale as homodyne's scaling module has them, for finite bounds.

    center = mu or the midpoint; scale = max(sigma or range/4, range/10, 1e-6).

    Examples:
        >>> homodyne(100.0, 100000.0, 1000.0, 1000.0)
        (1000.0, 9990.0)
    """
    center = (low + high) / 2 if mu is None else mu
    scale = (high - low) / 4 if sigma is None else sigma
    return center, max(scale, (high - low) / 10, 1e-6)


def matched(prior: Prior) -> tuple[float, float]:
    """Center and scale with which a standard normal z comes closest to a declared prior.

    z = 0 is the prior's median, and z = ±1 its quantiles at one standard deviation of a normal
    (15.87 % and 84.13 %) on average: with r(q) the quantile q carried back through the bounds,
    center = r(0.5) and scale = (r(0.8413) − r(0.1587))/2.

    Examples:
        >>> matched(Prior("Normal", 3.0, 0.5, -math.inf, math.inf))
        (3.0, 0.5)
    """
    below, median, above = quantiles(prior, stats.norm.cdf([-1.0, 0.0, 1.0]))
    low, high = prior.low, prior.high
    if math.isfinite(low) and math.isfinite(high):
        # The inverse of mid + half·tanh((r − mid)/half).
        quarter = (high - low) / 4
        raw = [quarter * math.log((q - low) / (high - q)) for q in (below, median, above)]
        return (low + high) / 2 + raw[1], (raw[2] - raw[0]) / 2
    if math.isfinite(low):
        return median, (median - low) * math.log((above - low) / (below - low)) / 2
    if math.isfinite(high):
        return median, (high - median) * math.log((high - below) / (high - above)) / 2
    return median, (above - below) / 2


def quantiles(prior: Prior, q) -> list[float]:
    """The quantiles of a declared prior, strictly inside its support."""
    low, high, mu, sigma = prior.low, prior.high, prior.mu, prior.sigma
    if prior.family == "Uniform":
        values = stats.uniform.ppf(q, low, high - low)
    elif prior.family == "BetaScaled":
        assert mu is not None and sigma is not None
        # The beta distribution with this mean and standard deviation, by its moments.
        mean = (mu - low) / (high - low)
        concentration = (mu - low) * (high - mu) / sigma**2 - 1
        values = stats.beta.ppf(
            q, mean * concentration, (1 - mean) * concentration, low, high - low
        )
    elif prior.family == "LogNormal":
        with np.errstate(divide="ignore"):
            values = np.exp(_truncated_normal(q, mu, sigma, np.log(low), np.log(high)))
    else:
        values = _truncated_normal(q, mu, sigma, low, high)
    return [float(v) for v in np.clip(values, np.nextafter(low, high), np.nextafter(high, low))]


def _truncated_normal(q, mu, sigma, low, high):
    return stats.truncnorm.ppf(q, (low - mu) / sigma, (high - mu) / sigma, mu, sigma)
