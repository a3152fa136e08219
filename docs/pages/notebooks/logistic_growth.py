# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Growth that has not levelled off yet
#
# A culture is counted every two hours for a day. It grows logistically: from a few thousand cells,
# at a rate of one doubling in about three hours, towards what the flask can feed. The last is what
# one would like to know, and the day ended before the culture was there.

# %%
import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

jax.config.update("jax_enable_x64", True)


def size(hours, rate, capacity, first):
    return capacity / (1 + (capacity / first - 1) * jnp.exp(-rate * hours))


hours = jnp.arange(0, 25, 2.0)
truth = {"rate": 0.25, "capacity": 2e6, "first": 5e3}
noise = jax.random.normal(jax.random.key(1), hours.shape)
counts = size(hours, **truth) * jnp.exp(0.1 * noise)
plt.figure(figsize=(6, 3))
plt.semilogy(hours, counts, "o", label="counted")
plt.semilogy(jnp.arange(48), size(jnp.arange(48), **truth), color="0.6", label="truth")
plt.gca().set(xlabel="hours", ylabel="cells")
plt.legend()
plt.show()

# %% [markdown]
# ## The trouble
#
# As one would write it in NumPyro: one site for each parameter, with its bounds. NumPyro maps each
# to the real line by its own transform.


# %%
def growth():
    rate = numpyro.sample("rate", dist.TruncatedNormal(0.3, 0.2, low=0.0, high=5.0))
    capacity = numpyro.sample("capacity", dist.TruncatedNormal(3e6, 3e6, low=2e4, high=1e9))
    first = numpyro.sample("first", dist.TruncatedNormal(5e3, 3e3, low=1.0, high=2e4))
    spread = numpyro.sample("spread", dist.HalfNormal(0.3))
    expected = jnp.log(size(hours, rate, capacity, first))
    numpyro.sample("counts", dist.Normal(expected, spread), obs=jnp.log(counts))


def sample(kernel, *, warmup, **options):
    """Draws by NUTS; and the gradients, of warmup too, an effective draw of the worst parameter."""
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=500,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.warmup(jax.random.key(0), extra_fields=("num_steps",), collect_warmup=True, **options)
    spent = int(mcmc.get_extra_fields()["num_steps"].sum())
    mcmc.run(jax.random.key(1), extra_fields=("num_steps", "diverging"), **options)
    extra = mcmc.get_extra_fields()
    return mcmc.get_samples(group_by_chain=True), {
        "gradients": spent + int(extra["num_steps"].sum()),
        "diverging": int(extra["diverging"].sum()),
    }


def told(draws, cost):
    """What it cost, and whether the chains agree."""
    names = ("rate", "capacity", "first", "spread")
    data = az.from_dict({name: draws[name] for name in names})
    ess = min(float(x) for x in az.ess(data).values())
    r_hat = max(float(x) for x in az.rhat(data).values())
    print(
        f"{cost['gradients'] / ess:.0f} gradients an effective draw, "
        f"{cost['diverging']} divergent draws, R-hat {r_hat:.3f}"
    )
    return {**cost, "ess": ess, "r_hat": r_hat}


plain, plain_cost = sample(NUTS(growth), warmup=1000)
plain_cost = told(plain, plain_cost)

# %% [markdown]
# The rate and the capacity are bound up with each other: who grows a bit more slowly may grow for
# longer. In the coordinates that NumPyro samples, that is a bent ridge, far narrower than it is
# long (left, below), and each draw takes a trajectory of many small steps.
#
# ## The mending
#
# State the same bounds and priors once more, as a `ParameterSpace`, and let calibration look at the
# posterior. The model stays as it is: its log-density is all that is asked for.

# %%
from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.calibrate import from_log_density, resample
from scalejax.numpyro import log_density

space = ParameterSpace(
    rate=Parameter(0, 5, mu=0.3, sigma=0.2, unit="1/h"),
    capacity=Parameter(2e4, 1e9, mu=3e6, sigma=3e6, unit="cells"),
    first=Parameter(1, 2e4, mu=5e3, sigma=3e3, unit="cells"),
    spread=Parameter(0, jnp.inf, sigma=0.3, family="HalfNormal"),
)
scaling = Scaling.from_space(space)
density = log_density(growth, scaling=scaling)
coordinates, report = from_log_density(density, scaling, key=jax.random.key(2))
print(report)

# %% [markdown]
# In these coordinates the posterior is close to a standard normal (right), and NUTS has little to
# adapt but its step.

# %%
of_z = coordinates.pullback(density)
z, cost = sample(
    NUTS(potential_fn=lambda z: -of_z(z), adapt_mass_matrix=False, target_accept_prob=0.98),
    warmup=300,
    init_params=jax.random.normal(jax.random.key(3), (4, coordinates.size)),
)
mended = coordinates.unpack(coordinates.to_original(z))
mended_cost = told(mended, {**cost, "gradients": cost["gradients"] + report.gradients})

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
sites = jnp.log(plain["rate"].ravel()), jnp.log(plain["capacity"].ravel() - 2e4)
axes[0].plot(*sites, ".", markersize=2, alpha=0.4)
axes[0].set(xlabel="log rate", ylabel="log (capacity − 20 000)", title="as NumPyro sees it, nearly")
axes[1].plot(*z.reshape(-1, 4)[:, :2].T, ".", markersize=2, alpha=0.4)
axes[1].set(xlabel="z of rate", ylabel="z of capacity", title="calibrated", aspect="equal")
plt.show()

# %% [markdown]
# The posterior is the same; what differs is the way to it. And where the fit is this good, no chain
# is needed at all: its own draws are weighed by the density.

# %%
weighed = resample(coordinates, density, jax.random.key(4), draws=4000)
place = scaling.names.index("capacity")
by_chain = mended["capacity"]
print(
    f"capacity: {weighed.mean[place]:.3g} ± {weighed.sd[place]:.2g} cells without a chain, "
    f"{by_chain.mean():.3g} ± {by_chain.std():.2g} by NUTS; {weighed.effective:.0f} effective draws"
)

# %% tags=["check"]
assert mended_cost["r_hat"] < 1.01
assert mended_cost["diverging"] == 0
assert (
    mended_cost["gradients"] / mended_cost["ess"] < plain_cost["gradients"] / plain_cost["ess"] / 3
)
error = jnp.hypot(weighed.mean_error[place], by_chain.std() / jnp.sqrt(mended_cost["ess"]))
assert abs(weighed.mean[place] - by_chain.mean()) < 4 * error
