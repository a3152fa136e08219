"""What a posterior predicts: c2 with a band, residuals, and how well frames left out are foretold.

It knows no sampler: it is given draws.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import arviz as az
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import stats

from scalejax.calibrate import K_HAT_GOOD
from scalejax.xpcs.correlation import Experiment, two_time
from scalejax.xpcs.inputs import Measurement

DRAWS = 200
"""Of which a prediction is made: its mean is off by 0.07 of the model's own sd then."""
LOO_DRAWS = 1000
STRETCHES = 50
"""Of frames, each of which is left out in turn."""
BAND = (0.05, 0.95)

Draws = Mapping[str, Float[np.ndarray, "draws ..."]]


def thinned(result: az.InferenceData, count: int) -> Draws:
    """About so many draws of every parameter, evenly from all chains."""
    posterior = result["posterior"]
    names = [str(name) for name in posterior.data_vars if name != "theta_z"]
    total = posterior.sizes["chain"] * posterior.sizes["draw"]
    places = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    return {
        name: posterior[name].values.reshape(total, *posterior[name].shape[2:])[places]
        for name in names
    }


@dataclass(frozen=True)
class Predicted:
    """c2 as the posterior has it, at the pairs t1 < t2."""

    mean: Float[np.ndarray, "n_phi n_pairs"]
    sd: Float[np.ndarray, "n_phi n_pairs"]
    """Of the model, without noise."""
    noise: float
    """The root of the posterior mean of σ²."""

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """The 5 % and the 95 % quantile of what would be measured: those of a normal distribution
        with this mean, and the variances of model and noise together."""
        wide = np.sqrt(self.sd**2 + self.noise**2)
        low, high = stats.norm.ppf(BAND)
        return self.mean + low * wide, self.mean + high * wide

    def residuals(self, c2: Float[np.ndarray, "n_phi n_pairs"]) -> np.ndarray:
        """(measured − mean)/noise."""
        return (c2 - self.mean) / self.noise


def predicted(result: az.InferenceData, experiment: Experiment, draws: int = DRAWS) -> Predicted:
    """Mean and sd of the model over some draws, one after another: in the memory of a few c2."""
    found = thinned(result, draws)
    mean, square = _moments(found, experiment)
    noise = float(np.sqrt((result["posterior"]["sigma"].values ** 2).mean()))
    count = len(found["sigma"])
    sd = np.sqrt(np.asarray(square) / max(count - 1, 1))
    return Predicted(np.asarray(mean), sd, noise)


@eqx.filter_jit
def _moments(draws: Draws, experiment: Experiment) -> tuple[Array, Array]:
    """Welford's mean, and sum of squares about it."""
    zero = jnp.zeros((experiment.phi.size, len(experiment.pairs[0])))

    def step(carry, theta):
        count, mean, square = carry
        value = two_time(theta, experiment)
        off = value - mean
        mean = mean + off / (count + 1)
        return (count + 1, mean, square + off * (value - mean)), None

    (_, mean, square), _ = jax.lax.scan(step, (0.0, zero, zero), dict(draws))
    return mean, square


@dataclass(frozen=True)
class LeftOut:
    """How well stretches of frames are foretold by the others (PSIS-LOO)."""

    elpd: tuple[float, ...]
    """The log density of what was measured in each, given the others."""
    k_hat: float
    """The largest of all stretches: good up to 0.7."""

    @property
    def trusted(self) -> bool:
        """Whether importance sampling can leave each of them out."""
        return self.k_hat <= K_HAT_GOOD


def left_out(result: az.InferenceData, measurement: Measurement) -> LeftOut:
    """Stretches of as many frames, left out in turn with all pairs whose later frame they have.

    Source: Vehtari, Gelman and Gabry 2017,
    doi:10.1007/s11222-016-9696-4, by ArviZ.
    """
    stretch = _stretches(measurement.experiment)
    found = thinned(result, LOO_DRAWS)
    values = _log_likelihood(
        found, measurement.experiment, jnp.asarray(measurement.c2), stretch, int(stretch.max()) + 1
    )
    log_likelihood = np.asarray(values, np.float64)[None]
    data = az.from_dict({"sigma": found["sigma"][None]}, log_likelihood={"c2": log_likelihood})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a large k̂, which is told
        loo: Any = az.loo(data, pointwise=True, reff=1.0)
    return LeftOut(tuple(loo["loo_i"].values.tolist()), float(loo["pareto_k"].max()))


def _stretches(experiment: Experiment) -> Int[np.ndarray, " n_pairs"]:
    """To which stretch each pair belongs, by its later frame; the first frame is in none."""
    _, later = experiment.pairs
    frames = experiment.t.size - 1
    return ((later - 1) * min(STRETCHES, frames) // frames).astype(np.int32)


@eqx.filter_jit
def _log_likelihood(draws, experiment, c2, stretch, count):
    def of(theta):
        square = ((c2 - two_time(theta, experiment)) / theta["sigma"]) ** 2
        each = (-square / 2 - jnp.log(theta["sigma"]) - jnp.log(2 * jnp.pi) / 2).sum(0)
        return jax.ops.segment_sum(each, stretch, count)

    return jax.lax.map(of, dict(draws))
