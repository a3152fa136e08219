"""Many searches for a mode side by side, by BFGS with steps of no more than a width of a prior."""

from __future__ import annotations

from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scalejax.calibrate.problem import LONGEST, Problem
from scalejax.calibrate.target import AbstractTarget

MANY_PARAMETERS = 200  # from which on no Hessian is kept
TOLERANCE = 1e-4
# A step that is too long is tried again a quarter as long.
SHORTER = 0.25


def minimised(problem: Problem, starts: Array, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where searches from `starts`, (n, P), end after `max_steps` steps, and how high."""
    # As many at once as the memory of a few Hessians allows.
    at_once = int(np.clip(4e7 / starts.shape[-1] ** 2, 1, len(starts)))
    ends, steps = problem.compiled(_minimised, max_steps=max_steps, at_once=at_once)(starts)
    problem.spent += float(steps.sum())  # the gradient at the start is that of the first step
    potentials = np.asarray(problem.potentials(ends), np.float64)
    ends = np.asarray(ends, np.float64)
    sound = np.isfinite(potentials) & np.isfinite(ends).all(1)
    return np.where(sound[:, None], ends, 0.0), np.where(sound, potentials, np.inf)


def _minimised(target: AbstractTarget, starts: Array, *, max_steps: int, at_once: int):
    import optimistix as optx

    solver = _solver(starts.shape[-1] >= MANY_PARAMETERS)

    def solve(z):
        solution = optx.minimise(
            lambda z, _: target.potential(z), solver, z, max_steps=max_steps, throw=False
        )
        return solution.value, solution.stats["num_steps"]

    return jax.lax.map(solve, starts, batch_size=at_once)


@cache
def _solver(limited_memory: bool) -> Any:
    """BFGS, or L-BFGS, with steps of a limited length (Dennis and Schnabel 1996, section 6.3.2).

    Before a search knows any curvature its step is the gradient itself, which may be 10⁸ long where
    a posterior is narrow: without a limit most of a search goes in shortening it.
    """
    import optimistix as optx

    class Limited(optx.NewtonDescent):
        """Steps of at most `LONGEST` in each parameter."""

        def query(self, y, f_info, state):
            state = super().query(y, f_info, state)
            factor = LONGEST / jnp.maximum(jnp.abs(state.newton).max(), LONGEST)
            return eqx.tree_at(lambda s: s.newton, state, state.newton * factor)

    solver = (optx.LBFGS if limited_memory else optx.BFGS)(rtol=TOLERANCE, atol=TOLERANCE)
    return eqx.tree_at(
        lambda s: (s.descent, s.search),
        solver,
        (Limited(), optx.BacktrackingArmijo(decrease_factor=SHORTER)),
    )
