"""The posterior of a measurement as functions of θ, its data in blocks.

It knows no sampler and no calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jax.sharding import Mesh
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scalejax.blocks import Blocks
from scalejax.numpyro import NormalPrior, chain_mesh
from scalejax.scaling import Scaling
from scalejax.xpcs.correlation import Experiment, two_time_at, two_time_of_pairs
from scalejax.xpcs.inputs import Measurement

BLOCK = 2**16
"""Correlations in a block: half a megabyte, so that what is made of them stays in a cache."""

FEWEST = 4
"""Blocks for each device, from which on they are laid over several."""

Prior = dist.Distribution | NormalPrior


def log_density(
    measurement: Measurement, scaling: Scaling, *, prior: Prior
) -> Callable[[Float[Array, " P"]], Float[Array, ""]]:
    """The log-density of θ, of shape (P,), that `fit` samples, up to a constant."""
    mesh = mesh_for(measurement, 1)
    posterior = Posterior.of(measurement, scaling, prior=prior, mesh=mesh)
    return Partial(Posterior.log_density, posterior)


def mesh_for(measurement: Measurement, chains: int) -> Mesh | None:
    """Where the blocks of a measurement lie: over devices that chains leave, if there are enough.

    None for one device. The devices of one CPU share its cores: data are not laid over them, which
    gains next to nothing, and where they wait for each other they may hold all of its threads.
    """
    mesh = chain_mesh(chains)
    if jax.process_count() > 1:
        mesh = chain_mesh(chains, data=True)
    elif jax.default_backend() != "cpu":
        over = chain_mesh(chains, data=True)
        if measurement.c2.size >= BLOCK * FEWEST * over.shape["data"]:
            mesh = over
    return mesh if mesh.size > 1 else None


class Posterior(eqx.Module):
    """The log-density of θ, of shape (P,), that `fit` samples, up to a constant, and its parts.

    `prior` is a distribution of θ, or the normal prior on z of the Scaling. The data are arrays, so
    that what is compiled serves for all data of a shape.
    """

    c2: Blocks
    residuals: Residuals
    prior: Prior

    @classmethod
    def of(
        cls, measurement: Measurement, scaling: Scaling, *, prior: Prior, mesh: Mesh | None = None
    ) -> Posterior:
        """With the data in blocks, over the axis `data` of a mesh if there is one."""
        i, j = (pair.astype(np.int32) for pair in measurement.experiment.pairs)
        c2 = np.asarray(measurement.c2, scaling.low.dtype)
        data = {"c2": c2, "i": i, "j": j}
        if mesh is not None and mesh.shape["data"] == 1:
            mesh = None
        blocks = Blocks.split(data, size=max(BLOCK // len(c2), 1), mesh=mesh)
        return cls(blocks, Residuals(measurement.experiment, scaling), prior)

    @property
    def scaling(self) -> Scaling:
        """In which the normal prior on z is stated."""
        return self.residuals.scaling

    @property
    def rest(self) -> Rest:
        """The log-density but for the squares of residuals."""
        count = self.c2.items * self.residuals.experiment.phi.size
        return Rest(self.scaling, self.prior, count)

    @property
    def of_items(self) -> LogLikelihood:
        """That of each correlation, a function of θ and a block."""
        return LogLikelihood(self.residuals)

    def log_density(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        """Of θ."""
        return self.log_likelihood(theta) + self.rest.log_prior(theta)

    def log_likelihood(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        """But for −½·log 2π a correlation."""
        return self.c2.sum(self.of_items, theta)


class Rest(eqx.Module):
    """The log-density but for the squares of residuals, without the data."""

    scaling: Scaling
    prior: Prior
    count: int = eqx.field(static=True)
    """Of residuals."""

    def __call__(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        """Of θ."""
        noise = self.count * jnp.log(self.scaling.unpack(theta)["sigma"])
        return self.log_prior(theta) - noise

    def log_prior(self, theta: Float[Array, " P"]) -> Float[Array, ""]:
        """That of the prior."""
        if not isinstance(self.prior, NormalPrior):
            return jnp.asarray(self.prior.log_prob(theta))
        z = self.scaling.to_normalized(theta)
        # z of what is pinned has its density from the pullback.
        density = norm.logpdf(z, scale=self.prior.scale)
        density = jnp.where(self.scaling.pinned, 0, density).sum()
        return density - self.scaling.log_det(z)


class Residuals(eqx.Module):
    """Those of θ, of shape (P,), and a block, in units of the noise, of shape (n_phi, pairs)."""

    experiment: Experiment
    scaling: Scaling

    def __call__(self, theta: Float[Array, " P"], block: Any) -> Float[Array, "n_phi pairs"]:
        """Of a block with c2 and its pairs, `i` and `j`."""
        values = self.scaling.unpack(theta)
        mean = two_time_of_pairs(values, self.experiment, block["i"], block["j"])
        return (block["c2"] - mean) / values["sigma"]

    def at(self, theta: Float[Array, " P"], picked: Any) -> Float[Array, " m"]:
        """Of some correlations, `c2`, by their places in all, angle after angle, `index`."""
        values = self.scaling.unpack(theta)
        found = two_time_at(values, self.experiment, picked["index"])
        return (picked["c2"] - found) / values["sigma"]


class LogLikelihood(eqx.Module):
    """That of each correlation of a block, but for −½·log 2π, of shape (n_phi, pairs)."""

    residuals: Residuals

    def __call__(self, theta: Float[Array, " P"], block: Any) -> Float[Array, "n_phi pairs"]:
        """Of θ and a block."""
        sigma = self.residuals.scaling.unpack(theta)["sigma"]
        return -(self.residuals(theta, block) ** 2) / 2 - jnp.log(sigma)
