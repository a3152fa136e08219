"""A target of least squares: its residuals with their noise, and what is linear, taken care of.

It knows nothing of a search; `levenberg` descends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scalejax.blocks import Blocks, Normal
from scalejax.calibrate.target import AbstractTarget, with_derivative
from scalejax.coordinates import AbstractCoordinates


class Part(eqx.Module):
    """A part of the data, picked out before anything is compiled that is of the part alone."""

    data: Any
    """What `residuals_at` or `residuals` take."""
    size: int = eqx.field(static=True)
    """Of how many residuals."""


class _Squared(eqx.Module):
    """Squares of residuals by blocks."""

    residuals: Callable[[Array, Any], Array]

    def __call__(self, theta: Array, block: Any) -> Array:
        return self.residuals(theta, block) ** 2


class OfResiduals(AbstractTarget):
    """Log-density = −½·Σ residuals² + log_prior, of θ; see `from_residuals`."""

    base: AbstractCoordinates
    residuals: Callable[..., Array]
    """Of θ, or of θ and a block."""
    residuals_at: Callable[[Array, Any], Array] | None
    log_prior: Callable[[Array], Any]
    blocks: Blocks | None
    rowwise: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    """Places of what enters one row of the residuals each."""
    linear: tuple[int, ...] = eqx.field(static=True)
    """Places of what enters the residuals linearly."""
    noise: int | None = eqx.field(static=True)
    """That of the residuals' standard deviation."""
    count: int = eqx.field(static=True)
    """Residuals in all."""

    @classmethod
    def of(
        cls,
        base: AbstractCoordinates,
        residuals: Callable,
        residuals_at: Callable | None,
        log_prior: Callable,
        linear: Sequence[str],
        noise: str | None,
        blocks: Blocks | None,
        rowwise: Sequence[str],
    ) -> OfResiduals:
        """With names in place of places.

        **Raises** `ValueError` for a noise that is a vector, and a group of `rowwise` that has not
        one element a row.
        """
        places = {group.name: part for group, part in base.slices()}
        index = np.arange(base.size)
        pinned = np.asarray(base.pinned)
        solved = tuple(int(i) for name in linear for i in index[places[name]] if not pinned[i])
        of_noise = [] if noise is None else index[places[noise]]
        if len(of_noise) > 1 and not pinned[of_noise].any():
            raise ValueError(f"noise: expected one standard deviation; {noise!r} is a vector")
        free = len(of_noise) == 1 and not pinned[of_noise].any()
        at = int(of_noise[0]) if free else None
        by_row = tuple(tuple(index[places[name]].tolist()) for name in rowwise)
        if blocks is None:
            count = int(np.prod(jax.eval_shape(residuals, base.low).shape))
        else:
            shape = blocks.shape(residuals, base.low)
            count = int(np.prod(shape[:-1], dtype=int)) * blocks.items
            for name, group in zip(rowwise, by_row, strict=True):
                if len(group) != shape[0]:
                    raise ValueError(
                        f"rowwise: expected one element of {name!r} for each of {shape[0]} rows of "
                        f"residuals; it has {len(group)}"
                    )
        return cls(base, residuals, residuals_at, log_prior, blocks, by_row, solved, at, count)

    @property
    def nonlinear(self) -> int:
        """How many parameters are not solved for."""
        free = int((~np.asarray(self.base.pinned)).sum())
        return free - len(self.linear) - (self.noise is not None)

    def of_z(self, z: Float[Array, " P"], *block: Any) -> Array:
        """The residuals, in units of the noise; of data in blocks, those of the block given."""
        return jnp.asarray(self.residuals(self.base.to_original(z), *block), z.dtype)

    def rest(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """The log-density but for the residuals."""
        return self.base.pullback(lambda theta: jnp.asarray(self.log_prior(theta), theta.dtype))(z)

    def log_density(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """Of z."""
        if self.blocks is None:
            return self.rest(z) - (self.of_z(z) ** 2).sum() / 2
        square = self.blocks.sum(_Squared(self.residuals), self.base.to_original(z))
        return self.rest(z) - jnp.asarray(square, z.dtype) / 2

    @property
    def at_once(self) -> bool:
        """Unless data come in blocks."""
        return self.blocks is None

    @property
    def tangents(self) -> float:
        """One a parameter, or a group by row: the prior's own curvature is next to nothing."""
        return float(self.base.size - sum(len(group) - 1 for group in self.rowwise))

    def probe(self, z: Float[Array, " P"]) -> Array:
        """All residuals times the noise; of data in blocks nothing, since they run forwards."""
        return self.errors_of_z(z, None) if self.blocks is None else z

    def curvature(self, z: Float[Array, " P"], *, forwards: bool) -> Float[Array, "P P"]:
        """Gauss and Newton's, and that of the rest."""
        total, pull, gauss_newton = self._normal(z, forwards=forwards)
        if (noise := self.noise) is not None:
            # The noise divides every residual, and how that bends them is known. With r = e/σ and e
            # taken for linear, the Hessian of Σ r²/2 is more than JᵀJ by
            # Σr²·(q′q′ᵀ − q″) − (g q′ᵀ + q′ gᵀ), where q = log σ and g = Jᵀr + Σr²·q′.
            def log_noise(z):
                return jnp.log(self.base.to_original(z)[noise])

            along = jax.grad(log_noise)(z)
            held = pull + total * along
            gauss_newton += total * (jnp.outer(along, along) - jax.jacrev(jax.grad(log_noise))(z))
            gauss_newton -= jnp.outer(held, along) + jnp.outer(along, held)
        return gauss_newton - jax.jacrev(jax.grad(self.rest))(z)

    def _normal(self, z: Float[Array, " P"], *, forwards: bool) -> Normal:
        """Σ r², Jᵀr and JᵀJ, of z."""
        highest = jax.lax.Precision.HIGHEST
        if self.blocks is None:
            residual, slopes = with_derivative(
                lambda z: jnp.ravel(self.of_z(z)), z, forwards=forwards
            )
            return Normal(
                (residual**2).sum(),
                jnp.matmul(residual, slopes, precision=highest),
                jnp.matmul(slopes.T, slopes, precision=highest),
            )
        theta, inner = with_derivative(self.base.to_original, z, forwards=True)
        found = self.blocks.normal(self.residuals, theta, rowwise=self.rowwise)
        square, pull, gram = (jnp.asarray(x, z.dtype) for x in found)
        gram = jnp.matmul(inner.T, jnp.matmul(gram, inner, precision=highest), precision=highest)
        return Normal(square, inner.T @ pull, gram)

    # --- of a part of the data, or of all where that is None ---

    def share(self, part: Part | None) -> float:
        """How much of all data a part is."""
        return 1.0 if part is None else part.size / self.count

    def errors(self, theta: Float[Array, " P"], part: Part | None) -> Float[Array, " m"]:
        """Residuals times the noise, which they do not depend on then."""
        if part is None:
            found = self.residuals(theta)
        elif self.residuals_at is not None:
            found = self.residuals_at(theta, part.data)
        else:
            found = self.residuals(theta, part.data)
        found = jnp.ravel(jnp.asarray(found, jnp.result_type(float)))
        return found if self.noise is None else found * theta[self.noise].astype(found.dtype)

    def errors_of_z(self, z: Float[Array, " P"], part: Part | None) -> Float[Array, " m"]:
        """The same, of z."""
        return self.errors(self.base.to_original(z), part)

    def terms(self, z: Array, part: Part | None) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """−log density, as a part of the data says, and the weight of a squared error."""
        theta = self.base.to_original(z)
        errors = self.errors(theta, part)
        weight = jnp.asarray(self.count / errors.size, errors.dtype)
        if self.noise is not None:
            weight = weight / jnp.asarray(theta, errors.dtype)[self.noise] ** 2
        height = weight * (errors**2).sum() / 2 - self.rest(z)
        return jnp.where(jnp.isnan(height), jnp.inf, height), weight

    def settled(self, z: Array, part: Part | None, *, forwards: bool) -> Float[Array, " P"]:
        """z with what enters linearly solved for, and the noise as large as the residuals."""
        linear, noise = np.array(self.linear, int), self.noise
        if not len(linear) and noise is None:
            return z
        theta = jnp.asarray(self.base.to_original(z), jnp.result_type(float))
        if len(linear):
            errors, slopes = with_derivative(
                lambda v: self.errors(theta.at[linear].set(v), part),
                theta[linear],
                forwards=forwards,
            )
            sizes = jnp.sqrt((slopes**2).sum(0))
            scaled = slopes / jnp.where(sizes > 0, sizes, 1)
            gram = scaled.T @ scaled + 1e-8 * jnp.eye(len(linear))
            step = -jnp.linalg.solve(gram, scaled.T @ errors) / jnp.where(sizes > 0, sizes, 1)
            step = jnp.where(jnp.isfinite(step), step, 0)
            theta, errors = theta.at[linear].add(step), errors + slopes @ step
        else:
            errors = self.errors(theta, part)
        if noise is not None:
            theta = theta.at[noise].set(jnp.sqrt(jnp.mean(errors**2)))
        low, high = self.base.low, self.base.high
        # A solution on a bound or beyond it is held a thousandth of the range inside.
        width = jnp.where(jnp.isfinite(high - low), high - low, 0) * 1e-3
        inside = jnp.clip(theta, low + width, high - width)
        settled = self.base.to_normalized(inside.astype(low.dtype)).astype(z.dtype)
        # Far out in z a prior says no more than that: what it cannot follow stays within reach.
        settled = jnp.clip(jnp.where(jnp.isfinite(settled), settled, z), -20, 20)
        if self.base.root is self.base:
            moved = [*self.linear, *(() if noise is None else (noise,))]
            settled = jnp.where(np.isin(np.arange(self.base.size), moved), settled, z)
        return settled

    def normal(
        self, z: Array, weight: Array, part: Part | None, *, forwards: bool
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Gauss and Newton's matrix, that of the rest, the gradient, and errors with their slopes.

        For the noise as it is: it is settled, and neither moves nor pulls.
        """
        errors, slopes = with_derivative(lambda z: self.errors_of_z(z, part), z, forwards=forwards)
        pull, prior = with_derivative(jax.grad(self.rest), z, forwards=False)
        data, prior = weight * (slopes.T @ slopes), -(prior + prior.T) / 2
        gradient = weight * (slopes.T @ errors) - pull
        if (at := self.noise) is not None:
            data = data.at[at, :].set(0).at[:, at].set(0)
            prior = prior.at[at, :].set(0).at[:, at].set(0).at[at, at].set(1)
            gradient = gradient.at[at].set(0)
        return data, prior, gradient, errors, slopes
