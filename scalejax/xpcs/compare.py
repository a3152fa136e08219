"""Fits of the same data by several models beside each other: log evidence, and frames left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalejax.calibrate import K_HAT_GOOD
from scalejax.xpcs.results import SUMMARY

_DATA = "data (SHA-256)"


@dataclass(frozen=True)
class Fitted:
    """What is compared of a fit."""

    name: str
    model: str
    log_evidence: tuple[float, float] | None
    """With its error; None where weights could not be trusted."""
    elpd: np.ndarray
    """Of each stretch of frames, given the others."""
    k_hat: float
    converged: bool
    doubts: tuple[str, ...] = ()
    """What speaks against the mode that evidence is that of."""
    comparable: bool = True
    """False where some parameters are held at values that have been found in the same data."""

    @property
    def left_out(self) -> float | None:
        """Σ elpd; None where importance sampling cannot leave every stretch out."""
        return float(self.elpd.sum()) if self.k_hat <= K_HAT_GOOD else None


def read_fits(directories: Sequence[Path]) -> list[Fitted]:
    """The summaries of fits, in directories that `scalejax fit` has written.

    **Raises** `ValueError` for fewer than two, one that is none, and fits of different data;
    `OSError` for one that cannot be read.
    """
    if len(directories) < 2:
        raise ValueError("expected at least two directories of fits to compare")
    found, hashes = [], {}
    for directory in directories:
        path = directory / SUMMARY
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            hashes[directory] = content["settings"][_DATA]
            found.append(_fitted(str(directory), content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not the summary of a fit ({error!r})") from None
    if len(set(hashes.values())) > 1:
        raise ValueError(
            f"{directories[0]} and {next(d for d in hashes if hashes[d] != hashes[directories[0]])}"
            ": fits of different data, or of different parts of them, cannot be compared"
        )
    return found


def _fitted(name: str, content: dict[str, Any]) -> Fitted:
    settings, evidence = content["settings"], content["log_evidence"]
    left_out = content["left_out_frames"]
    how = settings["per angle"]
    return Fitted(
        name,
        settings["mode"] + ("" if how == "individual" else f", {how}"),
        None if evidence is None else (float(evidence["value"]), float(evidence["error"])),
        np.array(left_out["elpd"], float),
        np.inf if left_out["k_hat"] is None else float(left_out["k_hat"]),
        bool(content["converged"]),
        tuple(map(str, (content["calibration"] or {}).get("doubts", ()))),
        how != "averaged",
    )


def verdicts(fits: Sequence[Fitted]) -> list[str]:
    """What can be said of them, in words.

    Evidence is compared where every fit has one. Stretches left out are compared by the differences
    of each, whose sum has √K times their standard deviation as its error.
    """
    said = [
        f"{fit.name} is left out: contrast and offset, held there, have seen the same data"
        for fit in fits
        if not fit.comparable
    ]
    fits = [fit for fit in fits if fit.comparable]
    if len(fits) < 2:
        return said
    if all(fit.log_evidence is not None for fit in fits):
        ranked = sorted(fits, key=lambda fit: -_value(fit))
        best, second = ranked[:2]
        apart = _value(best) - _value(second)
        error = float(np.hypot(_error(best), _error(second)))
        said.append(
            f"By log evidence: {best.model} ({best.name}) over {second.model} ({second.name}) by "
            f"{apart:.1f} ± {error:.1g}{_weak(apart < max(3 * error, 1.0))}"
        )
    else:
        without = [fit.name for fit in fits if fit.log_evidence is None]
        said.append(
            f"No log evidence of {', '.join(without)}: weights of calibration that cannot be "
            "trusted"
        )
    if any(fit.left_out is None for fit in fits):
        worst = max(fits, key=lambda fit: fit.k_hat)
        said.append(
            f"Frames left out cannot be told: k̂ = {worst.k_hat:.2f} in {worst.name}, where up to "
            f"{K_HAT_GOOD} can be trusted"
        )
    else:
        best, second = sorted(fits, key=lambda fit: -fit.elpd.sum())[:2]
        each = best.elpd - second.elpd
        error = float(np.sqrt(len(each)) * each.std(ddof=1))
        said.append(
            f"By frames left out: {best.model} ({best.name}) over {second.model} ({second.name}) "
            f"by {each.sum():.1f} ± {error:.2g}{_weak(each.sum() < 2 * error)}"
        )
    said += [f"Of {fit.name} its calibration says: {fit.doubts[0]}" for fit in fits if fit.doubts]
    said += [f"Not converged: {fit.name}" for fit in fits if not fit.converged]
    return said


def _value(fit: Fitted) -> float:
    return fit.log_evidence[0] if fit.log_evidence else -np.inf


def _error(fit: Fitted) -> float:
    return fit.log_evidence[1] if fit.log_evidence else np.inf


def _weak(weak: bool) -> str:
    return ": as good as equal" if weak else ""
