"""The command line: `scalejax fit`. It reads, runs, prints and writes; it computes nothing."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from scalejax import ParameterSpace, Scaling
from scalejax._config import load_config
from scalejax.rules import RULES
from scalejax.xpcs.parameters import PER_ANGLE, PHYSICAL, default_config, for_mode

PRIORS = ("declared", "normal")
CALIBRATIONS = ("least-squares", "laplace", "none")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """scalejax: every parameter of a physical model at the same scale."""


@app.command()
def fit(
    config: Annotated[
        Path | None, typer.Option(help="Bounds and priors, in homodyne's YAML schema.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="An .npz file with c2 (n_phi, n_t, n_t), phi, t, q and gap."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PHYSICAL), help="The model; by default the configuration's, or static."
        ),
    ] = None,
    n_phi: Annotated[
        int | None, typer.Option(min=1, help="How many angles to simulate, or to expect.")
    ] = None,
    output: Annotated[Path, typer.Option(help="A directory for the results.")] = Path(
        "scalejax-fit"
    ),
    rule: Annotated[
        str, typer.Option(metavar="|".join(RULES), help="How center and scale are chosen.")
    ] = RULES[0],
    prior: Annotated[
        str,
        typer.Option(
            metavar="|".join(PRIORS),
            help="The configuration's priors, or a standard normal one on every z.",
        ),
    ] = PRIORS[0],
    calibrate: Annotated[
        str,
        typer.Option(
            metavar="|".join(CALIBRATIONS),
            help="How coordinates are fitted to the posterior before sampling.",
        ),
    ] = CALIBRATIONS[0],
    chains: Annotated[int, typer.Option(min=1)] = 4,
    warmup: Annotated[
        int | None,
        typer.Option(
            min=1, help="Draws to adapt on, for each chain; 300 after a good calibration, or 1000."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=4, help="Draws to keep, for each chain.")] = 1000,
    target_accept: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.999,
            help="0.95 after a rough calibration, or 0.9.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampler, and of a simulation.")] = 0,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in single precision.")
    ] = False,
    progress: Annotated[
        bool | None, typer.Option(help="A progress bar; by default where there is a terminal.")
    ] = None,
) -> None:
    """Sample the posterior of a measured two-time correlation, or of a simulated one.

    Without --data it simulates a measurement with known truth. It prints a table and writes
    posterior.nc, fit.png and marginals.png. Only pairs of frames t1 < t2 are used. Bad input ends
    with one line and status 2.
    """
    jax.config.update("jax_enable_x64", not float32)
    with contextlib.suppress(RuntimeError):  # where JAX is running already, as it is under test
        # One CPU device a chain, so that chains run side by side.
        jax.config.update("jax_num_cpu_devices", chains)

    from scalejax.numpyro import declared_prior
    from scalejax.xpcs.fit import Sampling

    try:
        if prior not in PRIORS:
            raise ValueError(f"--prior: expected one of {', '.join(PRIORS)}; got {prior!r}")
        if calibrate not in CALIBRATIONS:
            raise ValueError(
                f"--calibrate: expected one of {', '.join(CALIBRATIONS)}; got {calibrate!r}"
            )
        mode, space, measurement = _inputs(config, data, mode, n_phi, output, seed)
        sizes = {"phi": measurement.experiment.phi.size}
        scaling = Scaling.from_space(space, sizes, rule)
        declared = declared_prior(space, sizes) if prior == "declared" else None
    except (ValueError, ImportError, OSError) as error:
        typer.echo(f"scalejax fit: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None

    sampling = Sampling(
        chains=chains,
        warmup=warmup,
        samples=samples,
        target_accept=target_accept,
        seed=seed,
        progress=sys.stderr.isatty() if progress is None else progress,
    )
    _run(measurement, scaling, space, sampling, declared, calibrate, mode, rule, output)


def _inputs(config, data, mode, n_phi, output, seed):
    """Mode, space and measurement; everything is read and checked before anything is computed."""
    from scalejax.xpcs.inputs import read_measurement, simulate_measurement

    settings = load_config(config) if config is not None else None
    chosen = str(mode or (settings or {}).get("analysis_mode") or "static")
    if settings is None:
        settings = default_config(chosen)
    space = for_mode(ParameterSpace.from_config(settings), chosen)
    measurement = None if data is None else read_measurement(data)
    _make_directory(output)
    if measurement is None:
        measurement = simulate_measurement(settings, space, chosen, n_phi, seed)
    found = measurement.experiment.phi.size
    if n_phi is not None and n_phi != found:
        raise ValueError(f"{data}: expected {n_phi} angles, as --n-phi says; got {found} in phi")
    for name in PER_ANGLE:
        start = space[name].initial
        if isinstance(start, tuple) and len(start) != found:
            raise ValueError(
                f"initial_parameters.per_angle_scaling.{name}: expected {found} values, one an "
                f"angle; got {len(start)}"
            )
    return chosen, space, measurement


def _run(measurement, scaling, space, sampling, declared, calibration, mode, rule, output) -> None:
    from scalejax import __version__, plotting
    from scalejax.xpcs.fit import R_HAT_LIMIT, calibrated, concerns, fit, summary

    console = Console()
    prior = PRIORS[declared is None]
    n_phi, n_pairs = measurement.c2.shape
    origin = "measured" if measurement.truth is None else "simulated"
    console.print(
        f"{mode} model, {n_phi} angles × {n_pairs} pairs of frames ({origin}), {len(scaling)} "
        f"parameters in {rule} coordinates, {prior} prior"
    )
    coordinates, report = scaling, None
    if calibration != "none":
        coordinates, report = calibrated(
            measurement, scaling, space, prior=declared, method=calibration, seed=sampling.seed
        )
        console.print(f"Calibration by {calibration}: {report}", highlight=False)
    sampling = sampling.settled(report)
    console.print(
        f"NUTS with {sampling.chains} chains of {sampling.warmup} + {sampling.samples} draws"
    )
    result = fit(measurement, coordinates, space, sampling, prior=declared)
    result.attrs.update(
        scalejax_version=__version__,
        mode=mode,
        rule=rule,
        prior=prior,
        calibration="none" if report is None else str(report),
        seed=sampling.seed,
    )
    result.to_netcdf(str(output / ".posterior.nc.part"))
    (output / ".posterior.nc.part").replace(output / "posterior.nc")

    table = summary(result, space)
    console.print(_table(table, space, measurement))
    troubles = concerns(result, table)
    for trouble in troubles:
        console.print(f"[bold red]Warning:[/] {trouble}.", highlight=False)
    sound = f"Converged: R-hat ≤ {R_HAT_LIMIT} everywhere, no divergences."
    console.print("Not converged." if troubles else sound, highlight=False)

    plotting.fit(result, measurement).savefig(output / "fit.png", dpi=150)
    prior_scale = 1.0 if declared is None else None
    plotting.marginals(result, scaling, space, measurement.truth, prior_scale=prior_scale).savefig(
        output / "marginals.png", dpi=150
    )
    console.print(f"Wrote posterior.nc, fit.png and marginals.png to {output}", highlight=False)


def _table(table, space, measurement) -> Table:
    result = Table(title="Posterior, in physical units", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    result.add_column("parameter", no_wrap=True)
    for heading in table["statistic"].values:
        result.add_column(str(heading), justify="right", no_wrap=True)
    truth = measurement.truth
    if truth is not None:
        result.add_column("truth", justify="right", no_wrap=True)
    for name, parameter in space.items():
        labels = [space.label(name)]
        if name in PER_ANGLE:
            labels = [f"{name} {float(phi):g}°" for phi in measurement.experiment.phi]
        if parameter.pinned:
            rows = [[f"{parameter.low:.6g}", "fixed", "", "", "", ""]] * len(labels)
        else:
            rows = map(_cells, np.atleast_2d(table[name].transpose(..., "statistic").values))
        true = np.broadcast_to(np.nan if truth is None else truth[name], len(labels))
        for label, cells, value in zip(labels, rows, true, strict=True):
            result.add_row(label, *cells, *([] if truth is None else [f"{value:.6g}"]))
    return result


def _cells(row) -> list[str]:
    """Mean, sd and quantiles to two digits of the sd; ESS; R-hat."""
    mean, sd, low, high, ess, r_hat = map(float, row)
    decimals = 1 - math.floor(math.log10(sd)) if sd > 0 else 6
    numbers = [
        f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}" for value in (mean, sd, low, high)
    ]
    return [*numbers, f"{ess:.0f}", f"{r_hat:.3f}"]


def _make_directory(path: Path) -> None:
    """Make sure, before anything is computed, that results can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".scalejax-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--output {path}: cannot write there ({error.strerror})") from None
