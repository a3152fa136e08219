"""Posteriors that bend, in calibrated coordinates: NUTS, and importance sampling beside it.

Laminar flow at 3 and 10 angles, and small posteriors with known troubles, for three data sets or
keys; NUTS after a warmup of 300, which finds the step size alone: the mass matrix is the identity.
Everything is counted: search, profile, checks and warmup; a gradient is a leapfrog step, or what
costs as much in the calibration (see its Report). Steps are for an acceptance of 0.98 on laminar
flow, as those of `scalejax fit`, and 0.9 on the others.
Effective samples are the bulk ESS of the worst parameter. Where importance sampling can be trusted,
its means and sds are held against those of the chains, and its log evidence against the exact one.
"""

from functools import partial
from statistics import median

import arviz as az
import jax
import numpy as np
from numpyro.infer import NUTS

from benchmarks import Limit, markdown
from benchmarks.posterior import disagreement, simulated, statistics
from benchmarks.sampling import efficiency, run
from benchmarks.targets import TARGETS
from scalejax import Scaling
from scalejax.calibrate import NotTrusted, from_log_density, resample
from scalejax.diagnostics.chains import R_HAT_LIMIT
from scalejax.numpyro import declared_prior
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.posterior import log_density

DEVICES = 1
SEEDS = (0, 1, 2)
LEAST = {  # effective samples in 1000 gradients, all counted
    "laminar flow, 3 angles": 30,
    "laminar flow, 10 angles": 25,
    "Neal's funnel, 10 parameters": 60,
    "Neal's funnel, 100 parameters": 15,
    "a banana": 50,
    "against a bound": 80,
    "eight schools, centered": 80,
    "a hierarchy of 50 groups": 50,
}
EVIDENCE = {
    "a banana": np.log(2 * np.pi * 0.1),
    "Neal's funnel, 10 parameters": 5 * np.log(2 * np.pi) + np.log(3),
    "Neal's funnel, 100 parameters": 50 * np.log(2 * np.pi) + np.log(3),
}
# Means and sds of single parameters, in closed form, or of reference draws (posteriordb).
EXACT = {
    "a banana": {"x": ([0.0, 1.0], [1.0, np.sqrt(2.01)])},
    "Neal's funnel, 10 parameters": {"v": ([0.0], [3.0])},
    "Neal's funnel, 100 parameters": {"v": ([0.0], [3.0])},
}


def measure(name, seed, quick):
    density, scaling, found, report = (flow if name.startswith("laminar") else small)(name, seed)
    of_z = found.pullback(density)
    chains, samples = 4, 20 if quick else 2000
    start = 2 * jax.random.normal(jax.random.key(10 + seed), (chains, scaling.size))
    data, result = run(
        NUTS(
            potential_fn=lambda z: -of_z(z),
            target_accept_prob=0.98 if name.startswith("laminar") else 0.9,
            adapt_mass_matrix=False,
        ),
        lambda z: found.unpack(found.to_original(z)),
        chains=chains, warmup=20 if quick else 300, samples=samples, start=start, key=seed,
    )  # fmt: skip
    row = {"model": name, "data": seed, "kind": str(report.kind), "along": ", ".join(report.along),
           "k_hat": report.k_hat, "is_efficiency": report.efficiency,
           "calibration gradients": report.gradients, **result}  # fmt: skip
    row["off"] = float(off(name, data))
    try:
        weighed = resample(found, density, jax.random.key(100 + seed), 4000)
    except NotTrusted:
        return [row]
    row["importance"] = float(beside(weighed, data, scaling))
    if name in EVIDENCE:
        away = abs(weighed.log_evidence - EVIDENCE[name])
        row["evidence"] = float(away / max(weighed.log_evidence_error, 1e-4))
    return [row]


def flow(name, seed):
    space, measured = simulated("laminar_flow", int(name.split()[2]), seed)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    found, report = calibrated(
        measured, scaling, space, prior=prior, method="least-squares", seed=seed
    )
    return log_density(measured, scaling, prior=prior), scaling, found, report


def small(name, seed):
    target = TARGETS[name]
    scaling = target.scaling()
    found, report = from_log_density(target.log_density, scaling, key=jax.random.key(seed))
    return target.log_density, scaling, found, report


def off(name, data):
    """The largest difference from exact means and sds, in standard errors."""
    worst = np.nan
    for parameter, (mean, sd) in EXACT.get(name, {}).items():
        found = statistics(az.InferenceData(posterior=data["posterior"][[parameter]]))
        want = np.array([mean, sd])
        away = np.abs(found[[0, 2]] - want) / found[[1, 3]]
        worst = np.nanmax([worst, away.max()])
    return worst


def beside(weighed, data, scaling):
    """The largest difference of a mean or an sd from that of chains, in standard errors."""
    chains = statistics(data)
    order = np.concatenate([
        np.arange(scaling.size)[part] for name in data["posterior"].data_vars
        for group, part in scaling.slices() if group.name == name
    ])  # fmt: skip
    own = np.stack([weighed.mean, weighed.mean_error, weighed.sd, weighed.sd_error])[:, order]
    return disagreement(own, chains)


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for name in ["a banana"] if quick else LEAST:
        for seed in SEEDS[: 1 if quick else None]:
            yield str((name, seed)), partial(measure, name, seed, quick)


def _groups(rows):
    for name in LEAST:
        if found := [row for row in rows if row["model"] == name]:
            yield name, found


def limits(rows):
    for name, found in _groups(rows):
        best = median(efficiency(r, counting="all") for r in found)
        yield Limit(f"{name}: ESS in 1000 gradients, all counted", best, ">=", LEAST[name])
        yield Limit(f"{name}: R-hat, worst", max(r["r_hat"] for r in found), "<=", R_HAT_LIMIT)
        yield Limit(f"{name}: divergent draws", sum(r["divergent"] for r in found), "<=", 0)
        for key, what in (("off", "means and sds from exact ones"),
                          ("importance", "importance sampling from the chains"),
                          ("evidence", "log evidence from the exact one")):  # fmt: skip
            known = [r[key] for r in found if np.isfinite(r.get(key, np.nan))]
            if known:
                yield Limit(f"{name}: {what}, worst, in standard errors", max(known), "<=", 4)


def table(rows):
    header = ["posterior", "data sets or keys", "coordinates", "k̂",
              "importance sampling: effective draws a draw", "R-hat", "divergent",
              "leapfrog steps a draw", "calibration gradients",
              "ESS in 1000 gradients", "the same, all counted"]  # fmt: skip
    lines = []
    for name, found in _groups(rows):
        kinds = sorted({r["kind"] + (f" ({r['along']})" if r["along"] else "") for r in found})
        lines.append([
            name, len(found), "; ".join(kinds),
            f"{np.nanmedian([r['k_hat'] if np.isfinite(r['k_hat']) else 0.0 for r in found]):.2f}",
            f"{np.nanmedian([r['is_efficiency'] for r in found]):.2f}",
            f"{max(r['r_hat'] for r in found):.3f}",
            sum(r["divergent"] for r in found),
            f"{median(r['steps'] for r in found):.0f}",
            f"{median(r['calibration gradients'] for r in found):.0f}",
            *(f"{median(efficiency(r, counting=c) for r in found):.3g}"
              for c in ("sampling", "all")),
        ])  # fmt: skip
    return markdown(header, lines)
