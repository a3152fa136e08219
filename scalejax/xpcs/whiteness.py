"""Whether residuals are white: correlations of each with those some frames away, in words.

It knows no model: it is given residuals in units of their noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SIGNIFICANT = 4.0
"""Of a correlation, in standard errors: among some hundred, none is larger in 99 of 100 cases."""
FARTHEST = 20
"""Frames, at most, over which correlations are looked for."""


@dataclass(frozen=True)
class Whiteness:
    """Of the residuals at one angle."""

    frames: int
    """Over how many frames on end they are correlated with each other; 0 where they are white."""
    next_frame: float
    """The correlation from one frame to the next, in the direction where it lasts longest."""


def whiteness(residuals: Float[np.ndarray, "n_phi n_pairs"], n_t: int) -> list[Whiteness]:
    """Of residuals at the pairs t1 < t2, in the order of `Experiment.pairs`, angle by angle.

    Correlations are those with the value k frames later in t1, in t2 and in both, for k from 1 on,
    as long as they are 4 standard errors above 0; of white noise one of n products has a standard
    error of 1/√n (Box and Jenkins 1970). Which of the three lasts longest counts.

    Examples:
        >>> import numpy as np
        >>> from scalejax.xpcs.whiteness import whiteness
        >>> noise = np.random.default_rng(0).normal(size=(1, 780))
        >>> whiteness(noise, 40)[0].frames
        0
    """
    i, j = np.triu_indices(n_t, k=1)
    found = []
    for row in residuals:
        matrix = np.full((n_t, n_t), np.nan)
        matrix[i, j] = row - row.mean()
        variance = float(row.var())
        if not 0 < variance < np.inf:
            found.append(Whiteness(0, 0.0))
            continue
        lasting = [_lasting(matrix, variance, step) for step in ((1, 0), (0, 1), (1, 1))]
        found.append(max(lasting, key=lambda one: (one.frames, one.next_frame)))
    return found


def _lasting(matrix: np.ndarray, variance: float, step: tuple[int, int]) -> Whiteness:
    n_t, first = len(matrix), 0.0
    for k in range(1, min(FARTHEST, n_t - 2) + 1):
        down, across = k * step[0], k * step[1]
        product = matrix[: n_t - down, : n_t - across] * matrix[down:, across:]
        product = product[np.isfinite(product)]
        if len(product) < 2:
            return Whiteness(k - 1, first)
        correlation = float(product.mean()) / variance
        first = correlation if k == 1 else first
        if correlation * np.sqrt(len(product)) < SIGNIFICANT:
            return Whiteness(k - 1, first)
    return Whiteness(min(FARTHEST, n_t - 2), first)


def in_words(found: Sequence[Whiteness], rows: Sequence[str]) -> str:
    """What residuals say of the noise model; `rows` are what angles are called.

    Examples:
        >>> from scalejax.xpcs.whiteness import Whiteness, in_words
        >>> in_words([Whiteness(0, 0.01), Whiteness(3, 0.4)], ["0°", "72°"])[:52]
        'residuals at 72° are correlated over 3 frames (by 0.'
        >>> in_words([Whiteness(0, 0.01)], ["0°"])
        'residuals are white: no frame is correlated with the next'
    """
    not_white = [(one, row) for one, row in zip(found, rows, strict=True) if one.frames]
    if not not_white:
        return "residuals are white: no frame is correlated with the next"
    worst, row = max(not_white, key=lambda pair: (pair[0].frames, pair[0].next_frame))
    others = len(not_white) - 1
    also = f", and at {others} more of {len(rows)} angles" if others else ""
    span = f"{worst.frames} frame{'s' if worst.frames > 1 else ''}"
    span = f"{span} or more" if worst.frames >= FARTHEST else span
    return (
        f"residuals at {row} are correlated over {span} (by {worst.next_frame:.2g} from one to the "
        f"next){also}: the noise model, or the model, is too simple"
    )
