"""Rules: from bounds and declared priors to the center and scale of a Scaling.

NumPy and SciPy in float64, run once at construction, over groups and never over elements. A rule
chooses coordinates only; it must not know what they are used for. What the homodyne rule does to a
declared prior is said through `logging`, for those who take its coordinates for a prior.
"""

from __future__ import annotations

import logging
import math

from scipy import stats

from scalejax.priors import quantiles
from scalejax.space import Parameter, Prior

RULES = ("matched", "homodyne")

logger = logging.getLogger(__name__)


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
            center, scale = homodyne(low, high, mu, sigma)
            report_distortion(name, prior, center, scale, low, high)
            return center, scale, low, high
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


def report_distortion(
    name: str, prior: Prior | None, center: float, scale: float, low: float, high: float
) -> None:
    """Log a warning with what `distortions` finds, if it finds anything."""
    if found := distortions(prior, center, scale, low, high):
        logger.warning("parameter %s under the homodyne rule: %s", name, "; ".join(found))


def distortions(
    prior: Prior | None, center: float, scale: float, low: float, high: float
) -> list[str]:
    """In words, how far a normal z would be, between finite bounds, from the declared prior.

    That is, if θ at z = 0 is off the prior's median by more than half a sigma (of a LogNormal or
    Uniform prior, half the distance between its quantiles at ±1 standard deviation), or if the
    scale is above the declared sigma.
    """
    if prior is None:
        return []
    below, median, above = quantiles(prior, stats.norm.cdf([-1.0, 0.0, 1.0])).tolist()
    declares_sigma = prior.family in ("TruncatedNormal", "Normal", "BetaScaled")
    sigma = prior.sigma if declares_sigma and prior.sigma is not None else (above - below) / 2
    half = (high - low) / 2
    at_zero = low + half + half * math.tanh((center - low - half) / half)
    found = []
    if abs(at_zero - median) > sigma / 2:
        found.append(f"z = 0 is at {at_zero:.6g}, the declared prior's median at {median:.6g}")
    if prior.sigma is not None and scale > prior.sigma:
        found.append(f"the scale is {scale:.6g}, the declared sigma {prior.sigma:.6g}")
    return found


def matched(prior: Prior) -> tuple[float, float]:
    """Center and scale with which a standard normal z comes closest to a declared prior.

    z = 0 is the prior's median, and z = ±1 its quantiles at one standard deviation of a normal
    (15.87 % and 84.13 %) on average: with r(q) the quantile q carried back through the bounds,
    center = r(0.5) and scale = (r(0.8413) − r(0.1587))/2.

    Examples:
        >>> matched(Prior("Normal", 3.0, 0.5, -math.inf, math.inf))
        (3.0, 0.5)
    """
    below, median, above = quantiles(prior, stats.norm.cdf([-1.0, 0.0, 1.0])).tolist()
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
