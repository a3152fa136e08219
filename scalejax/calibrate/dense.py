"""A dense linear map from the best mode that a search found, weighed before it is returned."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array

from scalejax.calibrate.linear import condition_number, whitened
from scalejax.calibrate.modes import End, rivals
from scalejax.calibrate.problem import Problem
from scalejax.calibrate.report import CoordinatesKind, Report, no_mode
from scalejax.calibrate.weights import weigh
from scalejax.coordinates import AbstractCoordinates


def dense_fit(
    problem: Problem,
    ends: list[End],
    starts: tuple[int, int],
    doubts: list[str],
    key: Array,
    draws: int,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from the best of the modes, which comes first, and the curvature there."""
    best, reasons = ends[0], rivals(ends)
    if best.decrement > 0.1:
        reasons.append(no_mode(best.decrement))
    k_hat = np.nan

    def report(kind):
        return Report(
            kind,
            round(problem.spent),
            k_hat,
            best.decrement,
            starts,
            condition_number(best.curvature),
            log_density=-best.potential,
            mode=tuple(best.z.tolist()),
            reasons=tuple(reasons),
            doubts=tuple(doubts),
        )

    if reasons:
        return problem.base, report(CoordinatesKind.NONE)
    for kind in (CoordinatesKind.DENSE, CoordinatesKind.DIAGONAL):
        coordinates = whitened(problem.base, best.z, best.factor, kind)
        k_hat, trouble, remark = weigh(problem, coordinates, key, draws)
        reasons += [] if remark is None else [remark]
        if trouble is None:
            return coordinates, report(kind)
        reasons.append(f"{kind}: {trouble}")
    return problem.base, report(CoordinatesKind.NONE)
