"""Simulation-based calibration of the whole path: simulate, calibrate, sample by NUTS.

Parameters are drawn from the prior and data from them; the posterior is calibrated and sampled as
the report says, and each parameter's rank among thinned draws is kept. Over many simulations the
ranks of an exact sampler are uniform (Talts et al. 2018, arXiv:1804.06788). Eight schools with a
known prior of tau, in the centered form, and a banana with noisy data; the log-density is a
parameter among the others. Held against: the p-values of χ² tests, together at the level 1e-3
(Bonferroni).
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from numpyro.infer import NUTS
from scipy import stats

from benchmarks import Limit, markdown, targets
from benchmarks.sampling import scanned
from scalejax import Scaling
from scalejax.calibrate import from_log_density
from scalejax.sampling import Sampling

DEVICES = 1
SIMULATIONS, AT_ONCE = 300, 50
# Draws, how many of them have a rank, and bins of ranks; 63 draws have 64 ranks, 8 in each bin.
SAMPLES, RANKED, BINS = 1008, 63, 8
LEVEL = 1e-3


def schools(theta, y):
    """tau ~ half-normal(5)."""
    return targets.schools(theta, y) - (theta[1] / 5) ** 2 / 2


def simulated_schools(rng):
    mu, tau = 5 * rng.normal(), abs(5 * rng.normal())
    effects = mu + tau * rng.normal(size=8)
    return np.array([mu, tau, *effects]), effects + np.array(targets.ERRORS) * rng.normal(size=8)


def banana(theta, y):
    """x₀ ~ N(0, 1), x₁ ~ N(x₀², 0.1), y ~ N(x, (1, 3))."""
    return targets.banana(theta) - (y[0] - theta[0]) ** 2 / 2 - ((y[1] - theta[1]) / 3) ** 2 / 2


def simulated_banana(rng):
    a = rng.normal()
    theta = np.array([a, a**2 + 0.1 * rng.normal()])
    return theta, theta + np.array([1, 3]) * rng.normal(size=2)


CASES = {
    "eight schools, centered": (
        schools, simulated_schools, {"mu": None, "tau": None, "effects": 8},
        ([0.0, 5.0] + [0.0] * 8, [5.0] * 2 + [10.0] * 8, [-np.inf, 0.0] + [-np.inf] * 8, np.inf),
    ),
    "a banana": (banana, simulated_banana, {"x": 2}, (0.0, 2.0, -np.inf, np.inf)),
}  # fmt: skip


@eqx.filter_jit
def chain(coordinates, density, key, start, target, warmup, dense, adapt):
    """Draws of θ by NUTS, each with whether it diverged; compiled once for all data."""
    of_z = coordinates.pullback(density)
    kernel = NUTS(potential_fn=lambda z: -of_z(z), target_accept_prob=target, dense_mass=dense,
                  adapt_mass_matrix=adapt)  # fmt: skip
    z, diverging = scanned(kernel, key, start, warmup=warmup, samples=SAMPLES)
    return coordinates.to_original(z), diverging


def simulation(name, i):
    """Ranks of the parameters and of the log-density, and what the calibration was."""
    density, simulate, groups, bounds = CASES[name]
    theta, y = simulate(np.random.default_rng([i, len(name)]))
    of_theta = Partial(density, y=jnp.asarray(y))
    scaling = Scaling(*bounds, groups=groups)
    coordinates, report = from_log_density(of_theta, scaling, key=jax.random.key(i))
    settled = Sampling().settled(report)
    keys = jax.random.split(jax.random.key(1000 + i))
    start = 2 * jax.random.normal(keys[0], (scaling.size,))
    found, diverging = chain(
        coordinates, of_theta, keys[1], start, settled.target_accept, settled.warmup,
        settled.dense_mass, settled.adapt_mass,
    )  # fmt: skip
    found = found[:: SAMPLES // RANKED]
    values = np.c_[found, jax.vmap(of_theta)(found)]
    truth = np.r_[theta, float(of_theta(jnp.asarray(theta)))]
    ranks = (values < truth).sum(0)
    return {"model": name, "data": i, "kind": str(report.kind), "good": report.good,
            "k_hat": report.k_hat, "divergent": int(diverging.sum()),
            "ranks": ranks.tolist()}  # fmt: skip


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for name in list(CASES)[1 if quick else 0 :]:
        for first in range(0, 2 if quick else SIMULATIONS, AT_ONCE):
            which = range(first, first + (2 if quick else AT_ONCE))
            yield f"{name} {first}", partial(some, name, which)


def some(name, which):
    return [simulation(name, i) for i in which]


def uniform(rows):
    """The p-value of each parameter's χ² test, and that of the log-density, the last one."""
    ranks = np.array([row["ranks"] for row in rows])
    bins = (ranks * BINS) // (RANKED + 1)
    counts = [np.bincount(column, minlength=BINS) for column in bins.T]
    return np.array([stats.chisquare(count).pvalue for count in counts])


def _groups(rows):
    for name in CASES:
        if found := [row for row in rows if row["model"] == name]:
            yield name, found


def limits(rows):
    tests = {name: uniform(found) for name, found in _groups(rows)}
    least = LEVEL / sum(len(p) for p in tests.values())
    for name, p in tests.items():
        yield Limit(f"{name}: p-values of uniform ranks below {least:.1g}, of {len(p)}",
                    int((p < least).sum()), "<=", 0)  # fmt: skip


def table(rows):
    header = ["posterior", "simulations", "calibrated well", "with a divergent draw",
              "least p-value of uniform ranks", "of parameters"]  # fmt: skip
    lines = [
        [name, len(found), sum(r["good"] for r in found), sum(r["divergent"] > 0 for r in found),
         f"{uniform(found).min():.2g}", len(uniform(found))]
        for name, found in _groups(rows)
    ]  # fmt: skip
    return markdown(header, lines)
