"""Kind: all that is to be known of one kind of bounds, in one record.

`kinds` has the table of them. A record knows the map and what must hold of its numbers; it knows
nothing of names, priors or samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Condition(NamedTuple):
    """What must hold of every element."""

    text: str
    """In words, such as `scale must be positive and finite`."""
    about: tuple[str, ...]
    """Which of center, scale, low and high an error shows."""
    good: Any
    """Where it holds: a boolean array."""


@dataclass(frozen=True, repr=False)
class Kind:
    """One kind of bounds: where it applies, its map and its inverse, and what must hold.

    The functions act on arrays that broadcast against each other, of one floating dtype, and are
    traced by JAX. `conditions` gets NumPy or JAX arrays, with the one or the other as `xp`, in the
    working `dtype`; `center_at` gets and gives numbers of Python.

    Examples:
        >>> from scalejax.bounds import KINDS
        >>> KINDS["lower"]
        <kind lower>
    """

    name: str
    applies: Callable[[Any, Any], Any] | None
    """(low, high) ↦ where the bounds alone make it this kind; None: where a parameter asks for it.
    """
    forward: Callable[..., tuple[Any, Any]]
    """(z, center, scale, low, high) ↦ θ, strictly inside the bounds, and log ∂θ/∂z."""
    inverse: Callable[..., Any]
    """(θ, center, scale, low, high) ↦ z, finite for θ on or over a bound too; linear in 1/scale."""
    center_at: Callable[[float, float, float], float]
    """(θ, low, high) ↦ the center with which θ is at z = 0."""
    safe: tuple[float, float, float, float]
    """(center, scale, low, high) for elements of another kind, at which nothing overflows."""
    conditions: Callable[..., Iterable[Condition]] = lambda *_, **__: ()
    """(center, scale, low, high, dtype=, xp=) ↦ what must hold where this kind applies."""

    def __repr__(self) -> str:
        """By its name: `<kind lower>`."""
        return f"<kind {self.name}>"

    def __pdoc__(self, **kwargs: Any) -> Any:
        """The same within what Equinox prints."""
        import wadler_lindig as wl

        return wl.TextDoc(repr(self))
