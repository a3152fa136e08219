"""One run of `scalejax fit`, from inputs that have been checked to results on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import typer

from scalejax import ParameterSpace, Scaling, __version__, plotting
from scalejax.calibrate import NotTrusted, Report
from scalejax.diagnostics.chains import R_HAT_LIMIT, concerns, of_chains, summary
from scalejax.files import first_process, together
from scalejax.numpyro import declared_prior
from scalejax.progress import Told, shown, untold
from scalejax.runs import Run, check_same, removed, versions, write_settings
from scalejax.sampling import Sampling
from scalejax.saved import load, save
from scalejax.xpcs.fit import Draws, calibrated, exceeded, sample_posterior
from scalejax.xpcs.homodyne import RULES
from scalejax.xpcs.importance import AGREED, agreement, by_importance, weighed_summary
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.outcome import summarised, write_fitted, write_summary
from scalejax.xpcs.parameters import PER_ANGLE
from scalejax.xpcs.pictures import DIMS, measured_and_fitted, residual_maps
from scalejax.xpcs.posterior import Prior
from scalejax.xpcs.predicted import left_out, predicted
from scalejax.xpcs.results import FITTED, SUMMARY, Results
from scalejax.xpcs.tables import posterior_table
from scalejax.xpcs.whiteness import in_words, whiteness

FEW = 0.05
"""The part of all draws that may have diverged for shorter steps to be worth a try."""
CHUNK = 50
"""Draws of a chain that are written at once."""
CAREFUL = 0.995
"""The acceptance that these are for."""


@dataclass(frozen=True)
class Fit:
    """What a fit is made of."""

    measurement: Measurement
    scaling: Scaling
    space: ParameterSpace
    sampling: Sampling
    prior_name: str
    prior: Prior
    calibration: str
    mode: str
    rule: str
    sampler: str
    output: Path
    per_angle: str = "individual"
    resume: bool = False
    progress: bool = True


class Kept:
    """Files of a fit that can be cut off, in the order in which they come to be."""

    def __init__(self, directory: Path):
        self.directory, self._count = directory, 0
        self._known = set(directory.iterdir()) if directory.exists() else set()

    def next(self, name: str) -> tuple[Path, bool]:
        """The path of the next of them, and whether it was there when the fit began.

        Each fit goes through them in the same order, and so does each of its processes.
        """
        self._count += 1
        path = self.directory / f"{self._count}-{name}"
        return path, path in self._known


def begin(run: Fit) -> Kept:
    """The directory in which a fit keeps what it has, so that it can be cut off.

    **Raises** `ValueError` for a run to resume that is not there, or is one of other settings, data
    or versions; `OSError` where it cannot be written.
    """
    directory = run.output / "run"
    settings = _settings(run)
    if run.resume:
        check_same(directory / "run.json", settings)
    elif first_process():
        removed(directory)
        directory.mkdir(parents=True)
        write_settings(directory / "run.json", settings)
    together("begin")
    kept = Kept(directory)
    together("begun")
    return kept


def _settings(run: Fit) -> dict[str, str]:
    """What a fit is a fit of, how, and by which versions."""
    experiment = run.measurement.experiment
    numbers = (run.measurement.c2, experiment.t, experiment.phi, experiment.q, experiment.gap)
    data = hashlib.sha256()
    for array in numbers:
        data.update(np.ascontiguousarray(array).tobytes())
    space = hashlib.sha256(repr(run.space).encode())
    return {
        "data (SHA-256)": data.hexdigest(),
        "bounds, priors and initial values (SHA-256)": space.hexdigest(),
        "mode": run.mode,
        "rule": run.rule,
        "prior": run.prior_name,
        "calibration": run.calibration,
        "sampler": run.sampler,
        "per angle": run.per_angle,
        **{name: str(value) for name, value in vars(run.sampling).items()},
        **versions(),
    }


def run_fit(run: Fit, kept: Kept) -> None:
    """Calibrate, sample, and tell; once more from a better mode where sampling comes upon one."""
    results = Results(run.output)
    with _interruptible(lambda: _keep(results)):
        _fit(run, results, kept)


def _fit(run: Fit, results: Results, kept: Kept) -> None:
    measurement, space, scaling = run.measurement, run.space, run.scaling
    n_phi, n_pairs = measurement.c2.shape
    origin = "measured" if measurement.truth is None else "simulated"
    results.say(
        f"{run.mode} model, {n_phi} angles × {n_pairs} pairs of frames ({origin}), at q = "
        f"{_several(measurement.experiment.q)} 1/Å, {scaling.size} "
        f"parameters in {run.rule} coordinates, {run.prior_name} prior"
    )
    if run.per_angle == "averaged":
        run = _averaged(run, results, kept)
        space, scaling = run.space, run.scaling
    names = [name for name in space if not space[name].pinned]
    coordinates, report = _coordinates(run, results, kept, start=None)
    found = _by_importance(run, results, coordinates, report)
    if found is None or run.sampler != "importance":
        result, coordinates, report = _sampled(run, results, kept, coordinates, report)
        table = summary(result, names)
        if found is not None:
            worst, count = agreement(found[0], result, coordinates)
            verb = "agree" if worst <= AGREED else "do not agree"
            results.say(
                f"Importance sampling and NUTS {verb}: of {count} means and standard deviations "
                f"the largest difference is {worst:.1f} standard errors."
            )
    else:
        result = found[1]
        table = weighed_summary(*found, names)
    result.attrs.update(_attributes(run, report))
    results.write("posterior.nc", result.to_netcdf)
    results.say(posterior_table(table, space, measurement))
    troubles = _troubles(results, result, table, report)
    prediction = predicted(result, measurement.experiment)
    residuals = prediction.residuals(measurement.c2)
    white = whiteness(residuals, measurement.experiment.t.size)
    words = in_words(white, measurement.experiment.rows)
    results.say(f"{words[0].upper()}{words[1:]}.")
    content = summarised(
        _settings(run), measurement, space, table, report, troubles,
        left_out(result, measurement), (white, words),
    )  # fmt: skip
    results.write(SUMMARY, lambda path: write_summary(path, content))
    results.write(FITTED, lambda path: write_fitted(path, measurement, prediction))

    figure = measured_and_fitted(measurement, prediction)
    results.write("fit.png", lambda path: figure.savefig(path, dpi=150, format="png"))
    maps = residual_maps(measurement, residuals, white)
    results.write("residuals.png", lambda path: maps.savefig(path, dpi=150, format="png"))
    scale = 1.0 if run.prior_name == "normal" else None
    panels = plotting.marginals(
        result, scaling, space, measurement.truth, prior_scale=scale, dims=DIMS
    )
    results.write("marginals.png", lambda path: panels.savefig(path, dpi=150, format="png"))
    if results.written:
        results.say(f"Wrote {', '.join(results.written)} to {run.output}")
    if results.lost:
        raise typer.Exit(1)


def _troubles(results: Results, result, table, report: Report | None) -> list[str]:
    """What speaks against the posterior; and said, with the verdict."""
    troubles = concerns(result, table)
    if report is not None:
        troubles += [f"calibration: {doubt}" for doubt in report.doubts]
    for trouble in troubles:
        results.say(f"Warning: {trouble}.")
    sound = f"Converged: R-hat ≤ {R_HAT_LIMIT} everywhere, no divergences."
    if not of_chains(result):
        sound = "Draws without chains, weighed: nothing to converge."
    results.say("Not converged." if troubles else sound)
    return troubles


def _several(values) -> str:
    """Each of some numbers once, for people."""
    return ", ".join(f"{value:.5g}" for value in np.unique(np.asarray(values)))


def _averaged(run: Fit, results: Results, kept: Kept) -> Fit:
    """The same fit with contrast and offset held at the values of the mode, of each angle."""
    _, report = _coordinates(run, results, kept, start=None)
    if report is None or not report.mode:
        raise ValueError("no mode was found that contrast and offset could be held at")
    theta = run.scaling.unpack(run.scaling.to_original(jnp.array(report.mode)))
    held = {
        name: replace(run.space[name], fixed=tuple(theta[name].tolist()), initial=None)
        for name in PER_ANGLE
        if not run.space[name].pinned
    }
    space = ParameterSpace({**run.space, **held}).sized(**run.space.sizes)
    prior = declared_prior(space) if run.prior_name == "declared" else run.prior
    scaling = Scaling.from_space(space, rule=RULES[run.rule])
    results.say(
        f"{' and '.join(held)} of each angle are held at the values found. What they might have "
        "been besides is left out: the other parameters look surer than they are."
    )
    return replace(run, space=space, scaling=scaling, prior=prior)


def _attributes(run: Fit, report: Report | None) -> dict[str, Any]:
    return {
        "scalejax_version": __version__,
        "mode": run.mode,
        "rule": run.rule,
        "prior": run.prior_name,
        "sampler": run.sampler,
        "calibration": "none" if report is None else str(report),
        "seed": run.sampling.seed,
    }


def _coordinates(run: Fit, results: Results, kept: Kept, start):
    """Those to sample in, and the report of their calibration."""
    if run.calibration == "none":
        return run.scaling, None
    path, known = kept.next("calibration.npz")
    if known:
        coordinates, report = load(path)
        results.say("Calibrated before:")
    else:
        with _telling(run) as told:
            coordinates, report = calibrated(
                run.measurement, run.scaling, run.space, prior=run.prior, method=run.calibration,
                seed=run.sampling.seed, start=start, told=told,
            )  # fmt: skip
        if first_process():
            save(path, coordinates, report)
    results.say(f"Calibration by {run.calibration}: {report}")
    return coordinates, report


def _by_importance(run: Fit, results: Results, coordinates, report):
    """The posterior without chains, if it is asked for and can be trusted."""
    if run.sampler == "nuts":
        return None
    try:
        if report is None or not report.good:
            raise NotTrusted("importance sampling needs a good calibration")
        with _telling(run) as told:
            found = by_importance(
                run.measurement, coordinates, run.scaling, run.sampling, prior=run.prior, told=told
            )
    except NotTrusted as error:
        results.say(f"No importance sampling: {error}. NUTS samples instead.")
        return None
    weighed = found[0]
    results.say(
        f"Importance sampling: {len(weighed.weights)} draws, worth {weighed.effective:.0f} "
        f"independent ones, k̂ = {weighed.k_hat:.2f}; log evidence {weighed.log_evidence:.2f} ± "
        f"{weighed.log_evidence_error:.2g}"
    )
    return found


def _sampled(run: Fit, results: Results, kept: Kept, coordinates, report):
    """The posterior by chains, and the coordinates and the report it has been sampled with.

    Where a draw is higher than the mode, once more from there; where a few have diverged, once more
    with shorter steps, unless the user has said how long these are to be.
    """
    for again in (False, True):
        sampling = run.sampling.settled(report)
        result = _chains(run, results, kept, coordinates, report, sampling)
        better = report and exceeded(
            result, run.measurement, coordinates, run.scaling, report, prior=run.prior
        )
        if not better:
            break
        above, theta = better
        results.say(
            f"Calibration was wrong: sampling found a density e^{above:.1f} times that of its mode."
        )
        if not again:
            results.say("Beginning again from there.")
            results.draws.clear()
            coordinates, report = _coordinates(run, results, kept, theta)
    diverging = result["sample_stats"]["diverging"].values
    if run.sampling.target_accept is None and 0 < diverging.mean() <= FEW:
        results.say(
            f"{diverging.sum()} of {diverging.size} draws diverged. Once more, with shorter steps."
        )
        sampling = replace(sampling, target_accept=CAREFUL)
        result = _chains(run, results, kept, coordinates, report, sampling)
    return result, coordinates, report


def _chains(run: Fit, results: Results, kept: Kept, coordinates, report, sampling: Sampling):
    """Chains, of which a run that is cut off keeps the draws, or those of a run before it."""
    results.say(
        f"NUTS with {sampling.chains} chains of {sampling.warmup} + {sampling.samples} draws"
    )
    draws = Draws(run.measurement, coordinates)
    draws.attrs.update(_attributes(run, report))
    results.draws.append(draws)
    directory, known = kept.next("chains")
    chains = Run.begun(
        directory,
        {},
        draws=sampling.samples,
        size=CHUNK,
        dims=draws.dims,
        resume=known and (directory / "run.json").exists(),
    )
    if (before := chains.after()) is not None:
        warmup, total = sampling.warmup or 0, (sampling.warmup or 0) + sampling.samples
        results.say(
            f"Going on after {min(before.done, total)} of {total} draws of each chain, {warmup} of "
            "them warmup"
        )
    with _telling(run) as told:
        return sample_posterior(
            run.measurement, coordinates, run.space, sampling, prior=run.prior, report=report,
            draws=draws, run=chains, told=told,
        )  # fmt: skip


def _telling(run: Fit) -> contextlib.AbstractContextManager[Told]:
    """How far it has come, for who wants to know; of several processes the first tells."""
    return shown() if run.progress and first_process() else contextlib.nullcontext(untold)


def _keep(results: Results) -> str:
    """Write what has been drawn so far, and say what that was."""
    draws = max(results.draws, key=len, default=None)
    if draws is None or not len(draws):
        return "nothing had been drawn yet"
    count = len(draws)
    result = draws.result()
    result.attrs["interrupted"] = f"after {count} draws of each chain"
    results.write("posterior.nc", result.to_netcdf)
    if "posterior.nc" in results.lost:
        return "what had been drawn could not be written"
    return f"{count} draws of each chain are in {results.output / 'posterior.nc'}"


@contextlib.contextmanager
def _interruptible(keep: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C ends the program at once, with status 130, whatever is being computed.

    `keep` saves what there is before that, and says what it was.

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
                said = "what had been drawn could not be written"
                with contextlib.suppress(Exception):
                    said = keep()
                sys.stderr.write(f"\nInterrupted: {said}.\n")
                sys.stderr.flush()
                os._exit(130)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGINT, before)
        os.close(writing)
