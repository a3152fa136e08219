"""Homodyne's way to sample one group at a time, under its names, on NumPyro."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float
from numpyro.infer import init_to_uniform

from scalejax.numpyro.distributions import positive
from scalejax.numpyro.sites import deterministic
from scalejax.scaling import Scaling

# The key under which a site carries its start, for `init_to_initial_z` to find.
_INITIAL_Z = "scalejax_initial_z"


def sample_scaled_parameter(
    name: str,
    scaling: Scaling,
    initial_z: Float[ArrayLike, "..."] | Sequence[float] | None = None,
    prior_scale: float = 1.0,
) -> Float[Array, "..."]:
    """Sample one group under a name of its own, as homodyne's function of this name does.

    `scaling` is that of one group, such as `scaling["D0"]`. Sites: `{name}_z`, of shape () for a
    scalar and (n,) for a vector, and a deterministic `name`, which is returned.

    NumPyro asks the kernel, not the model, where a chain starts: with
    `NUTS(model, init_strategy=init_to_initial_z)` it starts at `initial_z`, of the shape of the
    site or a scalar.

    **Raises** `ValueError` for a Scaling of several groups, an initial_z that does not fit or is
    not finite, and a prior_scale that is not positive.
    """
    if len(scaling) != 1:
        raise ValueError(
            f"sample_scaled_parameter: {name!r} needs the Scaling of one group, as "
            f"scaling[{name!r}]; got one of {', '.join(scaling.names)}"
        )
    (group,) = scaling.groups
    shape = group.shape
    infer: dict[str, Any] = {}
    if initial_z is not None:
        initial_z = jnp.asarray(initial_z, float)  # as NumPyro's draws are
        if initial_z.shape not in ((), shape):
            raise ValueError(
                f"sample_scaled_parameter: initial_z of {name!r} must be a scalar or have shape "
                f"{shape}; got {initial_z.shape}"
            )
        if not isinstance(initial_z, Tracer) and not np.isfinite(initial_z).all():
            raise ValueError(
                f"sample_scaled_parameter: initial_z of {name!r} must be finite; got {initial_z}"
            )
        infer[_INITIAL_Z] = jnp.broadcast_to(initial_z, shape)
    normal = dist.Normal(0.0, positive("prior_scale", prior_scale)).expand(shape).to_event()
    z = jnp.asarray(numpyro.sample(f"{name}_z", normal, infer=infer))
    theta = scaling.to_original(z if shape else z[..., None])
    return deterministic(name, scaling.unpack(theta)[group.name])


def init_to_initial_z(site: dict | None = None) -> Any:
    """A NumPyro init strategy: a site at the `initial_z` it was given, or by init_to_uniform.

    Examples:
        >>> import jax
        >>> from numpyro.infer import NUTS
        >>> from scalejax import Scaling
        >>> from scalejax.xpcs.homodyne.sites import init_to_initial_z, sample_scaled_parameter
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": None})
        >>> kernel = NUTS(lambda: sample_scaled_parameter("a", scaling, initial_z=0.5),
        ...               init_strategy=init_to_initial_z)
        >>> float(kernel.init(jax.random.key(0), 1, None, (), {}).z["a_z"])
        0.5
    """
    if site is None:
        return partial(init_to_initial_z)
    if site["type"] == "sample" and not site["is_observed"] and _INITIAL_Z in site["infer"]:
        return site["infer"][_INITIAL_Z]
    return init_to_uniform(site)
