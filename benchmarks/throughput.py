"""Time of z ↦ θ, of θ with its log-determinant, of the inverse and of a gradient, beside the peers.

The Scaling (for the peers its arrays) is an argument of the jitted function, the parameters those
of the laminar-flow model at 23 angles, 53 in all, or a million like them in one vector; the stack
is one of 64 Scalings with 1000 draws each. Medians over runs in which the contestants take turns,
in random order. Held against: θ in at most 1.25 times the time of the bare tanh formula, and no
more than NumPyro's transform, for (20000, 53) in float32; with the log-determinant at least 1.8
times faster than the fastest peer; the design of one Python object a parameter at least 3 times
slower.
"""

import itertools
import random
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Limit, markdown, seed_design
from benchmarks.peers import PEERS
from scalejax import Scaling
from scalejax.xpcs import default_space

DEVICES = 1
SHAPES = {
    "(1, 53)": (1, 53), "(1000, 53)": (1000, 53), "(20000, 53)": (20_000, 53),
    "(200000, 53)": (200_000, 53), "(1000000,)": (1_000_000,),
    "stack (64, 1000, 53)": (64, 1000, 53),
}  # fmt: skip
OPERATIONS = ("θ", "θ and log det", "inverse", "gradient")
SEED_DESIGN = "one object a parameter"
PER_CONTESTANT_S = 1.0
MOST_RUNS = 300


def scaling_for(shape, dtype):
    one = Scaling.from_space(default_space("laminar_flow").sized(phi=23))
    arrays = [jnp.asarray(a, dtype) for a in (one.center, one.scale, one.low, one.high)]
    if len(shape) == 1:
        arrays = [jnp.resize(a, shape) for a in arrays]
        return Scaling(*arrays, groups={"theta": shape[0]})
    if len(shape) == 3:
        shift = jnp.linspace(0.9, 1.1, shape[0], dtype=dtype)
        return jax.vmap(lambda s: Scaling(arrays[0], arrays[1] * s, *arrays[2:],
                                          groups=one.groups, kinds=one.kinds))(shift)  # fmt: skip
    return Scaling(*arrays, groups=one.groups)


def contestants(operation, shape, scaling):
    """Names, each with a function of an array and of the arguments that follow."""
    stacked = len(shape) == 3
    factors = [scaling.center, scaling.scale, scaling.low, scaling.high]
    if stacked:
        factors = [a[:, None, :] for a in factors]
    own = {
        "θ": lambda s, x: s.to_original(x),
        "θ and log det": lambda s, x: s.to_original_and_log_det(x),
        "inverse": lambda s, x: s.to_normalized(x),
        "gradient": lambda s, x: jax.grad(lambda x: s.to_original(x).sum())(x),
    }[operation]
    yield "scalejax", lambda x, s: jax.vmap(own)(s, x) if stacked else own(s, x), (scaling,)
    if operation == "θ":
        yield "copy", lambda x: x + 0, ()
    for name, peer in PEERS.items():
        if name == "scalejax":
            continue
        forward, inverse = peer("interval")
        yield (
            name,
            {
                "θ": lambda x, *f, forward=forward: forward(x, *f)[0],
                "θ and log det": partial(_summed, forward),
                "inverse": inverse,
                "gradient": lambda x, *f, forward=forward: jax.grad(
                    lambda x: forward(x, *f)[0].sum()
                )(x),
            }[operation],
            factors,
        )
    if len(shape) == 2 and operation != "θ and log det":  # which it does not have
        objects = list(seed_design.parameters(scaling).values())
        method = "to_normalized" if operation == "inverse" else "to_original"

        def one_by_one(x):
            columns = [getattr(o, method)(x[..., i]) for i, o in enumerate(objects)]
            return jnp.stack(columns, -1)

        gradient = jax.grad(lambda x: one_by_one(x).sum())
        yield SEED_DESIGN, gradient if operation == "gradient" else one_by_one, ()


def _summed(forward, x, *factors):
    theta, log_slope = forward(x, *factors)
    return theta, log_slope.sum(-1)


def measure(operation, dtype, shape, quick):
    jax.config.update("jax_enable_x64", dtype == "float64")
    scaling = scaling_for(SHAPES[shape], dtype)
    x = jax.random.normal(jax.random.key(0), SHAPES[shape], dtype)
    if operation == "inverse":
        x = jax.jit(jax.vmap(lambda s, x: s.to_original(x)) if x.ndim == 3 else
                    lambda s, x: s.to_original(x))(scaling, x)  # fmt: skip
    entries = [
        (name, jax.jit(function), arguments)
        for name, function, arguments in contestants(operation, SHAPES[shape], scaling)
    ]
    times = {name: [] for name, _, _ in entries}
    own = entries[0][1](x, *entries[0][2])
    for name, run, arguments in entries:
        for _ in range(3):
            result = jax.block_until_ready(run(x, *arguments))
        if x.size < 1e5 and name != "copy":  # all are to be the same function, as far as they go
            for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(own), strict=True):
                np.testing.assert_allclose(one, other, rtol=0.1, atol=0.1, err_msg=name)
    begun = time.perf_counter()
    limit = len(entries) * (0.01 if quick else PER_CONTESTANT_S)
    order = random.Random(0)  # what runs before finds its way into what runs after
    while len(times["scalejax"]) < MOST_RUNS and time.perf_counter() - begun < limit:
        for name, run, arguments in order.sample(entries, len(entries)):
            start = time.perf_counter()
            jax.block_until_ready(run(x, *arguments))
            times[name].append(time.perf_counter() - start)
    return [
        {"operation": operation, "dtype": dtype, "shape": shape, "by": name,
         "median": statistics.median(found), "runs": len(found),
         "quartiles": statistics.quantiles(found, n=4)[::2] if len(found) > 1 else found * 2}
        for name, found in times.items()
    ]  # fmt: skip


def tasks(quick):
    shapes = list(SHAPES)[:2] if quick else SHAPES
    dtypes = ("float32",) if quick else ("float32", "float64")
    for dtype, shape, operation in itertools.product(dtypes, shapes, OPERATIONS):
        yield f"{dtype} {shape} {operation}", partial(measure, operation, dtype, shape, quick)


def table(rows):
    names = list(dict.fromkeys(row["by"] for row in rows))
    names.remove("scalejax")
    groups = {}
    for row in rows:
        key = (row["dtype"], row["shape"], row["operation"])
        groups.setdefault(key, {})[row["by"]] = row
    lines = []
    for key, found in groups.items():
        own = found["scalejax"]
        low, high = own["quartiles"]
        ratios = [
            f"{found[name]['median'] / own['median']:.2f}" if name in found else ""
            for name in names
        ]
        middle = f"{1e3 * own['median']:.3g} ({1e3 * low:.3g} to {1e3 * high:.3g})"
        lines.append([*key, middle, *ratios])
    return markdown(["dtype", "shape", "what", "scalejax (ms)", *names], lines)


def limits(rows):
    def of(operation, name):
        return next(r["median"] for r in rows if (r["operation"], r["dtype"], r["shape"], r["by"])
                    == (operation, "float32", "(20000, 53)", name))  # fmt: skip

    at = "(20000, 53), float32"
    own = of("θ", "scalejax")
    yield Limit(f"{at}: θ, over the tanh formula", own / of("θ", "tanh formula"), "<=", 1.25)
    yield Limit(f"{at}: θ, over NumPyro", own / of("θ", "NumPyro"), "<=", 1)
    fastest = min(of("θ and log det", name) for name in PEERS if name != "scalejax")
    yield Limit(f"{at}: θ and log det, fastest peer over scalejax",
                fastest / of("θ and log det", "scalejax"), ">=", 1.8)  # fmt: skip
    yield Limit(f"{at}: θ, {SEED_DESIGN}, over scalejax", of("θ", SEED_DESIGN) / own, ">=", 3)
