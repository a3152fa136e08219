"""What a calibration reports. It knows nothing of how anything is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

# Up to 0.7 importance sampling from the fit would give the posterior; from 1 on its weights have no
# mean, and the fit misses some of the posterior (Vehtari et al. 2024, arXiv:1507.02646). Between
# the two the fit is rough.
K_HAT_GOOD, K_HAT_LIMIT = 0.7, 1.0
# Effective draws a draw, below which weighed draws are too few to speak of, and k̂ says little.
LEAST_EFFICIENT = 0.1
# From here on the fit is next to the posterior: nothing is to be gained by other coordinates.
VERY_EFFICIENT = 0.75


class CoordinatesKind(StrEnum):
    """Which coordinates a calibration returned.

    Examples:
        >>> from scalejax.calibrate import CoordinatesKind
        >>> CoordinatesKind("dense").advice[:30]
        'sample in them with a diagonal'
    """

    NESTED = "nested"
    DENSE = "dense"
    LOW_RANK = "low rank"
    DIAGONAL = "diagonal"
    NONE = "none"

    @property
    def advice(self) -> str:
        """What to do with them."""
        return {
            "nested": "sample in them with a diagonal mass matrix and a short warmup",
            "dense": "sample in them with a diagonal mass matrix and a short warmup",
            "low rank": "sample in them with a diagonal mass matrix and a short warmup",
            "diagonal": "sample in them with a dense mass matrix: correlations are still there",
            "none": "sample in the coordinates as they were, with a dense mass matrix and a long "
            "warmup; or read the reasons, and mend the model or its priors",
        }[self.value]


@dataclass(frozen=True)
class Report:
    """What a calibration found, and what it cost.

    `kind.advice` says what to do with the coordinates.
    """

    kind: CoordinatesKind
    gradients: int
    """Cost, in gradients of the log-density over all data; an evaluation counts as a third of one.
    """
    search_gradients: int = 0
    """Of these, what it took to find the mode."""
    k_hat: float = float("nan")
    """Of importance sampling from the fit: good up to 0.7, rough up to 1."""
    newton_decrement: float = float("nan")
    """Length of the gradient at the mode, in units of the fitted standard deviations."""
    starts: tuple[int, int] = (0, 0)
    """How many starts found the mode, of how many."""
    condition: float = float("nan")
    """Condition number of the curvature at the mode, in the z of the coordinates given."""
    log_density: float = float("nan")
    """At the mode, of the z of the coordinates given: what a sampler must not find to be exceeded.
    """
    mode: tuple[float, ...] = field(default=(), repr=False)
    """In the z of the coordinates given."""
    modes: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """All that were found, best first, and a place that the fit leaves out, where there are several
    to begin chains at."""
    efficiency: float = float("nan")
    """Effective draws in each draw of the fit, weighed: 1 where it is the posterior."""
    log_evidence: float = float("nan")
    """log ∫ exp(log_density) dθ, by the weights of the draws that have checked the fit."""
    log_evidence_error: float = float("nan")
    """Its Monte Carlo standard error."""
    along: tuple[str, ...] = ()
    """What nested coordinates straighten the others along, in order: parameters, or combinations of
    them, each in units of its width."""
    bends: tuple[str, ...] = ()
    """What they straighten, in words, one for each of `along`."""
    reasons: tuple[str, ...] = ()
    """Why the coordinates are not better."""
    doubts: tuple[str, ...] = ()
    """What speaks against the mode itself, or against taking the fit for all of the posterior."""

    @property
    def good(self) -> bool:
        """Whether a sampler can do without adapting to correlations, and with a short warmup."""
        kind = CoordinatesKind
        if self.doubts or self.k_hat > K_HAT_GOOD or self.efficiency < LEAST_EFFICIENT:
            return False
        return self.kind in (kind.NESTED, kind.DENSE, kind.LOW_RANK)

    @property
    def close(self) -> bool:
        """Whether a sampler has nothing to adapt but its step.

        Never in nested coordinates: where a posterior was bent, narrow places are left far out, so
        few that even weights next to equal say nothing of them.
        """
        bent = self.kind is CoordinatesKind.NESTED
        return self.good and not bent and self.efficiency >= VERY_EFFICIENT

    @property
    def weighs(self) -> bool:
        """Whether weighed draws of the fit are ones of the posterior about the mode found.

        Then they tell its evidence too, that of the whole posterior where there are no `doubts`.
        """
        return trusted(self.k_hat, self.efficiency)

    def __str__(self) -> str:
        """In a few lines, for people."""
        parts = [f"{self.kind} calibration"]
        if self.kind is CoordinatesKind.NONE:
            parts = ["no calibration: the coordinates as they were"]
        if np.isfinite(self.k_hat):
            parts.append(f"k̂ = {self.k_hat:.2f}")
        if np.isfinite(self.efficiency):
            parts.append(f"efficiency {self.efficiency:.2g}")
        if self.starts[1]:
            parts.append(f"{self.starts[0]} of {self.starts[1]} starts found the mode")
        if np.isfinite(self.condition):
            parts.append(f"condition number {self.condition:.2g} before")
        parts.append(f"{self.gradients} gradients")
        return "; ".join(parts) + "".join(
            f"\n  {t}" for t in (*self.bends, *self.doubts, *self.reasons)
        )


def trusted(k_hat: float, efficiency: float) -> bool:
    """Whether weighed draws with these are ones of the posterior; not where either is nan."""
    return k_hat <= K_HAT_GOOD and efficiency >= LEAST_EFFICIENT


# --- what reports say, whichever search it is of ---

NOTHING_FREE = "every parameter is pinned: there is nothing to calibrate"
NOWHERE_FINITE = "the log-density is not finite where the searches ended"


def no_mode(length: float) -> str:
    """That a search has ended where there is no mode; with the length of the gradient there."""
    return (
        f"no mode was found: the gradient where the best search ended is {length:.2g} in units of "
        "the fitted standard deviations"
    )


def another_mode(apart: float, gap: float) -> str:
    """That there is a mode besides the best, how far away, and how much lower."""
    return (
        f"another mode, {apart:.2g} standard deviations away, is as much as e^-{gap:.1f} as high: "
        "no one linear map suits both"
    )


def left_out(apart: float, gap: float) -> str:
    """That a search came where a fit knows of nothing, how far away and how much lower."""
    return (
        f"a search came {apart:.2g} standard deviations of the fit away, where the density is as "
        f"much as e^-{max(gap, 0.0):.1f} of that in its middle: the fit leaves that out"
    )


def few_reached(found: int, tried: int) -> list[str]:
    """The doubt of a search that has reached its best mode once, of more starts; or none."""
    if found > 1 or tried == 1:
        return []
    return [f"of {tried} starts {found} reached the best mode: there may be better ones"]
