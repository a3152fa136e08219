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

from scalejax.calibrate.target import AbstractTarget, with_derivative
from scalejax.coordinates import AbstractCoordinates


class OfResiduals(AbstractTarget):
    """Log-density = −½·Σ residuals² + log_prior, of θ; see `from_residuals`."""

    base: AbstractCoordinates
    residuals: Callable[[Array], Array]
    residuals_at: Callable[[Array, Array], Array] | None
    log_prior: Callable[[Array], Any]
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
    ) -> OfResiduals:
        """With names in place of places. **Raises** `ValueError` for a noise that is a vector."""
        places = {group.name: part for group, part in base.slices()}
        index = np.arange(base.size)
        pinned = np.asarray(base.pinned)
        solved = tuple(int(i) for name in linear for i in index[places[name]] if not pinned[i])
        of_noise = [] if noise is None else index[places[noise]]
        if len(of_noise) > 1 and not pinned[of_noise].any():
            raise ValueError(f"noise: expected one standard deviation; {noise!r} is a vector")
        free = len(of_noise) == 1 and not pinned[of_noise].any()
        count = int(np.prod(jax.eval_shape(residuals, base.low).shape))
        at = int(of_noise[0]) if free else None
        return cls(base, residuals, residuals_at, log_prior, solved, at, count)

    @property
    def nonlinear(self) -> int:
        """How many parameters are not solved for."""
        free = int((~np.asarray(self.base.pinned)).sum())
        return free - len(self.linear) - (self.noise is not None)

    def of_z(self, z: Float[Array, " P"]) -> Array:
        """The residuals, in units of the noise."""
        return jnp.asarray(self.residuals(self.base.to_original(z)), z.dtype)

    def rest(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """The log-density but for the residuals."""
        return self.base.pullback(lambda theta: jnp.asarray(self.log_prior(theta), theta.dtype))(z)

    def log_density(self, z: Float[Array, " P"]) -> Float[Array, ""]:
        """Of z."""
        return self.rest(z) - (self.of_z(z) ** 2).sum() / 2

    @property
    def tangents(self) -> float:
        """One a parameter: the prior's own curvature is next to nothing."""
        return float(self.base.size)

    def probe(self, z: Float[Array, " P"]) -> Array:
        """All residuals times the noise."""
        return self.errors_of_z(z, None)

    def curvature(self, z: Float[Array, " P"], *, forwards: bool) -> Float[Array, "P P"]:
        """Gauss and Newton's, and that of the rest."""
        residual, slopes = with_derivative(lambda z: jnp.ravel(self.of_z(z)), z, forwards=forwards)
        highest = jax.lax.Precision.HIGHEST
        gauss_newton = jnp.matmul(slopes.T, slopes, precision=highest)
        if (noise := self.noise) is not None:
            # The noise divides every residual, and how that bends them is known. With r = e/σ and e
            # taken for linear, the Hessian of Σ r²/2 is more than JᵀJ by
            # Σr²·(q′q′ᵀ − q″) − (g q′ᵀ + q′ gᵀ), where q = log σ and g = Jᵀr + Σr²·q′.
            def log_noise(z):
                return jnp.log(self.base.to_original(z)[noise])

            along, total = jax.grad(log_noise)(z), (residual**2).sum()
            held = jnp.matmul(residual, slopes, precision=highest) + total * along
            gauss_newton += total * (jnp.outer(along, along) - jax.jacrev(jax.grad(log_noise))(z))
            gauss_newton -= jnp.outer(held, along) + jnp.outer(along, held)
        return gauss_newton - jax.jacrev(jax.grad(self.rest))(z)

    # --- of a part of the data, or of all where that is None ---

    def errors(self, theta: Float[Array, " P"], part: Array | None) -> Float[Array, " m"]:
        """Residuals times the noise, which they do not depend on then."""
        dtype = jnp.result_type(float)
        if part is None or self.residuals_at is None:
            found = jnp.ravel(jnp.asarray(self.residuals(theta), dtype))
        else:
            found = jnp.asarray(self.residuals_at(theta, part), dtype)
        return found if self.noise is None else found * theta[self.noise].astype(dtype)

    def errors_of_z(self, z: Float[Array, " P"], part: Array | None) -> Float[Array, " m"]:
        """The same, of z."""
        return self.errors(self.base.to_original(z), part)

    def terms(self, z: Array, part: Array | None) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """−log density, as a part of the data says, and the weight of a squared error."""
        theta = self.base.to_original(z)
        errors = self.errors(theta, part)
        weight = jnp.asarray(self.count / errors.size, errors.dtype)
        if self.noise is not None:
            weight = weight / jnp.asarray(theta, errors.dtype)[self.noise] ** 2
        height = weight * (errors**2).sum() / 2 - self.rest(z)
        return jnp.where(jnp.isnan(height), jnp.inf, height), weight

    def settled(self, z: Array, part: Array | None, *, forwards: bool) -> Float[Array, " P"]:
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
        self, z: Array, weight: Array, part: Array | None, *, forwards: bool
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
