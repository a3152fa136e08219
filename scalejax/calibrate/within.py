"""A problem as it is in coordinates laid over its own, without compiling the model once more."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scalejax.calibrate.layers import depth, down, rows_down
from scalejax.calibrate.problem import Problem
from scalejax.coordinates import AbstractLayer


class Within(Problem):
    """−log density of u, its gradient and curvature, by the chain rule from those in z."""

    def __init__(self, problem: Problem, coordinates: AbstractLayer):
        self.problem, self.base, self.told = problem, coordinates, problem.told
        self.dtype, self.layers = problem.dtype, depth(problem.base, coordinates)

    @property
    def spent(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """By the problem."""
        return self.problem.spent

    def potentials(self, z: Float[Array, "n P"]) -> np.ndarray:
        """−log density at each place in these coordinates."""
        below, log_det = rows_down(self.base, self.layers, z)
        return self.problem.potentials(below) - np.asarray(log_det)

    def value_and_gradient(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, u: Float[Array, " P"]
    ) -> tuple[Array, np.ndarray]:
        """At u."""
        z, log_det = down(self.base, self.layers, u)
        value, gradient = self.problem.value_and_gradient(z)
        jacobian, along, _ = _derivatives(self.base, self.layers, u, gradient)
        return value - log_det, np.asarray(jacobian.T @ gradient - along)

    def curvature(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, u: Float[Array, " P"]
    ) -> np.ndarray:
        """JᵀHJ, and what the map itself bends."""
        z, _ = down(self.base, self.layers, u)
        _, gradient = self.problem.value_and_gradient(z)
        jacobian, _, bend = _derivatives(self.base, self.layers, u, gradient)
        return np.asarray(jacobian.T @ self.problem.curvature(z) @ jacobian + bend)


@eqx.filter_jit
def _derivatives(coordinates, layers, u, gradient):
    """∂z/∂u, the gradient of log |det|, and the Hessian of gradient·z − log |det|."""

    def once(u):
        (z, log_det), pull = jax.vjp(lambda u: down(coordinates, layers, u), u)
        one = jnp.ones_like(log_det)
        (of_log_det,) = pull((jnp.zeros_like(z), one))
        (along,) = pull((jnp.asarray(gradient, u.dtype), -one))
        return (z, along), of_log_det

    # In one pass, which takes less to compile than three.
    (jacobian, bend), log_det = jax.jacfwd(once, has_aux=True)(u)
    return jacobian, log_det, bend
