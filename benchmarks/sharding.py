"""Time of θ with its log-determinant over eight devices against one.

(200000, 53) in float32, draws of the laminar-flow model at 23 angles: the Scaling replicated, z
sharded over draws, on eight CPU devices that share the machine's cores; medians of runs in turn.
Held against: no slower than one device by more than a quarter, the numbers the same to the bit.
"""

import statistics
import time

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import Limit, markdown
from scalejax import Scaling
from scalejax.xpcs import default_space

DEVICES = 8


def measure(quick):
    shape = (2_000 if quick else 200_000, 53)
    scaling = Scaling.from_space(default_space("laminar_flow").sized(phi=23))
    z = jax.random.normal(jax.random.key(0), shape, "float32")
    run = jax.jit(lambda s, z: s.to_original_and_log_det(z))
    places = {}
    for count in (1, DEVICES):
        mesh = Mesh(np.array(jax.devices()[:count]), ("draws",))
        everywhere, split = (NamedSharding(mesh, PartitionSpec(*p)) for p in ((), ("draws",)))
        places[count] = (jax.device_put(scaling, everywhere), jax.device_put(z, split))
    found = {count: jax.device_get(run(*place)) for count, place in places.items()}
    same = all(np.array_equal(a, b) for a, b in zip(found[1], found[DEVICES], strict=True))
    times = {count: [] for count in places}
    for _ in range(3 if quick else 100):
        for count, place in places.items():
            begun = time.perf_counter()
            jax.block_until_ready(run(*place))
            times[count].append(time.perf_counter() - begun)
    return [
        {"shape": shape, "devices": count, "median": statistics.median(values),
         "quartiles": statistics.quantiles(values, n=4)[::2], "same bits": same}
        for count, values in times.items()
    ]  # fmt: skip


def tasks(quick):
    yield "draws over devices", lambda: measure(quick)


def table(rows):
    return markdown(
        ["shape", "devices", "median (ms)", "middle half (ms)"],
        [
            [str(tuple(row["shape"])), row["devices"], f"{1e3 * row['median']:.3g}",
             " to ".join(f"{1e3 * q:.3g}" for q in row["quartiles"])]
            for row in rows
        ],
    )  # fmt: skip


def limits(rows):
    one, many = (row["median"] for row in rows)
    yield Limit(f"{DEVICES} devices over one", many / one, "<=", 1.25)
    yield Limit("numbers the same to the bit", float(rows[0]["same bits"]), ">=", 1)
