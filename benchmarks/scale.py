"""A measurement at its real size: 23 angles × 1000 frames, 11.5 million correlations.

The gradient by blocks, beside what no gradient can do without: reading c2 and computing one exp and
one sin² a pair; and beside the same sum over all data at once, where that is small enough to be
held, at 23 × 200. Then calibration and the posterior by importance sampling, with the peak memory
of the process, each in a process of its own that reads its data; and beside NUTS at 23 × 200. Held
against: a gradient within 1.5 times that bound, and no slower than without blocks; a calibration
within 15 minutes, 4 GB and the cost of 60 JᵀJ and 300 gradients, a posterior within 30 minutes,
with no more true values outside their 99 % intervals than chance leaves in 99.9 of 100 cases, and
means and sds within 4 standard errors of those of NUTS; memory beyond the data, of which there are
two copies, the same within 10 % at any number of frames that make more than one block: of one block
XLA compiles no loop, which is 50 MB less.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import Limit, markdown
from scalejax import Scaling
from scalejax.calibrate import resample
from scalejax.numpyro import declared_prior
from scalejax.sampling import Sampling
from scalejax.xpcs import default_config, for_mode, read_space, two_time
from scalejax.xpcs.correlation import Experiment
from scalejax.xpcs.fit import calibrated, sample_posterior
from scalejax.xpcs.importance import AGREED, agreement
from scalejax.xpcs.inputs import Measurement, simulate_measurement
from scalejax.xpcs.parameters import PER_ANGLE
from scalejax.xpcs.posterior import Posterior, log_density

DEVICES = 1
MODES = ("static", "laminar_flow")
ANGLES, FRAMES, MIDDLE, SMALL, FEWEST = 23, 1000, 400, 200, 100
DRAWS = 4000


def simulated(mode, frames):
    config: dict = default_config(mode)
    config["simulation"]["frames"] = frames
    space = for_mode(read_space(config), mode)
    measured = simulate_measurement(config, space, mode, ANGLES, 0)
    space = space.sized(phi=ANGLES)
    return measured, space, Scaling.from_space(space), declared_prior(space)


def timed(f, *args, runs):
    """The median of some runs, in seconds, after one that compiles."""
    jax.block_until_ready(f(*args))
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        jax.block_until_ready(f(*args))
        found.append(time.perf_counter() - begin)
    return median(found)


def gradients(mode, frames, quick):
    measured, _, scaling, prior = simulated(mode, frames)
    posterior = Posterior.of(measured, scaling, prior=prior)
    theta = scaling.pack(measured.truth)
    c2 = jnp.asarray(measured.c2)
    runs = 3 if quick else 15
    gradient = jax.jit(lambda p, theta: jax.value_and_grad(p.log_density)(theta))
    bound = jax.jit(lambda c2: (jnp.exp(-c2) * jnp.sin(c2) ** 2).sum())

    @jax.jit
    @jax.value_and_grad
    def plain(theta, posterior, c2):
        values = scaling.unpack(theta)
        squares = ((c2 - two_time(values, measured.experiment)) / values["sigma"]) ** 2
        return posterior.rest(theta) - squares.sum() / 2

    row = {"what": "gradient", "model": mode, "frames": frames,
           "bound": timed(bound, c2, runs=runs),
           "value": timed(jax.jit(lambda p, theta: p.log_density(theta)), posterior, theta,
                          runs=runs),
           "seconds": timed(gradient, posterior, theta, runs=runs)}  # fmt: skip
    if frames <= SMALL:
        row["plain"] = timed(plain, theta, posterior, c2, runs=runs)
    return [row]


def peak():
    """The most memory that this process has had so far, in GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    raise OSError("/proc/self/status: no VmHWM")


def read(file, mode):
    """What `simulated` gives, of a measurement on disk."""
    with np.load(file) as f:
        experiment = Experiment(t=f["t"], phi=f["phi"], q=f["q"], gap=f["gap"])
        measured = Measurement(experiment, f["c2"], {k: f[k] for k in f["truths"].tolist()})
    space = for_mode(read_space(default_config(mode)), mode).sized(phi=ANGLES)
    return measured, space, Scaling.from_space(space), declared_prior(space)


def written(mode, frames, file):
    """A simulated measurement, to disk."""
    measured, *_ = simulated(mode, frames)
    e = measured.experiment
    np.savez(file, c2=measured.c2, t=e.t, phi=e.phi, q=e.q, gap=e.gap,
             truths=np.array(list(measured.truth)), **measured.truth)  # fmt: skip


def passes(mode, frames, file):
    """Memory for a log-density, its gradient and JᵀJ."""
    measured, _, scaling, prior = read(file, mode)
    posterior = Posterior.of(measured, scaling, prior=prior)
    theta = scaling.pack(measured.truth)
    places = {g.name: range(p.start, p.stop) for g, p in scaling.slices()}
    rowwise = [tuple(places[name]) for name in PER_ANGLE]
    for f in (
        lambda p, theta: p.log_density(theta),
        lambda p, theta: jax.value_and_grad(p.log_density)(theta),
        lambda p, theta: p.c2.normal(p.residuals, theta, rowwise=rowwise),
    ):
        jax.block_until_ready(jax.jit(f)(posterior, theta))
    print(json.dumps({"what": "memory", "model": mode, "frames": frames,
                      "peak": peak(), "data": measured.c2.nbytes / 2**30}))  # fmt: skip


def fit(mode, frames, file, *, nuts=False):
    """Calibration and importance sampling, and how much memory they took; and beside chains."""
    measured, space, scaling, prior = read(file, mode)
    begin = time.perf_counter()
    coordinates, report = calibrated(
        measured, scaling, space, prior=prior, method="least-squares", seed=0
    )
    middle = time.perf_counter()
    density = log_density(measured, scaling, prior=prior)
    found = resample(coordinates, density, jax.random.key(1), DRAWS)
    end = time.perf_counter()
    truth = np.asarray(scaling.pack(measured.truth))
    off = np.abs(found.mean - truth) / found.sd
    row = {"what": "posterior", "model": mode, "frames": frames, "calibration": middle - begin,
           "gradients": report.gradients, "good": report.good, "k_hat": found.k_hat,
           "effective": found.effective, "importance": end - middle, "peak": peak(),
           "data": measured.c2.nbytes / 2**30,
           "outside": int((off > stats.norm.ppf(0.995)).sum()), "of": len(off)}  # fmt: skip
    if nuts:
        settled = Sampling().settled(report)
        result = sample_posterior(measured, coordinates, space, settled, prior=prior, report=report)
        row["nuts"] = time.perf_counter() - end
        row["apart"], row["figures"] = agreement(found, result, coordinates)
    print(json.dumps(row))


def alone(what, mode, frames, **options):
    """One of these, in a process of its own, of data that another has written."""
    head = "import jax; jax.config.update('jax_enable_x64', True); from benchmarks import scale; "
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/data.npz"
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        for call in (f"written({mode!r}, {frames}, {file!r})",
                     f"{what}({mode!r}, {frames}, {file!r}{given})"):  # fmt: skip
            done = subprocess.run([sys.executable, "-c", f"{head}scale.{call}"], check=True,
                                  capture_output=True, text=True)  # fmt: skip
    return [json.loads(done.stdout.splitlines()[-1])]


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for mode in MODES[: 1 if quick else None]:
        for frames in (30,) if quick else (SMALL, FRAMES):
            yield str(("gradient", mode, frames)), lambda m=mode, f=frames: gradients(m, f, quick)
        for frames in () if quick else (FEWEST, MIDDLE, FRAMES):
            yield str(("memory", mode, frames)), lambda m=mode, f=frames: alone("passes", m, f)
        for frames in (30,) if quick else (SMALL, MIDDLE, FRAMES):
            nuts = frames == SMALL
            yield (
                str(("posterior", mode, frames)),
                lambda m=mode, f=frames, n=nuts: alone("fit", m, f, nuts=n),
            )


def limits(rows):
    for row in rows:
        label = f"{row['model']}, {ANGLES} × {row['frames']}"
        if row["what"] == "gradient":
            if "plain" in row:
                yield Limit(f"{label}: gradient, of that without blocks",
                            row["seconds"] / row["plain"], "<=", 1.0)  # fmt: skip
            else:
                yield Limit(f"{label}: gradient, of the bound",
                            row["seconds"] / row["bound"], "<=", 1.5)  # fmt: skip
        if row["what"] != "posterior":
            continue
        yield Limit(f"{label}: calibration, minutes", row["calibration"] / 60, "<=", 15)
        yield Limit(f"{label}: importance sampling, minutes", row["importance"] / 60, "<=", 30)
        yield Limit(f"{label}: peak memory, GB", row["peak"], "<=", 4)
        if row["frames"] == FRAMES:
            # A derivative along one direction counts as half a gradient.
            each = (7 if row["model"] == "laminar_flow" else 3) / 2 + 1.5
            yield Limit(f"{label}: gradients, JᵀJ being {each:g} of them", row["gradients"], "<=",
                        300 + 60 * each)  # fmt: skip
        yield Limit(f"{label}: true values outside 99 % intervals, of {row['of']}",
                    row["outside"], "<=", int(stats.binom.ppf(0.999, row["of"], 0.01)))  # fmt: skip
        if "apart" in row:
            yield Limit(f"{label}: largest of {row['figures']} differences from NUTS, in standard "
                        "errors", row["apart"], "<=", AGREED)  # fmt: skip
    for what in ("memory", "posterior"):
        for mode in MODES:
            beyond = {row["frames"]: row["peak"] - 2 * row["data"] for row in rows
                      if (row["what"], row["model"]) == (what, mode)}  # fmt: skip
            first = FEWEST if what == "memory" else MIDDLE
            if {first, FRAMES} <= set(beyond):
                yield Limit(f"{mode}, {'calibration' if what == 'posterior' else 'gradient, JᵀJ'}: "
                            f"memory beyond the data at {FRAMES} frames, of that at {first}",
                            beyond[FRAMES] / beyond[first], "<=", 1.1)  # fmt: skip


def table(rows):
    times = [
        [row["model"], f"{ANGLES} × {row['frames']}", *(f"{1e3 * row[k]:.3g}" for k in
         ("bound", "value", "seconds")), f"{1e3 * row['plain']:.3g}" if "plain" in row else ""]
        for row in rows if row["what"] == "gradient"
    ]  # fmt: skip
    fits = [
        [row["model"], f"{ANGLES} × {row['frames']}", f"{row['calibration']:.0f}",
         row["gradients"], f"{row['importance']:.0f}", f"{row['k_hat']:.2f}",
         f"{row['effective']:.0f} of {DRAWS}", f"{row['data']:.2f}", f"{row['peak']:.2f}",
         f"{row['apart']:.1f}" if "apart" in row else ""]
        for row in rows if row["what"] == "posterior"
    ]  # fmt: skip
    memory = [[row["model"], f"{ANGLES} × {row['frames']}", f"{row['data']:.3f}",
               f"{row['peak']:.2f}"] for row in rows if row["what"] == "memory"]  # fmt: skip
    return "\n\n".join((
        markdown(["model", "angles × frames", "reading, exp and sin² (ms)", "log-density (ms)",
                  "gradient (ms)", "gradient without blocks (ms)"], times),
        markdown(["model", "angles × frames", "c2 (GB)", "peak of gradient and JᵀJ (GB)"], memory),
        markdown(["model", "angles × frames", "calibration (s)", "gradients",
                  "importance sampling (s)", "k̂", "effective draws", "c2 (GB)", "peak (GB)",
                  "off NUTS (standard errors)"], fits),
    ))  # fmt: skip
