"""Whether calibration finds the mode, of simulated XPCS data.

Each data set has a seed of its own, which is the key of its calibration too. The stages of the
search were chosen on some of these: change `SEEDS` for others. Held
against: the log-density of z where calibration ended is at least that at the truth, every time; and
how many gradients that took.
"""

from functools import partial
from statistics import median

import jax
import jax.numpy as jnp

from benchmarks import Limit, markdown
from benchmarks.posterior import simulated
from scalejax import Scaling
from scalejax.numpyro import declared_prior
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.posterior import log_density

DEVICES = 1
SEEDS = range(20, 60)
CASES = {  # and the gradients that the median may take
    ("static", 10): (SEEDS[:20], 3000),
    ("laminar_flow", 3): (SEEDS, None),
    ("laminar_flow", 10): (SEEDS, 6000),
    ("laminar_flow", 23): (SEEDS[:20], None),
}


def measure(mode, n_phi, seed):
    space, measured = simulated(mode, n_phi, seed)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    _, report = calibrated(measured, scaling, space, prior=prior, method="least-squares", seed=seed)
    theta = scaling.pack({name: jnp.asarray(value) for name, value in measured.truth.items()})
    truth = scaling.pullback(log_density(measured, scaling, prior=prior))(
        scaling.to_normalized(theta)
    )
    return [{"model": name(mode, n_phi), "data": seed, "kind": str(report.kind),
             "above": report.log_density - float(truth), "k_hat": report.k_hat,
             "search": report.search_gradients, "gradients": report.gradients}]  # fmt: skip


def name(mode, n_phi):
    return f"{mode.replace('_', ' ')}, {n_phi} angles"


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for (mode, n_phi), (seeds, _) in list(CASES.items())[: 1 if quick else None]:
        for i, seed in enumerate(seeds[: 1 if quick else None]):
            if i % 20 == 0:
                # Each compiled function holds maps of memory, of which a process may have 65 530.
                jax.clear_caches()
            yield f"{mode} {n_phi} {seed}", partial(measure, mode, n_phi, seed)


def _groups(rows):
    for (mode, n_phi), (_, most) in CASES.items():
        if found := [row for row in rows if row["model"] == name(mode, n_phi)]:
            yield name(mode, n_phi), found, most


def limits(rows):
    for label, found, most in _groups(rows):
        missed = sum(not row["above"] >= 0 for row in found)
        yield Limit(f"{label}: modes below the truth, of {len(found)}", missed, "<=", 0)
        if most is not None:
            yield Limit(f"{label}: gradients, median", median(r["gradients"] for r in found), "<=",
                        most)  # fmt: skip


def table(rows):
    header = ["model", "data sets", "log-density above that of the truth, least",
              "gradients of the search, median", "most", "in all, median", "most"]  # fmt: skip
    lines = []
    for label, found, _ in _groups(rows):
        spent = [[row[key] for row in found] for key in ("search", "gradients")]
        lines.append([label, len(found), f"{min(row['above'] for row in found):.1f}",
                      *(f"{of(each):.0f}" for each in spent for of in (median, max))])  # fmt: skip
    return markdown(header, lines)
