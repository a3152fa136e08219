"""The two-time correlation as a NumPyro model in normalized coordinates."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist
from jaxtyping import ArrayLike, Float, Num

from scalejax.coordinates import AbstractCoordinates
from scalejax.numpyro import NormalPrior, sample_scaled
from scalejax.xpcs.correlation import Experiment, two_time
from scalejax.xpcs.posterior import Posterior


def model(
    scaling: AbstractCoordinates,
    experiment: Experiment,
    c2: Float[ArrayLike, "n_phi n_pairs"] | None = None,
    *,
    prior: dist.Distribution | NormalPrior,
    shards: Num[ArrayLike, ""] = 1,
) -> None:
    """c2 at the pairs t1 < t2 is normal about `two_time`, with a standard deviation to be found.

    `scaling` (or other coordinates) is that of `parameters.for_mode`: one vector with every
    physical parameter and the noise `sigma`. `prior` and `shards` are those of `sample_scaled`.
    Sites: `theta_z` (P,), a deterministic one a group, and `c2`, observed if given.
    """
    theta = sample_scaled("theta", scaling, prior=prior, shards=shards)
    mean = two_time(theta, experiment)
    numpyro.sample("c2", dist.Normal(mean, theta["sigma"]).to_event(2), obs=c2)


def blockwise(coordinates: AbstractCoordinates, posterior: Posterior) -> None:
    """The same, of data in blocks, as a factor: `posterior` has them, the prior and the model.

    Sites: `theta_z` (P,), a deterministic one a group, and the factor `c2`.
    """
    theta = sample_scaled("theta", coordinates, prior=posterior.prior)
    numpyro.factor("c2", posterior.log_likelihood(coordinates.pack(theta)))
