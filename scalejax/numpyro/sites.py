"""One sample site for whole coordinates.

This module knows nothing of where chains start.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Num

from scalejax.coordinates import AbstractCoordinates
from scalejax.numpyro.distributions import (
    DeclaredPrior,
    NormalPrior,
    normal_of_root,
    pulled_back,
)


def sample_scaled(
    name: str,
    scaling: AbstractCoordinates,
    *,
    prior: dist.Distribution | NormalPrior,
    shards: Num[ArrayLike, ""] = 1,
) -> dict[str, Float[Array, "..."]]:
    """Sample every parameter of a Scaling from one vector z; values in physical units.

    Sites: `{name}_z`, of shape (P,), and a deterministic one for each group, under the group's
    name. Returns the groups, as `scaling.unpack` does. Any coordinates can take the place of the
    Scaling.

    `prior` is a distribution of θ, such as `declared_prior(space)`: z has its density, pulled back
    through the Scaling, and the posterior does not depend on the Scaling. Or it is
    `normal_prior(scale)`: z of the Scaling is Normal(0, scale) in every element, and the prior on θ
    is the image of that.

    `shards` = K tempers the prior for one of K shards of the data, so that the product of their K
    posteriors is that of all data (Scott et al. 2016): the normal prior becomes
    Normal(0, √K·scale); the log-density of another in z is divided by K, and draws without data
    remain those of `prior`.

    **Raises** `ValueError` for shards below 1, and a prior of another shape or other groups than
    the Scaling, or with support beyond the Scaling's bounds.

    Examples:
        >>> import jax
        >>> from numpyro.handlers import seed
        >>> from scalejax import Parameter, ParameterSpace, Scaling
        >>> from scalejax.numpyro import declared_prior, sample_scaled
        >>> space = ParameterSpace(a=Parameter(0, 1, dim="phi"), b=Parameter(-1, 1)).sized(phi=3)
        >>> scaling, prior = Scaling.from_space(space), declared_prior(space)
        >>> theta = seed(sample_scaled, jax.random.key(0))("theta", scaling, prior=prior)
        >>> theta["a"].shape, theta["b"].shape
        ((3,), ())
    """
    if not isinstance(shards, Tracer) and not float(shards) >= 1:  # pyright: ignore
        raise ValueError(f"shards must be at least 1; got {shards}")
    if isinstance(prior, NormalPrior):
        z = numpyro.sample(f"{name}_z", normal_of_root(prior.scale * shards**0.5, scaling))
    else:
        _check_prior(prior, scaling)
        with numpyro.handlers.scale(scale=1 / shards):
            z = numpyro.sample(f"{name}_z", pulled_back(prior, scaling))
    groups = scaling.unpack(scaling.to_original(z))
    return {group: deterministic(group, value) for group, value in groups.items()}


def deterministic(name: str, value: Array) -> Array:
    """A deterministic site, typed as what it is."""
    return cast(Array, numpyro.deterministic(name, value))


def _check_prior(prior: dist.Distribution, scaling: AbstractCoordinates) -> None:
    if not isinstance(prior, dist.Distribution):
        raise ValueError(
            "prior: expected a distribution of θ, such as declared_prior(space), or "
            f"normal_prior(scale); got {prior!r}"
        )
    if prior.batch_shape or prior.event_shape != (scaling.size,):
        raise ValueError(
            f"prior: expected one distribution with event shape ({scaling.size},), that of the "
            f"Scaling's parameters; got batch shape {prior.batch_shape} and event shape "
            f"{prior.event_shape}"
        )
    if not isinstance(prior, DeclaredPrior):
        return
    if prior.scaling.flat_names != scaling.flat_names:
        raise ValueError(
            f"prior: expected that of {', '.join(scaling.names)}, as in the Scaling; got that of "
            f"{', '.join(prior.scaling.names)}"
        )
    bounds = (prior.density.low, prior.density.high, scaling.low, scaling.high)
    if any(isinstance(bound, Tracer) for bound in bounds):
        return
    coarser = min((bound.dtype for bound in bounds), key=lambda dtype: dtype.itemsize)
    low, high, scaling_low, scaling_high = (np.asarray(bound, coarser) for bound in bounds)
    beyond = (low < scaling_low) | (high > scaling_high)
    beyond |= (low == high) != (scaling_low == scaling_high)
    if beyond.any():
        i = int(np.argmax(beyond))
        raise ValueError(
            f"prior of {scaling.flat_names[i]!r}: expected support within the Scaling's bounds, "
            f"[{scaling_low[i]}, {scaling_high[i]}], and both pinned or neither; got "
            f"[{low[i]}, {high[i]}]"
        )
