"""What a fit leaves behind: a summary as JSON, and the fitted c2 as HDF5.

It computes nothing: it is given what there is to be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray

from scalejax import ParameterSpace
from scalejax.calibrate import Report
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.predicted import BAND, LeftOut, Predicted
from scalejax.xpcs.whiteness import Whiteness


def summarised(
    settings: Mapping[str, str],
    measurement: Measurement,
    space: ParameterSpace,
    table: xarray.Dataset,
    report: Report | None,
    troubles: Sequence[str],
    left_out: LeftOut,
    white: tuple[Sequence[Whiteness], str],
) -> dict[str, Any]:
    """Everything that a program, or a person later on, asks of a fit; plain JSON.

    `settings` are those by which a run is known: model, options, versions, and hashes of data and
    priors. Numbers that are not finite are null.
    """
    experiment = measurement.experiment
    found = {
        "settings": dict(settings),
        "data": {
            "phi (°)": np.asarray(experiment.phi).tolist(),
            "q (1/Å)": np.asarray(experiment.q).tolist(),
            "frames": int(experiment.t.size),
            "seconds from frame to frame": float(experiment.t[1] - experiment.t[0]),
            "pairs": int(measurement.c2.shape[1]),
        },
        "converged": not troubles,
        "warnings": list(troubles),
        "calibration": None if report is None else {
            "kind": str(report.kind),
            "k_hat": report.k_hat,
            "efficiency": report.efficiency,
            "gradients": report.gradients,
            "reasons": list(report.reasons),
            "doubts": list(report.doubts),
        },
        "log_evidence": _evidence(report),
        "left_out_frames": {"elpd": list(left_out.elpd), "k_hat": left_out.k_hat},
        "residuals": {"in words": white[1], "frames": [one.frames for one in white[0]]},
        "parameters": {name: _parameter(space, name, table) for name in space},
    }  # fmt: skip
    return _plain(found)


def _evidence(report: Report | None) -> dict[str, float] | None:
    """That of the fit's weights, where they can be trusted; `doubts` are of the mode, and apart."""
    if report is None or not report.weighs:
        return None
    return {"value": report.log_evidence, "error": report.log_evidence_error}


def _parameter(space: ParameterSpace, name: str, table: xarray.Dataset) -> dict[str, Any]:
    parameter = space[name]
    found: dict[str, Any] = {"unit": parameter.unit}
    if parameter.pinned:
        return {**found, "fixed": parameter.fixed or parameter.low}
    values = table[name].transpose("statistic", ...)
    return found | {str(s): values.sel(statistic=s).values.tolist() for s in table.statistic.values}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_summary(path: str, found: Mapping[str, Any]) -> None:
    """As JSON."""
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def write_fitted(path: str, measurement: Measurement, found: Predicted) -> None:
    """The fitted c2 with its band: matrices as half of them was measured, NaN elsewhere.

    `c2/measured`, `c2/fitted` (the posterior mean of the model), `c2/low` and `c2/high` (5 % and
    95 % of what would be measured), each (n_phi, n_t, n_t), t1 along the rows; and `t`, `phi`, `q`.
    """
    experiment = measurement.experiment
    low, high = found.band
    n_t = int(experiment.t.size)
    i, j = experiment.pairs
    with h5py.File(path, "w") as file:
        for name in ("t", "phi", "q"):
            file[name] = np.asarray(getattr(experiment, name))
        for name, unit in (("t", "s"), ("phi", "°"), ("q", "1/Å")):
            file[name].attrs["unit"] = unit
        for name, rows in (
            ("measured", measurement.c2), ("fitted", found.mean), ("low", low), ("high", high),
        ):  # fmt: skip
            data = file.create_dataset(
                f"c2/{name}", (len(rows), n_t, n_t), np.float32, chunks=(1, n_t, n_t),
                compression="gzip", compression_opts=1,
            )  # fmt: skip
            for k, row in enumerate(rows):
                matrix = np.full((n_t, n_t), np.nan, np.float32)
                matrix[i, j] = row
                data[k] = matrix
        file["c2"].attrs["band"] = (
            f"low and high are quantiles {BAND[0]} and {BAND[1]} of what would be measured, taken "
            "for normal"
        )
