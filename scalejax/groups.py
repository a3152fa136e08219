"""Group: a name and the shape behind it. It knows nothing of arrays."""

from __future__ import annotations

from typing import NamedTuple

from scalejax.bounds import Kind


class Group(NamedTuple):
    """A name and the shape behind it: a scalar, or a vector along a named dimension.

    Examples:
        >>> from scalejax import Group
        >>> Group("contrast", 2, "phi").flat_names, Group("D0").shape
        (['contrast_0', 'contrast_1'], ())
    """

    name: str
    size: int | None = None
    """None for a scalar."""
    dim: str | None = None
    """Such as `phi`; for labels only."""
    kind: Kind | None = None
    """The kind of its bounds, where they alone do not say it."""

    @property
    def width(self) -> int:
        """How many places the group takes in the vector."""
        return 1 if self.size is None else self.size

    @property
    def shape(self) -> tuple[int, ...]:
        """That of its value: () for a scalar, (n,) for a vector."""
        return () if self.size is None else (self.size,)

    @property
    def flat_names(self) -> list[str]:
        """One name for each place: `D0`, or `contrast_0`, `contrast_1`, …"""
        if self.size is None:
            return [self.name]
        return [f"{self.name}_{i}" for i in range(self.size)]
