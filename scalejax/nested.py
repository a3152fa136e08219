"""Nested-Laplace coordinates: one curved direction, straightened, on top of any coordinates.

A funnel, a banana, a posterior that leans on a bound: one parameter along which the others move and
breathe. They are coordinates and nothing else: how the tables are found, this module does not know
(`calibrate` finds them).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float, Int, Num

from scalejax.coordinates import AbstractCoordinates, AbstractLayer
from scalejax.spline import coefficients, evaluate, place

# How far the tables of widths go on beyond their ends, smoothly, before they level off: a width
# that grew as the exponential of a coordinate for ever would overflow.
SATURATION = 8.0


class NestedLaplace(AbstractLayer):
    """u ↦ z: one parameter by a monotone curve, and the others about a mean that moves with it.

    With a = `along`, and r the others:

        z[a] = T(u[a])
        z[r] = mean(u[a]) + factor·R(u[a])·u[r],   R = mixing·diag(exp(log_width))

    T, mean, log_width and mixing are natural cubic splines of u[a], given by their values at K
    equally spaced places from −reach to reach; T and mean are straight lines beyond. The map is
    triangular: its log |det| is exact, and so is its inverse. What is traced is not looked at.

    Where T makes z[a] of a posterior standard normal, and mean and factor·R are mean and Cholesky
    factor of the others, given z[a], u is close to a standard normal: the nested Laplace
    approximation of Rue, Martino and Chopin (2009), doi:10.1111/j.1467-9868.2008.00700.x, made a
    change of coordinates.

    **Raises:** `ValueError` for an `along` that is no place in the vector, shapes that do not fit,
    fewer than four places, values that are not finite, a factor that is not lower-triangular with a
    positive diagonal, a mixing that is not upper-triangular with ones on its diagonal, and a T
    whose spline does not rise.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from scalejax import NestedLaplace, Scaling
        >>> scaling = Scaling(0.0, 1.0, -50.0, 50.0, groups={"v": None, "x": None})
        >>> u = np.linspace(-4.0, 4.0, 17)
        >>> funnel = NestedLaplace(scaling, along=0, reach=4.0, point=u, mean=np.zeros((17, 1)),
        ...                        log_width=u[:, None] / 2)
        >>> z, log_det = funnel.to_base_and_log_det(jnp.array([2.0, 1.0]))
        >>> print(z.round(1), log_det.round(1))  # x is e wide at v = 2
        [2.  2.7] 1.0
    """

    base: AbstractCoordinates
    point: Float[Array, " K+2"]
    mean: Float[Array, "K+2 n"]
    factor: Float[Array, "n n"]
    log_width: Float[Array, "K+2 n"]
    mixing: Float[Array, "K+2 n n"]
    along: Int[Array, ""]
    """An array, so that maps along different parameters share a compilation."""
    reach: float = eqx.field(static=True)

    def __init__(
        self,
        base: AbstractCoordinates,
        *,
        along: int,
        point: Num[ArrayLike, " K"],
        mean: Num[ArrayLike, "K n"],
        log_width: Num[ArrayLike, "K n"],
        mixing: Num[ArrayLike, "K n n"] | None = None,
        factor: Num[ArrayLike, "n n"] | None = None,
        reach: float = 4.5,
    ):
        size = base.size
        if not 0 <= along < size:
            raise ValueError(f"along: expected a place from 0 to {size - 1}; got {along}")
        if not 0 < reach < np.inf:
            raise ValueError(f"reach: expected a positive number; got {reach}")
        self.base, self.along, self.reach = base, jnp.asarray(along), float(reach)
        count, n = np.shape(point)[0], size - 1
        if count < 4:
            raise ValueError(f"point: expected values at four places or more; got {count}")
        table = partial(_table, base=base)
        self.point = table("point", point, (count,))
        self.mean = table("mean", mean, (count, n))
        self.log_width = table("log_width", log_width, (count, n))
        eye = jnp.eye(n)
        mixing = jnp.broadcast_to(eye, (count, n, n)) if mixing is None else mixing
        self.mixing = table("mixing", mixing, (count, n, n))
        factor = jnp.asarray(eye if factor is None else factor, base.low.dtype)
        _check("factor", factor, (n, n))
        self.factor = factor
        if not isinstance(self.point, Tracer) and not (np.diff(np.asarray(self.point)) > 0).all():
            raise ValueError(
                f"point: expected values whose spline rises, in {base.low.dtype}; got {point}"
            )
        if not isinstance(factor, Tracer):
            values = np.asarray(factor)
            if np.triu(values, 1).any() or not (np.diag(values) > 0).all():
                raise ValueError("factor: expected a lower-triangular, positive diagonal")
        if not isinstance(mixing, Tracer):
            values = np.asarray(mixing)
            if np.tril(values, -1).any() or (np.diagonal(values, axis1=1, axis2=2) != 1).any():
                raise ValueError("mixing: expected upper-triangular matrices, ones on the diagonal")

    def to_base_and_log_det(
        self, z: Float[ArrayLike, "*batch P"]
    ) -> tuple[Float[Array, "*batch P"], Float[Array, "*batch"]]:
        """z of the base, and log |det| = log T′ + Σ log_width + log |det factor|."""
        return self._each(self._forward, self.checked_axis(z, "to_base_and_log_det"))

    def from_base(self, z: Float[ArrayLike, "*batch P"]) -> Float[Array, "*batch P"]:
        """The inverse: u[a] by solving T(u[a]) = z[a], and then two triangular solves."""
        return self._each(self._inverse, self.checked_axis(z, "from_base"))

    # --- for one vector ---

    def _each(self, f, array: Array) -> Any:
        if array.ndim == 1:
            return f(array)
        found = jax.vmap(f)(array.reshape(-1, self.size))
        return jax.tree.map(lambda x: x.reshape(*array.shape[:-1], *x.shape[1:]), found)

    def _forward(self, u: Array) -> tuple[Array, Array]:
        first, rest = u[self.along], self._rest
        point, slope = self._point(first)
        mean, width, mixing = self._conditional(first)
        spread = _product(self.factor, _product(mixing, jnp.exp(width) * u[rest]))
        z = u.at[self.along].set(point).at[rest].set(mean + spread)
        log_det = jnp.log(slope) + width.sum() + jnp.log(jnp.diagonal(self.factor)).sum()
        return z, log_det

    def _inverse(self, z: Array) -> Array:
        first, rest = self._place(z[self.along]), self._rest
        mean, width, mixing = self._conditional(first)
        spread = solve_triangular(self.factor, z[rest] - mean, lower=True)
        spread = solve_triangular(mixing, spread, unit_diagonal=True)
        return z.at[self.along].set(first).at[rest].set(spread * jnp.exp(-width))

    @property
    def _rest(self) -> Int[Array, " n"]:
        others = jnp.arange(self.size - 1)
        return jnp.where(others < self.along, others, others + 1)

    def _point(self, u: Array) -> tuple[Array, Array]:
        """T and its derivative."""
        return evaluate(self.point, place(u, self.reach, len(self.point)))

    def _conditional(self, u: Array) -> tuple[Array, Array, Array]:
        """Mean, log widths and mixing at a place along the curve."""
        at = place(u, self.reach, len(self.point))
        level = SATURATION * jnp.tanh(at.beyond / SATURATION)
        mean, _ = evaluate(self.mean, at)
        width, _ = evaluate(self.log_width, at, level)
        mixing, _ = evaluate(self.mixing, at, level)
        return mean, width, mixing

    def _place(self, point: Array) -> Array:
        """The u at which T is `point`: by bisection, and Newton's method for the last digits."""
        low = jnp.searchsorted(self._knots, point) - 1
        step = 2 * self.reach / (len(self.point) - 3)
        below = -self.reach + step * jnp.clip(low, 0, len(self.point) - 4).astype(point.dtype)

        def halve(_, ends):
            a, b = ends
            middle = (a + b) / 2
            under = self._point(middle)[0] < point
            return jnp.where(under, middle, a), jnp.where(under, b, middle)

        a, b = jax.lax.fori_loop(0, 12, halve, (below, below + step))
        last, slope = self._point(jnp.asarray(self.reach, point.dtype))
        first, rise = self._point(jnp.asarray(-self.reach, point.dtype))
        u = jnp.where(
            point > last,
            self.reach + (point - last) / slope,
            jnp.where(point < first, -self.reach + (point - first) / rise, (a + b) / 2),
        )
        # Derivatives come from these steps alone: each doubles the order to which they are right.
        u = jax.lax.stop_gradient(u)
        for _ in range(3):
            value, slope = self._point(u)
            u = u - (value - point) / slope
        return u

    @property
    def _knots(self) -> Array:
        """T at the K places."""
        return (self.point[:-2] + 4 * self.point[1:-1] + self.point[2:]) / 6


def _product(matrix: Array, vector: Array) -> Array:
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)


def _table(name: str, values: Any, shape: tuple[int, ...], *, base: AbstractCoordinates) -> Array:
    """Coefficients of the spline through values, in float64 where these are known."""
    known = not isinstance(values, Tracer)
    values = np.asarray(values, np.float64) if known else jnp.asarray(values, base.low.dtype)
    _check(name, values, shape)
    return jnp.asarray(coefficients(values), base.low.dtype)


def _check(name: str, values: Any, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}; got {values.shape}")
    if not isinstance(values, Tracer) and not np.isfinite(np.asarray(values)).all():
        raise ValueError(f"{name}: expected finite numbers; got {np.asarray(values)}")
