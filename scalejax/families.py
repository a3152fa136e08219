"""Families of declared priors: a table of those with a name, and any distribution besides.

A family is what a prior is before its support is cut. Everything here is in float64, by SciPy,
which is imported when the first number is asked for. It knows no arrays of JAX and no Scaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from scalejax.cut import Cut, Distribution

INF = math.inf


@dataclass(frozen=True)
class Prior:
    """A declared prior: a family with its numbers, restricted to (low, high).

    `mu` and `sigma` are those of the normal distribution before it is cut (TruncatedNormal,
    Normal), of log θ (LogNormal), or mean and standard deviation before it is cut (Gamma), or on
    the bounds (BetaScaled, a beta distribution stretched over them). A HalfNormal is a normal
    distribution about 0 with `sigma`, above 0. A Uniform and a LogUniform need neither. `family` is
    the name of one of `FAMILIES`, or any `Distribution`, which has its numbers itself.
    """

    family: str | Distribution
    mu: float | None
    sigma: float | None
    low: float
    high: float

    def ppf(self, q: Any) -> np.ndarray:
        """The quantiles q, in float64, strictly inside (low, high).

        Examples:
            >>> from scalejax import Prior
            >>> Prior("Uniform", None, None, 0.0, 10.0).ppf([0.25, 0.5]).tolist()
            [2.5, 5.0]
        """
        with np.errstate(all="ignore"):
            values = np.asarray(restricted(self).ppf(np.asarray(q, np.float64)), np.float64)
        if of_log(self):
            values = np.exp(values)
        return np.clip(values, np.nextafter(self.low, self.high), np.nextafter(self.high, self.low))


@dataclass(frozen=True)
class Family:
    """What is known of a family with a name."""

    needs: tuple[str, ...]
    """Which of mu and sigma it takes; it takes no others."""
    support: tuple[float, float]
    """The widest there is."""
    restricted: Callable[[Prior], Any]
    """The prior as a frozen distribution of scipy.stats; of log θ where `of_log`."""
    columns: Callable[[Prior], Mapping[str, float | None]]
    """Its numbers in the terms of `density.Density`, but for origin and log_at_origin."""
    of_log: bool = False
    problems: Callable[[Prior], Iterator[tuple[str, str]]] = lambda prior: iter(())
    """What makes it impossible: (what was expected, what was got)."""


def of_log(prior: Prior) -> bool:
    """Whether `restricted(prior)` is the distribution of log θ."""
    return isinstance(prior.family, str) and FAMILIES[prior.family].of_log


def restricted(prior: Prior) -> Any:
    """The prior as an object with `logpdf`, `cdf` and `ppf`; of log θ where `of_log(prior)`."""
    if isinstance(prior.family, str):
        return FAMILIES[prior.family].restricted(prior)
    return Cut(prior.family, prior.low, prior.high)


def problems(prior: Prior) -> Iterator[tuple[str, str]]:
    """What makes a prior impossible: (what was expected, what was got)."""
    if isinstance(prior.family, str):
        return FAMILIES[prior.family].problems(prior)
    return _enough_mass(prior)


def support(family: str | Distribution) -> tuple[float, float]:
    """The widest interval on which a family has a density."""
    if isinstance(family, str):
        return FAMILIES[family].support
    low, high = (float(x) for x in np.asarray(family.ppf(np.array([0.0, 1.0])), np.float64))
    return (-INF if math.isnan(low) else low), (INF if math.isnan(high) else high)


# --- the table ------------------------------------------------------------------------------------


def _normal(prior: Prior, mu: float | None) -> Any:
    from scipy import stats

    low, high = _log_bounds(prior) if of_log(prior) else (prior.low, prior.high)
    sigma = prior.sigma
    assert mu is not None and sigma is not None
    a, b = (low - mu) / sigma, (high - mu) / sigma
    if b - a < 1e-10:  # where SciPy loses the interval to rounding, and the density is flat
        return stats.uniform(low, high - low)
    return stats.truncnorm(a, b, mu, sigma)


def _flat(prior: Prior) -> Any:
    from scipy import stats

    low, high = _log_bounds(prior) if of_log(prior) else (prior.low, prior.high)
    return stats.uniform(low, high - low)


def _log_bounds(prior: Prior) -> tuple[float, float]:
    low, high = (math.log(x) if x > 0 else -INF for x in (prior.low, prior.high))
    return low, high


def _beta(prior: Prior) -> Any:
    from scipy import stats

    alpha, beta = _beta_exponents(prior)
    return stats.beta(alpha, beta, prior.low, prior.high - prior.low)


def _beta_exponents(prior: Prior) -> tuple[float, float]:
    """Both parameters of the beta distribution on (low, high) with this mean and sd."""
    assert prior.mu is not None and prior.sigma is not None
    mean = (prior.mu - prior.low) / (prior.high - prior.low)
    concentration = (prior.mu - prior.low) * (prior.high - prior.mu) / prior.sigma**2 - 1
    return mean * concentration, (1 - mean) * concentration


def _gamma(prior: Prior) -> Any:
    from scipy import stats

    concentration, rate = _gamma_numbers(prior)
    return Cut(cast(Any, stats.gamma)(concentration, scale=1 / rate), prior.low, prior.high)


def _gamma_numbers(prior: Prior) -> tuple[float, float]:
    """Concentration and rate of the gamma distribution with this mean and sd."""
    assert prior.mu is not None and prior.sigma is not None
    return (prior.mu / prior.sigma) ** 2, prior.mu / prior.sigma**2


def _not_far_from_bounds(prior: Prior, mu: float) -> Iterator[tuple[str, str]]:
    low, high = _log_bounds(prior) if of_log(prior) else (prior.low, prior.high)
    assert prior.sigma is not None
    if not max(low - mu, mu - high) / prior.sigma <= 1e6:
        yield (
            "the bounds must not lie more than 10^6 sigma from mu",
            f"mu = {mu}, sigma = {prior.sigma} with bounds ({prior.low}, {prior.high})",
        )


def _about_mu(prior: Prior) -> Iterator[tuple[str, str]]:
    assert prior.mu is not None
    return _not_far_from_bounds(prior, prior.mu)


def _finite_bounds(prior: Prior) -> Iterator[tuple[str, str]]:
    if not math.isfinite(prior.high - prior.low):
        yield f"a {prior.family} prior needs finite bounds", f"({prior.low}, {prior.high})"


def _positive_bounds(prior: Prior) -> Iterator[tuple[str, str]]:
    if not 0 < prior.low < prior.high < INF:
        yield (
            f"a {prior.family} prior needs bounds that are positive and finite",
            f"({prior.low}, {prior.high})",
        )


def _room_for_beta(prior: Prior) -> Iterator[tuple[str, str]]:
    yield from _finite_bounds(prior)
    low, high, mu, sigma = prior.low, prior.high, prior.mu, prior.sigma
    assert mu is not None and sigma is not None
    if not low < mu < high:
        yield f"a BetaScaled prior needs mu inside ({low}, {high})", f"mu = {mu}"
    elif not sigma**2 < (mu - low) * (high - mu):
        yield (
            f"no beta distribution on ({low}, {high}) with mean {mu} is so wide",
            f"sigma = {sigma}",
        )


def _enough_mass(prior: Prior) -> Iterator[tuple[str, str]]:
    # Below, the difference of two values of the distribution function has lost too many digits.
    if not (mass := restricted(prior).mass) >= 1e-6:
        yield (
            "a prior of this family needs 1e-6 of its mass within the bounds",
            f"{mass:.3g} in ({prior.low}, {prior.high})",
        )


def _mass_for_gamma(prior: Prior) -> Iterator[tuple[str, str]]:
    assert prior.mu is not None
    if not prior.mu > 0:
        yield "a Gamma prior needs a positive mu", f"mu = {prior.mu}"
    else:
        yield from _enough_mass(prior)


_TRUNCATED_NORMAL = Family(
    ("mu", "sigma"),
    (-INF, INF),
    lambda p: _normal(p, p.mu),
    lambda p: {"mu": p.mu, "sigma": p.sigma},
    problems=_about_mu,
)

FAMILIES: dict[str, Family] = {
    "TruncatedNormal": _TRUNCATED_NORMAL,
    "Normal": _TRUNCATED_NORMAL,
    "HalfNormal": Family(
        ("sigma",),
        (0.0, INF),
        lambda p: _normal(p, 0.0),
        lambda p: {"mu": 0.0, "sigma": p.sigma},
        problems=lambda p: _not_far_from_bounds(p, 0.0),
    ),
    "Uniform": Family(
        (), (-INF, INF), _flat, lambda p: {"mu": p.low, "sigma": INF}, problems=_finite_bounds
    ),
    "LogNormal": Family(
        ("mu", "sigma"),
        (0.0, INF),
        lambda p: _normal(p, p.mu),
        lambda p: {"mu": p.mu, "sigma": p.sigma, "is_log": True},
        of_log=True,
        problems=_about_mu,
    ),
    "LogUniform": Family(
        (),
        (0.0, INF),
        _flat,
        lambda p: {"mu": _log_bounds(p)[0], "sigma": INF, "is_log": True},
        of_log=True,
        problems=_positive_bounds,
    ),
    "BetaScaled": Family(
        ("mu", "sigma"),
        (-INF, INF),
        _beta,
        lambda p: (
            dict(zip(("from_low", "from_high"), (x - 1 for x in _beta_exponents(p)), strict=True))
            | {"zero": p.low, "one": p.high}
        ),
        problems=_room_for_beta,
    ),
    "Gamma": Family(
        ("mu", "sigma"),
        (0.0, INF),
        _gamma,
        lambda p: {"from_low": _gamma_numbers(p)[0] - 1, "rate": _gamma_numbers(p)[1], "zero": 0.0},
        problems=_mass_for_gamma,
    ),
}
