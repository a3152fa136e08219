"""Time of θ(z), and of θ(z) with its log-determinant, beside the peers, in one process.

    python -m benchmarks.throughput

(20000, 53) in float32: draws of the laminar-flow model at 23 angles, the Scaling being an argument
of the jitted function. Held against: forward at most 1.25 times the bare tanh formula and no slower
than NumPyro's transform; forward with log-determinant at least 1.8 times faster than the fastest
peer. It writes the table of the documentation's performance page.
"""

import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import environment
from benchmarks.peers import PEERS
from scalejax import Scaling
from scalejax.xpcs import default_space

TABLE = Path(__file__).parent.parent / "docs" / "pages" / "generated" / "throughput.md"
RUNS = 300


def contestants():
    scaling = Scaling.from_space(default_space("laminar_flow"), {"phi": 23})
    factors = (scaling.center, scaling.scale, scaling.low, scaling.high)
    z = jax.random.normal(jax.random.key(0), (20_000, len(scaling)), jnp.float32)

    def summed(forward):
        def run(z, *factors):
            theta, log_slope = forward(z, *factors)
            return theta, log_slope.sum(-1)

        return run

    yield "θ", "copy", jax.jit(lambda z: z + 0), (z,)
    yield "θ", "scalejax", jax.jit(lambda z, s: s.to_original(z)), (z, scaling)
    yield (
        "θ and log det",
        "scalejax",
        jax.jit(lambda z, s: s.to_original_and_log_det(z)),
        (z, scaling),
    )
    for name, peer in PEERS.items():
        if name != "scalejax":
            forward = peer("interval")
            only = jax.jit(lambda z, *f, forward=forward: forward(z, *f)[0])
            yield "θ", name, only, (z, *factors)
            yield "θ and log det", name, jax.jit(summed(forward)), (z, *factors)


def measure():
    """Seconds of every run of every contestant, taking turns."""
    entries = list(contestants())
    times = {entry[:2]: [] for entry in entries}
    for _, _, run, arguments in entries:
        for _ in range(3):
            jax.block_until_ready(run(*arguments))
    for _ in range(RUNS):
        for what, name, run, arguments in entries:
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            times[what, name].append(time.perf_counter() - start)
    return times


def main():
    times = measure()
    lines = [
        f"Measured with {environment()}; medians of {RUNS} runs, taking turns.",
        "",
        "| what | by | median (ms) | middle half (ms) | over scalejax |",
        "|---|---|---|---|---|",
    ]
    for (what, name), values in sorted(times.items(), key=lambda item: item[0][0]):
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4)
        ratio = median / statistics.median(times[what, "scalejax"])
        lines.append(
            f"| {what} | {name} | {1e3 * median:.3f} | {1e3 * low:.3f}–{1e3 * high:.3f} "
            f"| {ratio:.2f} |"
        )
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
