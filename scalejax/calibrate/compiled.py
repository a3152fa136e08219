"""Compiled functions of a pytree, with its arrays as arguments.

Pytrees that differ in their arrays alone share a compilation: those of other data of one model, of
another number that is added. It knows nothing of what is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache, partial, wraps
from typing import Any

import equinox as eqx
import jax
import numpy as np

KEPT = 64  # compilations, the latest used
MANY = 200  # rows that are worked out side by side


class Compiled:
    """Compiled functions and what else is known of a kind of pytree, as long as this is held."""

    def __init__(self):
        self._made = lru_cache(KEPT)(_make)
        self._noted = lru_cache(KEPT)(lambda f, key: [])

    def __call__(self, tree: Any, f: Callable[..., Any], **static: Hashable) -> Callable[..., Any]:
        """The function (…) ↦ f(tree, …, **static), compiled."""
        arrays, key = _parted(tree)
        return partial(self._made(f, key, tuple(static.items())), arrays)

    def once(self, tree: Any, f: Callable[[Any], Any]) -> Any:
        """f(tree), worked out once for all pytrees that differ in their arrays alone."""
        noted = self._noted(f, _parted(tree)[1])
        if not noted:
            noted.append(f(tree))
        return noted[0]


def store(tree: Any) -> Compiled:
    """Where a pytree's compiled functions are kept: with all others, or for itself.

    For itself if there is a plain function in it: its data may have changed since it was compiled,
    and are to be forgotten with it.
    """
    leaves = _parted(tree)[1][0]
    return Compiled() if any(callable(leaf) for _, leaf in leaves) else SHARED


def callable_leaf(f: Any) -> Any:
    """A function as it can be a leaf of such a pytree: one that can be told from others."""
    if not jax.tree_util.all_leaves([f]):
        return f
    try:
        hash(f)
    except TypeError:
        return partial(f)
    return f


def in_parts(rows: Any, size: int) -> Iterator[Any]:
    """Rows in parts of one size, so that one compilation does for any number of them.

    The last part is filled up by repeating the last row.
    """
    count = -(-len(rows) // size)
    for places in np.minimum(np.arange(count * size), len(rows) - 1).reshape(count, size):
        yield rows[places]


def _parted(tree: Any) -> tuple[Any, tuple[tuple, Any]]:
    """The arrays of a pytree, and all the rest of it, to be compared."""
    arrays, rest = eqx.partition(tree, _is_array)
    leaves, structure = jax.tree.flatten(rest)
    # With their types, since 1 == 1.0 == True.
    return arrays, (tuple((type(leaf), leaf) for leaf in leaves), structure)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _make(f, key, static):
    leaves, structure = key
    rest = jax.tree.unflatten(structure, [leaf for _, leaf in leaves])

    @wraps(f)
    def run(arrays, *args):
        return f(eqx.combine(arrays, rest), *args, **dict(static))

    return jax.jit(run)


SHARED = Compiled()
