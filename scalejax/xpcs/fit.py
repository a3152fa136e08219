"""The fit of a measurement: NUTS in normalized space, and its result as ArviZ InferenceData."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.infer import MCMC, NUTS, init_to_uniform

from scalejax.calibrate import Report, from_log_density, from_residuals
from scalejax.coordinates import AbstractCoordinates
from scalejax.numpyro import NormalPrior, init_to_original, init_to_standard_normal
from scalejax.sampling import Sampling
from scalejax.scaling import Scaling
from scalejax.space import ParameterSpace
from scalejax.xpcs.correlation import two_time, two_time_at
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.model import model
from scalejax.xpcs.parameters import PER_ANGLE

DISPERSION = 2.0
"""How much wider than the fitted Gaussian chains begin, so that R-hat can tell where they end."""
EXCEEDED = 3.0
"""By how much a draw's log-density may exceed the mode's: by rounding, and what a search leaves."""

Prior = dist.Distribution | NormalPrior


def log_density(
    measurement: Measurement, scaling: Scaling, *, prior: Prior
) -> Callable[[Float[Array, " P"]], Float[Array, ""]]:
    """The log-density of θ, of shape (P,), that `fit` samples, up to a constant.

    `prior` is a distribution of θ, or the normal prior on z of `scaling`.
    """
    residuals, _, rest = _parts(measurement, scaling, prior)
    return lambda theta: rest(theta) - (residuals(theta) ** 2).sum() / 2


def _parts(measurement, scaling, prior):
    """Residuals in units of the noise, some of them, and the log-density but for their squares."""
    experiment = measurement.experiment
    c2 = jnp.asarray(measurement.c2, scaling.low.dtype)

    def residuals(theta):
        values = scaling.unpack(theta)
        return (c2 - two_time(values, experiment)) / values["sigma"]

    def residuals_at(theta, index):
        values = scaling.unpack(theta)
        return (c2.ravel()[index] - two_time_at(values, experiment, index)) / values["sigma"]

    def rest(theta):
        noise = c2.size * jnp.log(scaling.unpack(theta)["sigma"])
        if not isinstance(prior, NormalPrior):
            return jnp.asarray(prior.log_prob(theta)) - noise
        z = scaling.to_normalized(theta)
        # z of what is pinned has its density from the pullback.
        density = jnp.where(scaling.pinned, 0, -((z / prior.scale) ** 2) / 2).sum()
        return density - scaling.log_det(z) - noise

    return residuals, residuals_at, rest


def calibrated(
    measurement: Measurement,
    scaling: Scaling,
    space: ParameterSpace,
    *,
    prior: Prior,
    method: str,
    seed: int,
    start: Float[Array, " P"] | None = None,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates fitted to the posterior: by `least-squares` or, of its whole density, `laplace`.

    The search starts at `start`, a θ, or at the initial values of the space, where it has any.
    """
    residuals, residuals_at, rest = _parts(measurement, scaling, prior)
    median = scaling.unpack(scaling.to_original(jnp.zeros(scaling.size)))
    initial = {name: jnp.broadcast_to(jnp.asarray(value), median[name].shape)
               for name, value in space.initial.items()}  # fmt: skip
    first = scaling.pack({**median, **initial}) if start is None else start
    options: Any = {"key": jax.random.key(seed), "start": first}
    if method == "laplace":
        density = log_density(measurement, scaling, prior=prior)
        return from_log_density(density, scaling, **options)
    return from_residuals(
        residuals,
        scaling,
        log_prior=rest,
        residuals_at=residuals_at,
        linear=PER_ANGLE,
        noise="sigma",
        **options,
    )


def sample_posterior(
    measurement: Measurement,
    coordinates: AbstractCoordinates,
    space: ParameterSpace,
    sampling: Sampling,
    *,
    prior: Prior,
) -> az.InferenceData:
    """The posterior of every parameter of `space` in physical units, and of `theta_z`.

    `prior` is a distribution of θ, such as `declared_prior(space)`, or the normal prior on z.

    In calibrated coordinates chains start at draws of the fitted Gaussian, twice as wide as it is.
    In a Scaling they start at the initial values of the space, or, if it has none, at random points
    of normalized space. They run side by side where there is a device for each.
    """
    settled: Any = sampling.settled(None)
    start = init_to_standard_normal(scale=DISPERSION)
    if isinstance(coordinates, Scaling):
        start = init_to_uniform
        if space.initial:
            start = init_to_original("theta", coordinates, space.initial)
    parallel = jax.local_device_count() >= settled.chains > 1
    mcmc = MCMC(
        NUTS(
            model,
            dense_mass=settled.dense_mass,
            target_accept_prob=settled.target_accept,
            init_strategy=start,
        ),
        num_warmup=settled.warmup,
        num_samples=settled.samples,
        num_chains=settled.chains,
        chain_method="parallel" if parallel else "vectorized",
        progress_bar=settled.progress,
    )
    mcmc.run(
        jax.random.key(settled.seed),
        coordinates,
        measurement.experiment,
        measurement.c2,
        prior=prior,
        extra_fields=("num_steps", "energy", "diverging", "potential_energy"),
    )
    return az.from_numpyro(
        mcmc,
        log_likelihood=False,
        dims={**coordinates.dims, "theta_z": ["parameter"], "c2": ["phi", "pair"]},
        coords={
            **coordinates.coords(phi=measurement.experiment.phi),
            "parameter": coordinates.flat_names,
        },
    )


def exceeded(
    result: az.InferenceData,
    measurement: Measurement,
    coordinates: AbstractCoordinates,
    scaling: Scaling,
    report: Report,
    *,
    prior: Prior,
) -> tuple[float, Float[Array, " P"]] | None:
    """How far the best draw lies above the mode that calibration found, and its θ; or None.

    The log-density of the mode is the highest there is. Where sampling finds a higher one,
    calibration was wrong.
    """
    if not report.mode:
        return None
    lp = result["sample_stats"]["lp"].values
    chain, draw = np.unravel_index(np.nanargmax(lp), lp.shape)
    best = jnp.asarray(result["posterior"]["theta_z"].values[chain, draw], scaling.low.dtype)
    z, _ = coordinates.to_root_and_log_det(best)
    of_z = scaling.pullback(log_density(measurement, scaling, prior=prior))
    above = float(of_z(z)) - report.log_density
    return (above, scaling.to_original(z)) if above > EXCEEDED else None
