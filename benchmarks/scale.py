"""A measurement at its real size: 23 angles × 1000 frames, 11.5 million correlations.

The gradient by blocks, beside what no gradient can do without: reading c2 and computing one exp and
one sin² a pair; and beside the same sum over all data at once, where that is small enough to be
held, at 23 × 200. Then calibration and the posterior by importance sampling, with the peak memory
of the process, each in a process of its own. Held against: a gradient within 1.5 times that bound,
and no slower than without blocks; a calibration within 15 minutes and 4 GB, a posterior within 30
minutes, with every true value of what is not per angle within its 99 % interval, or no more of all
parameters outside than chance leaves in 99.9 of 100 cases.
"""

import json
import resource
import subprocess
import sys
import time
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import Limit, markdown
from scalejax import Scaling
from scalejax.calibrate import resample
from scalejax.numpyro import declared_prior
from scalejax.xpcs import default_config, for_mode, read_space, two_time
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.posterior import Posterior, log_density

DEVICES = 1
MODES = ("static", "laminar_flow")
ANGLES, FRAMES, SMALL = 23, 1000, 200
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


def alone(mode, frames):
    """Calibration and importance sampling, and how much memory they took."""
    measured, space, scaling, prior = simulated(mode, frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    coordinates, report = calibrated(
        measured, scaling, space, prior=prior, method="least-squares", seed=0
    )
    middle = time.perf_counter()
    density = log_density(measured, scaling, prior=prior)
    found = resample(coordinates, density, jax.random.key(1), DRAWS)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    truth = np.asarray(scaling.pack(measured.truth))
    off = np.abs(found.mean - truth) / found.sd
    row = {"what": "posterior", "model": mode, "frames": frames, "calibration": middle - begin,
           "gradients": report.gradients, "good": report.good, "k_hat": found.k_hat,
           "effective": found.effective, "importance": end - middle, "peak": peak / 2**20,
           "simulation": before / 2**20,
           "outside": int((off > stats.norm.ppf(0.995)).sum()), "of": len(off)}  # fmt: skip
    print(json.dumps(row))


def posterior(mode, frames):
    code = (
        "import jax; jax.config.update('jax_enable_x64', True); "
        f"from benchmarks.scale import alone; alone({mode!r}, {frames})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [json.loads(done.stdout.splitlines()[-1])]


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for mode in MODES[: 1 if quick else None]:
        for frames in (30,) if quick else (SMALL, FRAMES):
            yield str(("gradient", mode, frames)), lambda m=mode, f=frames: gradients(m, f, quick)
        frames = 30 if quick else FRAMES
        yield str(("posterior", mode, frames)), lambda m=mode, f=frames: posterior(m, f)


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
            continue
        yield Limit(f"{label}: calibration, minutes", row["calibration"] / 60, "<=", 15)
        yield Limit(f"{label}: importance sampling, minutes", row["importance"] / 60, "<=", 30)
        yield Limit(f"{label}: peak memory, GB", row["peak"], "<=", 4)
        yield Limit(f"{label}: true values outside 99 % intervals, of {row['of']}",
                    row["outside"], "<=", int(stats.binom.ppf(0.999, row["of"], 0.01)))  # fmt: skip


def table(rows):
    times = [
        [row["model"], f"{ANGLES} × {row['frames']}", *(f"{1e3 * row[k]:.3g}" for k in
         ("bound", "value", "seconds")), f"{1e3 * row['plain']:.3g}" if "plain" in row else ""]
        for row in rows if row["what"] == "gradient"
    ]  # fmt: skip
    fits = [
        [row["model"], f"{ANGLES} × {row['frames']}", f"{row['calibration']:.0f}",
         row["gradients"], f"{row['importance']:.0f}", f"{row['k_hat']:.2f}",
         f"{row['effective']:.0f} of {DRAWS}", f"{row['simulation']:.2f}", f"{row['peak']:.2f}"]
        for row in rows if row["what"] == "posterior"
    ]  # fmt: skip
    return (
        markdown(["model", "angles × frames", "reading, exp and sin² (ms)", "log-density (ms)",
                  "gradient (ms)", "gradient without blocks (ms)"], times)
        + "\n\n"
        + markdown(["model", "angles × frames", "calibration (s)", "gradients",
                    "importance sampling (s)", "k̂", "effective draws",
                    "peak memory after simulation (GB)", "in the end (GB)"], fits)
    )  # fmt: skip
