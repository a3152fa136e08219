"""One run of `scalejax fit`, from inputs that have been checked to results on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from scalejax import ParameterSpace, Scaling, __version__, plotting
from scalejax.diagnostics.chains import R_HAT_LIMIT, concerns, summary
from scalejax.sampling import Sampling
from scalejax.xpcs.fit import Prior, calibrated, exceeded, sample_posterior
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.pictures import DIMS, measured_and_fitted
from scalejax.xpcs.results import Results
from scalejax.xpcs.tables import posterior_table


@dataclass(frozen=True)
class Run:
    """What a run is made of."""

    measurement: Measurement
    scaling: Scaling
    space: ParameterSpace
    sampling: Sampling
    prior_name: str
    prior: Prior
    calibration: str
    mode: str
    rule: str
    output: Path


def run_fit(run: Run) -> None:
    """Calibrate, sample, and tell; once more from a better mode where sampling comes upon one."""
    with _interruptible():
        _fit(run, Results(run.output))


def _fit(run: Run, results: Results) -> None:
    measurement, space, scaling = run.measurement, run.space, run.scaling
    n_phi, n_pairs = measurement.c2.shape
    origin = "measured" if measurement.truth is None else "simulated"
    results.say(
        f"{run.mode} model, {n_phi} angles × {n_pairs} pairs of frames ({origin}), {scaling.size} "
        f"parameters in {run.rule} coordinates, {run.prior_name} prior"
    )
    result, report = _sampled(run, results, start=None)
    result.attrs.update(
        scalejax_version=__version__,
        mode=run.mode,
        rule=run.rule,
        prior=run.prior_name,
        calibration="none" if report is None else str(report),
        seed=run.sampling.seed,
    )
    results.write("posterior.nc", result.to_netcdf)

    table = summary(result, [name for name in space if not space[name].pinned])
    results.say(posterior_table(table, space, measurement))
    troubles = concerns(result, table)
    if report is not None:
        troubles += [f"calibration: {doubt}" for doubt in report.doubts]
    for trouble in troubles:
        results.say(f"Warning: {trouble}.")
    sound = f"Converged: R-hat ≤ {R_HAT_LIMIT} everywhere, no divergences."
    results.say("Not converged." if troubles else sound)

    figure = measured_and_fitted(result, measurement)
    results.write("fit.png", lambda path: figure.savefig(path, dpi=150, format="png"))
    scale = 1.0 if run.prior_name == "normal" else None
    panels = plotting.marginals(
        result, scaling, space, measurement.truth, prior_scale=scale, dims=DIMS
    )
    results.write("marginals.png", lambda path: panels.savefig(path, dpi=150, format="png"))
    if results.written:
        results.say(f"Wrote {', '.join(results.written)} to {run.output}")
    if results.lost:
        raise typer.Exit(1)


def _sampled(run: Run, results: Results, start):
    """The posterior and the report of its calibration."""
    coordinates, report = run.scaling, None
    if run.calibration != "none":
        coordinates, report = calibrated(
            run.measurement, run.scaling, run.space, prior=run.prior, method=run.calibration,
            seed=run.sampling.seed, start=start,
        )  # fmt: skip
        results.say(f"Calibration by {run.calibration}: {report}")
    sampling = run.sampling.settled(report)
    results.say(
        f"NUTS with {sampling.chains} chains of {sampling.warmup} + {sampling.samples} draws"
    )
    result = sample_posterior(run.measurement, coordinates, run.space, sampling, prior=run.prior)
    if report is None:
        return result, report
    better = exceeded(result, run.measurement, coordinates, run.scaling, report, prior=run.prior)
    if better is None:
        return result, report
    above, theta = better
    results.say(
        f"Calibration was wrong: sampling found a density e^{above:.1f} times that of its mode."
    )
    if start is not None:
        return result, report
    results.say("Beginning again from there.")
    return _sampled(run, results, theta)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the program at once, with status 130, whatever is being computed.

    Python runs its own handlers between two bytecodes, and compiled sampling is one bytecode of
    minutes. A thread waits for the signal instead.
    """
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: None)  # or it would not be written to the pipe
    waker = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        while received := os.read(reading, 1):
            if received[0] == signal.SIGINT:
                sys.stderr.write("\nInterrupted: nothing of this run was kept but what it wrote.\n")
                sys.stderr.flush()
                os._exit(130)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGINT, before)
        os.close(writing)
