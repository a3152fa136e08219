"""Calibration of a thousand densities drawn at random: what is called good must be right.

Flat, improper, with cliffs, holes of nan, cusps, rings, plateaus, steps, heavy tails, two heaps,
funnels and bananas, of one to five parameters, at any place and scale. Each calibration has to end
in a report. Where it is called good, means and sds by importance sampling from it are held against
those in closed form, of funnels and bananas, and otherwise against those of long NUTS runs in plain
coordinates, with a dense mass matrix, that begin far apart; once more eight times as long where
these have not converged, or do not agree.
Held against: no exception, and no difference above 6 standard errors where NUTS has converged.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from numpyro.infer import NUTS

from benchmarks import Limit, markdown
from benchmarks.posterior import disagreement, statistics
from benchmarks.sampling import scanned
from benchmarks.targets import funnel
from scalejax import Scaling
from scalejax.calibrate import NotTrusted, from_log_density, resample
from scalejax.diagnostics.chains import R_HAT_LIMIT

DEVICES = 1
COUNT, AT_ONCE = 1000, 100
CHAINS, WARMUP, SAMPLES, LONGER = 4, 1000, 2000, 8
MOST = 6  # standard errors that a difference may have
# Means and sds of the first parameters, in units of the scale. A chain in plain coordinates does
# not tell them: it crawls along a bend, and does not enter the neck of a funnel.
EXACT = {
    "funnel": (np.array([0.0]), np.array([3.0])),
    "banana": (np.array([0.0, 1.0]), np.sqrt([1.0, 2.01])),
}

FUNCTIONS = {  # of x = (t - at)/scale, t, a matrix, at, and of another place y
    "gaussian": lambda x, t, m, at, y: -((m @ (t - at)) ** 2).sum() / 2 - (t**2).sum() / 2,
    "flat": lambda x, t, m, at, y: 0.0 * (x**2).sum(),
    "rising": lambda x, t, m, at, y: x.sum(),
    "ring": lambda x, t, m, at, y: -50 * (jnp.sqrt((x**2).sum()) - 1) ** 2,
    "plateau": lambda x, t, m, at, y: -jnp.maximum((x**2).sum() - 4, 0),
    "steps": lambda x, t, m, at, y: -jnp.floor((x**2).sum()),
    "cusp": lambda x, t, m, at, y: -3 * jnp.abs(x).sum(),
    "funnel": lambda x, t, m, at, y: funnel(x),
    "banana": lambda x, t, m, at, y: -(x[0] ** 2) / 2 - ((x[-1] - x[0] ** 2) / 0.1) ** 2 / 2,
    "mixture": lambda x, t, m, at, y: jnp.logaddexp(-(x**2).sum() / 2, -(y**2).sum() / 2),
    "student": lambda x, t, m, at, y: -1.5 * jnp.log1p((x**2).sum()),
    "quartic": lambda x, t, m, at, y: -(x**4).sum(),
    "cliff": lambda x, t, m, at, y: jnp.where(x[0] > 0, -(x**2).sum(), -jnp.inf),
}


def log_density_of(function):
    def log_density(matrix, at, scale, other, edge, t):
        x = (t - at) / scale
        value = function(x, t, matrix, at, (t - other) / scale)
        return jnp.where(t[0] > edge, jnp.nan, value)

    return log_density


DENSITIES = {shape: log_density_of(function) for shape, function in FUNCTIONS.items()}


def drawn(rng):
    """A shape, its log-density with numbers of its own, how many parameters, whether it has a hole.

    Densities of one shape and size are compiled once.
    """
    shape, size = str(rng.choice(list(FUNCTIONS))), int(rng.integers(1, 6))
    matrix = rng.normal(size=(size, size)) * 10 ** rng.uniform(-1, 2)
    at, scale = rng.normal(size=size), 10 ** rng.uniform(-1.5, 1)
    other = at + rng.normal(size=size) * 3 * scale
    hole = rng.random() < 0.2
    # Nowhere, or where the first parameter is large.
    edge = at[0] + 2 * scale if hole else np.inf
    numbers = (jnp.asarray(x) for x in (matrix, at, scale, other, edge))
    return shape, Partial(DENSITIES[shape], *numbers), size, hole


def unbounded(size):
    """The coordinates: θ itself."""
    return Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": size})


@eqx.filter_jit
def chains(coordinates, density, key, samples):
    """Long ones, in plain coordinates, from starts three times as wide as the fitted posterior."""
    plain = coordinates.root.pullback(density)
    keys = jax.random.split(key)
    start = 3 * jax.random.normal(keys[0], (CHAINS, coordinates.size))
    start = coordinates.to_root_and_log_det(start)[0]
    kernel = NUTS(potential_fn=lambda z: -plain(z), target_accept_prob=0.9, dense_mass=True)

    def one(key, start):
        return scanned(kernel, key, start, warmup=WARMUP, samples=samples)[0]

    return jax.vmap(one)(jax.random.split(keys[1], CHAINS), start)


def calibration(i):
    """Of one density: what it was called, and how far it is off, in standard errors."""
    shape, density, size, hole = drawn(np.random.default_rng([7, i]))
    row = {"shape": shape + (", nan in places" if hole else ""), "data": i, "size": size}
    try:
        found, report = from_log_density(density, unbounded(size), key=jax.random.key(i))
    except Exception as error:
        return {**row, "raised": repr(error)[:200]}
    row |= {"kind": str(report.kind), "good": report.good, "k_hat": report.k_hat}
    if not report.good:
        return row
    try:
        weighed = resample(found, density, jax.random.key(1000 + i), 4000)
    except NotTrusted:
        return row
    own = np.stack([weighed.mean, weighed.mean_error, weighed.sd, weighed.sd_error])
    if row["shape"] in EXACT and (shape != "banana" or size == 2):
        return row | {"off": off_exact(own, shape, density)}
    return row | off_chains(own, found, density, i)


def off_exact(own, shape, density):
    """From what is known in closed form."""
    _, at, scale, *_ = density.args
    mean, sd = (scale * x for x in EXACT[shape])
    known = len(mean)
    away = np.abs(own[[0, 2], :known] - np.stack([at[:known] + mean, sd]))
    return float((away / own[[1, 3], :known]).max())


def off_chains(own, found, density, i):
    """From NUTS, where it has converged."""
    import arviz as az

    row = {}
    for longer in (1, LONGER):
        drawn = chains(found, density, jax.random.key(i), SAMPLES * longer)
        data = az.from_dict({"x": np.asarray(drawn)})
        if float(az.rhat(data)["x"].max()) <= R_HAT_LIMIT:
            row = {"off": float(disagreement(own, statistics(data)))}
            if row["off"] <= MOST:
                break
    return row


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for first in range(0, 1 if quick else COUNT, AT_ONCE):
        # Each compiled function holds maps of memory, of which a process may have 65 530.
        jax.clear_caches()
        yield f"from {first}", partial(some, range(first, first + (1 if quick else AT_ONCE)))


def some(which):
    return [calibration(i) for i in which]


def limits(rows):
    yield Limit(f"exceptions, of {len(rows)}", sum("raised" in r for r in rows), "<=", 0)
    compared = [r["off"] for r in rows if "off" in r]
    if compared:
        yield Limit(f"called good and off by more than {MOST} standard errors, of {len(compared)}",
                    sum(not off <= MOST for off in compared), "<=", 0)  # fmt: skip


def table(rows):
    header = ["shape", "densities", "called good", "compared",
              "largest difference, in standard errors"]  # fmt: skip
    lines = []
    for shape in sorted({row["shape"] for row in rows}):
        found = [row for row in rows if row["shape"] == shape]
        off = [row["off"] for row in found if "off" in row]
        lines.append([shape, len(found), sum(row.get("good", False) for row in found), len(off),
                      f"{max(off):.1f}" if off else ""])  # fmt: skip
    return markdown(header, lines)
