"""Declared priors in numbers: their quantiles, and the density of a whole space of them on arrays.

What is known at construction is worked out there, once a group, in float64 by SciPy; what is left
for run time is one vectorised expression. This module knows no Scaling and no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri, xlogy
from jaxtyping import Array, ArrayLike, Bool, Float
from scipy import stats

from scalejax import bounds
from scalejax.space import Parameter, ParameterSpace, Prior


def quantiles(prior: Prior, q: ArrayLike) -> np.ndarray:
    """The quantiles of a declared prior, in float64, strictly inside its support.

    Examples:
        >>> quantiles(Prior("Uniform", None, None, 0.0, 10.0), [0.25, 0.5]).tolist()
        [2.5, 5.0]
    """
    values = _distribution(prior).ppf(q)
    if prior.family == "LogNormal":
        values = np.exp(values)
    inside = np.nextafter(prior.low, prior.high), np.nextafter(prior.high, prior.low)
    return np.clip(values, *inside)


def declared_or_flat(name: str, parameter: Parameter) -> Prior:
    """The declared prior of a parameter; where there is none, a flat one between its bounds.

    **Raises** `ValueError` for an infinite bound and no prior.
    """
    prior = parameter.prior or Prior("Uniform", None, None, parameter.low, parameter.high)
    if prior.family == "Uniform" and not math.isfinite(prior.high - prior.low):
        raise ValueError(
            f"parameter {name!r}: expected a declared prior or finite bounds; got bounds "
            f"({prior.low}, {prior.high})"
        )
    return prior


class Density(eqx.Module):
    """The densities of independent declared priors, element by element, on arrays (…, P).

    The fields are constants, of shape (P,): nothing here is to be differentiated with respect to
    them. Normal priors and uniform ones, which are normal with an infinite sigma, are one branch,
    in t = θ or, for LogNormal, t = log θ; BetaScaled is the other. Each density is measured from
    its value at an origin within the support, so that nothing cancels, however far mu lies from
    the bounds.

    Examples:
        >>> space = ParameterSpace(a=Parameter(0, 4, family="Uniform"), b=Parameter(-1, 1))
        >>> density = Density.from_space(space, widths=[1, 1])
        >>> print(jnp.exp(density.log_prob(jnp.array([1.0, 0.3]))))
        [0.25 0.5 ]
    """

    low: Float[Array, " P"]
    high: Float[Array, " P"]
    mu: Float[Array, " P"]
    sigma: Float[Array, " P"]
    origin: Float[Array, " P"]
    log_at_origin: Float[Array, " P"]  # of the density in t
    alpha: Float[Array, " P"]
    beta: Float[Array, " P"]
    is_log: Bool[Array, " P"]
    is_beta: Bool[Array, " P"]
    families: frozenset[str] = eqx.field(static=True)  # those that occur

    @classmethod
    def from_space(cls, space: ParameterSpace, widths: Iterable[int]) -> Density:
        """The declared priors of a space, each repeated over the width of its group.

        A parameter without a declared prior has a flat one between its bounds; one that is pinned
        has density 1.

        **Raises** `ValueError` for a parameter with an infinite bound and no prior.
        """
        columns = [_column(name, parameter) for name, parameter in space.items()]
        widths = list(widths)
        arrays = {key: np.repeat([c[key] for c in columns], widths) for key in columns[0]}
        families = frozenset(p.prior.family for p in space.values() if p.prior is not None)
        return cls(**{key: jnp.asarray(a) for key, a in arrays.items()}, families=families)

    @partial(jax.jit, inline=True)
    def log_prob(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The log of each element's density: −inf outside its support, 0 where it is pinned."""
        theta = jnp.asarray(theta)
        inside = (self.low <= theta) & (theta <= self.high) & (~self.is_log | (theta > 0))
        # Elements elsewhere get a harmless number before the formula, not only a `where` after it:
        # an inf or NaN that is selected away still poisons the gradient.
        theta = jnp.where(inside, theta, jnp.where(self.is_log, 1, self.origin))
        t = self._log(theta) if "LogNormal" in self.families else theta
        # ((t − mu)² − (origin − mu)²)/sigma²
        rise = (
            (t - self.origin)
            / self.sigma
            * (((t - self.mu) + (self.origin - self.mu)) / self.sigma)
        )
        result = self.log_at_origin - rise / 2
        if "LogNormal" in self.families:
            result -= jnp.where(self.is_log, t, 0)
        if "BetaScaled" in self.families:
            ratios = (
                self._if_beta(theta - self.low) / self._if_beta(self.origin - self.low),
                self._if_beta(self.high - theta) / self._if_beta(self.high - self.origin),
            )
            result += xlogy(self.alpha - 1, ratios[0]) + xlogy(self.beta - 1, ratios[1])
        return jnp.where(self.low == self.high, 0, jnp.where(inside, result, -jnp.inf))

    def quantile(self, q: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The quantile q of each element, strictly inside its bounds; NaN for q outside [0, 1].

        **Raises** `NotImplementedError` where there is a BetaScaled prior: JAX has no quantile
        function of the beta distribution.
        """
        if "BetaScaled" in self.families:
            raise NotImplementedError("JAX has no quantile function of the beta distribution")
        return _quantile(self, jnp.asarray(q, self.mu.dtype))

    @partial(jax.jit, static_argnames="shape")
    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "*shape P"]:
        """Independent draws, strictly inside the bounds."""
        shape, dtype = (*shape, *self.mu.shape), self.mu.dtype
        key, key_beta = jax.random.split(key)
        theta = _quantile(self, jax.random.uniform(key, shape, dtype))
        if "BetaScaled" in self.families:
            fraction = jax.random.beta(key_beta, self.alpha, self.beta, shape, dtype)
            beta = self.low + (self.high - self.low) * fraction
            theta = jnp.where(self.is_beta, beta, theta)
            theta = bounds.strictly_inside(theta, self.low, self.high)
        return theta

    def _if_beta(self, distance):
        return jnp.where(self.is_beta, distance, 1)

    def _log(self, theta):
        return jnp.where(self.is_log, jnp.log(jnp.where(self.is_log, theta, 1)), theta)


@jax.custom_jvp
@jax.jit
def _quantile(density: Density, q):
    low, high = density.low, density.high
    if "LogNormal" in density.families:
        low, high = density._log(low), density._log(high)
    t = _truncated_normal_quantile(q, density.mu, density.sigma, low, high)
    if "LogNormal" in density.families:
        t = jnp.where(density.is_log, jnp.exp(jnp.where(density.is_log, t, 0)), t)
    return bounds.strictly_inside(t, density.low, density.high)


@_quantile.defjvp
def _quantile_jvp(primals, tangents):
    density, _ = primals
    theta = _quantile(*primals)
    return theta, tangents[1] * jnp.exp(-density.log_prob(theta))


def _truncated_normal_quantile(q, mu, sigma, low, high):
    """A quantile of the normal distribution between low and high, for bounds anywhere.

    Three ways, for what a single precision number can tell apart: in the middle through the
    distribution function; where the interval is narrow, as if the log-density were linear there;
    and where it lies in a far tail, through the asymptotic series of that tail.
    """
    info = jnp.finfo(q.dtype)
    a, b = (low - mu) / sigma, (high - mu) / sigma
    # Mirrored, if need be, so that the longer part of [left, right] lies below mu, where the
    # distribution function is small and so keeps its precision.
    mirrored = a > -b
    left, right = jnp.where(mirrored, -b, a), jnp.where(mirrored, -a, b)
    p = jnp.where((q >= 0) & (q <= 1), jnp.clip(q, info.tiny, 1 - info.epsneg), jnp.nan)
    p = jnp.where(mirrored, 1 - p, p)
    x = ndtri((1 - p) * ndtr(left) + p * ndtr(right))
    middle = mu + sigma * jnp.where(mirrored, -x, x)

    # The log-density is below its chord, of slope −(left + right)/2, by at most delta²/8.
    delta = (high - low) / sigma
    tilt = -(left + right) / 2 * delta
    growth = jnp.expm1(jnp.where(tilt < 80, tilt, 80))
    fraction = jnp.where(tilt > info.eps, jnp.log1p(p * growth) / tilt, p)
    near = (high - low) * fraction
    narrow = jnp.where(mirrored, high - near, low + near)

    end = jnp.where(right < -1, -right, 1)
    wanted = -jnp.log1p((1 - p) * jnp.expm1(-_tail_drop(-left - end, end)))
    s = 2 * wanted / (jnp.sqrt(end**2 + 2 * wanted) + end)
    for _ in range(3):  # Newton's steps; a fourth changes nothing
        t = end + s
        s = s - (_tail_drop(s, end) - wanted) / (t + 1 / t)
    tail = jnp.where(mirrored, low + sigma * s, high - sigma * s)

    deep = 0.8 * math.sqrt(-2 * math.log(info.tiny))  # before ndtr is 0
    result = jnp.where(delta < 5 * info.eps ** (1 / 3), narrow, middle)
    return jnp.where(right < -deep, tail, result)


def _tail_drop(s, t):
    """log Φ(−t) − log Φ(−t − s) for large t, by the asymptotic series of Mills' ratio.

    Abramowitz and Stegun 26.2.12.
    """

    def log_series(t):
        y = 1 / t**2
        return jnp.log1p(y * (-1 + y * (3 - 15 * y)))

    return t * s + s**2 / 2 + jnp.log1p(s / t) + log_series(t) - log_series(t + s)


def _column(name: str, parameter: Parameter) -> dict[str, float]:
    """The fields of a `Density` for one parameter."""
    low, high = parameter.low, parameter.high
    flat = {
        "low": low, "high": high, "mu": low, "sigma": math.inf, "origin": low, "log_at_origin": 0.0,
        "alpha": 1.0, "beta": 1.0, "is_log": False, "is_beta": False,
    }  # fmt: skip
    if parameter.pinned:
        return flat
    prior = declared_or_flat(name, parameter)
    low, high = prior.low, prior.high
    if prior.family == "Uniform":
        log_density = -math.log(high - low)
        return flat | {
            "low": low,
            "high": high,
            "mu": low,
            "origin": low,
            "log_at_origin": log_density,
        }
    distribution = _distribution(prior)
    origin = float(distribution.median())
    found = {
        "low": low,
        "high": high,
        "origin": origin,
        "log_at_origin": float(distribution.logpdf(origin)),
    }
    if prior.family == "BetaScaled":
        alpha, beta = _beta_exponents(prior)
        return flat | found | {"alpha": alpha, "beta": beta, "is_beta": True}
    assert prior.mu is not None and prior.sigma is not None
    return (
        flat | found | {"mu": prior.mu, "sigma": prior.sigma, "is_log": prior.family == "LogNormal"}
    )


def _distribution(prior: Prior) -> Any:
    """A prior as a frozen distribution of scipy.stats; of log θ for LogNormal."""
    low, high, mu, sigma = prior.low, prior.high, prior.mu, prior.sigma
    if prior.family == "Uniform":
        return stats.uniform(low, high - low)
    if prior.family == "BetaScaled":
        return stats.beta(*_beta_exponents(prior), low, high - low)
    assert mu is not None and sigma is not None
    if prior.family == "LogNormal":
        low, high = (math.log(bound) if bound > 0 else -math.inf for bound in (low, high))
    a, b = (low - mu) / sigma, (high - mu) / sigma
    if b - a < 1e-10:  # where SciPy loses the interval to rounding, and the density is flat
        return stats.uniform(low, high - low)
    return stats.truncnorm(a, b, mu, sigma)


def _beta_exponents(prior: Prior) -> tuple[float, float]:
    """Both parameters of the beta distribution on (low, high) with this mean and sd."""
    assert prior.mu is not None and prior.sigma is not None
    mean = (prior.mu - prior.low) / (prior.high - prior.low)
    concentration = (prior.mu - prior.low) * (prior.high - prior.mu) / prior.sigma**2 - 1
    return mean * concentration, (1 - mean) * concentration
