"""The fit of a measurement: NUTS in normalized space, and its result as ArviZ InferenceData."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray
from jaxtyping import Array, Float
from numpyro.infer import MCMC, NUTS, init_to_uniform

from scalejax.calibrate import Report, from_log_density, from_residuals
from scalejax.coordinates import AbstractCoordinates
from scalejax.numpyro import init_to_original, init_to_standard_normal
from scalejax.scaling import Scaling
from scalejax.space import ParameterSpace
from scalejax.xpcs.correlation import two_time
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.model import model

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021, doi:10.1214/20-BA1221


@dataclass(frozen=True)
class Sampling:
    """How long and how to sample; None is left to what calibration finds (see `settled`)."""

    chains: int = 4
    warmup: int | None = None
    samples: int = 1000
    target_accept: float | None = None
    dense_mass: bool | None = None
    seed: int = 0
    progress: bool = False

    def settled(self, report: Report | None) -> Sampling:
        """With a value for what is None, by the report of a calibration, or None without one.

        After a good calibration the posterior is close to a standard normal: little is to be
        adapted. After a rough one it still has narrow bends, which take small steps. Where
        calibration has taken the correlations, estimating them once more adds noise: the mass
        matrix is diagonal then, and dense where they are still there.
        """
        kind = "none" if report is None else report.kind
        good = report is not None and report.good
        default = Sampling(
            warmup=300 if good else 1000,
            target_accept=0.9 if good or kind == "none" else 0.95,
            dense_mass=kind in ("none", "diagonal"),
        )
        return replace(
            default, **{name: value for name, value in vars(self).items() if value is not None}
        )


def log_density(
    measurement: Measurement, scaling: Scaling, *, prior: dist.Distribution | None
) -> Callable[[Float[Array, " P"]], Float[Array, ""]]:
    """The log-density of θ, of shape (P,), that `fit` samples, up to a constant.

    `prior` is a distribution of θ, or None for the normal prior on z of `scaling`.
    """
    residuals, rest = _parts(measurement, scaling, prior)
    return lambda theta: rest(theta) - (residuals(theta) ** 2).sum() / 2


def _parts(measurement, scaling, prior):
    """Residuals in units of the noise, and the log-density but for half their squares."""
    experiment = measurement.experiment
    c2 = jnp.asarray(measurement.c2, scaling.center.dtype)

    def residuals(theta):
        values = scaling.unpack(theta)
        return (c2 - two_time(values, experiment)) / values["sigma"]

    def rest(theta):
        noise = c2.size * jnp.log(scaling.unpack(theta)["sigma"])
        if prior is not None:
            return jnp.asarray(prior.log_prob(theta)) - noise
        z = scaling.to_normalized(theta)
        return -(z**2).sum() / 2 - scaling.log_det(z) - noise

    return residuals, rest


def calibrated(
    measurement: Measurement,
    scaling: Scaling,
    space: ParameterSpace,
    *,
    prior: dist.Distribution | None,
    method: str,
    seed: int,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates fitted to the posterior: by `least-squares` or, of its whole density, `laplace`.

    The search starts at the initial values of the space, where it has any.
    """
    residuals, rest = _parts(measurement, scaling, prior)
    median = scaling.unpack(scaling.to_original(jnp.zeros(len(scaling))))
    initial = {name: jnp.broadcast_to(jnp.asarray(value), median[name].shape)
               for name, value in space.initial.items()}  # fmt: skip
    options: Any = {"key": jax.random.key(seed), "start": scaling.pack({**median, **initial})}
    if method == "laplace":
        density = log_density(measurement, scaling, prior=prior)
        return from_log_density(density, scaling, **options)
    return from_residuals(residuals, scaling, log_prior=rest, **options)


def fit(
    measurement: Measurement,
    coordinates: AbstractCoordinates,
    space: ParameterSpace,
    sampling: Sampling,
    *,
    prior: dist.Distribution | None,
) -> az.InferenceData:
    """The posterior of every parameter of `space` in physical units, and of `theta_z`.

    `prior` is a distribution of θ, such as `declared_prior(space, sizes)`, or None for the normal
    prior on z.

    In calibrated coordinates chains start from the fitted Gaussian. In a Scaling they start at the
    initial values of the space, or, if it has none, at random points of normalized space. They
    run side by side where there is a device for each.
    """
    settled: Any = sampling.settled(None)
    start = init_to_standard_normal
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
        extra_fields=("num_steps", "energy", "diverging"),
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


def summary(result: az.InferenceData, space: ParameterSpace) -> xarray.Dataset:
    """Mean, sd, 5 % and 95 % quantiles, effective sample size and R-hat, along `statistic`.

    Of the parameters that are not pinned. R-hat is nan where there is one chain, or where none
    has moved.
    """
    posterior = result["posterior"][[name for name in space if not space[name].pinned]]
    quantiles = posterior.quantile([0.05, 0.95], dim=("chain", "draw"))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = {
            "mean": posterior.mean(("chain", "draw")),
            "sd": posterior.std(("chain", "draw"), ddof=1),
            "5 %": quantiles.isel(quantile=0, drop=True),
            "95 %": quantiles.isel(quantile=1, drop=True),
            "ESS": az.ess(posterior),
            "R-hat": az.rhat(posterior),
        }
    return xarray.concat(parts.values(), dim="statistic").assign_coords(statistic=list(parts))


def concerns(result: az.InferenceData, table: xarray.Dataset) -> list[str]:
    """What speaks against trusting the posterior, in words; nothing if it has converged."""
    found = []
    diverging = result["sample_stats"]["diverging"]
    if count := int(diverging.sum()):
        found.append(
            f"{count} of {diverging.size} draws diverged: the sampler could not follow the "
            "posterior there, and the draws may leave parts of it out"
        )
    if result["posterior"].sizes["chain"] < 2:
        found.append("one chain cannot show whether it has converged; run at least two")
        return found
    r_hat = {str(name): table[name].sel(statistic="R-hat").values for name in table.data_vars}
    # nan, of chains that stand still, is not within the limit either.
    high = [name for name, values in r_hat.items() if not (values <= R_HAT_LIMIT).all()]
    if high:
        name = max(high, key=lambda n: np.nan_to_num(r_hat[n], nan=np.inf).max())
        found.append(
            f"R-hat exceeds {R_HAT_LIMIT} for {', '.join(high)} (worst: {name}, "
            f"{r_hat[name].max():.3f}): the chains do not agree yet; sample longer"
        )
    return found
