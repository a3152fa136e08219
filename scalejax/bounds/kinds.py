"""The table of kinds of bounds, and which element is of which.

| kind | bounds | θ(z) |
|---|---|---|
| `interval` | both finite | low + (high − low)·σ(x), x = 4·(center − mid)/w + (4·scale/w)·z |
| `lower` | only low finite | low + (center − low)·exp(scale·z/(center − low)) |
| `upper` | only high finite | high − (high − center)·exp(−scale·z/(high − center)) |
| `unbounded` | none finite | center + scale·z |
| `pinned` | low = high | low |
| `log_interval` | both positive and finite | low·(high/low)^σ(x), x affine in z; by request |

with w = high − low, mid = low + w/2 and σ the logistic function.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from scalejax.bounds.interval import INTERVAL
from scalejax.bounds.kind import Kind
from scalejax.bounds.log_interval import LOG_INTERVAL
from scalejax.bounds.one_bound import LOWER, UPPER
from scalejax.bounds.unbounded import PINNED, UNBOUNDED

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (INTERVAL, LOWER, UPPER, UNBOUNDED, PINNED, LOG_INTERVAL)
}
BY_BOUNDS = tuple(kind for kind in KINDS.values() if kind.applies is not None)

Chosen = tuple[tuple[Kind, int, int], ...]
"""Kinds that were asked for, each with the first and one past the last of its places."""


def as_kind(kind: str | Kind) -> Kind:
    """The kind of a name, or the record itself.

    **Raises** `ValueError` for a name that is not in `KINDS`.

    Examples:
        >>> from scalejax.bounds import as_kind
        >>> as_kind("pinned")
        <kind pinned>
    """
    if isinstance(kind, Kind):
        return kind
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, or a Kind; got {kind!r}")
    return KINDS[kind]


def kind_masks(
    low: Any, high: Any, *, kinds: Iterable[Kind] = BY_BOUNDS, chosen: Chosen = ()
) -> dict[Kind, Any]:
    """Where each of `kinds` applies: a boolean array a kind, of NumPy or JAX as the bounds are.

    Where bounds are equal an element is pinned, whatever was chosen.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.bounds import kind_masks
        >>> masks = kind_masks(jnp.array([0.0, 0.0, 2.0]), jnp.array([1.0, jnp.inf, 2.0]))
        >>> [kind.name for kind in masks if masks[kind].any()]
        ['interval', 'lower', 'pinned']
    """
    kinds = tuple(kinds)
    free = low != high
    asked = {kind: _places(spans, low) & free for kind, spans in _by_kind(chosen).items()}
    taken = None
    for mask in asked.values():
        taken = mask if taken is None else taken | mask
    masks = {}
    for kind in kinds:
        mask = None
        if kind.applies is not None:
            mask = kind.applies(low, high)
            mask = mask if taken is None else mask & ~taken
        if kind in asked:
            mask = asked[kind] if mask is None else mask | asked[kind]
        masks[kind] = free & ~free if mask is None else mask
    return masks


def _by_kind(chosen: Chosen) -> dict[Kind, list[tuple[int, int]]]:
    found: dict[Kind, list[tuple[int, int]]] = {}
    for kind, start, stop in chosen:
        found.setdefault(kind, []).append((start, stop))
    return found


def _places(spans: list[tuple[int, int]], like: Any) -> Any:
    """Where the last axis is within one of the spans; no constant as long as the array."""
    if isinstance(like, np.ndarray):
        at: Any = np.arange(like.shape[-1])
    else:
        at = lax.iota("int32", jnp.shape(like)[-1])
    inside = at < 0
    for start, stop in spans:
        inside = inside | ((at >= start) & (at < stop))
    return inside
