"""From the call of NUTS to its first draw: one vector site against a site a parameter.

The static XPCS model with a known noise and 10 frames, at more and more angles; each in a process
of its own. `matched` coordinates with the declared prior, and the design of a sample site, a
deterministic site and a Python object a parameter. The first draw is that after one of warmup. A
gradient is one of the potential's, compiled; its time is the median of 200 runs. Memory is the
peak of the process. Held against: at 300 angles the first draw 40 times sooner and a gradient 10
times faster than by a site a parameter; at 3000 angles the first draw in at most 3 times what it
takes at 3.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model

from benchmarks import Limit, markdown, seed_design
from scalejax import ParameterSpace, Scaling
from scalejax.numpyro import declared_prior, sample_scaled
from scalejax.xpcs import default_config, for_mode, read_space, two_time
from scalejax.xpcs.inputs import simulate_measurement

DEVICES = 1
ONE, MANY = "one vector site", "a site a parameter"
ANGLES = {ONE: (3, 30, 300, 3000), MANY: (3, 30, 100, 300)}


def alone(design, n_phi):
    """Measured in this process, which should be a new one."""
    config = default_config("static")
    config["simulation"] = {"frames": 10}
    space = for_mode(read_space(config), "static")
    measured = simulate_measurement(config, space, "static", n_phi, seed=0)
    noise = float(measured.truth["sigma"])
    space = ParameterSpace({name: p for name, p in space.items() if name != "sigma"})
    space = space.sized(phi=n_phi)
    scaling = Scaling.from_space(space)
    data = (measured.experiment, np.asarray(measured.c2))
    if design == ONE:
        run = partial(vector_model, scaling, *data, noise, prior=declared_prior(space))
    else:
        run = partial(seed_design.model, seed_design.parameters(scaling), *data, noise)
    jax.block_until_ready(jax.numpy.zeros(1) + 1)  # JAX itself has started

    begun = time.perf_counter()
    mcmc = MCMC(NUTS(run), num_warmup=1, num_samples=1, progress_bar=False)
    mcmc.run(jax.random.key(0))
    jax.block_until_ready(mcmc.get_samples())
    first = time.perf_counter() - begun

    info = initialize_model(jax.random.key(0), run)
    gradient = jax.jit(jax.value_and_grad(info.potential_fn))
    z = info.param_info.z
    begun = time.perf_counter()
    compiled = gradient.lower(z).compile()
    compilation = time.perf_counter() - begun
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(z))
        times.append(time.perf_counter() - begun)
    return {
        "design": design, "angles": n_phi, "first draw (s)": first,
        "gradient compiled (s)": compilation, "gradient (µs)": 1e6 * statistics.median(times),
        "memory (MB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def vector_model(scaling, experiment, c2, noise, *, prior):
    theta = sample_scaled("theta", scaling, prior=prior)
    numpyro.sample("c2", dist.Normal(two_time(theta, experiment), noise).to_event(2), obs=c2)


def measure(design, n_phi):
    command = [sys.executable, "-m", "benchmarks.startup", design, str(n_phi)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(output.splitlines()[-1])]


def tasks(quick):
    for design, angles in ANGLES.items():
        for n_phi in angles[:1] if quick else angles:
            yield f"{design}, {n_phi}", partial(measure, design, n_phi)


def table(rows):
    columns = [key for key in rows[0] if key != "design"]
    return markdown(
        ["", *columns], [[row["design"], *(f"{row[c]:.4g}" for c in columns)] for row in rows]
    )


def limits(rows):
    found = {(row["design"], row["angles"]): row for row in rows}
    one, many = found[ONE, 300], found[MANY, 300]
    first, gradient = "first draw (s)", "gradient (µs)"
    yield Limit("first draw at 300 angles, a site a parameter over one vector site",
                many[first] / one[first], ">=", 40)  # fmt: skip
    yield Limit("first draw from one vector site, 3000 angles over 3",
                found[ONE, 3000][first] / found[ONE, 3][first], "<=", 3)  # fmt: skip
    yield Limit("gradient at 300 angles, a site a parameter over one vector site",
                many[gradient] / one[gradient], ">=", 10)  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(alone(sys.argv[1], int(sys.argv[2]))))
