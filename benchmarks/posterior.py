"""The posterior of D0 and D_offset under different coordinates and priors, beside the truth.

    python -m benchmarks.posterior

Static model, 10 angles, data simulated with three seeds; NUTS with a dense mass matrix, 4 chains of
1000 + 2000 draws, double precision. Held against: where the prior is the declared one, all means
and standard deviations agree within 4 Monte Carlo standard errors, those on NumPyro's own sites
included. It writes the table of the documentation's page on the declared posterior.
"""

import logging
from pathlib import Path

import arviz as az
import jax
import numpy as np
from numpyro.infer import MCMC, NUTS, init_to_uniform

from benchmarks import environment, sites
from scalejax import ParameterSpace, Scaling
from scalejax.numpyro import declared_prior
from scalejax.xpcs import default_config, for_mode
from scalejax.xpcs.fit import R_HAT_LIMIT
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.model import model

TABLE = Path(__file__).parent.parent / "docs" / "pages" / "generated" / "posterior.md"
SEEDS = (0, 1, 2)
SHOWN = ("D0", "D_offset")
UNITS = "Å²/s"


def sample(model, *args, **kwargs):
    """The draws of every parameter."""
    kernel = NUTS(model, dense_mass=True, target_accept_prob=0.9, init_strategy=init_to_uniform)
    mcmc = MCMC(kernel, num_warmup=1000, num_samples=2000, num_chains=4, progress_bar=False)
    mcmc.run(jax.random.key(0), *args, **kwargs)
    draws = mcmc.get_samples(group_by_chain=True)
    return az.from_dict({name: draws[name] for name in ("D0", "alpha", "D_offset", "sigma",
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


def cell(data, name):
    if float(az.rhat(data)[name]) > R_HAT_LIMIT:
        return "not converged"
    draws = data["posterior"][name]
    return f"{float(draws.mean()):.0f} ± {float(draws.std()):.0f}"


def measure(seed):
    """A row's draws by its label, for one data set, and the truth."""
    config = default_config("static")
    space = for_mode(ParameterSpace.from_config(config), "static")
    measurement = simulate_measurement(config, space, "static", None, seed)
    sizes = {"phi": measurement.experiment.phi.size}
    data = (measurement.experiment, measurement.c2)
    prior = declared_prior(space, sizes)
    matched, homodyne = (Scaling.from_space(space, sizes, r) for r in ("matched", "homodyne"))
    return {
        "`homodyne` coordinates, normal prior": sample(model, homodyne, *data),
        "`matched` coordinates, normal prior": sample(model, matched, *data),
        "`homodyne` coordinates, declared prior": sample(model, homodyne, *data, prior=prior),
        "`matched` coordinates, declared prior": sample(model, matched, *data, prior=prior),
        "NumPyro's own sites, declared prior": sample(sites.model, space, *data),
    }, measurement.truth


def main():
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 4)
    logging.getLogger("scalejax").setLevel(logging.ERROR)  # the table says what the rule does
    results = [measure(seed) for seed in SEEDS]
    truth = results[0][1]
    lines = [
        f"Measured with {environment()}.",
        "",
        "| | " + " | ".join(f"{n}, data {s}" for n in SHOWN for s in SEEDS) + " |",
        "|---" * (1 + len(SHOWN) * len(SEEDS)) + "|",
        "| *true value* | " + " | ".join(f"*{truth[n]:g}*" for n in SHOWN for _ in SEEDS) + " |",
    ]
    for label in results[0][0]:
        cells = [cell(rows[label], name) for name in SHOWN for rows, _ in results]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    worst = 0.0
    for rows, _ in results:
        declared = [statistics(data) for label, data in rows.items() if "declared" in label]
        worst = max(worst, *(disagreement(x, declared[-1]) for x in declared[:-1]))
    count = declared[-1].shape[1]
    lines += [
        "",
        f"Mean ± standard deviation, in {UNITS}. Between the three rows with the declared prior, "
        f"the largest difference of a mean or a standard deviation, of {count} parameters and "
        f"{len(SEEDS)} data sets, is {worst:.1f} Monte Carlo standard errors.",
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
