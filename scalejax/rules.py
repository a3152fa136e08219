"""Rules: from bounds and a declared prior to the center and scale of a Scaling.

A rule is any callable `Parameter -> (center, scale, low, high)`, in physical units. It runs once at
construction, in float64, over groups and never over elements. It chooses coordinates only; it must
not know what they are used for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np

from scalejax import bounds
from scalejax.families import Prior
from scalejax.space import Parameter

Rule = Callable[[Parameter], tuple[float, float, float, float]]


def matched(parameter: Parameter) -> tuple[float, float, float, float]:
    """Center and scale with which a standard normal z comes closest to the declared prior.

    z = 0 is the prior's median, and z = ±1 its quantiles at one standard deviation of a normal
    (15.87 % and 84.13 %) on average; the bounds are those of the prior's support. Without a prior
    they are the median and the quantiles 26.9 % and 73.1 % of a flat one, which of an interval is
    the midpoint and a quarter of the range. Nothing in it depends on units.

    **Raises** `ValueError` for an infinite bound and no prior, which set no scale.

    Examples:
        >>> import math
        >>> from scalejax import Parameter
        >>> from scalejax.rules import matched
        >>> matched(Parameter(-math.inf, math.inf, mu=3.0, sigma=0.5))
        (3.0, 0.5, -inf, inf)
        >>> matched(Parameter(0.0, 8.0))
        (4.0, 2.0, 0.0, 8.0)
    """
    low, high, prior = parameter.low, parameter.high, parameter.prior
    if parameter.pinned:
        return low, 1.0, low, high
    if prior is None and not math.isfinite(high - low):
        raise ValueError(
            f"bounds ({low}, {high}) alone set no scale; declare a prior (mu and sigma)"
        )
    if prior is None:
        tail = 1 / (1 + math.e)
        prior = Prior("Uniform", None, None, low, high)
    else:
        tail = 0.15865525393145707  # of a standard normal, below −1
    below, median, above = prior.ppf([tail, 0.5, 1 - tail]).tolist()
    kind = _kind(parameter, prior)
    center = kind.center_at(median, prior.low, prior.high)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        values = (np.array([below, above]), center, 1.0, prior.low, prior.high)
        below, above = np.asarray(bounds.inverse(*values, kinds=(kind,))).tolist()
    return center, (above - below) / 2, prior.low, prior.high


def _kind(parameter: Parameter, prior: Prior) -> bounds.Kind:
    if parameter.kind is not None:
        return bounds.as_kind(parameter.kind)
    masks = bounds.kind_masks(np.array(prior.low), np.array(prior.high))
    return next(kind for kind, mask in masks.items() if mask)
