"""Where chains start: NumPyro init strategies.

This module knows nothing of how a site is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import constraints
from numpyro.infer import init_to_uniform, init_to_value

from scalejax.coordinates import AbstractCoordinates


def init_to_standard_normal(site: dict | None = None, scale: float = 1.0) -> Any:
    """A NumPyro init strategy: normal draws at sites over the reals, others by init_to_uniform.

    In calibrated coordinates this starts chains in the fitted Gaussian, and with a `scale` above 1
    farther out than it: R-hat can only tell that chains have come together if they began apart.

    Examples:
        >>> from numpyro.infer import NUTS
        >>> from scalejax import Scaling
        >>> from scalejax.numpyro import init_to_standard_normal, normal_prior, sample_scaled
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0)
        >>> kernel = NUTS(lambda: sample_scaled("theta", scaling, prior=normal_prior()),
        ...               init_strategy=init_to_standard_normal(scale=2.0))
    """
    if site is None:
        return partial(init_to_standard_normal, scale=scale)
    if site["type"] == "sample" and not site["is_observed"]:
        fn = site["fn"]
        if fn.support in (constraints.real, constraints.real_vector):
            return scale * jax.random.normal(site["kwargs"]["rng_key"], fn.shape())
    return init_to_uniform(site)


def init_to_original(
    name: str, scaling: AbstractCoordinates, values: Mapping[str, Any]
) -> Callable[..., Any]:
    """A NumPyro init strategy: start `sample_scaled(name, scaling)` at values in physical units.

    `values` has a number, or one for each element, for any of the groups; the others start at
    z = 0 of the root. A value on a bound starts just inside it. Other sites start by
    init_to_uniform.

    **Raises** `ValueError` for a name that is no group, a shape that does not fit, and a value
    outside its bounds.

    Examples:
        >>> from scalejax import Scaling
        >>> from scalejax.numpyro import init_to_original
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})
        >>> strategy = init_to_original("theta", scaling, {"a": 0.0})
    """
    if unknown := sorted(set(values) - set(scaling.names)):
        raise ValueError(
            f"init_to_original: {', '.join(unknown)} is none of the groups "
            f"{', '.join(scaling.names)}"
        )
    shapes = {group.name: group.shape for group in scaling.groups}
    given = {}
    for label, value in values.items():
        shape = shapes[label]
        given[label] = theta = jnp.asarray(value, scaling.low.dtype)
        if theta.shape not in ((), shape):
            raise ValueError(
                f"init_to_original: {label!r} takes one number"
                + (f" or {shape[0]}" if shape else "")
                + f"; got shape {theta.shape}"
            )
    root = scaling.root
    middle = scaling.unpack(root.to_original(jnp.zeros(scaling.size, scaling.low.dtype)))
    theta = {n: jnp.broadcast_to(given.get(n, middle[n]), shapes[n]) for n in scaling.names}
    low, high = scaling.unpack(scaling.low), scaling.unpack(scaling.high)
    for label, value in given.items():
        if not ((low[label] <= theta[label]) & (theta[label] <= high[label])).all():
            raise ValueError(
                f"init_to_original: {label!r} must start within "
                f"[{low[label].max()}, {high[label].min()}]; got {value}"
            )
    root_z = root.to_normalized(scaling.pack(theta))
    asked = scaling.pack({n: jnp.full(shapes[n], float(n in given)) for n in scaling.names})
    root_z = jnp.where(asked > 0, root_z, 0)
    start_z = jnp.asarray(scaling.from_root(root_z), float)  # as NumPyro's draws are
    strategy: Any = init_to_value(values={f"{name}_z": start_z})
    return strategy
