"""The rule of homodyne's scaling module, and what it does to declared priors.

What it does is said through `logging`, for those who take its coordinates for a prior.
"""

from __future__ import annotations

import logging
import math

from scalejax.families import Prior
from scalejax.rules import matched
from scalejax.space import Parameter, ParameterSpace

logger = logging.getLogger(__name__)


def homodyne(parameter: Parameter) -> tuple[float, float, float, float]:
    """Center, scale and bounds of a parameter as homodyne's scaling module has them.

    The rule is in terms of a finite range. Where there is none, `matched` serves both.

    **Raises** `ValueError` for an infinite bound and no prior.

    Examples:
        >>> from scalejax import Parameter
        >>> from scalejax.xpcs.homodyne import homodyne
        >>> homodyne(Parameter(100.0, 100000.0, mu=1000.0, sigma=1000.0))
        (1000.0, 9990.0, 100.0, 100000.0)
    """
    low, high = parameter.low, parameter.high
    if parameter.pinned or not math.isfinite(high - low):
        return matched(parameter)
    return *center_and_scale(low, high, parameter.mu, parameter.sigma), low, high


def center_and_scale(
    low: float, high: float, mu: float | None, sigma: float | None
) -> tuple[float, float]:
    """Center and scale as homodyne's scaling module has them, for finite bounds.

    center = mu or the midpoint; scale = max(sigma or range/4, range/10, 1e-6).

    Examples:
        >>> from scalejax.xpcs.homodyne import center_and_scale
        >>> center_and_scale(100.0, 100000.0, 1000.0, 1000.0)
        (1000.0, 9990.0)
    """
    center = (low + high) / 2 if mu is None else mu
    scale = (high - low) / 4 if sigma is None else sigma
    return center, max(scale, (high - low) / 10, 1e-6)


def report_distortions(space: ParameterSpace) -> None:
    """Log a warning for each declared prior that a normal z would distort under this rule."""
    for name, parameter in space.items():
        _log(name, distortions_of(parameter))


def distortions_of(parameter: Parameter) -> list[str]:
    """What this rule would make of a declared prior with a normal z, in words."""
    if parameter.pinned or not math.isfinite(parameter.high - parameter.low):
        return []
    return distortions(parameter.prior, *homodyne(parameter))


def report_distortion(
    name: str, prior: Prior | None, center: float, scale: float, low: float, high: float
) -> None:
    """Log a warning with what `distortions` finds, if it finds anything."""
    _log(name, distortions(prior, center, scale, low, high))


def _log(name: str, found: list[str]) -> None:
    if found:
        logger.warning("parameter %s under the homodyne rule: %s", name, "; ".join(found))


def distortions(
    prior: Prior | None, center: float, scale: float, low: float, high: float
) -> list[str]:
    """In words, how far a normal z would be, between finite bounds, from the declared prior.

    That is, if θ at z = 0 is off the prior's median by more than half a sigma (of a LogNormal or
    Uniform prior, half the distance between its quantiles at ±1 standard deviation), or if the
    scale is above the declared sigma.
    """
    from scipy import stats

    if prior is None:
        return []
    below, median, above = prior.ppf(stats.norm.cdf([-1.0, 0.0, 1.0])).tolist()
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


RULES = {"matched": matched, "homodyne": homodyne}
"""By name, as the command line and saved settings have them."""
