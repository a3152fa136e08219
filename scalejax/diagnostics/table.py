"""A Scaling in numbers, beside what is declared of it. It prints nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from scalejax.families import Prior
from scalejax.scaling import Scaling
from scalejax.space import ParameterSpace


@dataclass(frozen=True)
class Row:
    """A group of a Scaling beside what is declared of it; of a vector, its first element."""

    name: str
    size: int | None
    """None for a scalar."""
    unit: str
    low: float
    high: float
    prior: Prior | None
    center: float
    scale: float
    theta: tuple[float, float, float]
    """At z = −1, 0 and 1, in physical units."""

    @property
    def pinned(self) -> bool:
        """Whether the bounds leave one value."""
        return self.low == self.high

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings and lists, for JSON; an infinite bound is None."""

        def finite(value):
            return value if np.isfinite(value) else None

        prior = self.prior and {
            **vars(self.prior),
            "family": family_name(self.prior),
            "low": finite(self.prior.low),
            "high": finite(self.prior.high),
        }
        return {**vars(self), "low": finite(self.low), "high": finite(self.high), "prior": prior,
                "theta": list(self.theta)}  # fmt: skip


def scaling_table(scaling: Scaling, space: ParameterSpace) -> list[Row]:
    """A row for each group of a Scaling made from a space.

    Examples:
        >>> from scalejax import Parameter, ParameterSpace, Scaling
        >>> from scalejax.diagnostics import scaling_table
        >>> space = ParameterSpace(D0=Parameter(100, 1e5, mu=1000, sigma=1000, unit="Å²/s"))
        >>> (row,) = scaling_table(Scaling.from_space(space), space)
        >>> row.unit, round(row.theta[1], 1)
        ('Å²/s', 1232.8)
    """
    rows = []
    for group in scaling.groups:
        part, parameter = scaling[group.name], space[group.name]
        center, scale = float(part.center[0]), float(part.scale[0])
        theta = [float(part.to_original(jnp.full(part.size, z))[0]) for z in (-1.0, 0.0, 1.0)]
        rows.append(
            Row(group.name, group.size, parameter.unit, parameter.low, parameter.high,
                parameter.prior, center, scale, (theta[0], theta[1], theta[2]))
        )  # fmt: skip
    return rows


def span(rows: Iterable[Row]) -> float:
    """Largest over smallest scale of what is not pinned; 1 where everything is."""
    scales = [row.scale for row in rows if not row.pinned]
    return max(scales) / min(scales) if scales else 1.0


def family_name(prior: Prior) -> str:
    """The name of a family; of one of one's own, that of its type or of SciPy."""
    if isinstance(prior.family, str):
        return prior.family
    return getattr(getattr(prior.family, "dist", None), "name", type(prior.family).__name__)
