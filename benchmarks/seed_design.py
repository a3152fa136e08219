"""The design that this library replaces: one Python object, one sample site a parameter.

Written anew after it, for comparison: center, scale and bounds are Python numbers, θ by the tanh
formula, and a model samples each z and records each θ under names of their own.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from scalejax.xpcs import two_time


@dataclass(frozen=True)
class OneParameter:
    """z ↦ θ of one parameter, between finite bounds or, where one is infinite, without."""

    center: float
    scale: float
    low: float
    high: float

    def to_original(self, z):
        raw = self.center + self.scale * z
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return raw
        mid, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return mid + half * jnp.tanh((raw - mid) / half)

    def to_normalized(self, theta):
        mid, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        ratio = jnp.clip((theta - mid) / half, -1 + 1e-6, 1 - 1e-6)
        return (mid + half * jnp.arctanh(ratio) - self.center) / self.scale


def parameters(scaling):
    """An object for each place of a Scaling, by its flat name."""
    factors = (scaling.center, scaling.scale, scaling.low, scaling.high)
    columns = zip(*(map(float, factor) for factor in factors), strict=True)
    return {n: OneParameter(*c) for n, c in zip(scaling.flat_names, columns, strict=True)}


def model(parameters, experiment, c2, noise):
    """The XPCS model over one site a parameter, with a known noise."""
    theta = {}
    for name, parameter in parameters.items():
        z = numpyro.sample(f"{name}_z", dist.Normal(0.0, 1.0))
        theta[name] = numpyro.deterministic(name, parameter.to_original(z))
    n_phi = experiment.phi.size
    for name in ("contrast", "offset"):
        theta[name] = jnp.stack([theta.pop(f"{name}_{i}") for i in range(n_phi)])
    numpyro.sample("c2", dist.Normal(two_time(theta, experiment), noise).to_event(2), obs=c2)
