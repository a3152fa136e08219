"""Many searches for a mode side by side, by BFGS."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.problem import Problem
from scalejax.calibrate.target import AbstractTarget


def minimised(problem: Problem, starts: Array, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where searches from `starts`, (n, P), end after `max_steps` steps, and how high."""
    # As many at once as the memory of a few Hessians allows.
    at_once = int(np.clip(4e7 / starts.shape[-1] ** 2, 1, len(starts)))
    ends, steps = problem.compiled(_minimised, max_steps=max_steps, at_once=at_once)(starts)
    problem.spent += float(steps.sum()) + len(starts)
    potentials = np.asarray(problem.potentials(ends), np.float64)
    ends = np.asarray(ends, np.float64)
    sound = np.isfinite(potentials) & np.isfinite(ends).all(1)
    return np.where(sound[:, None], ends, 0.0), np.where(sound, potentials, np.inf)


def _minimised(target: AbstractTarget, starts: Array, *, max_steps: int, at_once: int):
    import optimistix as optx

    solver: Any = optx.BFGS if starts.shape[-1] < 200 else optx.LBFGS
    solver = solver(rtol=1e-4, atol=1e-4)

    def solve(z):
        solution = optx.minimise(
            lambda z, _: target.potential(z), solver, z, max_steps=max_steps, throw=False
        )
        return solution.value, solution.stats["num_steps"]

    return jax.lax.map(solve, starts, batch_size=at_once)
