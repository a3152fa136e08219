"""Effective samples a gradient and a second, by NUTS, in different coordinates.

Two chains on simulated XPCS data of three seeds, the static model at 10 angles. NumPyro's own
constrained sites with the declared prior stand beside the homodyne rule with its normal prior,
`matched` coordinates and calibrated ones, both with the declared prior. The mass matrix is dense,
diagonal or not adapted. Then five small posteriors with known troubles, in a Scaling and
calibrated, with a diagonal mass matrix. A gradient is a leapfrog step. Effective samples are the
bulk ESS of the worst parameter.
"""

import time
from functools import partial
from itertools import product
from statistics import median

import arviz as az
import jax
from numpyro.infer import MCMC, NUTS, init_to_uniform

from benchmarks import Limit, markdown, sites
from benchmarks.posterior import disagreement, simulated, statistics
from benchmarks.targets import TARGETS
from scalejax import Scaling
from scalejax.calibrate import from_log_density
from scalejax.diagnostics.chains import R_HAT_LIMIT
from scalejax.numpyro import declared_prior, init_to_standard_normal, normal_prior
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.homodyne import homodyne
from scalejax.xpcs.model import model

DEVICES = 2
SEEDS = (0, 1, 2)
SITES, HOMODYNE, MATCHED, CALIBRATED = (
    "NumPyro's own sites, declared prior", "`homodyne` coordinates, normal prior",
    "`matched` coordinates, declared prior", "calibrated coordinates, declared prior",
)  # fmt: skip
ROWS = (SITES, HOMODYNE, MATCHED, CALIBRATED)
MASS = {"dense": {"dense_mass": True}, "diagonal": {}, "none": {"adapt_mass_matrix": False}}


def contestant(row, space, measured):
    """A model of no arguments, where it starts, and the gradients that it took to set up."""
    data = (measured.experiment, measured.c2)
    if row == SITES:
        return partial(sites.model, space, *data), init_to_uniform, 0
    if row == HOMODYNE:
        scaling = Scaling.from_space(space, rule=homodyne)
        return partial(model, scaling, *data, prior=normal_prior()), init_to_uniform, 0
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    if row == MATCHED:
        return partial(model, scaling, *data, prior=prior), init_to_uniform, 0
    coordinates, report = calibrated(
        measured, scaling, space, prior=prior, method="least-squares", seed=0
    )
    start = init_to_uniform if report.kind == "none" else init_to_standard_normal
    return partial(model, coordinates, *data, prior=prior), start, report.gradients


def scanned(kernel, key, start, *, warmup, samples):
    """A chain of a kernel as a traced function: z of each draw, and whether it diverged.

    Compiled as a part of a function that has the data among its arguments, once for all of them.
    """
    state = kernel.init(key, warmup, start, (), {})

    def one(state, _):
        state = kernel.sample(state, (), {})
        return state, (state.z, state.diverging)

    drawn = jax.lax.scan(one, state, length=warmup + samples)[1]
    return jax.tree.map(lambda x: x[warmup:], drawn)


def run(kernel, names, *, warmup, samples, chains, start=None, key=0):
    """Draws by name, and what they cost."""
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=samples, num_chains=chains,
                chain_method="parallel" if chains <= DEVICES else "vectorized",
                progress_bar=False)  # fmt: skip
    keys = jax.random.split(jax.random.key(key))
    mcmc.warmup(keys[0], extra_fields=("num_steps",), collect_warmup=True, init_params=start)
    adapting = int(mcmc.get_extra_fields()["num_steps"].sum())
    begun = time.perf_counter()
    mcmc.run(keys[1], extra_fields=("num_steps", "diverging", "accept_prob"))
    found, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()
    jax.block_until_ready(found)
    seconds = time.perf_counter() - begun
    data = az.from_dict(names(found))
    return data, {
        "ess": min(float(v.min()) for v in az.ess(data).values()),
        "r_hat": max(float(v.max()) for v in az.rhat(data).values()),
        "warmup gradients": adapting,
        "gradients": int(extra["num_steps"].sum()),
        "steps": float(extra["num_steps"].mean()),
        "accept": float(extra["accept_prob"].mean()),
        "divergent": int(extra["diverging"].sum()),
        "draws": int(extra["num_steps"].size),
        "seconds": seconds,
    }


def xpcs(mode, n_phi, seed, row, mass, *, target, warmup, samples):
    """A row of the table of a model."""
    space, measured = simulated(mode, n_phi, seed)
    sampled, start, spent = contestant(row, space, measured)
    kernel = NUTS(sampled, init_strategy=start, target_accept_prob=target, **MASS[mass])
    free = [name for name, parameter in space.items() if not parameter.pinned]
    _, result = run(
        kernel, lambda draws: {name: draws[name] for name in free}, chains=2,
        warmup=warmup, samples=samples,
    )  # fmt: skip
    return [{"model": f"{mode}, {n_phi} angles", "data": seed, "row": row, "mass": mass,
             "calibration gradients": spent, **result}]  # fmt: skip


def static(row, mass, seed, quick):
    warmup, samples = (300 if row == CALIBRATED else 1000), 2000
    if quick:
        warmup = samples = 20
    return xpcs("static", 10, seed, row, mass, target=0.8, warmup=warmup, samples=samples)


def small(name, seed, quick):
    """A target in its Scaling, and calibrated: a row each, and whether their draws agree."""
    target, chains = TARGETS[name], 4
    scaling = target.scaling()
    found, report = from_log_density(target.log_density, scaling, key=jax.random.key(seed))
    results = []
    for row, coordinates in (("Scaling", scaling), ("calibrated", found)):
        density = coordinates.pullback(target.log_density)
        key = jax.random.key(10 + seed)
        start = (
            jax.random.normal(key, (chains, scaling.size))
            if coordinates is not scaling
            else jax.random.uniform(key, (chains, scaling.size), minval=-2, maxval=2)
        )
        data, result = run(
            NUTS(potential_fn=lambda z, density=density: -density(z), target_accept_prob=0.9),
            lambda z, c=coordinates: c.unpack(c.to_original(z)),
            chains=chains, warmup=20 if quick else 1000, samples=20 if quick else 5000,
            start=start, key=seed + (row == "calibrated"),
        )  # fmt: skip
        spent = report.gradients if row == "calibrated" else 0
        results.append((data, {"model": name, "data": seed, "row": row, "mass": "diagonal",
                               "calibration gradients": spent, **result}))  # fmt: skip
    differ = disagreement(*(statistics(data) for data, _ in results))
    return [{**result, "kind": report.kind, "difference": float(differ)} for _, result in results]


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    seeds = SEEDS[: 1 if quick else None]
    masses, rows = (["dense"], ROWS[:1]) if quick else (MASS, ROWS)
    for arguments in product(masses, rows, seeds):
        mass, row, seed = arguments
        yield str(arguments), partial(static, row, mass, seed, quick)
    for name, seed in product(list(TARGETS)[: 1 if quick else None], seeds):
        yield str((name, seed)), partial(small, name, seed, quick)


def total(row):
    return row["gradients"] + row["warmup gradients"] + row["calibration gradients"]


def efficiency(row, *, counting):
    """Effective samples of the worst parameter in 1000 gradients."""
    return 1e3 * row["ess"] / (total(row) if counting == "all" else row["gradients"])


def converged(row):
    return row["r_hat"] <= R_HAT_LIMIT


def select(rows, model, row, mass):
    """Those of a line of the table: one for each data set."""
    return [r for r in rows if (r["model"], r["row"], r["mass"]) == (model, row, mass)]


def of(rows, model, row, mass, counting):
    """The efficiency of a line of the table, the median of its data."""
    return median(efficiency(r, counting=counting) for r in select(rows, model, row, mass))


def limits(rows):
    static = partial(of, rows, "static, 10 angles")
    best = static(CALIBRATED, "none", "all")
    yield Limit("static, calibrated, not adapted: ESS in 1000 gradients, all counted",
                best, ">=", 25)  # fmt: skip
    yield Limit("the same, neither calibration nor warmup counted",
                static(CALIBRATED, "none", "sampling"), ">=", 40)  # fmt: skip
    for row, bound in ((SITES, 6), (HOMODYNE, 10)):
        yield Limit(f"static, calibrated, not adapted: times the ESS a gradient of {row} with a "
                    "dense mass matrix, all counted", best / static(row, "dense", "all"),
                    ">=", bound)  # fmt: skip
    for name in TARGETS:
        target = partial(of, rows, name, mass="diagonal", counting="all")
        ratio = target(row="calibrated") / target(row="Scaling")
        yield Limit(f"{name}: times the ESS a gradient of the Scaling, all counted", ratio, ">=",
                    20 if "calendar" in name else 0.9)  # fmt: skip
        worst = max(r["difference"] for r in rows if r["model"] == name)
        yield Limit(f"{name}: largest difference of a mean or sd, in standard errors", worst, "<=",
                    4)  # fmt: skip


def table(rows):
    large = [row for row in rows if row["model"] not in TARGETS]
    small = [row for row in rows if row["model"] in TARGETS]
    return f"{xpcs_table(large)}\n\n{_small_table(small)}"


def _groups(rows):
    """The rows that differ in the data alone."""
    groups = {}
    for row in rows:
        groups.setdefault((row["model"], row["row"], row["mass"]), []).append(row)
    return groups.items()


def xpcs_table(rows):
    """A line for what differs in the data alone."""
    header = [
        "model", "coordinates and prior", "mass matrix", "R-hat", "divergent", "accepted",
        "leapfrog steps a draw", "ESS in 1000 gradients", "the same, all counted", "ESS a second",
    ]  # fmt: skip
    lines = []
    for (name, row, mass), found in _groups(rows):
        counts = [
            median(efficiency(r, counting="sampling") for r in found),
            median(efficiency(r, counting="all") for r in found),
            median(r["ess"] / r["seconds"] for r in found),
        ]
        sound = all(map(converged, found))
        lines.append([
            name.replace("_", " "), row, mass, _span(found, "r_hat", ".3f"),
            _span(found, "divergent", ".0f"), _span(found, "accept", ".2f"),
            _span(found, "steps", ".0f"),
            *([f"{x:.3g}" for x in counts] if sound else ["not converged", "", ""]),
        ])  # fmt: skip
    return markdown(header, lines)


def _small_table(rows):
    header = ["posterior", "coordinates", "calibration", "R-hat", "divergent",
              "ESS in 1000 gradients", "the same, all counted"]  # fmt: skip
    lines = []
    for (name, row, _), found in _groups(rows):
        kinds = ", ".join(sorted({r["kind"] for r in found})).replace("none", "refused")
        lines.append([
            name, row, kinds if row == "calibrated" else "",
            _span(found, "r_hat", ".3f"), _span(found, "divergent", ".0f"),
            *(f"{median(efficiency(r, counting=c) for r in found):.3g}"
              for c in ("sampling", "all")),
        ])  # fmt: skip
    return markdown(header, lines)


def _span(rows, key, form):
    """The least and the largest of all data."""
    low, high = (format(f(r[key] for r in rows), form) for f in (min, max))
    return low if low == high else f"{low} to {high}"
