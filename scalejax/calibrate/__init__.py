"""Calibrated coordinates: a map fitted to the posterior, and checked before it is returned.

Drivers that run once, outside of `jit`: the model is evaluated in JAX, and what is known of its
curvature is worked up in NumPy's float64. They need the extra `calibrate`. Each returns coordinates
and a `Report`. None raises for a hard posterior: where the fit does not pass its check, the report
says why, and the coordinates are the best that do.
"""

from scalejax.calibrate.density import from_log_density as from_log_density
from scalejax.calibrate.draws import from_draws as from_draws
from scalejax.calibrate.report import K_HAT_GOOD as K_HAT_GOOD
from scalejax.calibrate.report import K_HAT_LIMIT as K_HAT_LIMIT
from scalejax.calibrate.report import CoordinatesKind as CoordinatesKind
from scalejax.calibrate.report import Report as Report
from scalejax.calibrate.resample import NotTrusted as NotTrusted
from scalejax.calibrate.resample import Resampled as Resampled
from scalejax.calibrate.resample import resample as resample
from scalejax.calibrate.residuals import from_residuals as from_residuals
