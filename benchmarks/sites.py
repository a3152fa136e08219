"""The XPCS model as a NumPyro user would write it: a constrained sample site a parameter.

NumPyro's own distributions with the declared priors, and its own transforms to the real line.
"""

import math

import numpyro
import numpyro.distributions as dist

from scalejax.density import declared_or_flat
from scalejax.xpcs import two_time


def prior(name, parameter):
    """A parameter's declared prior as one of NumPyro's distributions, cut to its bounds."""
    declared = declared_or_flat(name, parameter)
    family, mu, sigma, low, high = (
        declared.family, declared.mu, declared.sigma, declared.low, declared.high
    )  # fmt: skip
    if family == "Uniform":
        return dist.Uniform(low, high)
    if family == "LogNormal" and (low, high) == (0, math.inf):
        return dist.LogNormal(mu, sigma)
    if family in ("TruncatedNormal", "Normal"):
        ends = {"low": low, "high": high}
        return dist.TruncatedNormal(
            mu, sigma, **{end: value for end, value in ends.items() if math.isfinite(value)}
        )
    raise NotImplementedError(f"{name}: NumPyro has no {family} on ({low}, {high})")


def model(space, experiment, c2):
    """`scalejax.xpcs.model` over NumPyro's own sites."""
    n_phi = experiment.phi.size
    theta = {}
    for name, parameter in space.items():
        if parameter.pinned:
            theta[name] = parameter.low
            continue
        site = prior(name, parameter)
        if parameter.dim is not None:
            site = site.expand([n_phi]).to_event(1)
        theta[name] = numpyro.sample(name, site)
    mean = two_time(theta, experiment)
    numpyro.sample("c2", dist.Normal(mean, theta["sigma"]).to_event(2), obs=c2)
