"""Natural cubic splines on equally spaced places, as B-splines: what a change of coordinates needs.

Twice continuously differentiable, straight lines beyond their ends, and rising wherever their
coefficients rise (de Boor, A Practical Guide to Splines, 2001, chapters IX to XI). This module
knows no coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num


class Place(NamedTuple):
    """A place u on the splines' axis."""

    first: Int[Array, ""]
    """The first of the four coefficients that count there."""
    weights: Float[Array, " 4"]
    slopes: Float[Array, " 3"]
    """What the differences of neighbours count for in the derivative."""
    beyond: Float[Array, ""]
    """How far u is beyond the ends, with its sign."""


def coefficients(values: Num[Array | np.ndarray, "K ..."]) -> Num[Array | np.ndarray, "K+2 ..."]:
    """Those of the natural spline through values at K equally spaced places, K ≥ 3.

    Examples:
        >>> import numpy as np
        >>> from scalejax.spline import coefficients
        >>> print(coefficients(np.array([0.0, 1.0, 2.0, 3.0])).round(12))
        [-1.  0.  1.  2.  3.  4.]
    """
    count = values.shape[0]
    # (c[i−1] + 4·c[i] + c[i+1])/6 is the value at i; c[i−1] − 2·c[i] + c[i+1] is 0 at both ends.
    matrix = np.eye(count + 2, k=-1) + 4 * np.eye(count + 2) + np.eye(count + 2, k=1)
    matrix[0, :3] = matrix[-1, -3:] = 1, -2, 1
    inverse = np.linalg.inv(matrix)[:, 1:-1] * 6
    xp = np if isinstance(values, np.ndarray) else jnp
    return xp.tensordot(xp.asarray(inverse, values.dtype), values, 1)


def place(u: Float[Array, ""], reach: float, rows: int) -> Place:
    """Where u is on splines of `rows` coefficients, whose places run from −reach to reach."""
    cells = rows - 3
    step = 2 * reach / cells
    inside = jnp.clip(u, -reach, reach)
    x = (inside + reach) / step
    first = jnp.clip(jnp.floor(x), 0, cells - 1)
    t = x - first
    s = 1 - t
    weights = jnp.stack([
        s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3
    ]) / 6  # fmt: skip
    slopes = jnp.stack([s**2, 1 + 2 * t * s, t**2]) / (2 * step)
    return Place(first.astype(int), weights, slopes, u - inside)


def evaluate(
    table: Float[Array, "K+2 ..."], at: Place, beyond: Float[Array, ""] | None = None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The splines' values and slopes at a place; straight on beyond the ends.

    `beyond` takes the place of how far that is, for what is not to go on for ever.
    """
    four = jax.lax.dynamic_slice_in_dim(table, at.first, 4)
    slope = jnp.tensordot(at.slopes, jnp.diff(four, axis=0), 1)
    value = jnp.tensordot(at.weights, four, 1)
    return value + (at.beyond if beyond is None else beyond) * slope, slope
