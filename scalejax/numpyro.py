"""The adapter to NumPyro: one sample site for a whole Scaling, and where chains start.

Nothing in the core imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import constraints
from numpyro.infer import init_to_uniform, init_to_value
from numpyro.infer.util import log_density as numpyro_log_density

from scalejax.coordinates import AbstractCoordinates
from scalejax.distributions import (
    DeclaredPrior,
    ScalingTransform,
    declared_prior,
    normal_of_base,
    pulled_back,
)
from scalejax.scaling import Scaling

__all__ = [
    "DeclaredPrior",
    "ScalingTransform",
    "declared_prior",
    "init_to_initial_z",
    "init_to_original",
    "init_to_standard_normal",
    "log_density",
    "sample_scaled",
    "sample_scaled_parameter",
]


def sample_scaled(
    name: str,
    scaling: AbstractCoordinates,
    *,
    prior: dist.Distribution | None = None,
    prior_scale: float = 1.0,
    shards: float = 1,
) -> dict[str, Float[Array, "..."]]:
    """Sample every parameter of a Scaling from one vector z; values in physical units.

    Sites: `{name}_z`, of shape (P,), and a deterministic one for each group, under the group's
    name. Returns the groups, as `scaling.unpack` does.

    With `prior`, a distribution of θ such as `declared_prior(space, sizes)`, z has its density,
    pulled back through the Scaling: the posterior does not depend on the Scaling. Without, z is
    Normal(0, prior_scale) in every element, and the prior on θ is the image of that under the
    Scaling.

    `shards` = K tempers the prior for one of K shards of the data, so that the product of their K
    posteriors is that of all data (Scott et al. 2016): the normal prior becomes Normal(0, √K); the
    log-density of `prior` in z is divided by K, and draws without data remain those of `prior`.

    **Raises** `ValueError` for a prior_scale that is not positive, shards below 1, prior_scale
    together with shards or with a prior, and a prior of another shape or other groups than the
    Scaling, or with support beyond the Scaling's bounds.

    Examples:
        >>> import jax
        >>> from numpyro.handlers import seed
        >>> from scalejax import Parameter, ParameterSpace
        >>> space = ParameterSpace(a=Parameter(0, 1, dim="phi"), b=Parameter(-1, 1))
        >>> prior = declared_prior(space, {"phi": 3})
        >>> scaling = Scaling.from_space(space, {"phi": 3}, rule="homodyne")
        >>> theta = seed(sample_scaled, jax.random.key(0))("theta", scaling, prior=prior)
        >>> theta["a"].shape, theta["b"].shape
        ((3,), ())
    """
    if not isinstance(shards, Tracer) and not shards >= 1:
        raise ValueError(f"shards must be at least 1; got {shards}")
    if isinstance(prior_scale, Tracer) or prior_scale != 1:
        if prior is not None:
            raise ValueError("prior_scale is that of the normal prior; it goes with no other prior")
        if isinstance(shards, Tracer) or shards != 1:
            raise ValueError("give shards or prior_scale: shards = K is prior_scale = √K")
    if prior is None:
        scale = _positive(prior_scale) * shards**0.5
        z = numpyro.sample(f"{name}_z", normal_of_base(scale, scaling))
    else:
        _check_prior(prior, scaling)
        with numpyro.handlers.scale(scale=1 / shards):
            z = numpyro.sample(f"{name}_z", pulled_back(prior, scaling))
    groups = scaling.unpack(scaling.to_original(z))
    return {group: _deterministic(group, value) for group, value in groups.items()}


def sample_scaled_parameter(
    name: str,
    scaling: Scaling,
    initial_z: Float[ArrayLike, "..."] | None = None,
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
    if len(scaling.groups) != 1:
        raise ValueError(
            f"sample_scaled_parameter: {name!r} needs the Scaling of one group, as "
            f"scaling[{name!r}]; got one of {', '.join(scaling.names)}"
        )
    (group,) = scaling.groups
    shape = () if group.size is None else (group.size,)
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
    normal = dist.Normal(0.0, _positive(prior_scale)).expand(shape).to_event()
    z = jnp.asarray(numpyro.sample(f"{name}_z", normal, infer=infer))
    theta = scaling.to_original(z if shape else z[..., None])
    return _deterministic(name, scaling.unpack(theta)[group.name])


def init_to_initial_z(site: dict | None = None) -> Any:
    """A NumPyro init strategy: a site at the `initial_z` it was given, or by init_to_uniform.

    Examples:
        >>> import jax
        >>> from numpyro.infer import NUTS
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


def init_to_standard_normal(site: dict | None = None) -> Any:
    """A NumPyro init strategy: normal draws at sites over the reals, others by init_to_uniform.

    In calibrated coordinates this starts chains in the fitted Gaussian.

    Examples:
        >>> from numpyro.infer import NUTS
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0)
        >>> kernel = NUTS(lambda: sample_scaled("theta", scaling),
        ...               init_strategy=init_to_standard_normal)
    """
    if site is None:
        return partial(init_to_standard_normal)
    if site["type"] == "sample" and not site["is_observed"]:
        fn = site["fn"]
        if fn.support in (constraints.real, constraints.real_vector):
            return jax.random.normal(site["kwargs"]["rng_key"], fn.shape())
    return init_to_uniform(site)


def init_to_original(
    name: str, scaling: AbstractCoordinates, values: Mapping[str, Any]
) -> Callable[..., Any]:
    """A NumPyro init strategy: start `sample_scaled(name, scaling)` at values in physical units.

    `values` has a number, or one for each element, for any of the groups; the others start at
    z = 0 of the Scaling. A value on a bound starts just inside it. Other sites start by
    init_to_uniform.

    **Raises** `ValueError` for a name that is no group, a shape that does not fit, and a value
    outside its bounds.

    Examples:
        >>> scaling = Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 3, "b": None})
        >>> strategy = init_to_original("theta", scaling, {"a": 0.0})
    """
    if unknown := sorted(set(values) - set(scaling.names)):
        raise ValueError(
            f"init_to_original: {', '.join(unknown)} is none of the groups "
            f"{', '.join(scaling.names)}"
        )
    start = {}
    for group in scaling.groups:
        shape = () if group.size is None else (group.size,)
        part = scaling.base[group.name]
        theta = jnp.asarray(values.get(group.name, 0.0), part.center.dtype)
        if theta.shape not in ((), shape):
            raise ValueError(
                f"init_to_original: {group.name!r} takes one number"
                + (f" or {group.size}" if shape else "")
                + f"; got shape {theta.shape}"
            )
        if group.name not in values:
            start[group.name] = jnp.zeros(shape, theta.dtype)
            continue
        if not ((part.low <= theta) & (theta <= part.high)).all():
            raise ValueError(
                f"init_to_original: {group.name!r} must start within "
                f"[{part.low.max()}, {part.high.min()}]; got {theta}"
            )
        start[group.name] = part.unpack(part.to_normalized(jnp.broadcast_to(theta, (len(part),))))[
            group.name
        ]
    start_z = jnp.asarray(scaling.from_base(scaling.pack(start)), float)  # as NumPyro's draws are
    strategy: Any = init_to_value(values={f"{name}_z": start_z})
    return strategy


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
        >>> from numpyro.distributions import Uniform
        >>> from scalejax import Scaling
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

    median = scaling.unpack(scaling.to_original(jnp.zeros(len(scaling))))
    free = {
        group.name: median[group.name].shape
        for group, part in scaling._slices()
        if not (scaling.base.low[part] == scaling.base.high[part]).all()
    }
    shapes = {name: jnp.shape(value) for name, value in latent.items()}
    if shapes == {**free, **{name: median[name].shape for name in shapes if name in median}}:
        return lambda theta: at({n: v for n, v in scaling.unpack(theta).items() if n in latent})
    recorded = set(scaling.names) <= set(trace)
    if not recorded or list(shapes.values()) != [(len(scaling),)]:
        raise ValueError(
            "log_density: expected a model whose latent sites are the groups of the Scaling, "
            + ", ".join(f"{name} {shape}" for name, shape in free.items())
            + f", or the one of sample_scaled, of shape ({len(scaling)},); got "
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


def _check_prior(prior: dist.Distribution, scaling: AbstractCoordinates) -> None:
    if prior.batch_shape or prior.event_shape != (len(scaling),):
        raise ValueError(
            f"prior: expected one distribution with event shape ({len(scaling)},), that of the "
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
    bounds = (prior.density.low, prior.density.high, scaling.base.low, scaling.base.high)
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


# The key under which a site carries its start, for `init_to_initial_z` to find.
_INITIAL_Z = "scalejax_initial_z"


def _deterministic(name: str, value: Array) -> Array:
    return cast(Array, numpyro.deterministic(name, value))


def _positive(prior_scale: float) -> float:
    if not isinstance(prior_scale, Tracer) and not prior_scale > 0:
        raise ValueError(f"prior_scale must be positive; got {prior_scale}")
    return prior_scale
