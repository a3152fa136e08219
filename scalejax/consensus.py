"""One posterior from those of shards of the data, for data that must stay apart; and its verdict.

It knows no model and no sampler: a shard is coordinates that fit its posterior, or draws of that.
Where all data can be had, the posterior of all of them (`scalejax.blocks`) is exact and no slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate import (
    CoordinatesKind,
    NotTrusted,
    Report,
    Resampled,
    from_draws,
    from_log_density,
    resample,
)
from scalejax.coordinates import AbstractCoordinates
from scalejax.progress import Told, untold

Shard = AbstractCoordinates | Float[ArrayLike, "n P"]


def consensus(
    shards: Sequence[Shard],
    coordinates: AbstractCoordinates,
    *,
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    key: Array,
    draws: int = 4000,
    told: Told = untold,
) -> tuple[AbstractCoordinates, Resampled]:
    """The posterior of all data from those of its shards, weighed against the density of all.

    What shards say is multiplied, as by `combined`, and draws of the product are weighed by
    `log_density`, of θ and all data, such as a sum over `Blocks`: each takes one evaluation, and no
    gradient. So it is the posterior within the errors that it states, or there is none. The
    coordinates are those of the product, to sample in by NUTS.

    **Raises** `NotTrusted` where the weights say that the product is not the posterior (Pareto k̂
    above 0.7, or less than 0.1 effective draws a draw), and `ValueError` as `combined` does.

    Examples:
        >>> import jax
        >>> from scalejax import Scaling
        >>> from scalejax.consensus import consensus
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None})
        >>> def log_density(theta):  # of y = 1 and y = 2, with a standard normal prior
        ...     return -((theta[0] - 1) ** 2 + (theta[0] - 2) ** 2 + theta[0] ** 2) / 2
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> def drawn(y, key):  # of one y, with the root of the prior
        ...     theta = 2 / 3 * y + (2 / 3) ** 0.5 * jax.random.normal(key, (2000, 1))
        ...     return scaling.to_normalized(theta)
        >>> shards = [drawn(1.0, keys[0]), drawn(2.0, keys[1])]
        >>> _, posterior = consensus(shards, scaling, key=keys[2], log_density=log_density)
        >>> print(round(float(posterior.mean[0]), 1))  # (1 + 2)/3
        1.0
    """
    keys = jax.random.split(key)
    found, report = combined(shards, coordinates, key=keys[0], told=told)
    try:
        return found, resample(found, log_density, keys[1], draws, told=told)
    except NotTrusted as error:
        why = "; ".join((*report.doubts, *report.reasons))
        raise NotTrusted(
            f"the consensus of {len(shards)} shards cannot be trusted: {error}"
            + (f" ({why})" if why else "")
        ) from None


def combined(
    shards: Sequence[Shard],
    coordinates: AbstractCoordinates,
    *,
    key: Array,
    told: Told = untold,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates that fit the product of what shards say, and the report of that fit.

    The posterior of K shards together is the product of theirs, as densities of θ, where each has
    the 1/K-th power of the prior: log_density = log_prior/K + log_likelihood of its data (Scott et
    al. 2016, Bayes and big data). A shard is coordinates that were calibrated to it (a normal with
    its full covariance, or a nested one), or draws of z in `coordinates`, of which
    `calibrate.from_draws` makes such. No data are looked at: the report says how well the product
    is fitted, and nothing of the posterior; that is what `consensus` is for.

    **Raises** `ValueError` for no shards, coordinates of other parameters, and draws of which no
    coordinates can be made, with the number of the shard.
    """
    if not len(shards):
        raise ValueError("shards: expected at least one; got none")
    fits = [_fit_of(shard, i, coordinates) for i, shard in enumerate(shards)]
    middle = fits[0].to_original(jnp.zeros(coordinates.size))
    return from_log_density(_Product(fits), coordinates, key=key, start=middle, told=told)


def _fit_of(shard: Shard, i: int, coordinates: AbstractCoordinates) -> AbstractCoordinates:
    if isinstance(shard, AbstractCoordinates):
        if shard.groups != coordinates.groups:
            raise ValueError(
                f"shard {i}: expected the parameters {', '.join(coordinates.flat_names)}; got "
                f"{', '.join(shard.flat_names)}"
            )
        return shard
    try:
        found, report = from_draws(np.asarray(shard), coordinates)
    except ValueError as error:
        raise ValueError(f"shard {i}: {error}") from None
    if report.kind is CoordinatesKind.NONE:
        raise ValueError(f"shard {i}: no fit to its draws: {'; '.join(report.reasons)}")
    return found


class _Product(eqx.Module):
    """The log-density of θ that is the sum of those of fits; of one kind side by side."""

    stacks: tuple[AbstractCoordinates, ...]

    def __init__(self, fits: Iterable[AbstractCoordinates]):
        alike = [list(some) for _, some in groupby(sorted(fits, key=_shape), key=_shape)]
        self.stacks = tuple(
            jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else
                         leaves[0], *some) for some in alike
        )  # fmt: skip

    def __call__(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        every = eqx.filter_vmap(_log_density, in_axes=(eqx.if_array(0), None))
        return sum((every(stack, theta).sum() for stack in self.stacks), jnp.zeros(()))


def _shape(fit: AbstractCoordinates) -> str:
    """What fits have in common that can be worked out side by side."""
    arrays, rest = eqx.partition(fit, eqx.is_array)
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays)]
    return f"{shapes} {jax.tree.flatten(rest)}"


def _log_density(fit: AbstractCoordinates, theta: Array) -> Array:
    """That of θ where the coordinates are standard normal."""
    w = fit.to_normalized(theta)
    return jnp.where(fit.pinned, 0, norm.logpdf(w)).sum() - fit.log_det(w)
