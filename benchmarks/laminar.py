"""NUTS on laminar flow at 3 and 10 angles: the rows of `sampling` on the harder model.

Two chains on simulated data of three seeds. What is not calibrated gets 250 + 250 draws: with
trajectories of full length, as they mostly are there, a million gradients, about twice what the
calibrated rows take with their calibration and warmup. Without adaptation all trajectories there
are of full length, and one data set of 3 angles shows it. Held against limits are calibrated
coordinates with a diagonal mass matrix, as `scalejax fit` has it, beside NumPyro's own sites with a
dense one.
"""

from functools import partial
from itertools import product

import jax

from benchmarks import Limit
from benchmarks.sampling import (
    CALIBRATED,
    MASS,
    ROWS,
    SEEDS,
    SITES,
    of,
    select,
    total,
    xpcs,
    xpcs_table,
)
from scalejax.diagnostics.chains import R_HAT_LIMIT

DEVICES = 2
ANGLES = (3, 10)


def flow(n_phi, row, mass, seed, quick):
    target, warmup, samples = (0.95, 1000, 4000) if row == CALIBRATED else (0.9, 250, 250)
    if quick:
        warmup = samples = 4
    return xpcs("laminar_flow", n_phi, seed, row, mass,
                target=target, warmup=warmup, samples=samples)  # fmt: skip


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    everything = (ANGLES, tuple(MASS), ROWS, SEEDS)
    for n_phi, mass, row, seed in product(*(x[: 1 if quick else None] for x in everything)):
        if mass == "none" and row != CALIBRATED and (n_phi, seed) != (ANGLES[0], SEEDS[0]):
            continue
        yield str((mass, row, n_phi, seed)), partial(flow, n_phi, row, mass, seed, quick)


def limits(rows):
    for n_phi in ANGLES:
        name = f"laminar_flow, {n_phi} angles"
        own = select(rows, name, CALIBRATED, "diagonal")
        worst, most = max(r["r_hat"] for r in own), max(map(total, own))
        best, sites = (of(rows, name, row, mass, "all")
                       for row, mass in ((CALIBRATED, "diagonal"), (SITES, "dense")))  # fmt: skip
        label = f"{n_phi} angles, calibrated"
        yield Limit(f"{label}: R-hat, worst of all data", worst, "<=", R_HAT_LIMIT)
        yield Limit(f"{label}: gradients, most of all data", most, "<=", 2e6)
        yield Limit(f"{label}: times the ESS a gradient of {SITES}", best / sites, ">=", 5)


def table(rows):
    return xpcs_table(rows)
