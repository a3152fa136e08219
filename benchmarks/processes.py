"""Weak scaling: so many correlations a device, on more and more devices and processes.

The cores stay the same, so what can be held is the work: seconds of all cores that a gradient takes
for an item, beside one device. Then the posterior of a small fit over processes beside that of one,
in its standard deviations; and what it costs to draw in chunks that can be kept and gone on from,
beside NumPyro's `MCMC.run` and its `warmup` followed by `run` (pyro-ppl/numpyro#2132).
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density

from benchmarks import Limit, markdown
from scalejax.blocks import Blocks
from scalejax.numpyro import chain_mesh
from scalejax.runs import sample_to

DEVICES = 1
EACH, SIZE = 2**21, 2**14
DRAWS = 1000


def of_items(theta, block):
    return -((block["y"] - theta[0] * jnp.exp(-theta[1] * block["x"])) ** 2)


def gradient(devices, runs):
    """Seconds, and those of the processor, of a gradient over so many devices."""
    mesh = chain_mesh(1, data=True)
    assert mesh.shape["data"] == devices
    items = EACH * devices
    x = np.linspace(0.0, 1.0, items)
    blocks = Blocks.split({"x": x, "y": np.exp(-x)}, size=SIZE, mesh=mesh)
    f = jax.jit(jax.value_and_grad(lambda theta, blocks: blocks.sum(of_items, theta)))
    theta = jnp.array([1.1, 0.9])
    jax.block_until_ready(f(theta, blocks))
    wall, cpu = [], []
    for _ in range(runs):
        begin, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(f(theta, blocks))
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    if jax.process_index() == 0:
        print(json.dumps({"seconds": median(wall), "cpu": median(cpu)}))


def scaled(what, count, quick):
    """The same in processes of their own, with all of their devices."""
    several = what == "processes"
    port = free_port()
    runs = 3 if quick else 30
    code = "import jax; jax.config.update('jax_enable_x64', True)\n"
    if several:
        code += f"jax.distributed.initialize('localhost:{port}', {count}, %d)\n"
    code += f"from benchmarks.processes import gradient; gradient({count}, {runs})"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1" if several else str(count)}
    if several:
        environment["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"
    started = [
        subprocess.Popen([sys.executable, "-c", code % i if several else code], text=True,
                         stdout=subprocess.PIPE, env=environment)
        for i in range(count if several else 1)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    found = json.loads(said[0].splitlines()[-1])
    # All processes do the same, of which the first tells.
    work = found["cpu"] * (count if several else 1)
    return [{"what": what, "count": count, "seconds": found["seconds"],
             "work": 1e9 * work / (EACH * count)}]  # fmt: skip


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def fits():
    """Small fits by one, two and four processes."""
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2, 4):
            output = Path(folder) / str(count)
            port = free_port()
            command = [sys.executable, "-c", "from scalejax.xpcs.cli import app; app()", "fit",
                       "--no-progress", "--n-phi", "2", "--output", str(output)]  # fmt: skip
            several = ["--coordinator", f"localhost:{port}", "--processes", str(count)]
            started = [
                subprocess.Popen([*command, *([*several, "--process-id", str(i)] * (count > 1))],
                                 stdout=subprocess.DEVNULL)
                for i in range(count)
            ]  # fmt: skip
            assert [process.wait() for process in started] == [0] * count
            z = az.from_netcdf(output / "posterior.nc")["posterior"]["theta_z"].values
            first = z if first is None else first
            off = np.abs(z - first).max((0, 1)) / first.std((0, 1))
            rows.append({"what": "fit", "count": count, "off": float(off.max())})
    return rows


def chunked(quick):
    """Draws of a normal by `MCMC.run`, by `warmup` and `run`, and in chunks on disk."""
    draws = 50 if quick else DRAWS

    def model():
        numpyro.sample("x", dist.Normal(jnp.zeros(20), jnp.arange(1.0, 21.0)).to_event(1))

    def by_run():
        mcmc = MCMC(NUTS(model), num_warmup=draws, num_samples=draws, num_chains=1,
                    progress_bar=False)  # fmt: skip
        mcmc.run(jax.random.key(0))
        jax.block_until_ready(mcmc.get_samples())

    def by_warmup():
        mcmc = MCMC(NUTS(model), num_warmup=draws, num_samples=draws, num_chains=1,
                    progress_bar=False)  # fmt: skip
        mcmc.warmup(jax.random.key(0))
        mcmc.run(jax.random.key(1))
        jax.block_until_ready(mcmc.get_samples())

    def by_chunks():
        with tempfile.TemporaryDirectory() as folder:
            sample_to(f"{folder}/run", NUTS(model), jax.random.key(0), chains=1, warmup=draws,
                      samples=draws)  # fmt: skip

    # What is compiled once in a process, whichever comes first, is none of their business.
    log_density(model, (), {}, {"x": jnp.zeros(20)})
    seconds = {}
    for name, f in (("run", by_run), ("warmup, run", by_warmup), ("chunks", by_chunks)):
        found = []
        for _ in range(1 if quick else 5):
            jax.clear_caches()
            begin = time.perf_counter()
            f()
            found.append(time.perf_counter() - begin)
        seconds[name] = median(found)
    return [{"what": "chunks", **seconds}]


def tasks(quick):
    jax.config.update("jax_enable_x64", True)
    for what in ("devices", "processes"):
        for count in (1, 2) if quick else (1, 2, 4, 8) if what == "devices" else (1, 2, 4):
            yield f"{what} {count}", lambda w=what, n=count: scaled(w, n, quick)
    if not quick:
        yield "fit", fits
    yield "chunks", lambda: chunked(quick)


def limits(rows):
    work = {(row["what"], row["count"]): row["work"] for row in rows if "work" in row}
    for (what, count), value in work.items():
        if count > 1:
            yield Limit(f"{count} {what}: work for an item, of that of one",
                        value / work[what, 1], "<=", 1.25)  # fmt: skip
    for row in rows:
        if row["what"] == "fit" and row["count"] > 1:
            yield Limit(f"{row['count']} processes: draws off those of one, in sds", row["off"],
                        "<=", 1e-6)  # fmt: skip
        if row["what"] == "chunks":
            yield Limit("chunks kept on disk, of the time of MCMC.run",
                        row["chunks"] / row["run"], "<=", 1.5)  # fmt: skip


def table(rows):
    scaling = [[row["what"], row["count"], f"{1e3 * row['seconds']:.3g}", f"{row['work']:.3g}"]
               for row in rows if "work" in row]  # fmt: skip
    kept = [[f"{row[name]:.3g}" for name in ("run", "warmup, run", "chunks")]
            for row in rows if row["what"] == "chunks"]  # fmt: skip
    off = [[row["count"], f"{row['off']:.2g}"] for row in rows if row["what"] == "fit"]
    return "\n\n".join((
        markdown(["over", "how many", f"gradient of {EACH} items each (ms)",
                  "work of all cores (ns an item)"], scaling),
        markdown(["processes", "largest difference of a draw from one process's (sd)"], off),
        markdown(["`MCMC.run` (s)", "`warmup`, then `run` (s)", "`sample_to`, kept on disk (s)"],
                 kept),
    ))  # fmt: skip
