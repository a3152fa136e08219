"""Beside the samplers of today: nutpie, BlackJAX and NumPyro, every gradient counted.

Four chains of 1000 draws each. Peers sample the `matched` z and NumPyro-like sites (each bound by
its own transform: exp, or a logistic function), by their own defaults of warmup; ours is
calibrated, and then sampled by NUTS as `scalejax fit` does it, or weighed without chains. Targets
are the XPCS models on simulated data of three seeds, small posteriors with known troubles, and,
where POSTERIORDB names a directory with them, models of posteriordb against their reference draws;
three seeds each. A gradient is one evaluation of it, those of warmup, training, calibration and
every rejected step included; an evaluation of the density alone is a third. Effective samples are
bulk and tail ESS of the worst parameter, in physical units; for weighed draws they follow from the
standard errors of their mean, and of their cumulative distribution at its 5 and 95 %. Seconds to
400 effective samples hold compilation, warmup and calibration. Each row is measured in a process of
its own, which is ended where it takes too long; a peer that does not converge, or that has taken
half a minute, is not tried on the next seed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Limit, markdown, posteriordb
from benchmarks.nested import EXACT
from benchmarks.posterior import disagreement, simulated, statistics
from benchmarks.samplers import PEERS, numpyro_nuts
from benchmarks.targets import TARGETS
from scalejax import Scaling
from scalejax.calibrate import CoordinatesKind, NotTrusted, from_log_density, resample
from scalejax.diagnostics.chains import R_HAT_LIMIT
from scalejax.numpyro import declared_prior
from scalejax.sampling import Sampling
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.homodyne import homodyne
from scalejax.xpcs.posterior import log_density as xpcs_log_density

DEVICES = 1
SEEDS = (0, 1, 2)
CHAINS, DRAWS, WARMUP = 4, 1000, 1000
SECONDS, SECONDS_XPCS, PATIENCE = 120, 180, 30  # of a peer
AGREED = 4.0  # standard errors
NUTS, WEIGHED = "scalejax, NUTS", "scalejax, weighed"
OURS = (NUTS, WEIGHED)
SITES, MATCHED, HOMODYNE = "sites", "matched", "homodyne"
XPCS = {
    "static, 10 angles": ("static", 10),
    "laminar flow, 3 angles": ("laminar_flow", 3),
    "laminar flow, 10 angles": ("laminar_flow", 10),
}
SMALL = [name for name in TARGETS if "schools" not in name]
# Where flows are tried, which take minutes to train.
FLOWS = ("static, 10 angles", "laminar flow, 3 angles", "Neal's funnel, 10 parameters",
         "eight_schools_centered")  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A log-density of θ, the coordinates peers sample it in, and how to calibrate it."""

    scalings: dict[str, Scaling]
    log_density: Callable
    calibrate: Callable
    known: dict[str, np.ndarray]
    """As of `statistics`, by name of a parameter, where they are known."""


def as_sites(scaling):
    """The transforms that NumPyro has for bounds, at its own scale."""
    low, high = (np.asarray(x, float) for x in (scaling.low, scaling.high))
    center, scale = np.zeros_like(low), np.ones_like(low)
    both = np.isfinite(low) & np.isfinite(high)
    one = np.isfinite(low) ^ np.isfinite(high)
    with np.errstate(invalid="ignore"):
        center = np.where(both, (low + high) / 2, center)
        center = np.where(one, np.where(np.isfinite(low), low + 1, high - 1), center)
        scale = np.where(both, (high - low) / 4, scale)
    groups = {group.name: group.size for group in scaling.groups}
    return Scaling(center, scale, low, high, groups=groups)


def xpcs(mode, n_phi, seed):
    space, measured = simulated(mode, n_phi, seed)
    prior, matched = declared_prior(space), Scaling.from_space(space)

    def calibrate(key):
        return calibrated(measured, matched, space, prior=prior, method="least-squares", seed=seed)

    scalings = {MATCHED: matched, SITES: as_sites(matched),
                HOMODYNE: Scaling.from_space(space, rule=homodyne)}  # fmt: skip
    return Target(scalings, xpcs_log_density(measured, matched, prior=prior), calibrate, {})


def of_density(log_density, scaling, known):
    return Target(
        {MATCHED: scaling, SITES: as_sites(scaling)}, log_density,
        lambda key: from_log_density(log_density, scaling, key=key), known,
    )  # fmt: skip


def small(name):
    target = TARGETS[name]
    known = {parameter: np.array([mean, np.zeros_like(mean), sd, np.zeros_like(sd)])
             for parameter, (mean, sd) in EXACT.get(name, {}).items()}  # fmt: skip
    return of_density(target.log_density, target.scaling(), known)


def of_posteriordb(name):
    model = posteriordb.MODELS[name]
    data = posteriordb.data(model.data)
    space = model.space({key: value.item() if value.ndim == 0 else value
                         for key, value in data.items()})  # fmt: skip
    scaling = Scaling.from_space(space)
    reference = posteriordb.reference(model)
    known = {} if reference is None else by_name(reference)
    return of_density(lambda theta: model.log_density(scaling.unpack(theta), data), scaling, known)


def target_of(name, seed):
    if name in XPCS:
        return xpcs(*XPCS[name], seed)
    return small(name) if name in TARGETS else of_posteriordb(name)


def by_name(draws):
    """What `statistics` says of each parameter, of (chains, draws, …)."""
    return {name: statistics(az.from_dict({name: x})) for name, x in draws.items()}


def apart(mine, other):
    """The largest difference of a mean or an sd, in standard errors; nan of nothing in common."""
    worst = [disagreement(mine[name], other[name]) for name in other if name in mine]
    return float(max(worst, default=np.nan))


# --- one row, in a process of its own ---


def measured(name, row, seed, quick):
    target = target_of(name, seed)
    keys = jax.random.split(jax.random.key(100 + seed), 3)
    length = {"draws": 20, "warmup": 20} if quick else {"draws": DRAWS, "warmup": WARMUP}
    if row in OURS:
        return weighed(target, keys) if row == WEIGHED else ours(target, keys, length)
    peer, coordinates = row.rsplit(", ", 1)
    scaling = target.scalings[coordinates]
    start = jax.random.uniform(keys[0], (CHAINS, scaling.size), minval=-2.0, maxval=2.0)
    if peer.startswith("nutpie") and not quick:
        length["warmup"] = None
    z, cost = PEERS[peer](scaling.pullback(target.log_density), start, keys[1], **length)
    return of_chains(target, scaling, z, cost)


def ours(target, keys, length):
    begun = time.perf_counter()
    coordinates, report = target.calibrate(keys[2])
    calibrating = time.perf_counter() - begun
    settled = Sampling().settled(report)
    start = 2 * jax.random.normal(keys[0], (CHAINS, coordinates.size))
    if report.kind is CoordinatesKind.NONE:
        start = jax.random.uniform(keys[0], start.shape, minval=-2.0, maxval=2.0)
    z, cost = numpyro_nuts(
        coordinates.pullback(target.log_density), start, keys[1],
        warmup=min(settled.warmup, length["warmup"]), draws=length["draws"],
        target=settled.target_accept, dense=settled.dense_mass, adapt_mass=settled.adapt_mass,
    )  # fmt: skip
    cost["gradients"] += report.gradients
    cost["fixed"] += calibrating
    return {**of_chains(target, coordinates, z, cost), "kind": str(report.kind)}


def weighed(target, keys):
    begun = time.perf_counter()
    coordinates, report = target.calibrate(keys[2])
    try:
        found = resample(coordinates, target.log_density, keys[1], CHAINS * DRAWS)
    except NotTrusted as error:
        return {"refused": str(error)}
    seconds = time.perf_counter() - begun
    free = ~np.asarray(coordinates.pinned)
    sd, mean_error = found.sd[free], found.mean_error[free]
    known = np.array([found.mean, found.mean_error, found.sd, found.sd_error])
    values = coordinates.unpack(known)
    return {
        "ess": float(((sd / mean_error) ** 2).min()),
        "tail": min(tail(found.weights, column) for column in found.theta[:, free].T),
        "r_hat": 1.0, "k_hat": found.k_hat, "kind": str(report.kind),
        "gradients": report.gradients + CHAINS * DRAWS / 3, "divergent": 0,
        "fixed": seconds, "sampling": 0.0,
        **compared(target, {name: np.asarray(values[name]) for name in coordinates}),
    }  # fmt: skip


def tail(weights, x):
    """How many independent draws would know the 5 and 95 % quantiles as well."""
    order = np.argsort(x)
    share = np.cumsum(weights[order])
    least = np.inf
    for level in (0.05, 0.95):
        below = np.zeros(len(x))
        below[order[: np.searchsorted(share, level) + 1]] = 1.0
        error = weights**2 @ (below - level) ** 2
        least = min(least, level * (1 - level) / error)
    return float(least)


def of_chains(target, coordinates, z, cost):
    theta = coordinates.to_original(jnp.asarray(z))
    free = ~np.asarray(coordinates.pinned)
    data = az.convert_to_dataset({"theta": np.asarray(theta)[..., free]})
    values = coordinates.unpack(theta)
    return {
        "ess": float(az.ess(data)["theta"].min()),
        "tail": float(az.ess(data, method="tail")["theta"].min()),
        "r_hat": float(az.rhat(data)["theta"].max()), **cost,
        **compared(target, by_name({name: np.asarray(values[name]) for name in coordinates})),
    }  # fmt: skip


def compared(target, found):
    """How far it is from what is known, or what others can be compared with."""
    if target.known:
        return {"off": apart(found, target.known)}
    return {"statistics": {name: value.tolist() for name, value in found.items()}}


# --- all rows ---


def rows_of(name, row, quick):
    """A line of the table: as many seeds as are tried."""
    found, begun = [], time.perf_counter()
    limit = None if row in OURS else SECONDS_XPCS if name in XPCS else SECONDS
    for seed in SEEDS[: 1 if quick else None]:
        command = [sys.executable, "-m", "benchmarks.field", name, row, str(seed), str(int(quick))]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            result = {"refused": f"not in {limit} s"}
        else:
            if done.returncode:
                raise RuntimeError(f"{name}, {row}, {seed}: {done.stderr[-2000:]}")
            result = json.loads(done.stdout.splitlines()[-1])
        found.append({"target": name, "row": row, "seed": seed, **result})
        patient = row in OURS or time.perf_counter() - begun < PATIENCE
        if not (converged(found[-1]) and patient):
            break
    return found


def contestants(name):
    yield from OURS
    for peer in PEERS:
        if peer in ("nutpie, flow", "NumPyro, NeuTra") and name not in FLOWS:
            continue
        if peer == "NumPyro, dense" or (name not in TARGETS and peer == "nutpie, low rank"):
            yield f"{peer}, {SITES}"
        if peer != "NumPyro, dense":
            yield f"{peer}, {MATCHED}"
    if name in XPCS:
        yield f"NumPyro, dense, {HOMODYNE}"


def tasks(quick):
    databased = posteriordb.present() if os.environ.get("POSTERIORDB") else []
    names = [*XPCS, *databased, *SMALL]
    if quick:
        yield "quick", partial(rows_of, "a banana", "nutpie, matched", quick)
        return
    for name in names:
        for row in contestants(name):
            yield str((name, row)), partial(rows_of, name, row, quick)


# --- what they say ---


def converged(row):
    return "refused" not in row and row["r_hat"] <= R_HAT_LIMIT


def efficiency(row, what="ess"):
    """In 1000 gradients, all counted."""
    return 1e3 * row[what] / row["gradients"]


def seconds(row):
    """To 400 effective samples of the worst parameter."""
    return row["fixed"] + row["sampling"] * 400 / row["ess"]


def off(row, rows):
    """From what is known, or from ours by NUTS on the same data, in standard errors."""
    if "off" in row or "statistics" not in row:
        return row.get("off", np.nan)
    way = WEIGHED if row["row"] == NUTS else NUTS  # NUTS itself is held against the other way
    same = [r for r in found(rows, row["target"], way) if r["seed"] == row["seed"]]
    if not same or "statistics" not in same[0]:
        return np.nan
    mine, other = ({n: np.array(v) for n, v in r["statistics"].items()} for r in (row, same[0]))
    return apart(mine, other)


def found(rows, name, row):
    return [r for r in rows if (r["target"], r["row"]) == (name, row)]


def sound(some, rows):
    """Whether every seed converged, to the right answer."""
    return bool(some) and all(converged(r) and not off(r, rows) > AGREED for r in some)


def best(rows, name, labels):
    """The label with the most effective samples a gradient, of those that are sound; or none."""
    good = {label: some for label in labels if sound(some := found(rows, name, label), rows)}
    return max(good, key=lambda label: median(map(efficiency, good[label])), default=None)


def ratio(rows, name):
    """Ours to the best peer's, by NUTS and the better of both ways; and that peer."""
    peer = best(rows, name, [label for label in contestants(name) if label not in OURS])
    own = best(rows, name, OURS)
    values = [
        None if label is None or not sound(some := found(rows, name, label), rows)
        else median(map(efficiency, some))
        for label in (peer, NUTS, own)
    ]  # fmt: skip
    return peer, values


def targets_in(rows):
    return list(dict.fromkeys(row["target"] for row in rows))


def limits(rows):
    three = 0
    for name in targets_in(rows):
        peer, (other, _, own) = ratio(rows, name)
        if peer is not None and own is not None:
            least = 1.3 if "static" in name else 10 if "laminar" in name else 0.9
            yield Limit(f"{name}: ESS a gradient, all counted, of the best peer's ({peer})",
                        own / other, ">=", least)  # fmt: skip
            three += name in posteriordb.MODELS and own >= 3 * other
        for row in OURS:
            some = [r for r in found(rows, name, row) if "refused" not in r]
            worst = max((off(r, rows) for r in some), default=np.nan)
            if np.isfinite(worst):
                yield Limit(f"{name}, {row}: means and sds from those known or of the other way, "
                            "in standard errors", worst, "<=", AGREED)  # fmt: skip
    if any(name in posteriordb.MODELS for name in targets_in(rows)):
        yield Limit("models of posteriordb with three times the best peer's", three, ">=", 4)


def verdict(rows, name):
    """In a line."""
    peer, (other, nuts, own) = ratio(rows, name)
    if own is None:
        return f"{peer} is best; ours does not converge"
    if peer is None:
        return "of the peers none converges to the right answer"
    way = f" (by NUTS {nuts / other:.2g})" if nuts is not None and own > nuts else ""
    return f"{own / other:.2g} times the best peer{way}"


def summary(rows):
    lines = []
    for name in targets_in(rows):
        peer, (other, nuts, _) = ratio(rows, name)
        weigh = found(rows, name, WEIGHED)
        lines.append([
            name.replace("_", " "),
            *("—" if x is None else f"{x:.3g}" for x in (
                nuts, median(map(efficiency, weigh)) if sound(weigh, rows) else None, other)),
            peer or "none", verdict(rows, name),
        ])  # fmt: skip
    return markdown(["target", "scalejax, NUTS", "scalejax, weighed", "the best peer", "which",
                     "verdict"], lines)  # fmt: skip


def line(rows, name, row):
    some = found(rows, name, row)
    peer, _ = ratio(rows, name)
    label = f"**{row}**" if row in (*OURS, peer) else row
    if refused := [r["refused"] for r in some if "refused" in r]:
        return [name, label, len(some), refused[0].split(";")[0], *[""] * 6]
    span = f"{max(r['r_hat'] for r in some):.3f}" if row != WEIGHED else (
        f"k̂ {max(r['k_hat'] for r in some):.2f}")  # fmt: skip
    if not all(map(converged, some)):
        return [name, label, len(some), f"{span}: not converged", sum(r["divergent"] for r in some),
                f"{median(r['gradients'] for r in some):.3g}", *[""] * 4]  # fmt: skip
    worst = max(off(r, rows) for r in some)
    return [
        name, label, len(some), span, sum(r["divergent"] for r in some),
        *(f"{median(map(of, some)):.3g}" for of in (
            lambda r: r["gradients"], efficiency, partial(efficiency, what="tail"), seconds)),
        "" if np.isnan(worst) else f"{worst:.1f}" + (", wrong" if worst > AGREED else ""),
    ]  # fmt: skip


def table(rows):
    header = ["target", "sampler, and what it samples", "seeds", "largest R-hat", "divergent",
              "gradients", "ESS in 1000 gradients", "tail ESS in 1000 gradients",
              "seconds to 400 ESS", "off (standard errors)"]  # fmt: skip
    lines = [line(rows, name, row)
             for name, row in dict.fromkeys((r["target"], r["row"]) for r in rows)]  # fmt: skip
    return f"{summary(rows)}\n\n{markdown(header, lines)}"


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    name, row, seed, quick = sys.argv[1:]
    print(json.dumps(measured(name, row, int(seed), bool(int(quick)))))
