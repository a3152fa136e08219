"""Beside the samplers of today: nutpie, BlackJAX and NumPyro, every gradient counted.

Four chains each. Peers sample NumPyro-like sites (each bound by its own transform: exp, or a
logistic function) and the `matched` z, by their own defaults of warmup; ours is calibrated, with
300 draws of warmup where that is good and 1000 where not. The targets are the static model of three
data sets, and, where POSTERIORDB names a directory with them, models of posteriordb against their
reference draws. A gradient is one evaluation of it, those of warmup, calibration and every rejected
step included. Effective samples are bulk and tail ESS of the worst parameter, in physical units.
Seconds to 400 effective samples hold compilation, warmup and calibration.
"""

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Limit, markdown, posteriordb, sampling
from benchmarks.posterior import simulated
from scalejax import Scaling
from scalejax.calibrate import CoordinatesKind, from_log_density
from scalejax.diagnostics.chains import R_HAT_LIMIT
from scalejax.numpyro import declared_prior
from scalejax.sampling import Sampling
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.posterior import log_density as xpcs_log_density

DEVICES = 1
SEEDS = (0, 1, 2)
CHAINS, DRAWS, WARMUP = 4, 1000, 1000
OURS = "scalejax, calibrated"
PEERS = ("NumPyro, dense", "BlackJAX, dense", "BlackJAX, low rank", "nutpie", "nutpie, low rank")
ROWS = (OURS, *(f"{peer}, {of}" for peer, of in product(PEERS, ("sites", "matched"))))


@dataclass(frozen=True)
class Target:
    """A log-density of θ, its Scaling, how to calibrate it, and draws to be held against."""

    scaling: Scaling
    log_density: Any
    calibrate: Any
    reference: dict[str, np.ndarray] | None = None


def as_sites(parameter):
    """A rule: the transforms that NumPyro has for bounds, whatever the prior is."""
    low, high = parameter.low, parameter.high
    if parameter.pinned:
        return low, 1.0, low, high
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2, (high - low) / 4, low, high
    if np.isfinite(low) or np.isfinite(high):
        return (low + 1, 1.0, low, high) if np.isfinite(low) else (high - 1, 1.0, low, high)
    return 0.0, 1.0, low, high


def static(seed, rule):
    space, measured = simulated("static", 10, seed)
    prior = declared_prior(space)
    scaling = Scaling.from_space(space)

    def calibrate(key):
        return calibrated(measured, scaling, space, prior=prior, method="least-squares", seed=seed)

    chosen = scaling if rule is None else Scaling.from_space(space, rule=rule)
    return Target(chosen, xpcs_log_density(measured, scaling, prior=prior), calibrate)


def of_posteriordb(name, rule):
    model = posteriordb.MODELS[name]
    data = posteriordb.data(model.data)
    space = model.space({key: value.item() if value.ndim == 0 else value
                         for key, value in data.items()})  # fmt: skip
    scaling = Scaling.from_space(space)

    def log_density(theta):
        return model.log_density(scaling.unpack(theta), data)

    chosen = scaling if rule is None else Scaling.from_space(space, rule=rule)
    return Target(
        chosen, log_density, lambda key: from_log_density(log_density, scaling, key=key),
        posteriordb.reference(model),
    )  # fmt: skip


def by_numpyro(density, start, key, *, warmup, draws, target, dense=True):
    kernel = sampling.NUTS(
        potential_fn=lambda z: -density(z), dense_mass=dense, target_accept_prob=target
    )
    begun = time.perf_counter()
    mcmc = sampling.MCMC(
        kernel, num_warmup=warmup, num_samples=draws, num_chains=CHAINS,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    mcmc.warmup(key, extra_fields=("num_steps",), collect_warmup=True, init_params=start)
    adapting = int(mcmc.get_extra_fields()["num_steps"].sum())
    warmed = time.perf_counter()
    mcmc.run(key, extra_fields=("num_steps", "diverging"))
    z, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()
    jax.block_until_ready(z)
    return z, {
        "gradients": adapting + int(extra["num_steps"].sum()),
        "divergent": int(extra["diverging"].sum()),
        "fixed": warmed - begun,
        "sampling": time.perf_counter() - warmed,
    }


def by_blackjax(density, start, key, *, warmup, draws, low_rank):
    import blackjax  # which begins to use JAX

    keys = jax.random.split(key)
    if low_rank:
        adaptation = blackjax.window_adaptation_low_rank(blackjax.nuts, density)
    else:
        adaptation = blackjax.window_adaptation(
            blackjax.nuts, density, is_mass_matrix_diagonal=False
        )

    @jax.jit
    def adapted(keys, start):
        def of(key, z):
            (state, parameters), info = adaptation.run(key, z, warmup)
            return state, parameters, info.info.num_integration_steps.sum()

        return jax.vmap(of)(keys, start)

    @jax.jit
    def drawn(keys, states, parameters):
        def of(key, state, parameters):
            kernel = blackjax.nuts(density, **parameters)

            def step(state, key):
                state, info = kernel.step(key, state)
                return state, (state.position, info.num_integration_steps, info.is_divergent)

            return jax.lax.scan(step, state, jax.random.split(key, draws))[1]

        return jax.vmap(of)(keys, states, parameters)

    begun = time.perf_counter()
    states, parameters, adapting = adapted(jax.random.split(keys[0], CHAINS), start)
    jax.block_until_ready(adapting)
    warmed = time.perf_counter()
    z, steps, diverging = drawn(jax.random.split(keys[1], CHAINS), states, parameters)
    jax.block_until_ready(z)
    return z, {
        "gradients": int(adapting.sum() + steps.sum()),
        "divergent": int(diverging.sum()),
        "fixed": warmed - begun,
        "sampling": time.perf_counter() - warmed,
    }


def by_nutpie(density, start, seed, *, draws, low_rank, **options):
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    size = start.shape[1]
    both = jax.jit(jax.value_and_grad(density))

    def make_logp():
        def logp(z):
            value, gradient = both(z)
            return float(value), np.asarray(gradient, np.float64)

        return logp

    def make_expand(seed1, seed2, chain):
        return lambda z: {"z": np.asarray(z, np.float64)}

    begun = time.perf_counter()
    both(start[0])
    model = from_pyfunc(size, make_logp, make_expand, [np.dtype("float64")], [(size,)], ["z"])
    trace = nutpie.sample(
        model, draws=draws, chains=CHAINS, cores=1, seed=seed, progress_bar=False,
        low_rank_modified_mass_matrix=low_rank, **options,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    adapting = int(trace["warmup_sample_stats"]["n_steps"].sum())
    steps = int(trace["sample_stats"]["n_steps"].sum())
    return trace["posterior"]["z"].values, {
        "gradients": adapting + steps,
        "divergent": int(trace["sample_stats"]["diverging"].sum()),
        # It tells no time of its warmup: that of as many gradients.
        "fixed": seconds * adapting / (adapting + steps),
        "sampling": seconds * steps / (adapting + steps),
    }


def measured(target, row, seed, quick):
    """Draws of θ, and what they cost."""
    key, scaling = jax.random.key(100 + seed), target.scaling
    keys = jax.random.split(key, 3)
    draws, warmup = (20, 20) if quick else (DRAWS, WARMUP)
    start = jax.random.uniform(keys[0], (CHAINS, scaling.size), minval=-2.0, maxval=2.0)
    if row != OURS:
        density = scaling.pullback(target.log_density)
        low_rank = "low rank" in row
        if row.startswith("NumPyro"):
            z, cost = by_numpyro(density, start, keys[1], warmup=warmup, draws=draws, target=0.8)
        elif row.startswith("BlackJAX"):
            z, cost = by_blackjax(
                density, start, keys[1], warmup=warmup, draws=draws, low_rank=low_rank
            )
        else:  # its own defaults of warmup, which differ with the mass matrix
            options = {"tune": warmup} if quick else {}
            z, cost = by_nutpie(density, start, seed, draws=draws, low_rank=low_rank, **options)
        return scaling, z, cost
    begun = time.perf_counter()
    coordinates, report = target.calibrate(keys[2])
    calibrating = time.perf_counter() - begun
    settled = Sampling().settled(report)
    if report.kind is not CoordinatesKind.NONE:
        start = jax.random.normal(keys[0], (CHAINS, coordinates.size))
    z, cost = by_numpyro(
        coordinates.pullback(target.log_density), start, keys[1], warmup=settled.warmup,
        draws=draws, target=settled.target_accept, dense=settled.dense_mass,
    )  # fmt: skip
    return (
        coordinates,
        z,
        {
            **cost,
            "gradients": cost["gradients"] + report.gradients,
            "fixed": cost["fixed"] + calibrating,
        },
    )


def rows_of(name, row, seed, quick):
    """One line of the table, of one seed."""
    make = partial(static, seed) if name == "static" else partial(of_posteriordb, name)
    target = make(as_sites if row.endswith("sites") else None)
    coordinates, z, cost = measured(target, row, seed, quick)
    theta = coordinates.to_original(jnp.asarray(z))
    free = ~np.asarray(coordinates.pinned)
    data = az.convert_to_dataset({"theta": np.asarray(theta)[..., free]})
    result = {
        "target": name, "row": row, "seed": seed,
        "ess": float(az.ess(data)["theta"].min()),
        "tail": float(az.ess(data, method="tail")["theta"].min()),
        "r_hat": float(az.rhat(data)["theta"].max()),
        **cost,
    }  # fmt: skip
    if target.reference is not None:
        values = coordinates.unpack(theta)
        mine = {n: np.asarray(values[n]) for n in target.reference}
        result["off"] = apart(mine, target.reference)
    return [result]


def apart(mine, reference):
    """The largest difference of a mean or an sd from the reference's, in standard errors."""
    worst = 0.0
    sets = [az.convert_to_dataset(draws) for draws in (mine, reference)]
    for method, of in (("mean", "mean"), ("sd", "std")):
        errors = [az.mcse(draws, method=method) for draws in sets]
        for name in reference:
            first, second = (float(getattr(draws[name], of)()) for draws in sets)
            error = np.hypot(*(float(e[name]) for e in errors))
            worst = max(worst, float(abs(first - second) / error))
    return worst


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    names = ["static"]
    if os.environ.get("POSTERIORDB"):
        names += list(posteriordb.MODELS)
    rows = ROWS
    if quick:
        names, rows = ["static"], ("nutpie, matched",)
    for name, row, seed in product(names, rows, SEEDS[: 1 if quick else None]):
        yield str((name, row, seed)), partial(rows_of, name, row, seed, quick)


def efficiency(row, what="ess"):
    """In 1000 gradients, all counted."""
    return 1e3 * row[what] / row["gradients"]


def seconds(row):
    """To 400 effective samples of the worst parameter."""
    return row["fixed"] + row["sampling"] * 400 / row["ess"]


def sound(rows):
    return all(row["r_hat"] <= R_HAT_LIMIT for row in rows)


def found(rows, name, row):
    return [r for r in rows if (r["target"], r["row"]) == (name, row)]


def best_peer(rows, name):
    """The peer with the most effective samples a gradient, of those that converge; or none."""
    lines = {row: found(rows, name, row) for row in ROWS if row != OURS}
    lines = {row: r for row, r in lines.items() if r and sound(r)}
    return max(lines, key=lambda row: median(map(efficiency, lines[row])), default=None)


def limits(rows):
    for name in dict.fromkeys(row["target"] for row in rows):
        ours, peer = found(rows, name, OURS), best_peer(rows, name)
        if peer is not None:
            ratio = median(map(efficiency, ours)) / median(map(efficiency, found(rows, name, peer)))
            yield Limit(f"{name}: ESS a gradient, all counted, of the best peer's ({peer})",
                        ratio, ">=", 1.3 if name == "static" else 0.9)  # fmt: skip
        if "off" in ours[0]:
            yield Limit(f"{name}: means and sds of ours off the reference, in standard errors",
                        max(r["off"] for r in ours), "<=", 4)  # fmt: skip
        yield Limit(f"{name}: divergent draws of ours, of {len(ours) * CHAINS * DRAWS}",
                    sum(r["divergent"] for r in ours), "<=", 0)  # fmt: skip


def table(rows):
    lines = []
    for name in dict.fromkeys(row["target"] for row in rows):
        peer = best_peer(rows, name)
        for row in ROWS:
            some = found(rows, name, row)
            if not some:
                continue
            good = sound(some)
            figures = [median(map(efficiency, some)),
                       median(efficiency(r, "tail") for r in some),
                       median(map(seconds, some))]  # fmt: skip
            lines.append([
                name, f"**{row}**" if row in (OURS, peer) else row,
                f"{max(r['r_hat'] for r in some):.3f}", sum(r["divergent"] for r in some),
                *([f"{x:.3g}" for x in figures] if good else ["not converged", "", ""]),
                f"{max(r['off'] for r in some):.1f}" if "off" in some[0] else "",
            ])  # fmt: skip
    return markdown(
        ["target", "sampler, and what it samples", "largest R-hat", "divergent",
         "ESS in 1000 gradients, all counted", "tail ESS", "seconds to 400 ESS",
         "off the reference (standard errors)"], lines,
    )  # fmt: skip
