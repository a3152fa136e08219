"""Small posteriors with known troubles, as log-densities of θ over a Scaling."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from scalejax import Scaling

# A straight line through calendar years: intercept and slope are correlated to 0.9999.
YEARS = np.linspace(1960.0, 2010.0, 30)


@dataclass(frozen=True)
class Target:
    """A log-density, the coordinates it is given in, and whether one linear map can suit it."""

    log_density: Callable
    groups: dict[str, int | None]
    center: float | list[float] = 0.0
    scale: float | list[float] = 1.0
    low: float | list[float] = -jnp.inf
    high: float | list[float] = jnp.inf
    linear: bool = True

    def scaling(self) -> Scaling:
        """Made when asked for, in the dtype that JAX has then."""
        return Scaling(self.center, self.scale, self.low, self.high, groups=self.groups)


def counts():
    """Data on the line: 3 in 1980 and 0.2 more every year, ± 1."""
    return 0.2 * (jnp.asarray(YEARS) - 1980) + 3 + jax.random.normal(jax.random.key(0), YEARS.shape)


def line_residuals(theta):
    return counts() - theta[0] - theta[1] * jnp.asarray(YEARS)


def line_prior(theta):
    return -((theta[0] / 1000) ** 2) / 2 - ((theta[1] / 0.5) ** 2) / 2


def line(theta):
    return line_prior(theta) - (line_residuals(theta) ** 2).sum() / 2


def banana(theta):
    return -(theta[0] ** 2) / 2 - ((theta[1] - theta[0] ** 2) / 0.1) ** 2 / 2


def funnel(theta):
    """Neal's: the width of all parameters but one is the exponential of half of that one."""
    v, x = theta[0], theta[1:]
    return -((v / 3) ** 2) / 2 - (x**2).sum() * jnp.exp(-v) / 2 - x.size * v / 2


def mixture(theta):
    """Two normals of standard deviation 1/2, 4 of those apart."""
    apart = jnp.logaddexp(-2 * (theta[0] - 1) ** 2, -2 * (theta[0] + 1) ** 2)
    return apart - 2 * (theta[1:] ** 2).sum()


def against_a_bound(theta):
    """θ₀ > 0 falls off within 1/200 of a range of 1, and θ₁ goes with it."""
    return -200 * theta[0] - ((theta[1] - 100 * theta[0]) / 0.3) ** 2 / 2


# Rubin's (1981) eight schools: effects of coaching, and their standard errors.
EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def schools(theta, y):
    """mu ~ N(0, 5), effects ~ N(mu, tau), y ~ N(effects, ERRORS); tau has no prior yet."""
    mu, tau, effects = theta[0], theta[1], theta[2:]
    spread = -(((effects - mu) / tau) ** 2).sum() / 2 - effects.size * jnp.log(tau)
    misfit = (y - effects) / jnp.asarray(ERRORS)
    return -((mu / 5) ** 2) / 2 + spread - (misfit**2).sum() / 2


def centered_schools(theta):
    """Their effects with tau ~ half-Cauchy(5): unbounded where tau goes to 0."""
    return schools(theta, jnp.asarray(EFFECTS)) - jnp.log1p((theta[1] / 5) ** 2)


GROUPS = 50


def measured_groups():
    """Four values in each of 50 groups, whose means are 3 ± 0.5, each value ± 2."""
    keys = jax.random.split(jax.random.key(1))
    means = 3 + 0.5 * jax.random.normal(keys[0], (GROUPS, 1))
    return means + 2 * jax.random.normal(keys[1], (GROUPS, 4))


def hierarchy(theta):
    """mu ~ N(0, 10), tau ~ half-normal(5), sigma ~ half-normal(5), means ~ N(mu, tau): centered."""
    mu, tau, sigma, means = theta[0], theta[1], theta[2], theta[3:]
    y = measured_groups()
    prior = -((mu / 10) ** 2) / 2 - ((tau / 5) ** 2) / 2 - ((sigma / 5) ** 2) / 2
    spread = -(((means - mu) / tau) ** 2).sum() / 2 - means.size * jnp.log(tau)
    misfit = ((y - means[:, None]) / sigma) ** 2
    return prior + spread - misfit.sum() / 2 - y.size * jnp.log(sigma)


TARGETS = {
    "a line through calendar years": Target(
        line, {"intercept": None, "slope": None}, scale=[1000.0, 0.5]
    ),
    "a banana": Target(banana, {"x": 2}, scale=2.0, linear=False),
    "Neal's funnel, 10 parameters": Target(
        funnel, {"v": None, "x": 9}, scale=[3.0] + [1.0] * 9, linear=False
    ),
    "Neal's funnel, 100 parameters": Target(
        funnel, {"v": None, "x": 99}, scale=[3.0] + [1.0] * 99, linear=False
    ),
    "eight schools, centered": Target(
        centered_schools, {"mu": None, "tau": None, "effects": 8}, [0.0, 5.0] + [0.0] * 8,
        [5.0] * 2 + [10.0] * 8, [-jnp.inf, 0.0] + [-jnp.inf] * 8, linear=False,
    ),
    "a hierarchy of 50 groups": Target(
        hierarchy, {"mu": None, "tau": None, "sigma": None, "means": GROUPS},
        [0.0, 2.0, 2.0] + [0.0] * GROUPS, [10.0, 2.0, 2.0] + [5.0] * GROUPS,
        [-jnp.inf, 0.0, 0.0] + [-jnp.inf] * GROUPS, linear=False,
    ),
    "two modes": Target(mixture, {"x": 2}, linear=False),
    "against a bound": Target(
        against_a_bound, {"a": None, "b": None}, [0.5, 0.0], [0.25, 1.0],
        [0.0, -jnp.inf], [1.0, jnp.inf],
    ),
}  # fmt: skip
