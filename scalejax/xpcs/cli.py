"""The command line: `scalejax fit`, `inspect`, `data` and `compare`.

It reads, runs, prints and writes; it computes nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import numpy as np
import platformdirs
import typer
from rich.console import Console

from scalejax import ParameterSpace, Scaling
from scalejax.diagnostics import scaling_table, span
from scalejax.files import replacing
from scalejax.rules import Rule
from scalejax.xpcs.angles import PER_ANGLE_MODES, true_values, with_angles
from scalejax.xpcs.chosen import Chosen
from scalejax.xpcs.config import data_path, default_config, load_config, read_mode, read_space
from scalejax.xpcs.distributed import distributed, together_to_the_end
from scalejax.xpcs.homodyne import RULES, distortions_of, report_distortions
from scalejax.xpcs.parameters import ALIASES, PER_ANGLE, PHYSICAL, for_mode
from scalejax.xpcs.results import FILES
from scalejax.xpcs.start import started
from scalejax.xpcs.tables import comparison_table, contents_table, notes, scaling_tables

PRIORS = ("declared", "normal")
WIDE = 130  # columns that one table for everything takes
CALIBRATIONS = ("least-squares", "laplace", "none")
SAMPLERS = ("nuts", "importance", "both")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """scalejax: every parameter of a physical model at the same scale."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no φ shows a question mark, and not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@app.command()
def fit(
    config: Annotated[
        Path | None, typer.Option(help="Bounds and priors, in homodyne's YAML schema.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="HDF5 of the APS, a cache of homodyne, or an .npz file with c2 (n_phi, n_t, n_t), "
            "phi, t, q and gap; by default what the configuration names, or a simulation."
        ),
    ] = None,
    q: Annotated[
        list[float] | None,
        typer.Option(help="Which q of --data (1/Å), the nearest; more than once, for several."),
    ] = None,
    phi_range: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST:LAST", help="Angles of --data (°); more than once, for more."),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(metavar="FIRST:LAST", help="Frames of --data, counted from 1, both included."),
    ] = None,
    thin: Annotated[
        int | None, typer.Option(min=1, help="Take each so many-th frame of --data.")
    ] = None,
    frame_time: Annotated[
        float | None, typer.Option(help="Seconds from frame to frame, whatever --data says.")
    ] = None,
    gap: Annotated[
        float | None, typer.Option(help="Between stator and rotor (Å), which a shear needs.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PHYSICAL), help="The model; by default the configuration's, or static."
        ),
    ] = None,
    per_angle: Annotated[
        str,
        typer.Option(
            metavar="|".join(PER_ANGLE_MODES),
            help="Contrast and offset: a value for each angle, one for all, the values found first "
            "and held there, or a Fourier series in the angle.",
        ),
    ] = PER_ANGLE_MODES[0],
    order: Annotated[int, typer.Option(min=1, help="Harmonics of a Fourier series.")] = 2,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Where the search begins: values of a fit by least squares, JSON or YAML."
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
    ] = "matched",
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
    sampler: Annotated[
        str,
        typer.Option(
            metavar="|".join(SAMPLERS),
            help="Chains, or draws of a good calibration, weighed, with the log evidence.",
        ),
    ] = SAMPLERS[0],
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
            help="0.98 in nested coordinates, 0.95 after a rough calibration, or 0.9.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the sampler, and of a simulation.")
    ] = 0,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in single precision.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut off, in --output.")
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto",
            help="Of several processes, where the first listens; auto under SLURM and the like.",
        ),
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many there are.")] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, help="Which of them this is, from 0.")
    ] = None,
    progress: Annotated[
        bool, typer.Option(help="What is done, with the time left: a bar, or lines in a log.")
    ] = True,
) -> None:
    """Sample the posterior of a measured two-time correlation, or of a simulated one.

    Without --data it simulates a measurement with known truth. It prints a table and writes
    posterior.nc, summary.json, fitted.h5 and three pictures, and, as it goes, what --resume needs.
    Only pairs of frames t1 < t2 are used. Bad input ends with one line and status 2.
    """
    jax.config.update("jax_enable_x64", not float32)
    _keep_compilations()
    with contextlib.suppress(RuntimeError):  # where JAX is running already, as it is under test
        # One CPU device a chain, so that chains run side by side; one for all of them where there
        # are other processes to wait for, or their waiting could hold all threads of this one.
        several = coordinator is not None or processes is not None
        jax.config.update("jax_num_cpu_devices", 1 if several else chains)
    try:
        distributed(coordinator, processes, process_id)
    except (ValueError, RuntimeError) as error:
        _refuse("fit", error)

    from scalejax.numpyro import declared_prior, normal_prior
    from scalejax.sampling import Sampling

    try:
        if prior not in PRIORS:
            raise ValueError(f"--prior: expected one of {', '.join(PRIORS)}; got {prior!r}")
        if calibrate not in CALIBRATIONS:
            raise ValueError(
                f"--calibrate: expected one of {', '.join(CALIBRATIONS)}; got {calibrate!r}"
            )
        if sampler not in SAMPLERS:
            raise ValueError(f"--sampler: expected one of {', '.join(SAMPLERS)}; got {sampler!r}")
        if per_angle == "averaged" and calibrate == "none":
            raise ValueError("--per-angle averaged: the values are those that calibration finds")
        chosen_data = Chosen(data, q or [], phi_range or [], frames, thin, frame_time, gap)
        mode, space, measurement = _inputs(config, chosen_data, mode, n_phi, output, seed)
        space = with_angles(space, measurement.experiment.phi, per_angle, order)
        if measurement.truth is not None:
            measurement = replace(measurement, truth=true_values(space, measurement.truth))
        space = space if start is None else started(space, start)
        scaling = Scaling.from_space(space, rule=_rule(rule))
        chosen = declared_prior(space) if prior == "declared" else normal_prior()
        if rule == "homodyne" and prior == "normal":
            report_distortions(space)
    except (ValueError, ImportError, OSError) as error:
        _refuse("fit", error)

    sampling = Sampling(
        chains=chains,
        warmup=warmup,
        samples=samples,
        target_accept=target_accept,
        seed=seed,
    )
    from scalejax.xpcs.run import Fit, begin, run_fit

    run = Fit(
        measurement,
        scaling,
        space,
        sampling,
        prior,
        chosen,
        calibrate,
        mode,
        rule,
        sampler,
        output,
        per_angle,
        resume,
        progress,
    )
    try:
        kept = begin(run)
    except (ValueError, OSError) as error:
        _refuse("fit", error)
    with together_to_the_end():
        run_fit(run, kept)


@app.command()
def inspect(
    config: Annotated[Path, typer.Argument(help="Bounds and priors, in homodyne's YAML schema.")],
    n_phi: Annotated[int, typer.Option(min=1, help="How many angles.")] = 1,
    rule: Annotated[
        str, typer.Option(metavar="|".join(RULES), help="How center and scale are chosen.")
    ] = "matched",
    plot: Annotated[
        Path | None, typer.Option(help="A picture of the map and the prior of each parameter.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs, and nothing else.")
    ] = False,
) -> None:
    """Show what a configuration declares and what a rule makes of it, without any data."""
    jax.config.update("jax_enable_x64", True)
    try:
        space = _sized(read_space(config), n_phi)
        scaling = Scaling.from_space(space, rule=_rule(rule))
        rows = scaling_table(scaling, space)
        if plot is not None:
            from scalejax import plotting

            plotting.maps(scaling, space).savefig(plot, dpi=110)
    except (ValueError, ImportError, OSError) as error:
        _refuse("inspect", error)
    if as_json:
        parameters = [
            {**row.to_dict(), "distortions": distortions_of(space[row.name])} for row in rows
        ]
        found = {"rule": rule, "n_phi": n_phi, "span": span(rows), "parameters": parameters}
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    console = Console()
    for table in scaling_tables(rows, rule, wide=console.width >= WIDE):
        console.print(table)
    for note in notes(rows, space):
        console.print(note, highlight=False, markup=False)
    if plot is not None:
        console.print(f"Wrote {plot}", highlight=False, markup=False)


@app.command()
def data(
    file: Annotated[Path, typer.Argument(help="HDF5 of the APS, or a cache of homodyne.")],
    q: Annotated[
        float | None, typer.Option(help="Which q to draw (1/Å), the nearest; by default the first.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of one c2.")] = None,
) -> None:
    """Show what is in a file of data: its layout, q, angles and frames; and draw one c2."""
    jax.config.update("jax_enable_x64", True)
    from scalejax.xpcs.beamline import contents, read_beamline

    try:
        found = contents(file)
        if plot is not None:
            from scalejax.xpcs.pictures import one_matrix

            q = float(found.rings[0]) if q is None else q
            one = float(found.phi[found.at(q)[0]])
            step = 1.0 if found.frame_time is None else found.frame_time
            measured = read_beamline(file, q=q, phi_ranges=[(one, one)], frame_time=step)
            experiment = measured.experiment
            title = f"q = {float(experiment.q):.4g} 1/Å, φ = {one:g}°"
            figure = one_matrix(measured.c2[0], np.asarray(experiment.t), title)
            with replacing(plot) as part:
                figure.savefig(part, dpi=150, format=plot.suffix.lstrip(".") or "png")
    except (ValueError, ImportError, OSError) as error:
        _refuse("data", error)
    console = Console()
    period = "not said" if found.frame_time is None else f"{found.frame_time:g} s"
    console.print(f"{file}: {found.layout}", highlight=False, markup=False)
    console.print(f"{found.frames} frames, from one to the next {period}", highlight=False)
    console.print(contents_table(found))
    if plot is not None:
        console.print(f"Wrote {plot}", highlight=False, markup=False)


@app.command()
def compare(
    fits: Annotated[list[Path], typer.Argument(help="Directories that fits have written.")],
) -> None:
    """Compare models of the same data, by log evidence and by frames left out."""
    from scalejax.xpcs.compare import read_fits, verdicts

    try:
        found = read_fits(fits)
    except (ValueError, OSError) as error:
        _refuse("compare", error)
    console = Console()
    console.print(comparison_table(found))
    for said in verdicts(found):
        console.print(f"{said}.", highlight=False, markup=False)


def _keep_compilations() -> None:
    """Let what is compiled outlive the run, in the user's cache directory or where JAX is told to.

    The calibration of other data of the same shape finds its functions there; sampling those of the
    same data.
    """
    known: Any = jax.config
    if known.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("scalejax"))
        # A fit compiles hundreds of small functions, which take as long together as the large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _rule(name: str) -> Rule:
    if name not in RULES:
        raise ValueError(f"--rule: expected one of {', '.join(RULES)}; got {name!r}")
    return RULES[name]


def _sized(space: ParameterSpace, n_phi: int) -> ParameterSpace:
    return space.sized(phi=n_phi) if any(p.dim == "phi" for p in space.values()) else space


def _refuse(command: str, error: Exception) -> NoReturn:
    """End with one line and status 2."""
    typer.echo(f"scalejax {command}: {' '.join(str(error).split())}", err=True)
    raise typer.Exit(2) from None


def _inputs(config, data, mode, n_phi, output, seed):
    """Mode, space and measurement; everything is read and checked before anything is computed."""
    from scalejax.xpcs.inputs import simulate_measurement

    mode = ALIASES.get(mode, mode)
    settings = load_config(config) if config is not None else None
    given = settings or {}
    if settings is None:
        chosen = mode or "static"
        settings = default_config(chosen)
    else:
        chosen = mode or read_mode(settings)
        if data.path is None and config is not None:
            data = replace(data, path=data_path(settings, config))
    space = for_mode(read_space(settings), chosen)
    measurement = data.measurement(given, chosen)
    data = data.path
    _make_directory(output)
    if measurement is None:
        measurement = simulate_measurement(settings, space, chosen, n_phi, seed)
    found = measurement.experiment.phi.size
    if n_phi is not None and n_phi != found:
        raise ValueError(f"{data}: expected {n_phi} angles, as --n-phi says; got {found} in phi")
    for name in PER_ANGLE:
        sections = {"per_angle_scaling": space[name].initial, "fixed_parameters": space[name].fixed}
        for section, values in sections.items():
            if isinstance(values, tuple) and len(values) != found:
                raise ValueError(
                    f"initial_parameters.{section}.{name}: expected {found} values, one an angle; "
                    f"got {len(values)}"
                )
    return chosen, space, measurement


def _make_directory(path: Path) -> None:
    """Make sure, before anything is computed, that results can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".scalejax-probe-{os.getpid()}"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
        for name in FILES:
            if (path / name).is_dir():
                raise ValueError(f"--output {path}: {name} is a directory there")
    except OSError as error:
        raise ValueError(f"--output {path}: cannot write there ({error.strerror})") from None
