"""Up and down a stack of layers, between coordinates and a base that they stand on."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scalejax.calibrate.compiled import MANY, in_parts
from scalejax.coordinates import AbstractCoordinates, AbstractLayer


def depth(base: AbstractCoordinates, coordinates: AbstractCoordinates) -> int:
    """How many layers coordinates have above a base that they stand on."""
    layers = 0
    while coordinates is not base:
        assert isinstance(coordinates, AbstractLayer)
        coordinates, layers = coordinates.base, layers + 1
    return layers


def rows_down(
    coordinates: AbstractCoordinates, layers: int, w: Float[np.ndarray | Array, "n P"]
) -> tuple[Float[Array, "n P"], Float[Array, " n"]]:
    """`down`, for any number of rows, of one compilation."""
    z, log_det = zip(*(down(coordinates, layers, part) for part in in_parts(w, MANY)), strict=True)
    return jnp.concatenate(z)[: len(w)], jnp.concatenate(log_det)[: len(w)]


def rows_up(layer: AbstractLayer, z: Float[np.ndarray | Array, "n P"]) -> Float[Array, "n P"]:
    """A layer's `from_base`, for any number of rows, of one compilation."""
    return jnp.concatenate([_up(layer, part) for part in in_parts(z, MANY)])[: len(z)]


@eqx.filter_jit
def _up(layer: AbstractLayer, z: Array) -> Array:
    return layer.from_base(z)


@eqx.filter_jit
def down(coordinates: AbstractCoordinates, layers: int, w: Array) -> tuple[Array, Array]:
    """From coordinates to those that are so many layers below, and log |det|.

    With the coordinates' arrays as arguments, so that one compilation does for all of a kind.
    """
    log_det = jnp.zeros(w.shape[:-1], w.dtype)
    for _ in range(layers):
        assert isinstance(coordinates, AbstractLayer)
        w, more = coordinates.to_base_and_log_det(w)
        coordinates, log_det = coordinates.base, log_det + more
    return w, log_det
