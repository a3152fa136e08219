"""Least squares on part of the data, side by side from many points, by Levenberg and Marquardt.

It knows nothing of what a fit is for: `residuals` decides where to begin and what to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.blocks import Blocks, scattered
from scalejax.calibrate.compiled import in_parts
from scalejax.calibrate.least_squares import OfResiduals, Part
from scalejax.calibrate.linear import factor_of_curvature
from scalejax.calibrate.problem import EVALUATION, LONGEST, TANGENT, Problem

# The part of a step over which the second derivative along it is a difference, as they advise.
AHEAD = 0.1
# Numbers that are held for what is worked out side by side.
AT_ONCE = 1e7


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
    """The descents of a problem of least squares."""

    def __init__(self, problem: Problem, pick: Callable[[np.ndarray], Any] | None = None):
        assert isinstance(problem.target, OfResiduals)
        self.problem, self.target, self.pick = problem, problem.target, pick
        # Without the blocks, which may lie over many devices: a part is for one.
        light = eqx.tree_at(lambda t: t.blocks, self.target, None, is_leaf=lambda x: x is None)
        self.light = Problem(light, problem.kept, problem.told)

    @property
    def count(self) -> int:
        """Residuals in all."""
        return self.target.count

    def part(self, key: Array, count: int) -> Part | None:
        """`count` residuals, spread over all of them; None for all, where there are no parts.

        Of data in blocks, without `residuals_at`, as many items as have those.
        """
        target, total = self.target, self.count
        blocks = target.blocks if target.residuals_at is None else None
        if blocks is not None:
            total = blocks.items
            count = -(-count * total // self.count)
        elif target.residuals_at is None or (count >= total and target.blocks is None):
            return None
        count = min(count, total)
        index = scattered(key, count, total)
        if blocks is not None:
            return self.items(index)
        return Part(jnp.asarray(index) if self.pick is None else self.pick(index), count)

    def items(self, index: np.ndarray) -> Part:
        """A part of data in blocks: these items."""
        blocks = self.target.blocks
        assert blocks is not None
        return Part(_taken(blocks, jnp.asarray(index)), len(index) * (self.count // blocks.items))

    def whole(self, part: Part | None) -> bool:
        """Whether a part is all there is."""
        return part is None or part.size >= self.count

    def _compiled(self, f: Callable[..., Any], part: Part | None, **static: Any) -> Any:
        problem = self.problem if part is None else self.light
        return problem.compiled(f, forwards=self.problem.forwards, **static)

    def heights(self, z: Array, part: Part | None) -> np.ndarray:
        """−log density by the part of the data at each of z, once what can be solved for is."""
        self._count(len(z) * (2 * EVALUATION + len(self.target.linear) * TANGENT), part)
        # As many at once as a few hundred megabytes hold.
        each = self.count * self.target.share(part) * (len(self.target.linear) + 1)
        at_once = int(np.clip(AT_ONCE / each, 1, len(z)))
        heights = self._compiled(_heights, part)
        found = np.concatenate([heights(some, part) for some in in_parts(z, at_once)])[: len(z)]
        found = np.asarray(found, np.float64)
        return np.where(np.isfinite(found), found, np.inf)

    def descended(self, z: Array, part: Part | None, *, steps: int) -> list[Fit]:
        """Where descents from each of z end, best first."""
        descend = self._compiled(_descended, part)
        ends, heights, curvatures, taken = (
            np.asarray(x, np.float64) for x in descend(z, part, steps)
        )
        directions = self.problem.base.size + len(self.target.linear)
        self._count(float(taken.sum()) * (4 * EVALUATION + directions * TANGENT), part)
        used = round(self.count * self.target.share(part))
        fits = [Fit(*row, used) for row in zip(ends, heights, curvatures, strict=True)]
        return sorted(fits, key=lambda fit: fit.height if np.isfinite(fit.height) else np.inf)

    def _count(self, spent: float, part: Part | None) -> None:
        self.problem.spent += spent * self.target.share(part)


# --- traced ---


@eqx.filter_jit
def _taken(blocks: Blocks, index: Array) -> Any:
    return blocks.take(index).block(0)


def _heights(target: OfResiduals, z: Array, part: Part | None, *, forwards: bool) -> Array:
    return jax.vmap(lambda z: target.terms(target.settled(z, part, forwards=forwards), part)[0])(z)


def _descended(target: OfResiduals, z: Array, part: Part | None, steps: Array, *, forwards: bool):
    return jax.vmap(partial(_one, target, part=part, steps=steps, forwards=forwards))(z)


def _one(target: OfResiduals, z: Array, *, part: Part | None, steps: Array, forwards: bool):
    size = len(z)
    share = target.share(part)

    def body(carry):
        z, height, weight, damping, taken, still, _ = carry
        data, prior, gradient, errors, slopes = target.normal(z, weight, part, forwards=forwards)
        matrix = data + prior
        scale = jnp.maximum(jnp.abs(jnp.diagonal(matrix)), 1.0)
        factor = jax.scipy.linalg.cho_factor(matrix + damping * jnp.diag(scale))
        step = -jax.scipy.linalg.cho_solve(factor, gradient)
        # Half the second-order term of the path that the step begins (Transtrum and Sethna 2012,
        # arXiv:1201.5885, section 3): valleys of least squares are curved, and a straight step
        # leaves them. It is left out where it is not small beside the step.
        ahead = target.errors_of_z(z + AHEAD * step, part)
        second = 2 / AHEAD * ((ahead - errors) / AHEAD - slopes @ step)
        bend = -jax.scipy.linalg.cho_solve(factor, weight * (slopes.T @ second)) / 2
        small = (bend**2).sum() <= 0.375**2 * (step**2).sum()
        step = step + jnp.where(small, bend, 0)
        step = step * jnp.minimum(1.0, LONGEST / jnp.maximum(jnp.abs(step).max(), 1e-30))
        # The first step is none: it settles what can be solved for.
        sound = jnp.isfinite(step).all() & (taken > 0)
        tried = target.settled(z + jnp.where(sound, step, 0), part, forwards=forwards)
        new_height, new_weight = target.terms(tried, part)
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
