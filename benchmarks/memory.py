"""Memory that it takes to transform 10⁸ numbers in place, in chunks with a donated buffer.

100 draws of a million parameters, and two million draws of 50; float32, 400 MB. A chunk is cut from
the buffer, transformed and written back, in one jitted function that is given the buffer to keep.
Each in a process of its own. Held against: the peak of the process above what it held before is
no more than 1.1 times the buffer.
"""

import json
import resource
import subprocess
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Limit, markdown
from scalejax import Scaling, bounds

DEVICES = 1
CASES = {"a million parameters": (100, 1_000_000), "50 parameters": (2_000_000, 50)}
CHUNKS = 100


def peak():
    """Of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def scaling_for(size):
    high = 10.0 ** np.linspace(-3, 5, size)
    return Scaling(high / 3, high / 10, 0.0, high, groups={"theta": size})


def transform(scaling, buffer):
    """θ in the place of z, a chunk of draws or of parameters at a time, whichever are more."""
    axis = int(buffer.shape[1] > buffer.shape[0])
    step = buffer.shape[axis] // CHUNKS
    factors = (scaling.center, scaling.scale, scaling.low, scaling.high)

    def replace(i, buffer):
        def cut(x, axis):
            return jax.lax.dynamic_slice_in_dim(x, i * step, step, axis)

        part = [cut(factor, 0) for factor in factors] if axis else factors
        theta, _ = bounds.forward_and_log_det(cut(buffer, axis), *part, kinds=scaling.kinds)
        return jax.lax.dynamic_update_slice_in_dim(buffer, theta, i * step, axis)

    return jax.lax.fori_loop(0, CHUNKS, replace, buffer)


def alone(case, quick):
    draws, size = CASES[case]
    draws = CHUNKS if quick else draws
    scaling = scaling_for(1000 if quick else size)
    small = jnp.zeros((CHUNKS, scaling.size), jnp.float32)
    run = jax.jit(transform, donate_argnums=1)
    fill = jax.jit(lambda: jnp.full((draws, scaling.size), 0.5, jnp.float32))
    compiled = run.lower(scaling, jax.eval_shape(fill)).compile()
    fill = fill.lower().compile()
    want = np.asarray(scaling.to_original(small[0] + 0.5))
    before = peak()
    buffer = fill()
    begun = time.perf_counter()
    result = jax.block_until_ready(compiled(scaling, buffer))
    seconds = time.perf_counter() - begun
    used = peak() - before
    assert buffer.is_deleted()
    assert np.allclose(result[-1], want, rtol=1e-6)
    return {"case": case, "shape": [draws, scaling.size], "buffer (MB)": result.nbytes / 1e6,
            "peak (MB)": used / 1e6, "seconds": seconds}  # fmt: skip


def measure(case, quick):
    command = [sys.executable, "-m", "benchmarks.memory", case, str(int(quick))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(output.splitlines()[-1])]


def tasks(quick):
    for case in CASES:
        yield case, partial(measure, case, quick)


def table(rows):
    return markdown(
        ["", "shape", "buffer (MB)", "peak above what was held (MB)", "time (s)"],
        [
            [row["case"], tuple(row["shape"]), f"{row['buffer (MB)']:.0f}",
             f"{row['peak (MB)']:.0f}", f"{row['seconds']:.2f}"]
            for row in rows
        ],
    )  # fmt: skip


def limits(rows):
    for row in rows:
        yield Limit(f"{row['case']}: peak over the buffer", row["peak (MB)"] / row["buffer (MB)"],
                    "<=", 1.1)  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(alone(sys.argv[1], bool(int(sys.argv[2])))))
