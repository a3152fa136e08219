"""Samplers of today behind one signature: `sampler(density, start, key, draws=, warmup=)`.

`density` is a log-density of z, and `start` has a row for each chain. Each returns z, of shape
(chains, draws, P), and what it cost: `gradients` is every evaluation of the gradient, those of
adaptation, training and rejected steps included, and evaluations of the density alone at a third of
one; `fixed` is the seconds until the first draw that is kept, compilation included, and `sampling`
those after it. They run by their own defaults but for the length of a window adaptation. They know
no target.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoBNAFNormal, AutoLaplaceApproximation

# Of NumPyro's guides: steps of Adam, each one gradient, and its rate.
TRAINING = {
    "Laplace": (lambda model, at: AutoLaplaceApproximation(model, init_loc_fn=at), 5000, 0.01),
    "NeuTra": (
        lambda model, at: AutoBNAFNormal(model, hidden_factors=[8, 8], init_loc_fn=at), 10000, 0.003
    ),
}  # fmt: skip

# Of BlackJAX's pathfinder, which tells no cost: 200 evaluations at each of 31 places, and at least
# a gradient for each of 30 steps.
PATHFINDER = 31 * 200 / 3 + 30


def numpyro_nuts(density, start, key, *, draws, warmup, target=0.8, dense=True, adapt_mass=True):
    kernel = NUTS(
        potential_fn=lambda z: -density(z), dense_mass=dense, target_accept_prob=target,
        adapt_mass_matrix=adapt_mass,
    )  # fmt: skip
    begun = time.perf_counter()
    mcmc = MCMC(
        kernel, num_warmup=warmup, num_samples=draws, num_chains=len(start),
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    mcmc.warmup(key, extra_fields=("num_steps",), collect_warmup=True, init_params=start)
    adapting = int(mcmc.get_extra_fields()["num_steps"].sum())
    warmed = time.perf_counter()
    mcmc.run(key, extra_fields=("num_steps", "diverging"))
    z, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()
    jax.block_until_ready(z)
    return z, {
        "gradients": adapting + int(extra["num_steps"].sum()),
        "divergent": int(extra["diverging"].sum()),
        "fixed": warmed - begun,
        "sampling": time.perf_counter() - warmed,
    }


def numpyro_guided(density, start, key, *, draws, warmup, guide):
    """NUTS in the coordinates of a guide that has been trained first."""
    size, keys = start.shape[1], jax.random.split(key, 3)

    def model():
        z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), (size,)))
        numpyro.factor("density", density(z))

    begun = time.perf_counter()
    make, steps, rate = TRAINING[guide]
    trained = make(model, init_to_value(values={"z": start[0]}))
    svi = SVI(model, trained, numpyro.optim.Adam(rate), Trace_ELBO())
    found = svi.run(keys[0], steps, progress_bar=False)
    transform = trained.get_transform(found.params)

    def straightened(w):
        z = transform(w)
        return density(z) + transform.log_abs_det_jacobian(w, z)

    training = time.perf_counter() - begun
    w, cost = numpyro_nuts(
        straightened, jax.random.normal(keys[1], start.shape), keys[2],
        draws=draws, warmup=warmup, dense=False,
    )  # fmt: skip
    cost["gradients"] += steps
    cost["fixed"] += training
    return jax.vmap(jax.vmap(transform))(w), cost


def blackjax_nuts(density, start, key, *, draws, warmup, adaptation):
    import blackjax  # which begins to use JAX

    keys = jax.random.split(key)
    chain_keys = jax.random.split(keys[0], len(start))

    if adaptation == "low rank":
        adapter = blackjax.window_adaptation_low_rank(blackjax.nuts, density)
    elif adaptation == "pathfinder":
        adapter = blackjax.pathfinder_adaptation(blackjax.nuts, density)
    else:
        adapter = blackjax.window_adaptation(blackjax.nuts, density, is_mass_matrix_diagonal=False)

    def adapted(key, z):
        (state, parameters), info = adapter.run(key, z, warmup)
        return state, parameters, info.info.num_integration_steps.sum()

    @jax.jit
    def drawn(keys, states, parameters):
        def of(key, state, parameters):
            kernel = blackjax.nuts(density, **parameters)

            def step(state, key):
                state, info = kernel.step(key, state)
                return state, (state.position, info.num_integration_steps, info.is_divergent)

            return jax.lax.scan(step, state, jax.random.split(key, draws))[1]

        return jax.vmap(of)(keys, states, parameters)

    begun = time.perf_counter()
    states, parameters, adapting = jax.jit(jax.vmap(adapted))(chain_keys, start)
    jax.block_until_ready(adapting)
    warmed = time.perf_counter()
    z, steps, diverging = drawn(jax.random.split(keys[1], len(start)), states, parameters)
    jax.block_until_ready(z)
    done = time.perf_counter()
    searching = len(start) * PATHFINDER if adaptation == "pathfinder" else 0
    return z, {
        "gradients": searching + int(adapting.sum() + steps.sum()),
        "divergent": int(diverging.sum()),
        "fixed": warmed - begun,
        "sampling": done - warmed,
    }


def nutpie(density, start, key, *, draws, warmup, adaptation):
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    size, chains = start.shape[1], len(start)
    both = jax.jit(jax.value_and_grad(density))

    def make_logp():
        def logp(z):
            value, gradient = both(z)
            return float(value), np.asarray(gradient, np.float64)

        return logp

    def make_expand(seed1, seed2, chain):
        return lambda z: {"z": np.asarray(z, np.float64)}

    begun = time.perf_counter()
    both(start[0])
    flow = adaptation == "flow"
    model = from_pyfunc(
        size, make_logp, make_expand, [np.dtype("float64")], [(size,)], ["z"],
        raw_logp_fn=(lambda z: (density(z), {})) if flow else None,
    )  # fmt: skip
    if flow:
        model = model.with_transform_adapt(verbose=False)
    trace = nutpie.sample(
        model, draws=draws, chains=chains, cores=1, progress_bar=False,
        seed=int(jax.random.randint(key, (), 0, 2**31 - 1)),
        low_rank_modified_mass_matrix=adaptation == "low rank", transform_adapt=flow,
        **({} if warmup is None else {"tune": warmup}),
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    adapting = int(trace["warmup_sample_stats"]["n_steps"].sum())
    steps = int(trace["sample_stats"]["n_steps"].sum())
    return jnp.asarray(trace["posterior"]["z"].values), {
        "gradients": adapting + steps,
        "divergent": int(trace["sample_stats"]["diverging"].sum()),
        # It tells no time of its warmup: that of as many gradients.
        "fixed": seconds * adapting / (adapting + steps),
        "sampling": seconds * steps / (adapting + steps),
    }


PEERS = {
    "NumPyro, dense": numpyro_nuts,
    "NumPyro, Laplace guide": partial(numpyro_guided, guide="Laplace"),
    "NumPyro, NeuTra": partial(numpyro_guided, guide="NeuTra"),
    "BlackJAX, dense": partial(blackjax_nuts, adaptation="dense"),
    "BlackJAX, low rank": partial(blackjax_nuts, adaptation="low rank"),
    "BlackJAX, pathfinder": partial(blackjax_nuts, adaptation="pathfinder"),
    "nutpie": partial(nutpie, adaptation="diagonal"),
    "nutpie, low rank": partial(nutpie, adaptation="low rank"),
    "nutpie, flow": partial(nutpie, adaptation="flow"),
}
