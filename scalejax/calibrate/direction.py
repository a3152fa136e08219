"""The direction along which a fit is bad, by the weights of its own draws.

It knows nothing of how a fit is mended. In NumPy's float64.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from scalejax.calibrate.weights import Weighed

# A direction explains the weights if R² is above this, and beside the best one, above this part.
EXPLAINS, NEARLY = 0.05, 0.4
# By how much a combination of parameters has to explain more than the best one of them, of draws
# that it was not chosen on.
MORE = 0.1
STARTS = 3


def directions(
    x: np.ndarray, weighed: Weighed, free: np.ndarray, *, off: bool, combined: bool
) -> list[np.ndarray]:
    """The one or two unit vectors along which the weights of draws x, (n, P), change most.

    By the R² of a polynomial of fourth degree in x·e, of the logarithms: of a parameter's own e,
    or, if they may be `combined`, of a combination's, where that explains clearly more. What a
    prior determines, or is independent of the others and normal, explains nothing. Of a fit that is
    `off` the mode the slopes, which all parameters have there, are taken away first.
    """
    finite = np.isfinite(weighed.log_weights)
    log, x = weighed.log_weights[finite], x[finite]
    if len(log) < 50:
        return []
    # The lowest say where the fit is too wide, by any amount; how much is of no interest.
    log = np.maximum(log, np.quantile(log, 0.01))
    if off:
        slopes = np.c_[np.ones(len(log)), x]
        log = log - slopes @ np.linalg.lstsq(slopes, log, rcond=None)[0]
    x = np.where(free, (x - x.mean(0)) / np.where(free, x.std(0), 1.0), 0.0)
    units = np.eye(len(free))[free]
    explained = np.array([_explained(e, x, log)[0] for e in units])
    order = np.argsort(-explained)
    found = [units[i] for i in order[:2]]
    value = [explained[i] for i in order[:2]]
    combination = _combination(x, log, units[order[:STARTS]]) if combined else None
    if combination is not None:
        found, value = [combination, found[0]], [value[0] + MORE, value[0]]
    least = max(EXPLAINS, NEARLY * value[0])
    return [e for e, v in zip(found, value, strict=True) if v > least]


def _combination(x: np.ndarray, log: np.ndarray, starts: np.ndarray) -> np.ndarray | None:
    """The combination that explains most, if it does so on draws that it was not chosen on."""
    early = np.arange(len(log)) % 2 == 0
    gains = []
    for chosen in (early, ~early):
        e = _best(x[chosen], log[chosen], starts)
        single = max(_explained(unit, x[~chosen], log[~chosen])[0] for unit in starts)
        gains.append(_explained(e, x[~chosen], log[~chosen])[0] - single)
    if min(gains) < MORE:
        return None
    return _best(x, log, starts)


def _best(x: np.ndarray, log: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The unit vector whose polynomial explains most, by BFGS from some."""

    def unexplained(e):
        length = np.linalg.norm(e)
        value, slope = _explained(e / length, x, log)
        slope = (slope - (slope @ e) * e / length**2) / length
        return 1 - value, -slope

    ends = [minimize(unexplained, e, jac=True, method="BFGS") for e in starts]
    e = min(ends, key=lambda end: end.fun).x
    return e / np.linalg.norm(e)


def _explained(e: np.ndarray, x: np.ndarray, log: np.ndarray) -> tuple[float, np.ndarray]:
    """R² of the best quartic in x·e, and its gradient by e."""
    total = ((log - log.mean()) ** 2).sum()
    if not total > 0:
        return 0.0, np.zeros_like(e)
    along = x @ e
    columns = np.vander(along, 5)
    powers = np.linalg.lstsq(columns, log, rcond=None)[0]
    rest = log - columns @ powers
    # The polynomial is the best one: only its argument moves.
    slope = 2 * (rest * np.polyval(np.polyder(powers), along)) @ x / total
    return float(1 - (rest**2).sum() / total), slope
