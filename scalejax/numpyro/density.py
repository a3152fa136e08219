"""The log-density of a NumPyro model as a plain function of θ.

For whatever wants a function: a balance of gradients, a calibration, an optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float
from numpyro.infer.util import log_density as numpyro_log_density

from scalejax.coordinates import AbstractCoordinates


def log_density(
    model: Callable[..., Any],
    args: tuple = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    scaling: AbstractCoordinates,
) -> Callable[[Float[Array, " P"]], Float[Array, ""]]:
    """The log-density of a NumPyro model as a function of θ, of shape (P,), in physical units.

    For `gradient_balance`, `calibrate` or any optimiser. `args` and `kwargs` are those of the
    model, data included. Its latent sites are the groups of `scaling`, or the one of
    `sample_scaled(name, scaling)`: then the density is that of θ, without the log-Jacobian of z,
    and `scaling` is the one that the model has.

    **Raises** `ValueError` for a model with other latent sites, or other shapes, or in other
    coordinates.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpyro
        >>> from numpyro.distributions import Uniform
        >>> from scalejax import Scaling
        >>> from scalejax.numpyro import log_density
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": None})
        >>> density = log_density(lambda: numpyro.sample("a", Uniform(-5, 5)), scaling=scaling)
        >>> round(float(density(jnp.zeros(1))), 4)
        -2.3026
    """
    kwargs = {} if kwargs is None else dict(kwargs)
    seeded = numpyro.handlers.seed(model, jax.random.key(0))
    trace = numpyro.handlers.trace(seeded).get_trace(*args, **kwargs)
    latent = {
        name: site["value"]
        for name, site in trace.items()
        if site["type"] == "sample" and not site["is_observed"]
    }

    def at(values):
        return jnp.asarray(numpyro_log_density(model, args, kwargs, values)[0])

    median = scaling.unpack(scaling.to_original(jnp.zeros(scaling.size)))
    free = {
        group.name: median[group.name].shape
        for group, part in scaling.slices()
        if not (scaling.pinned[part]).all()
    }
    shapes = {name: jnp.shape(value) for name, value in latent.items()}
    if shapes == {**free, **{name: median[name].shape for name in shapes if name in median}}:
        return lambda theta: at({n: v for n, v in scaling.unpack(theta).items() if n in latent})
    recorded = set(scaling.names) <= set(trace)
    if not recorded or list(shapes.values()) != [(scaling.size,)]:
        raise ValueError(
            "log_density: expected a model whose latent sites are the groups of the Scaling, "
            + ", ".join(f"{name} {shape}" for name, shape in free.items())
            + f", or the one of sample_scaled, of shape ({scaling.size},); got "
            + (", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none")
        )
    ((site, z),) = latent.items()
    for name, value in scaling.unpack(scaling.to_original(z)).items():
        if not np.allclose(trace[name]["value"], value, rtol=1e-5):
            raise ValueError(
                f"log_density: {name!r} is {trace[name]['value']} in the model, and {value} in "
                "these coordinates; give those that the model has"
            )

    def of_theta(theta):
        z = scaling.to_normalized(theta)
        return at({site: z}) - scaling.log_det(z)

    return of_theta
