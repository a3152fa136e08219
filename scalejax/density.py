"""The density of a whole space of declared priors on arrays, and its quantiles and draws.

What is known at construction is worked out there, once a group, in float64 by SciPy; what is left
for run time is one vectorised expression. This module knows no Scaling and no sampler.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri, xlogy
from jaxtyping import Array, ArrayLike, Bool, Float

from scalejax import bounds
from scalejax.families import FAMILIES, Prior, restricted
from scalejax.space import Parameter, ParameterSpace


def declared_or_flat(name: str, parameter: Parameter) -> Prior:
    """The declared prior of a parameter; where there is none, a flat one between its bounds.

    **Raises** `ValueError` for an infinite bound and no prior.
    """
    if parameter.prior is not None:
        return parameter.prior
    prior = Prior("Uniform", None, None, parameter.low, parameter.high)
    if not math.isfinite(prior.high - prior.low):
        raise ValueError(
            f"parameter {name!r}: expected a declared prior or finite bounds; got bounds "
            f"({prior.low}, {prior.high})"
        )
    return prior


class Density(eqx.Module):
    """The densities of independent declared priors, element by element, on arrays (…, P).

    The fields are constants, of shape (P,): nothing here is to be differentiated with respect to
    them. With t = θ or, for the families of log θ, t = log θ, every declared family is

        log p = log_at_origin − ((t − mu)² − (origin − mu)²)/(2·sigma²)
                + from_low·log((θ − zero)/(origin − zero))
                + from_high·log((one − θ)/(one − origin)) − rate·(θ − origin)

    where what a family does not have is left out by a sigma of infinity or an exponent of 0. It is
    measured from its value at an origin within the support, the median, so that nothing cancels,
    however far mu lies from the bounds. A family of one's own is evaluated by its own `logpdf`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Parameter, ParameterSpace
        >>> from scalejax.density import Density
        >>> space = ParameterSpace(a=Parameter(0, 4, family="Uniform"), b=Parameter(-1, 1))
        >>> density = Density.from_space(space)
        >>> print(jnp.exp(density.log_prob(jnp.array([1.0, 0.3]))))
        [0.25 0.5 ]
    """

    low: Float[Array, " P"]
    high: Float[Array, " P"]
    mu: Float[Array, " P"]
    sigma: Float[Array, " P"]
    origin: Float[Array, " P"]
    log_at_origin: Float[Array, " P"]  # of the density in t
    from_low: Float[Array, " P"]
    from_high: Float[Array, " P"]
    zero: Float[Array, " P"]
    one: Float[Array, " P"]
    rate: Float[Array, " P"]
    is_log: Bool[Array, " P"]
    terms: frozenset[str] = eqx.field(static=True)  # which of `log` and `powers` occur
    by_scipy: tuple[tuple[Prior, int, int], ...] = eqx.field(static=True)
    """Priors whose quantiles are SciPy's, each with the first and one past the last place."""

    @classmethod
    def from_space(cls, space: ParameterSpace) -> Density:
        """The declared priors of a space, each repeated over the width of its group.

        A parameter without a declared prior has a flat one between its bounds; one that is pinned
        has density 1.

        **Raises** `ValueError` for a parameter with an infinite bound and no prior, a dimension
        without a size, and a family of one's own whose `logpdf` JAX cannot trace.
        """
        columns, widths, by_scipy, start = [], [], [], 0
        for name, parameter, width in space.parts:
            columns.append(_column(name, parameter))
            widths.append(width)
            stop = start + width
            prior = parameter.prior
            if prior is not None and not _is_normal(prior):
                by_scipy.append((prior, start, stop))
            start = stop
        arrays = {key: np.repeat([c[key] for c in columns], widths) for key in columns[0]}
        powers = any(arrays[key].any() for key in ("from_low", "from_high", "rate"))
        terms = {"log": arrays["is_log"].any(), "powers": powers}
        return cls(
            **{key: jnp.asarray(a) for key, a in arrays.items()},
            terms=frozenset(term for term, occurs in terms.items() if occurs),
            by_scipy=tuple(by_scipy),
        )

    @partial(jax.jit, inline=True)
    def log_prob(self, theta: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The log of each element's density: −inf outside its support, 0 where it is pinned."""
        theta = jnp.asarray(theta)
        inside = (self.low <= theta) & (theta <= self.high) & (~self.is_log | (theta > 0))
        # Elements elsewhere get a harmless number before the formula, not only a `where` after it:
        # an inf or NaN that is selected away still poisons the gradient.
        theta = jnp.where(inside, theta, jnp.where(self.is_log, 1, self.origin))
        t = self._log(theta) if "log" in self.terms else theta
        # ((t − mu)² − (origin − mu)²)/sigma²
        rise = (
            (t - self.origin)
            / self.sigma
            * (((t - self.mu) + (self.origin - self.mu)) / self.sigma)
        )
        result = self.log_at_origin - rise / 2
        if "log" in self.terms:
            result -= jnp.where(self.is_log, t, 0)
        if "powers" in self.terms:
            rise = theta - self.origin
            result += _power(self.from_low, theta - self.zero, self.origin - self.zero, rise)
            result += _power(self.from_high, self.one - theta, self.one - self.origin, -rise)
            result -= self.rate * rise
        for prior, start, stop in self.by_scipy:
            if not isinstance(prior.family, str):
                own = jnp.asarray(_traceable(prior.family)(theta[..., start:stop]), result.dtype)
                own -= math.log(restricted(prior).mass)
                result = result.at[..., start:stop].set(own)
        return jnp.where(self.low == self.high, 0, jnp.where(inside, result, -jnp.inf))

    def quantile(self, q: Float[ArrayLike, "..."]) -> Float[Array, "*batch P"]:
        """The quantile q of each element, strictly inside its bounds; NaN for q outside [0, 1].

        Those of BetaScaled, Gamma and families of one's own are SciPy's, by a callback to the host.
        """
        q = jnp.asarray(q, self.mu.dtype)
        return _quantile(self, jnp.broadcast_to(q, jnp.broadcast_shapes(q.shape, self.mu.shape)))

    @partial(jax.jit, static_argnames="shape")
    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "*shape P"]:
        """Independent draws, strictly inside the bounds."""
        uniform = jax.random.uniform(key, (*shape, *self.mu.shape), self.mu.dtype)
        return _quantile(self, uniform)

    def _log(self, theta):
        return jnp.where(self.is_log, jnp.log(jnp.where(self.is_log, theta, 1)), theta)


def _power(exponent, distance, at_origin, rise):
    """log (distance/at_origin)^exponent, rise = distance − at_origin; 0 for an exponent of 0.

    Next to the origin from the rise, which is exact there: an exponent may be of many thousands.
    """
    occurs = exponent != 0
    at_origin = jnp.where(occurs, at_origin, 1)
    ratio = jnp.where(occurs, distance, 1) / at_origin
    small = jnp.where(occurs, rise, 0) / at_origin
    near = jnp.abs(small) < 0.5
    log = jnp.where(near, jnp.log1p(jnp.where(near, small, 0)), 0)
    return jnp.where(near, exponent * log, xlogy(exponent, jnp.where(near, 1, ratio)))


def _traceable(family):
    """The log-density of a family of one's own, for JAX to trace."""
    if not hasattr(family, "dist"):
        return family.logpdf
    known = getattr(jax.scipy.stats, family.dist.name, None)
    if known is None or not hasattr(known, "logpdf"):
        raise ValueError(
            f"jax.scipy.stats has no logpdf of {family.dist.name!r}; expected one that it has, or "
            "an object with a logpdf written in jax.numpy and a ppf"
        )
    return lambda x: known.logpdf(x, *family.args, **family.kwds)


@jax.custom_jvp
@jax.jit
def _quantile(density: Density, q):
    low, high = density.low, density.high
    if "log" in density.terms:
        low, high = density._log(low), density._log(high)
    t = _truncated_normal_quantile(q, density.mu, density.sigma, low, high)
    if "log" in density.terms:
        t = jnp.where(density.is_log, jnp.exp(jnp.where(density.is_log, t, 0)), t)
    dtype = np.dtype(t.dtype)
    for prior, start, stop in density.by_scipy:
        part = q[..., start:stop]

        def on_host(bits, prior=prior):
            wide = np.asarray(bits).view(dtype)
            q = wide[..., 0] if dtype.itemsize == 8 else wide
            found = prior.ppf(q).astype(dtype)
            return np.ascontiguousarray(found.reshape(wide.shape)).view(np.uint32)

        # As bits: the thread of a callback may be one in which JAX has single precision.
        bits = jax.lax.bitcast_convert_type(part, np.uint32)
        like = jax.ShapeDtypeStruct(bits.shape, bits.dtype)
        found = jax.pure_callback(on_host, like, bits, vmap_method="expand_dims")
        t = t.at[..., start:stop].set(jax.lax.bitcast_convert_type(found, part.dtype))
    return bounds.strictly_inside(t, density.low, density.high)


@_quantile.defjvp
def _quantile_jvp(primals, tangents):
    density, _ = primals
    theta = _quantile(*primals)
    return theta, tangents[1] * jnp.exp(-density.log_prob(theta))


def _column(name: str, parameter: Parameter) -> dict[str, Any]:
    """The fields of a `Density` for one parameter."""
    low, high = parameter.low, parameter.high
    flat = {
        "low": low, "high": high, "mu": low, "sigma": math.inf, "origin": low, "log_at_origin": 0.0,
        "from_low": 0.0, "from_high": 0.0, "zero": low, "one": high, "rate": 0.0, "is_log": False,
    }  # fmt: skip
    if parameter.pinned:
        return flat
    prior = declared_or_flat(name, parameter)
    found = flat | {"low": prior.low, "high": prior.high, "mu": prior.low}
    if not isinstance(prior.family, str):
        _check_own(name, prior)
        # What its own logpdf is given for an element outside its support.
        return found | {"origin": float(prior.ppf(0.5))}
    distribution = restricted(prior)
    # As it will be held: what is measured from it must be known there.
    origin = float(np.asarray(distribution.ppf(0.5), jnp.result_type(float)))
    log_at_origin = float(distribution.logpdf(origin))
    columns = FAMILIES[prior.family].columns(prior)
    return found | {"origin": origin, "log_at_origin": log_at_origin, **columns}


def _check_own(name: str, prior: Prior) -> None:
    """Whether JAX computes what the family's own `logpdf` does, where it has two of them."""
    family: Any = prior.family
    at = prior.ppf(np.array([0.1, 0.5, 0.9]))
    try:
        with jax.ensure_compile_time_eval():
            found = np.asarray(_traceable(family)(jnp.asarray(at)), np.float64)
    except Exception as error:
        raise ValueError(
            f"parameter {name!r}: expected a family whose logpdf JAX can trace; got {error}"
        ) from error
    if found.shape != at.shape:
        raise ValueError(
            f"parameter {name!r}: expected a logpdf that acts by element; for shape {at.shape} it "
            f"gave {found.shape}"
        )
    if hasattr(family, "dist") and not np.allclose(found, family.logpdf(at), rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"parameter {name!r}: jax.scipy.stats and scipy.stats differ on {family.dist.name}"
        )


def _is_normal(prior: Prior) -> bool:
    """Whether `_truncated_normal_quantile` has its quantiles."""
    if not isinstance(prior.family, str):
        return False
    return "sigma" in FAMILIES[prior.family].columns(prior)


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
