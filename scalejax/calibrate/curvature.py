"""Coordinates from the curvature at the mode: of a log-density, and of a least-squares model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from scalejax.calibrate.dense import dense_fit
from scalejax.calibrate.low_rank import low_rank_fit
from scalejax.calibrate.problem import Problem, check_starts, searches_of
from scalejax.calibrate.report import Report
from scalejax.coordinates import AbstractCoordinates

DENSE_LIMIT = 2000


def from_log_density(
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    coordinates: AbstractCoordinates,
    *,
    key: Array,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 4,
    draws: int = 4000,
    max_steps: int = 1000,
    rank: int = 20,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from the curvature at the mode of a log-density of θ, of shape (P,).

    The mode in z is sought by BFGS, from `start`, a θ (by default that at z = 0), and from normal
    draws, and by Newton's method from where that ends. There are `starts` searches, and, unless two
    of them end in the best mode, up to three times as many. No direction is taken to be wider than
    the unit of z. For more than 2000 parameters the search is by L-BFGS, of `starts` searches, and
    the curvature a diagonal and `rank` directions, from Hessian-vector products.
    `draws` of the fitted Gaussian are weighed against the density; beyond 2000 parameters, where
    weights say nothing, the density must fall towards such draws as its curvature says.

    **Raises** `ValueError` for starts below 1.

    Examples:
        >>> import jax
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_log_density
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> def log_density(theta):
        ...     a, b = theta
        ...     return -((a + b) ** 2) / 0.02 - (a - b) ** 2 / 2
        >>> coordinates, report = from_log_density(log_density, scaling, key=jax.random.key(0))
        >>> print(report.kind)
        dense
    """
    check_starts(starts)
    import optimistix as optx

    # A model may compute in another dtype than the coordinates'; the search is in one.
    of_z = coordinates.pullback(lambda theta: jnp.asarray(log_density(theta), theta.dtype))
    problem = Problem(coordinates, of_z)
    few = coordinates.size <= DENSE_LIMIT
    solver: Any = (optx.BFGS if few else optx.LBFGS)(rtol=1e-4, atol=1e-4)

    @eqx.filter_jit
    def solve(z):
        solution = optx.minimise(
            lambda z, _: problem.potential(z), solver, z, max_steps=max_steps, throw=False
        )
        return solution.value, solution.stats["num_steps"]

    search_key, check_key = jax.random.split(key)
    searches = searches_of(solve, search_key, start, problem)
    if few:
        hessian = jax.jit(jax.hessian(problem.potential))
        return dense_fit(problem, hessian, searches, starts, check_key, draws)
    return low_rank_fit(problem, searches, starts, check_key, rank)


def from_residuals(
    residuals: Callable[[Float[Array, " P"]], Float[Array, "..."]],
    coordinates: AbstractCoordinates,
    *,
    log_prior: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    key: Array,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 4,
    draws: int = 4000,
    max_steps: int = 1000,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from a least-squares model: log-density = −½·Σ residuals² + log_prior, of θ.

    Residuals are in units of the noise. Where the noise σ is itself a parameter, `log_prior` is
    more than the prior: it holds the −M·log σ of M residuals as well. The mode in z is sought as by
    `from_log_density`, but by Levenberg–Marquardt, and the curvature of the residuals is that of
    Gauss and Newton, JᵀJ, which is never negative.

    **Raises** `ValueError` for starts below 1.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling
        >>> from scalejax.calibrate import from_residuals
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> x = jnp.linspace(100.0, 101.0, 20)
        >>> coordinates, report = from_residuals(
        ...     lambda theta: (theta[0] + theta[1] * (x - 100.0) - 2.0) / 0.1, scaling,
        ...     log_prior=lambda theta: -0.5 * (theta**2).sum(), key=jax.random.key(0))
        >>> print(report.kind)
        dense
    """
    check_starts(starts)
    import lineax as lx
    import optimistix as optx

    def of_z(z):
        return jnp.ravel(jnp.asarray(residuals(coordinates.to_original(z)), z.dtype))

    rest = coordinates.pullback(lambda theta: jnp.asarray(log_prior(theta), theta.dtype))
    problem = Problem(coordinates, lambda z: rest(z) - (of_z(z) ** 2).sum() / 2)
    residual_count = jax.eval_shape(of_z, coordinates.low).size

    def rest_of(z):
        """What is neither a sum of squares nor the unit Gaussian, which is one."""
        return -rest(z) - (z**2).sum() / 2

    @eqx.filter_jit
    def solve(z):
        # It enters as the square root of its height above a floor that is far below: its gradient
        # is exact, and it stays smooth as long as it does not fall that far.
        floor = rest_of(z) - 20.0 * (residual_count + len(z))

        def everything(z, _):
            return of_z(z), z, jnp.sqrt(2 * jnp.maximum(rest_of(z) - floor, 1.0))

        solver = optx.LevenbergMarquardt(
            rtol=1e-3, atol=1e-3, linear_solver=lx.Normal(lx.Cholesky())
        )
        solution = optx.least_squares(everything, solver, z, max_steps=max_steps, throw=False)
        # A Jacobian is as many forward derivatives as there are parameters.
        return solution.value, solution.stats["num_steps"] * (1 + coordinates.size)

    @jax.jit
    def curvature(z):
        slopes = jax.jacfwd(of_z)(z)
        gauss_newton = jnp.matmul(slopes.T, slopes, precision=jax.lax.Precision.HIGHEST)
        return gauss_newton + jax.hessian(lambda z: -rest(z))(z)

    search_key, check_key = jax.random.split(key)
    searches = searches_of(solve, search_key, start, problem)
    return dense_fit(problem, curvature, searches, starts, check_key, draws)
