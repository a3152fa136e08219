"""The posterior of D0 and D_offset under different coordinates and priors, beside the truth.

Static model, 10 angles, data simulated with three seeds; NUTS with a dense mass matrix, 4 chains of
1000 + 2000 draws, double precision. Held against: where the prior is the declared one, all means
and standard deviations agree within 4 Monte Carlo standard errors, those on NumPyro's own sites
included.
"""

import arviz as az
import jax
import numpy as np
from numpyro.infer import MCMC, NUTS, init_to_uniform

from benchmarks import Limit, markdown, sites
from scalejax import Scaling
from scalejax.diagnostics.chains import R_HAT_LIMIT
from scalejax.numpyro import declared_prior, normal_prior
from scalejax.xpcs import default_config, for_mode, read_space
from scalejax.xpcs.homodyne import homodyne
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.model import model

DEVICES = 4
SEEDS = (0, 1, 2)
SHOWN = ("D0", "D_offset")
UNITS = "Å²/s"


def simulated(mode, n_phi, seed):
    """The space of a model, and a measurement; n_phi None is as many angles as by default."""
    config = default_config(mode)
    space = for_mode(read_space(config), mode)
    measurement = simulate_measurement(config, space, mode, n_phi, seed)
    return space.sized(phi=measurement.experiment.phi.size), measurement


def sample(model, *args, draws, **kwargs):
    """The draws of every parameter."""
    kernel = NUTS(model, dense_mass=True, target_accept_prob=0.9, init_strategy=init_to_uniform)
    mcmc = MCMC(kernel, num_warmup=draws // 2, num_samples=draws, num_chains=4, progress_bar=False)
    mcmc.run(jax.random.key(0), *args, **kwargs)
    found = mcmc.get_samples(group_by_chain=True)
    return az.from_dict({name: found[name] for name in ("D0", "alpha", "D_offset", "sigma",
                                                        "contrast", "offset")})  # fmt: skip


def statistics(data):
    """Mean and sd of every element, each with its Monte Carlo standard error: shape (4, P)."""
    posterior = data["posterior"]
    columns = (
        posterior.mean(("chain", "draw")), az.mcse(data, method="mean"),
        posterior.std(("chain", "draw")), az.mcse(data, method="sd"),
    )  # fmt: skip
    return np.array(
        [np.concatenate([np.ravel(c[n]) for n in posterior.data_vars]) for c in columns]
    )


def disagreement(one, other):
    """The largest difference of means and of sds, in standard errors of the difference."""
    return max(
        (np.abs(one[i] - other[i]) / np.hypot(one[i + 1], other[i + 1])).max() for i in (0, 2)
    )


def contestants(space, measurement):
    """By label: a model and its arguments."""
    data = (measurement.experiment, measurement.c2)
    declared, normal = {"prior": declared_prior(space)}, {"prior": normal_prior()}
    matched, seed = Scaling.from_space(space), Scaling.from_space(space, rule=homodyne)
    yield "`homodyne` coordinates, normal prior", (model, seed, *data), normal
    yield "`matched` coordinates, normal prior", (model, matched, *data), normal
    yield "`homodyne` coordinates, declared prior", (model, seed, *data), declared
    yield "`matched` coordinates, declared prior", (model, matched, *data), declared
    yield "NumPyro's own sites, declared prior", (sites.model, space, *data), {}


def measure(seed, quick):
    jax.config.update("jax_enable_x64", True)
    space, measurement = simulated("static", None, seed)
    for label, args, kwargs in list(contestants(space, measurement))[-2 if quick else 0 :]:
        data = sample(*args, draws=20 if quick else 2000, **kwargs)
        posterior, r_hat = data["posterior"], az.rhat(data)
        yield {
            "label": label, "data": seed, "declared": "declared" in label,
            **{name: [float(posterior[name].mean()), float(posterior[name].std()),
                      float(r_hat[name]), float(measurement.truth[name])] for name in SHOWN},
            "statistics": statistics(data).tolist(),
        }  # fmt: skip


def tasks(quick):
    for seed in SEEDS[: 1 if quick else None]:
        yield f"data {seed}", lambda seed=seed: list(measure(seed, quick))


def table(rows):
    columns = [(name, seed) for name in SHOWN for seed in sorted({row["data"] for row in rows})]
    truth = [f"*{rows[0][name][3]:g}*" for name, _ in columns]
    lines = [["*true value*", *truth]]
    for label in dict.fromkeys(row["label"] for row in rows):
        found = {row["data"]: row for row in rows if row["label"] == label}
        cells = (found[seed][name] for name, seed in columns)
        lines.append([label, *(
            f"{mean:.0f} ± {sd:.0f}" if r_hat <= R_HAT_LIMIT else "not converged"
            for mean, sd, r_hat, _ in cells
        )])  # fmt: skip
    return markdown(["", *(f"{name} ({UNITS}), data {seed}" for name, seed in columns)], lines)


def limits(rows):
    worst = 0.0
    for seed in SEEDS:
        found = [np.array(r["statistics"]) for r in rows if r["data"] == seed and r["declared"]]
        worst = max(worst, *(disagreement(x, found[-1]) for x in found[:-1]))
    yield Limit(
        f"rows with the declared prior: largest difference of a mean or sd, of {found[0].shape[1]} "
        f"parameters and {len(SEEDS)} data sets, in Monte Carlo standard errors", worst, "<=", 4,
    )  # fmt: skip
