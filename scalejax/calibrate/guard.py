"""What a failure of arithmetic inside a calibration becomes: a Report with its reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scalejax.calibrate.problem import Problem, refused
from scalejax.calibrate.report import Report
from scalejax.coordinates import AbstractCoordinates

# What NumPy, SciPy and the checks of coordinates raise of numbers. A mistake in the model, such as
# shapes that do not fit, is none of these where JAX raises it, and reaches the user as it is.
_NUMERICAL = (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError)


def guarded(
    problem: Problem, fit: Callable[[], tuple[AbstractCoordinates, Report]]
) -> tuple[AbstractCoordinates, Report]:
    """The result of `fit`, or the coordinates as they were where its arithmetic fails."""
    if np.asarray(problem.base.pinned).all():
        return refused(problem, "every parameter is pinned: there is nothing to calibrate")
    try:
        with np.errstate(all="ignore"):
            return fit()
    except _NUMERICAL as error:
        return refused(problem, f"the arithmetic of the fit failed: {error}")
    except ValueError as error:
        if "finite numbers" in str(error) or "must be positive" in str(error):
            return refused(problem, f"the fitted coordinates could not be held: {error}")
        raise
