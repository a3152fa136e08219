"""Modes: Newton's method from where a search ended, and how the ends lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from scalejax.calibrate.linear import factor_of_curvature, spectrum
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import another_mode

# Modes whose densities differ by more than this factor, e^10, do not share a posterior.
MODE_GAP = 10.0


@dataclass(frozen=True)
class End:
    """Where Newton's method ended."""

    z: np.ndarray
    potential: float
    gradient: np.ndarray
    curvature: np.ndarray
    factor: np.ndarray
    """Lower-triangular, of the fitted covariance."""

    @property
    def decrement(self) -> float:
        """Length of the gradient in units of the fitted standard deviations."""
        return float(np.linalg.norm(self.factor.T @ self.gradient))

    def apart(self, z: np.ndarray) -> float:
        """How far a point is, in the standard deviations fitted here."""
        return float(np.linalg.norm(np.linalg.solve(self.factor, z - self.z)))


_FRACTIONS = np.array([1.0, 0.5, 0.2, 0.05, 0.01, 1e-3])
_SHIFTS = 10.0 ** np.arange(0, 6)
_SIDESTEPS = np.array([1.0, -1.0, 0.3, -0.3, 0.1, -0.1])


def newton(problem: Problem, z: np.ndarray, most: int = 60) -> End | None:
    """Newton's method with a line search, from next to a mode; None where nothing is finite.

    Of a saddle it makes its way downwards.
    """

    def lowest(tried, than):
        values = np.asarray(problem.potentials(jnp.asarray(tried, problem.dtype)))
        better = np.isfinite(values) & (values < than)
        return tried[np.argmin(np.where(better, values, np.inf))] if better.any() else None

    def at(z):
        value, gradient = problem.value_and_gradient(jnp.asarray(z, problem.dtype))
        return float(value), np.asarray(gradient, np.float64)

    end = None
    value, gradient = at(z)
    for i in range(most):
        problem.told("Newton's method, steps", i, 0)
        matrix = np.asarray(problem.curvature(jnp.asarray(z, problem.dtype)), np.float64)
        if not (np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(matrix).all()):
            return end
        end = End(z, value, gradient, matrix, factor_of_curvature(matrix))
        values, vectors = spectrum(matrix)
        along = vectors.T @ gradient
        direction = -vectors @ (along / values)
        expected = gradient @ -direction
        if expected > 1e-6:
            # A step that gains what it should needs no others beside it.
            value, gradient = at(z + direction)
            if np.isfinite(gradient).all() and end.potential - value > expected / 4:
                z = z + direction
                continue
            # Shorter, and bent towards the gradient: in a curved valley a straight step leaves it.
            bent = -(along / (values + _SHIFTS[:, None])) @ vectors.T
            lower = lowest(
                z + np.concatenate([_FRACTIONS[:, None] * direction, bent]), end.potential
            )
        else:
            lower = None
        if lower is None:
            values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
            if values[0] < 0:
                aside = z + _SIDESTEPS[:, None] * vectors[:, 0]
                lower = lowest(aside, end.potential - 1e-3)
        if lower is None:
            return end
        z = lower
        value, gradient = at(z)
    return end


def polished(problem: Problem, candidates: np.ndarray, most: int) -> tuple[list[End], int]:
    """The modes next to the first candidates, best first, and how many of those led to the best.

    Candidates come best first. Newton's method runs from `most` of them; one that lies in a mode
    that is known already leads there.
    """
    ends: list[End] = []
    arrived: list[np.ndarray] = []
    runs = 0
    for z in candidates:
        if any(end.apart(z) < 1.0 for end in ends):
            arrived.append(z)
            continue
        if runs == most:
            continue
        runs += 1
        # Where one has run away, a density without a mode is likely, and not worth many steps more.
        arrived_all = all(end.decrement < 0.1 for end in ends)
        end = newton(problem, z, most=60 if arrived_all else 15)
        if end is None:
            continue
        arrived.append(end.z)
        if all(known.apart(end.z) >= 1.0 for known in ends):
            ends.append(end)
    ends = sorted(ends, key=lambda end: end.potential)
    return ends, sum(ends[0].apart(z) < 1.0 for z in arrived) if ends else 0


def rivals(ends: list[End]) -> list[str]:
    """What is to be said of modes beside the best, which comes first and has arrived."""
    best, *others = ends
    return [
        another_mode(best.apart(end.z), end.potential - best.potential)
        for end in others
        # What has not arrived, and is this near, is on its way to the best one.
        if end.potential - best.potential < MODE_GAP
        and (end.decrement < 0.1 or best.apart(end.z) > 5.0)
    ]
