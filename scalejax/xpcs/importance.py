"""The posterior of a measurement without chains, and how it compares with one of chains."""

from __future__ import annotations

from collections.abc import Iterable

import arviz as az
import equinox as eqx
import jax
import numpy as np
import xarray

from scalejax.calibrate import Resampled, resample
from scalejax.coordinates import AbstractCoordinates
from scalejax.diagnostics.chains import summary
from scalejax.progress import Told, untold
from scalejax.sampling import Sampling
from scalejax.scaling import Scaling
from scalejax.xpcs.fit import Draws
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.posterior import Prior, log_density

# Of the difference of two Monte Carlo estimates, in standard errors: of some hundred, none is
# larger in 99 of 100 cases.
AGREED = 4.0


def by_importance(
    measurement: Measurement,
    coordinates: AbstractCoordinates,
    scaling: Scaling,
    sampling: Sampling,
    *,
    prior: Prior,
    told: Told = untold,
) -> tuple[Resampled, az.InferenceData]:
    """As many draws as `sampling` asks for, all chains together; resampled, as InferenceData.

    **Raises** `NotTrusted` where the coordinates do not fit the posterior well enough.
    """
    count = sampling.chains * sampling.samples
    found = resample(
        coordinates,
        log_density(measurement, scaling, prior=prior),
        jax.random.fold_in(jax.random.key(sampling.seed), 1),
        count,
        told=told,
    )
    theta = found.draws.reshape(sampling.chains, sampling.samples, -1)
    draws = Draws(measurement, coordinates)
    z = np.asarray(eqx.filter_jit(coordinates.to_normalized)(theta))
    draws.add(z, {})
    result = draws.result()
    result.attrs.update(
        k_hat=found.k_hat,
        effective_draws=found.effective,
        log_evidence=found.log_evidence,
        log_evidence_error=found.log_evidence_error,
    )
    return found, result


def weighed_summary(
    found: Resampled, result: az.InferenceData, names: Iterable[str]
) -> xarray.Dataset:
    """That of the resampled draws, with the effective draws of the weighed ones, and no R-hat."""
    table = summary(result, names)
    statistic = table["statistic"]
    table = table.where(statistic != "ESS", found.effective)
    return table.where(statistic != "R-hat", np.nan)


def agreement(
    found: Resampled, result: az.InferenceData, coordinates: AbstractCoordinates
) -> tuple[float, int]:
    """The largest difference of a mean or an sd from those of chains, in standard errors; of how
    many.
    """
    free = ~np.asarray(coordinates.pinned)
    posterior = result["posterior"]
    theta = coordinates.pack({name: posterior[name].values for name in coordinates})
    chains = az.convert_to_dataset({"theta": np.asarray(theta)[..., free]})
    worst = 0.0
    for method, mine, error in (
        ("mean", found.mean, found.mean_error),
        ("sd", found.sd, found.sd_error),
    ):
        over = getattr(chains["theta"], {"mean": "mean", "sd": "std"}[method])(("chain", "draw"))
        other = az.mcse(chains, method=method)["theta"].values
        apart = np.abs(mine[free] - over.values) / np.hypot(error[free], other)
        worst = max(worst, float(apart.max()))
    return worst, 2 * int(free.sum())
