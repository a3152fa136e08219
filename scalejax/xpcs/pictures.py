"""Pictures of a measurement beside its fit. None is shown or written; all are returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scalejax.xpcs.correlation import to_matrix
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.predicted import Predicted
from scalejax.xpcs.whiteness import Whiteness

DIMS = {"phi": "φ (°)"}


def measured_and_fitted(
    measurement: Measurement, prediction: Predicted, *, most: int = 3
) -> Figure:
    """Measured c2, the posterior mean of the model, and their difference in units of the noise.

    A row an angle, for no more than `most` angles spread over those measured.
    """
    experiment, t = measurement.experiment, np.asarray(measurement.experiment.t)
    rows = _spread(len(measurement.c2), most)
    figure = Figure(figsize=(10.5, 3.1 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    panels = {
        "measured": measurement.c2,
        "model": prediction.mean,
        "(measured − model) / σ": prediction.residuals(measurement.c2),
    }
    for row, i in zip(axes, rows, strict=True):
        both = np.stack([panel[i] for panel in list(panels.values())[:2]])
        shared = np.nanpercentile(both, [0.5, 99.5])
        for axis, (title, panel) in zip(row, panels.items(), strict=True):
            if title.startswith("("):
                _map(axis, panel[i], t, (-4, 4), cmap="RdBu_r")
            else:
                _map(axis, panel[i], t, shared, cmap="viridis", label="c₂")
            if i == rows[0]:
                axis.set_title(title)
            if i == rows[-1]:
                axis.set_xlabel("t₁ (s)")
        row[0].set_ylabel(f"φ = {experiment.rows[i]}\nt₂ (s)")
    return figure


def residual_maps(
    measurement: Measurement, residuals: np.ndarray, white: Sequence[Whiteness], *, most: int = 12
) -> Figure:
    """(measured − model)/σ of each angle, or of some, with what its correlations say."""
    experiment, t = measurement.experiment, np.asarray(measurement.experiment.t)
    rows = _spread(len(residuals), most)
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    size = (3.0 * columns + 0.6, 3.0 * lines + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    image: Any = None
    for axis, i in zip(axes.ravel(), rows, strict=False):
        image = _map(axis, residuals[i], t, (-4, 4), cmap="RdBu_r", bar=False)
        frames = white[i].frames
        said = f"correlated over {frames} frame{'s' * (frames > 1)}" if frames else "white"
        axis.set_title(f"{experiment.rows[i]}: {said}", fontsize="medium")
    for axis in axes.ravel()[len(rows) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("t₂ (s)")
    for axis in axes.ravel()[max(len(rows) - columns, 0) : len(rows)]:
        axis.set_xlabel("t₁ (s)")
        axis.tick_params(labelbottom=True)
    figure.colorbar(image, ax=axes, label="(measured − model) / σ", shrink=0.85)
    return figure


def one_matrix(values: np.ndarray, t: np.ndarray, title: str) -> Figure:
    """c2 of one angle, at its pairs t1 < t2."""
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axis = figure.subplots()
    _map(axis, values, t, tuple(np.nanpercentile(values, [0.5, 99.5])), cmap="viridis", label="c₂")
    axis.set(title=title, xlabel="t₁ (s)", ylabel="t₂ (s)")
    return figure


def _spread(count: int, most: int) -> np.ndarray:
    """No more than `most` of so many places, evenly."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def _map(axis, values, t, limits, *, cmap, label="", bar=True):
    matrix = to_matrix(np.asarray(values)[None], np.full(1, np.nan), t.size)[0]
    image = axis.imshow(
        np.asarray(matrix).T, origin="lower", extent=(t[0], t[-1], t[0], t[-1]), cmap=cmap,
        vmin=limits[0], vmax=limits[1],
    )  # fmt: skip
    if bar:
        axis.figure.colorbar(image, ax=axis, label=label, shrink=0.85)
    return image
