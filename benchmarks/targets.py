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
    """Neal's: the width of nine parameters is the exponential of half the tenth."""
    v, x = theta[0], theta[1:]
    return -((v / 3) ** 2) / 2 - (x**2).sum() * jnp.exp(-v) / 2 - x.size * v / 2


def mixture(theta):
    """Two normals of standard deviation 1/2, 4 of those apart."""
    apart = jnp.logaddexp(-2 * (theta[0] - 1) ** 2, -2 * (theta[0] + 1) ** 2)
    return apart - 2 * (theta[1:] ** 2).sum()


def against_a_bound(theta):
    """θ₀ > 0 falls off within 1/200 of a range of 1, and θ₁ goes with it."""
    return -200 * theta[0] - ((theta[1] - 100 * theta[0]) / 0.3) ** 2 / 2


TARGETS = {
    "a line through calendar years": Target(
        line, {"intercept": None, "slope": None}, scale=[1000.0, 0.5]
    ),
    "a banana": Target(banana, {"x": 2}, scale=2.0, linear=False),
    "Neal's funnel, 10 parameters": Target(
        funnel, {"v": None, "x": 9}, scale=[3.0] + [1.0] * 9, linear=False
    ),
    "two modes": Target(mixture, {"x": 2}, linear=False),
    "against a bound": Target(
        against_a_bound, {"a": None, "b": None}, [0.5, 0.0], [0.25, 1.0],
        [0.0, -jnp.inf], [1.0, jnp.inf],
    ),
}  # fmt: skip
