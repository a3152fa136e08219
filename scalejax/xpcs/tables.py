"""Tables for the terminal, by rich: of a posterior, and of a Scaling beside what is declared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from scalejax.diagnostics import Row, family_name, span
from scalejax.space import ParameterSpace
from scalejax.xpcs.homodyne import distortions_of

if TYPE_CHECKING:  # the command line imports this, and its help waits for no sampler
    from scalejax.xpcs.beamline import Contents
    from scalejax.xpcs.compare import Fitted


def posterior_table(table, space, measurement) -> Table:
    """Of `diagnostics.chains.summary`, with the truth where it is known."""
    result = Table(title="Posterior, in physical units", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # It gives way where a terminal is narrow, but not to nothing, whatever the numbers are.
    result.add_column("parameter", overflow="fold", min_width=12)
    for heading in table["statistic"].values:
        result.add_column(str(heading), justify="right", no_wrap=True)
    truth = measurement.truth
    if truth is not None:
        result.add_column("truth", justify="right", no_wrap=True)
    for name, parameter in space.items():
        labels = [space.label(name)]
        if parameter.dim == "phi":
            labels = [f"{name} {row}" for row in measurement.experiment.rows]
        elif parameter.dim is not None:
            labels = [f"{name} {k + 1}" for k in range(space.sizes[parameter.dim])]
        if parameter.pinned:
            values = parameter.fixed or [parameter.low] * len(labels)
            rows = [[f"{value:.6g}", "fixed", "", "", "", ""] for value in values]
        else:
            rows = map(_cells, np.atleast_2d(table[name].transpose(..., "statistic").values))
        true = np.broadcast_to(np.nan if truth is None else truth.get(name, np.nan), len(labels))
        for label, cells, value in zip(labels, rows, true, strict=True):
            result.add_row(escape(label), *cells, *([] if truth is None else [f"{value:.6g}"]))
    return result


def _cells(row) -> list[str]:
    """Mean, sd and quantiles to two digits of the sd; ESS; R-hat."""
    mean, sd, low, high, ess, r_hat = map(float, row)
    decimals = 1 - math.floor(math.log10(sd)) if 0 < sd < math.inf else 6
    values = (mean, sd, low, high)
    if decimals > 9 or not max(map(abs, values)) < 1e10:
        numbers = [f"{value:.4g}" for value in values]
    else:
        numbers = [f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}" for value in values]
    return [*numbers, f"{ess:.0f}", "" if math.isnan(r_hat) else f"{r_hat:.3f}"]


def contents_table(found: Contents) -> Table:
    """The angles at each q of a file."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("q (1/Å)", "angles"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("φ (°)", overflow="fold")
    for q in found.rings:
        phi = found.phi[found.at(float(q))]
        table.add_row(f"{q:.5g}", str(len(phi)), ", ".join(f"{angle:.4g}" for angle in phi))
    return table


def comparison_table(fits: Sequence[Fitted]) -> Table:
    """Log evidence and frames left out, of each fit; a dash where there is none to be trusted."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("fit", overflow="fold", min_width=8)
    table.add_column("model", overflow="fold", min_width=8)
    for heading in ("log evidence", "frames left out", "k̂"):
        table.add_column(heading, justify="right", no_wrap=True)
    for fit in fits:
        evidence = "–"
        if fit.log_evidence is not None:
            evidence = f"{fit.log_evidence[0]:.2f} ± {fit.log_evidence[1]:.1g}"
        left_out = "–" if fit.left_out is None else f"{fit.left_out:.1f}"
        table.add_row(escape(fit.name), fit.model, evidence, left_out, f"{fit.k_hat:.2f}")
    return table


def scaling_tables(rows: list[Row], rule: str, *, wide: bool) -> Iterator[Table]:
    """What is declared, and what the rule makes of it: in one table, or in two narrow ones."""
    declared = ("unit", "bounds", "declared prior")
    made = ("center", "scale", "θ at z = −1", "θ at z = 0", "θ at z = 1")
    titles = {"Declared": declared, f"Scaling by the {rule} rule": made}
    if wide:
        titles = {f"Declared, and the Scaling by the {rule} rule": (*declared, *made)}
    for title, columns in titles.items():
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("parameter", no_wrap=True)
        for column in columns:
            left = column in ("unit", "declared prior")
            table.add_column(column, justify="left" if left else "right", no_wrap=True)
        for row in rows:
            cells = _row(row)
            table.add_row(escape(_name(row)), *(escape(cells.get(c, "")) for c in columns))
        yield table


def _name(row: Row) -> str:
    return row.name if row.size is None else f"{row.name} ×{row.size}"


def _row(row: Row) -> dict[str, str]:
    if row.pinned:
        return {"unit": row.unit, "bounds": f"{row.low:.6g}", "declared prior": "fixed"}
    cells = {
        "unit": row.unit,
        "bounds": f"{row.low:.6g} to {row.high:.6g}",
        "declared prior": _prior(row),
        "center": _number(row.center, row.scale),
        "scale": f"{row.scale:.5g}",
    }
    for z, theta in zip(("−1", "0", "1"), row.theta, strict=True):
        cells[f"θ at z = {z}"] = _number(theta, row.scale)
    return cells


def _prior(row: Row) -> str:
    prior = row.prior
    if prior is None:
        return "none"
    text = family_name(prior)
    if prior.mu is not None:
        text = f"{prior.mu:.6g} ± {prior.sigma:.6g} {_SHORT.get(text, text)}"
    elif prior.sigma is not None:
        text = f"{text} {prior.sigma:.6g}"
    if (prior.low, prior.high) != (row.low, row.high):
        text += f", {prior.low:.6g} to {prior.high:.6g}"
    return text


_SHORT = {"TruncatedNormal": "normal", "Normal": "normal", "LogNormal": "(of the log)",
          "BetaScaled": "beta", "Gamma": "gamma"}  # fmt: skip


def _number(value: float, scale: float) -> str:
    """To five digits, and 0 where it is less than a millionth of the scale."""
    return f"{value if abs(value) > 1e-6 * scale else 0.0:.5g}"


def notes(rows: list[Row], space: ParameterSpace) -> Iterator[str]:
    """The problem in one line; and what the homodyne rule does to priors."""
    yield f"Scales span {span(rows):.2g}: in physical units, so do step sizes."
    found = [(name, text) for name, p in space.items() for text in distortions_of(p)]
    if found:
        yield "With a normal prior on z, the homodyne rule makes another prior of:"
        yield from (f"  {name}: {text}" for name, text in found)
