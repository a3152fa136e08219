# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Eight schools, as they are written
#
# Eight schools tried a coaching programme, and each measured its effect, with an error of its own
# ([Rubin 1981](https://doi.org/10.3102/10769986006004377)). How much do the effects differ, `tau`,
# and how large is each, `effect`? The model in the words in which one thinks of it: effects are
# normal about a common mean, and measurements about the effects.

# %%
import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

jax.config.update("jax_enable_x64", True)

measured = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
error = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools():
    mean = numpyro.sample("mean", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    effect = numpyro.sample("effect", dist.Normal(mean, tau).expand([8]).to_event(1))
    numpyro.sample("measured", dist.Normal(effect, error), obs=measured)


# %% [markdown]
# ## The trouble
#
# Where `tau` is small, all effects must be close to their mean: a funnel, whose neck no step size
# suits that suits its mouth. NUTS says so by its divergences, and it is short of small `tau`.


# %%
def sample(kernel, *, warmup, **options):
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=500,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), extra_fields=("num_steps", "diverging"), **options)
    return mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()


plain, extra = sample(NUTS(schools), warmup=1000)
plain_divergent = int(extra["diverging"].sum())
plain_ess = float(az.ess({"tau": plain["tau"]})["tau"])
print(f"{plain_divergent} of 2000 draws diverged; {plain_ess:.0f} effective draws of tau")

# %% [markdown]
# The usual mending is to write another model: with effects in units of `tau`, *non-centered*. One
# has to know that, and with strong data it is the wrong way round.
#
# ## The mending
#
# The model stays. Calibration finds the parameter along which the others breathe, by itself, and
# returns coordinates that take it out.

# %%
from scalejax import Scaling
from scalejax.calibrate import from_log_density, resample
from scalejax.numpyro import log_density

scaling = Scaling(
    center=[0.0, 5.0] + [0.0] * 8,
    scale=[5.0, 5.0] + [10.0] * 8,
    low=[-jnp.inf, 0.0] + [-jnp.inf] * 8,
    high=jnp.inf,
    groups={"mean": None, "tau": None, "effect": 8},
)
density = log_density(schools, scaling=scaling)
coordinates, report = from_log_density(density, scaling, key=jax.random.key(0))
print(report)

# %%
of_z = coordinates.pullback(density)
z, extra = sample(
    NUTS(potential_fn=lambda z: -of_z(z), adapt_mass_matrix=False, target_accept_prob=0.98),
    warmup=300,
    init_params=2 * jax.random.normal(jax.random.key(1), (4, coordinates.size)),
)
mended = coordinates.unpack(coordinates.to_original(z))
divergent = int(extra["diverging"].sum())
ess = float(az.ess({"tau": mended["tau"]})["tau"])
print(f"{divergent} of 2000 draws diverged; {ess:.0f} effective draws of tau")

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axis, x, y, labels in (
    (axes[0], mended["effect"][..., 0], jnp.log(mended["tau"]), ("effect of school A", "log tau")),
    (axes[1], z[..., 2], z[..., 1], ("z of the effect", "z of tau")),
):
    axis.plot(x.ravel(), y.ravel(), ".", markersize=2, alpha=0.4)
    axis.set(xlabel=labels[0], ylabel=labels[1])
axes[0].set_title("the posterior")
axes[1].set_title("the same draws, in calibrated coordinates")
plt.show()

# %% [markdown]
# The same without a chain, and with the evidence of the model beside it:

# %%
weighed = resample(coordinates, density, jax.random.key(2), draws=4000)
small = weighed.weights @ (weighed.theta[:, 1] < 1)
print(f"tau = {weighed.mean[1]:.2f} ± {weighed.sd[1]:.2f}; below 1 with probability {small:.2f}")
print(f"below 1: {(mended['tau'] < 1).mean():.2f} of the calibrated chains' draws, "
      f"{(plain['tau'] < 1).mean():.2f} of the first ones'")  # fmt: skip
print(f"log evidence {weighed.log_evidence:.2f} ± {weighed.log_evidence_error:.2f}")

# %% tags=["check"]
assert divergent == 0
assert plain_divergent > 0
assert ess > 10 * plain_ess
assert abs(small - (mended["tau"] < 1).mean()) < 4 * jnp.sqrt(0.2 * 0.8 * (1 / ess + 1 / 4000))
# The reference draws of posteriordb have 3.6 and 3.2.
assert abs(weighed.mean[1] - 3.6) < 0.3
assert abs(weighed.sd[1] - 3.2) < 0.3
