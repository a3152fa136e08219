"""A distribution of one's own, and its restriction to an interval.

NumPy and SciPy in float64; SciPy is imported when the first number is asked for.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Distribution(Protocol):
    """What a family of one's own has to offer, such as a frozen distribution of scipy.stats.

    `logpdf` is traced by JAX, so it is written in `jax.numpy`; of a frozen distribution of
    scipy.stats its namesake in jax.scipy.stats stands in. `ppf` is called with NumPy arrays. Where
    there is a `cdf` it is used; where there is none, `ppf` is inverted.
    """

    def logpdf(self, x: Any, /) -> Any:
        """The log-density at x."""
        ...

    def ppf(self, q: Any, /) -> Any:
        """The quantile q."""
        ...


class Cut:
    """A distribution restricted to (low, high), with `logpdf` and `ppf`; `mass` is what is left.

    Examples:
        >>> import numpy as np
        >>> from scipy import stats
        >>> from scalejax.cut import Cut
        >>> upper = Cut(stats.norm(), 0.0, np.inf)
        >>> upper.mass, upper.ppf(np.array(0.5)).round(4)
        (0.5, np.float64(0.6745))
    """

    def __init__(self, whole: Distribution, low: float, high: float):
        self.whole = whole
        self.below, above = (_cdf(whole, x) for x in (low, high))
        self.mass = above - self.below

    def ppf(self, q: np.ndarray) -> np.ndarray:
        """The quantiles q."""
        return np.asarray(self.whole.ppf(self.below + self.mass * q), np.float64)

    def logpdf(self, x: Any) -> np.ndarray:
        """The log-density, for x in the interval."""
        return np.asarray(self.whole.logpdf(x), np.float64) - math.log(self.mass)


def _cdf(whole: Distribution, x: float) -> float:
    if math.isinf(x):
        return float(x > 0)
    if cdf := getattr(whole, "cdf", None):
        return float(cdf(np.float64(x)))
    from scipy.optimize import brentq

    def rise(q: float) -> float:
        return float(np.asarray(whole.ppf(np.array(q)))) - x

    ends = float(np.asarray(whole.ppf(np.array(0.0)))), float(np.asarray(whole.ppf(np.array(1.0))))
    if not ends[0] < x:
        return 0.0
    if not x < ends[1]:
        return 1.0
    found: Any = brentq(rise, 1e-300, 1 - 2.0**-53, xtol=1e-15)
    return float(found)
