"""Pictures of a measurement beside its fit. None is shown or written; all are returned."""

from __future__ import annotations

import arviz as az
import numpy as np
from matplotlib.figure import Figure

from scalejax.xpcs.correlation import to_matrix, two_time
from scalejax.xpcs.inputs import Measurement

DIMS = {"phi": "φ (°)"}


def measured_and_fitted(
    result: az.InferenceData, measurement: Measurement, *, most: int = 3
) -> Figure:
    """Measured c2, the model at the posterior mean, and their difference in units of the noise.

    A row an angle, for no more than `most` angles spread over those measured.
    """
    experiment, t = measurement.experiment, np.asarray(measurement.experiment.t)
    mean = {str(k): v.values for k, v in result["posterior"].mean(("chain", "draw")).items()}
    model = np.asarray(two_time(mean, experiment))
    n_phi = len(model)
    rows = np.unique(np.linspace(0, n_phi - 1, min(most, n_phi)).round().astype(int))
    figure = Figure(figsize=(10.5, 3.1 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    blank = np.full(n_phi, np.nan)
    residual = (measurement.c2 - model) / mean["sigma"]
    panels = {
        "measured": to_matrix(measurement.c2, blank, t.size),
        "model at posterior mean": to_matrix(model, blank, t.size),
        "(measured − model) / σ": to_matrix(residual, blank, t.size),
    }
    for row, i in zip(axes, rows, strict=True):
        shared = np.nanpercentile(np.stack([p[i] for p in list(panels.values())[:2]]), [0.5, 99.5])
        for axis, (title, panel) in zip(row, panels.items(), strict=True):
            difference = title.startswith("(")
            low, high = (-4, 4) if difference else shared
            image = axis.imshow(
                np.asarray(panel[i]).T,
                origin="lower",
                extent=(t[0], t[-1], t[0], t[-1]),
                cmap="RdBu_r" if difference else "viridis",
                vmin=low,
                vmax=high,
            )
            figure.colorbar(image, ax=axis, label="" if difference else "c₂", shrink=0.85)
            if i == rows[0]:
                axis.set_title(title)
            if i == rows[-1]:
                axis.set_xlabel("t₁ (s)")
        row[0].set_ylabel(f"φ = {experiment.rows[i]}\nt₂ (s)")
    return figure
