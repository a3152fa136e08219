"""What a failure of arithmetic inside a calibration becomes: a Report with its reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scalejax.calibrate.linear import NotHeld
from scalejax.calibrate.problem import Problem, refused
from scalejax.calibrate.report import NOTHING_FREE, Report
from scalejax.coordinates import AbstractCoordinates

# What NumPy and SciPy raise of numbers. A mistake in the model, such as shapes that do not fit or a
# value that it refuses, is none of these, and reaches the user as it is.
_NUMERICAL = (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError)


def guarded(
    problem: Problem, fit: Callable[[], tuple[AbstractCoordinates, Report]]
) -> tuple[AbstractCoordinates, Report]:
    """The result of `fit`, or the coordinates as they were where its arithmetic fails."""
    if np.asarray(problem.base.pinned).all():
        return refused(problem, NOTHING_FREE)
    try:
        with np.errstate(all="ignore"):
            return fit()
    except _NUMERICAL as error:
        return refused(problem, f"the arithmetic of the fit failed: {error}")
    except NotHeld as error:
        return refused(problem, f"the fitted coordinates could not be held: {error}")
