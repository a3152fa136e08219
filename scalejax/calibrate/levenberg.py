"""Least squares on part of the data, side by side from many points, by Levenberg and Marquardt.

It knows nothing of what a fit is for: `residuals` decides where to begin and what to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.linear import factor_of_curvature
from scalejax.calibrate.problem import Problem, derivative, runs_forwards

# How far a step may go in one coordinate, where their unit is about the width of a prior.
LONGEST = 1.5


@dataclass(frozen=True)
class Fit:
    """Where a descent ended: z, −log density, and the curvature there by the part's own data."""

    z: np.ndarray
    height: float
    curvature: np.ndarray
    used: int
    """How many residuals it has seen."""

    def near(self, z: np.ndarray) -> bool:
        """Whether a point may be the same mode, seen with other data."""
        if not (np.isfinite(self.height) and np.isfinite(self.curvature).all()):
            return False
        factor = factor_of_curvature(self.curvature)
        return bool(np.linalg.norm(np.linalg.solve(factor, z - self.z)) < 3 * np.sqrt(len(z)))


class LeastSquares:
    """Residuals of some coordinates' z, with their noise and what is linear taken care of."""

    def __init__(
        self,
        problem: Problem,
        residuals: Callable,
        residuals_at: Callable | None,
        rest: Callable[[Array], Array],
        linear: tuple[str, ...],
        noise: str | None,
    ):
        self.problem, self.base, self.rest = problem, problem.base, rest
        self.residuals, self.residuals_at = residuals, residuals_at
        self.count = int(np.prod(jax.eval_shape(residuals, self.base.low).shape))
        places = {group.name: part for group, part in self.base.slices()}
        index = np.arange(self.base.size)
        pinned = np.asarray(self.base.pinned)
        self.linear = np.array([i for name in linear for i in index[places[name]] if not pinned[i]])
        self.linear = self.linear.astype(int)
        self.noise = None if noise is None else index[places[noise]]
        if self.noise is not None and pinned[self.noise].any():
            self.noise = None
        elif self.noise is not None and len(self.noise) > 1:
            raise ValueError(f"noise: expected one standard deviation; {noise!r} is a vector")
        self.forwards = runs_forwards(lambda theta: self._errors(theta, None), self.base.low)
        self._descend = jax.jit(self._descended)
        self._settled_heights = jax.jit(self._heights)

    def part(self, key: Array, count: int) -> Array | None:
        """Places of `count` residuals, spread over all of them; None where all are wanted."""
        if self.residuals_at is None or count >= self.count:
            return None
        # One from each of `count` equal stretches.
        edges = np.linspace(0, self.count, count + 1)
        places = edges[:-1] + np.asarray(jax.random.uniform(key, (count,))) * np.diff(edges)
        return jnp.asarray(np.minimum(places.astype(int), self.count - 1))

    def heights(self, z: Array, part: Array | None) -> np.ndarray:
        """−log density by the part of the data at each of z, once what can be solved for is."""
        self._count(len(z) * (2 + len(self.linear)), part)
        found = np.asarray(self._settled_heights(z, part), np.float64)
        return np.where(np.isfinite(found), found, np.inf)

    def descended(self, z: Array, part: Array | None, *, steps: int) -> list[Fit]:
        """Where descents from each of z end, best first."""
        ends, heights, curvatures, taken = (
            np.asarray(x, np.float64) for x in self._descend(z, part, steps=steps)
        )
        self._count(float(taken.sum()) * (3 + self.base.size), part)
        used = self.count if part is None else len(part)
        fits = [Fit(*row, used) for row in zip(ends, heights, curvatures, strict=True)]
        return sorted(fits, key=lambda fit: fit.height if np.isfinite(fit.height) else np.inf)

    def _count(self, evaluations: float, part: Array | None) -> None:
        share = 1.0 if part is None else len(part) / self.count
        self.problem.spent += evaluations * share

    # --- one descent, traced ---

    def _errors(self, theta: Array, part: Array | None) -> Array:
        """Residuals times the noise, which they do not depend on then."""
        dtype = self.problem.dtype
        if part is None or self.residuals_at is None:
            found = jnp.ravel(jnp.asarray(self.residuals(theta), dtype))
        else:
            found = jnp.asarray(self.residuals_at(theta, part), dtype)
        return found if self.noise is None else found * theta[self.noise[0]].astype(dtype)

    def _errors_of_z(self, z: Array, part: Array | None) -> Array:
        return self._errors(self.base.to_original(z), part)

    def _settled(self, z: Array, part: Array | None) -> Array:
        """z with what enters linearly solved for, and the noise as large as the residuals."""
        if not len(self.linear) and self.noise is None:
            return z
        theta = jnp.asarray(self.base.to_original(z), self.problem.dtype)
        if len(self.linear):
            slopes = self._slopes(
                lambda v: self._errors(theta.at[self.linear].set(v), part), theta[self.linear]
            )
            errors = self._errors(theta, part)
            sizes = jnp.sqrt((slopes**2).sum(0))
            scaled = slopes / jnp.where(sizes > 0, sizes, 1)
            gram = scaled.T @ scaled + 1e-8 * jnp.eye(len(self.linear))
            step = jnp.linalg.solve(gram, scaled.T @ errors) / jnp.where(sizes > 0, sizes, 1)
            theta = theta.at[self.linear].add(-jnp.where(jnp.isfinite(step), step, 0))
        if self.noise is not None:
            size = jnp.sqrt(jnp.mean(self._errors(theta, part) ** 2))
            theta = theta.at[self.noise].set(size)
        low, high = self.base.low, self.base.high
        # A solution on a bound or beyond it is held a thousandth of the range inside.
        width = jnp.where(jnp.isfinite(high - low), high - low, 0) * 1e-3
        moved = np.concatenate([self.linear, [] if self.noise is None else self.noise]).astype(int)
        inside = jnp.clip(theta, low + width, high - width)
        settled = self.base.to_normalized(inside.astype(low.dtype)).astype(z.dtype)
        # Far out in z a prior says no more than that: what it cannot follow stays within reach.
        settled = jnp.clip(jnp.where(jnp.isfinite(settled), settled, z), -20, 20)
        if self.base.root is self.base:
            is_moved = np.isin(np.arange(self.base.size), moved)
            settled = jnp.where(is_moved, settled, z)
        return settled

    def _terms(self, z: Array, part: Array | None) -> tuple[Array, Array]:
        """−log density by the part of the data, and the weight of a squared error."""
        theta = self.base.to_original(z)
        errors = self._errors(theta, part)
        weight = jnp.asarray(self.count / errors.size, errors.dtype)
        if self.noise is not None:
            weight = weight / jnp.asarray(theta, errors.dtype)[self.noise[0]] ** 2
        height = weight * (errors**2).sum() / 2 - self.rest(z)
        return jnp.where(jnp.isnan(height), jnp.inf, height), weight

    def _heights(self, z: Array, part: Array | None) -> Array:
        return jax.lax.map(
            lambda z: self._terms(self._settled(z, part), part)[0], z, batch_size=len(z)
        )

    def _descended(self, z: Array, part: Array | None, *, steps: Array):
        return jax.vmap(partial(self._one, part=part, steps=steps))(z)

    def _one(self, z: Array, *, part: Array | None, steps: Array):
        size = len(z)
        share = 1.0 if part is None else len(part) / self.count

        def body(carry):
            z, height, weight, damping, taken, still, _ = carry
            data, prior, gradient, slopes = self._normal(z, weight, part)
            matrix = data + prior
            scale = jnp.maximum(jnp.abs(jnp.diagonal(matrix)), 1.0)
            factor = jax.scipy.linalg.cho_factor(matrix + damping * jnp.diag(scale))
            step = -jax.scipy.linalg.cho_solve(factor, gradient)
            step = step + self._bend(z, step, weight * slopes.T, factor, part)
            step = step * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.abs(step).max(), 1e-30))
            # The first step is none: it settles what can be solved for.
            sound = jnp.isfinite(step).all() & (taken > 0)
            tried = self._settled(z + jnp.where(sound, step, 0), part)
            new_height, new_weight = self._terms(tried, part)
            better = new_height < height
            gain = jnp.where(better, height - new_height, 0)
            return (
                jnp.where(better, tried, z),
                jnp.where(better, new_height, height),
                jnp.where(better, new_weight, weight),
                jnp.where(taken == 0, damping, damping * jnp.where(better, 0.2, 6.0)),
                taken + 1,
                jnp.where(gain > 1e-2, 0, still + 1),
                share * data + prior,
            )

        def going(carry):
            *_, taken, still, _ = carry
            return (taken <= steps) & (still < 4)

        none, one = jnp.zeros((), int), jnp.ones((), z.dtype)
        start = (z, one * jnp.inf, one, one * 1e-2, none, none, jnp.zeros((size, size), z.dtype))
        z, height, _, _, taken, _, matrix = jax.lax.while_loop(going, body, start)
        return z, height, matrix, taken

    def _bend(self, z, step, weighted, factor, part) -> Array:
        """Half the second-order term of the path that a step begins: Transtrum and Sethna 2012.

        Valleys of least squares are curved; a straight step leaves them, and has to be short. It is
        left out where it is not small beside the step (arXiv:1201.5885, section 3).
        """

        def along(t):
            return self._errors_of_z(z + t * step, part)

        def slope(t):
            return jax.jvp(along, (t,), (jnp.ones_like(t),))[1]

        if not self.forwards:
            return jnp.zeros_like(step)
        zero = jnp.zeros((), z.dtype)
        second = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))[1]
        bend = -jax.scipy.linalg.cho_solve(factor, weighted @ second) / 2
        small = (bend**2).sum() <= 0.375**2 * (step**2).sum()
        return jnp.where(small, bend, 0)

    def _slopes(self, f: Callable[[Array], Array], at: Array) -> Array:
        return derivative(f, forwards=self.forwards)(at)

    def _normal(
        self, z: Array, weight: Array, part: Array | None
    ) -> tuple[Array, Array, Array, Array]:
        """Gauss and Newton's matrix, that of the rest, the gradient, and the slopes.

        For the noise as it is: it is settled, and neither moves nor pulls.
        """
        errors = self._errors_of_z(z, part)
        slopes = self._slopes(lambda z: self._errors_of_z(z, part), z)
        prior = -jax.jacrev(jax.grad(self.rest))(z)
        data, prior = weight * (slopes.T @ slopes), (prior + prior.T) / 2
        gradient = weight * (slopes.T @ errors) - jax.grad(self.rest)(z)
        if self.noise is not None:
            at = self.noise[0]
            data = data.at[at, :].set(0).at[:, at].set(0)
            prior = prior.at[at, :].set(0).at[:, at].set(0).at[at, at].set(1)
            gradient = gradient.at[at].set(0)
        return data, prior, gradient, slopes
