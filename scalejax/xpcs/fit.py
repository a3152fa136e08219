"""The fit of a measurement: NUTS in normalized space, and its result as ArviZ InferenceData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz as az
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float
from numpyro.infer import NUTS, init_to_uniform

from scalejax.calibrate import Report, from_log_density, from_residuals
from scalejax.coordinates import AbstractCoordinates
from scalejax.numpyro import chunks, init_to_original, init_to_standard_normal
from scalejax.progress import Told, untold
from scalejax.runs import Groups, Run, sample_stats
from scalejax.sampling import Sampling
from scalejax.scaling import Scaling
from scalejax.space import ParameterSpace
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.model import blockwise
from scalejax.xpcs.parameters import AMPLITUDES
from scalejax.xpcs.posterior import Posterior, Prior, Residuals, Rest, log_density, mesh_for

DISPERSION = 2.0
"""How much wider than the fitted Gaussian chains begin, so that R-hat can tell where they end."""
EXCEEDED = 3.0
"""By how much a draw's log-density may exceed the mode's: by rounding, and what a search leaves."""


def calibrated(
    measurement: Measurement,
    scaling: Scaling,
    space: ParameterSpace,
    *,
    prior: Prior,
    method: str,
    seed: int,
    start: Float[Array, " P"] | None = None,
    told: Told = untold,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates fitted to the posterior: by `least-squares` or, of its whole density, `laplace`.

    The search starts at `start`, a θ, or at the initial values of the space, where it has any.
    """
    median = scaling.unpack(scaling.to_original(jnp.zeros(scaling.size)))
    initial = {name: jnp.broadcast_to(jnp.asarray(value), median[name].shape)
               for name, value in space.initial.items()}  # fmt: skip
    first = scaling.pack({**median, **initial}) if start is None else start
    options: Any = {"key": jax.random.key(seed), "start": first, "told": told}
    posterior = Posterior.of(measurement, scaling, prior=prior, mesh=mesh_for(measurement, 1))
    if method == "laplace":
        return from_log_density(
            posterior.of_items, scaling, blocks=posterior.c2,
            log_prior=Partial(Rest.log_prior, posterior.rest),
            **options,
        )  # fmt: skip
    c2 = np.asarray(measurement.c2, scaling.low.dtype).ravel()
    return from_residuals(
        posterior.residuals,
        scaling,
        log_prior=posterior.rest,
        residuals_at=Partial(Residuals.at, posterior.residuals),
        pick=lambda index: {"index": index, "c2": c2[index]},
        blocks=posterior.c2,
        linear=[name for name in AMPLITUDES if name in space],
        rowwise=[name for name, p in space.items() if p.dim == "phi"],
        noise="sigma",
        **options,
    )


class Draws:
    """A posterior as it comes in, of which what there is can be had at any time.

    In physical units, in NumPy's arrays: whoever asks for it does not wait for the sampler.
    """

    def __init__(self, measurement: Measurement, coordinates: AbstractCoordinates):
        self.measurement, self.coordinates = measurement, coordinates
        self.attrs: dict[str, Any] = {}
        self._parts: list[Groups] = []
        self._to_original = eqx.filter_jit(coordinates.to_original)

    def add(self, z: np.ndarray, fields: Mapping[str, np.ndarray]) -> Groups:
        """Take some draws of z, (chains, n, P), and what a sampler says of each; as they are kept.

        Every parameter in physical units, `theta_z`, and the sampler's fields.
        """
        theta = np.asarray(self._to_original(z))
        values = {
            group.name: theta[..., part.start] if group.size is None else theta[..., part]
            for group, part in self.coordinates.slices()
        }
        groups = {"posterior": {**values, "theta_z": z}, "sample_stats": sample_stats(fields)}
        self.take(groups)
        return groups

    def take(self, groups: Groups) -> None:
        """Take some draws as they were kept."""
        self._parts.append(groups)

    def __len__(self) -> int:
        """How many draws there are of each chain."""
        return sum(part["posterior"]["theta_z"].shape[1] for part in list(self._parts))

    def result(self) -> az.InferenceData:
        """What there is."""
        parts = list(self._parts)
        posterior, stats = (
            {name: np.concatenate([part[group][name] for part in parts], 1)
             for name in parts[0].get(group, {})}
            for group in ("posterior", "sample_stats")
        )  # fmt: skip
        result = az.from_dict(
            posterior,
            sample_stats=stats,
            observed_data={"c2": self.measurement.c2},
            dims={**self.dims, "c2": ["phi", "pair"]},
            coords={
                **self.coordinates.coords(),
                "phi": np.asarray(self.measurement.experiment.phi),
                "parameter": self.coordinates.flat_names,
            },
        )
        result.attrs.update(self.attrs)
        q = np.asarray(self.measurement.experiment.q)
        if q.ndim:  # angles are there once for each of several q
            groups = [name for name in result.groups() if "phi" in result[name].dims]
            result.map(lambda data: data.assign_coords(q=("phi", q)), groups=groups, inplace=True)
        return result

    @property
    def dims(self) -> dict[str, list[str]]:
        """Names of the axes beyond those of chains and draws."""
        return {**self.coordinates.dims, "theta_z": ["parameter"]}


def sample_posterior(
    measurement: Measurement,
    coordinates: AbstractCoordinates,
    space: ParameterSpace,
    sampling: Sampling,
    *,
    prior: Prior,
    report: Report | None = None,
    draws: Draws | None = None,
    run: Run | None = None,
    told: Told = untold,
) -> az.InferenceData:
    """The posterior of every parameter of `space` in physical units, and of `theta_z`.

    `prior` is a distribution of θ, such as `declared_prior(space)`, or the normal prior on z.

    In calibrated coordinates chains start at draws of the fit, twice as wide as it is, and every
    other one at what the search has found besides, if it has found anything. In a Scaling they
    start at the modes that calibration found, where those were several, or else at the initial
    values of the space, or, if it has none, at random points of normalized space. They run side by
    side where there is a device for each. `draws` takes them as they come, and `run` keeps them on
    disk: what it has already is not drawn again. `told` hears how far it has come.
    """
    settled: Any = sampling.settled(None)
    scaling: Any = coordinates.root
    draws = Draws(measurement, coordinates) if draws is None else draws
    start, first = init_to_standard_normal(scale=DISPERSION), None
    if isinstance(coordinates, Scaling):
        start = init_to_uniform
        if space.initial:
            start = init_to_original("theta", coordinates, space.initial)
    if report is not None and len(report.modes) > 1:
        modes = np.array(report.modes)[np.arange(settled.chains) % len(report.modes)]
        first = {"theta_z": _in_coordinates(jnp.asarray(modes, float), coordinates, settled.seed)}
    kernel = NUTS(
        blockwise,
        dense_mass=settled.dense_mass,
        adapt_mass_matrix=settled.adapt_mass,
        target_accept_prob=settled.target_accept,
        init_strategy=start,
    )
    after = None if run is None else run.after()
    if run is not None and after is not None and after.done > settled.warmup:
        draws.take(run.groups(after.done - settled.warmup))
    mesh = mesh_for(measurement, settled.chains)
    parts = chunks(
        kernel,
        jax.random.key(settled.seed),
        chains=settled.chains,
        warmup=settled.warmup,
        samples=settled.samples,
        init_params=first,
        mesh=mesh,
        after=after,
        args=(coordinates, Posterior.of(measurement, scaling, prior=prior, mesh=mesh)),
    )
    total = settled.warmup + settled.samples
    for part in parts:
        groups = {} if part.warmup else draws.add(part.z["theta_z"], part.fields)
        if run is not None:
            run.add(part, groups, warmup=settled.warmup)
        told("warmup and sampling, draws", part.done, total)
    return draws.result()


def _in_coordinates(modes: Array, coordinates: AbstractCoordinates, seed: int) -> Array:
    """Of the modes, each a z of the root, where chains begin: of a fit, not in its middle."""
    if isinstance(coordinates, Scaling):
        return modes
    drawn = DISPERSION * jax.random.normal(jax.random.key(seed), modes.shape)
    found = coordinates.to_normalized(coordinates.root.to_original(modes))
    return jnp.where((modes == modes[0]).all(-1, keepdims=True), drawn, found)


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
