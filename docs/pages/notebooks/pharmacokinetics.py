# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A drug, and an enzyme that is hardly busy
#
# A drug is swallowed, taken up from the gut, and broken down by an enzyme that saturates (Michaelis
# and Menten): a differential equation, solved by [Diffrax](https://docs.kidger.site/diffrax).
#
# ```
# dc/dt = k_a·dose/volume · exp(−k_a·t) − v_max·c / (k_m + c)
# ```
#
# Twelve blood samples give the concentration c within 10 %. As long as it stays below `k_m`, they
# tell the ratio `v_max / k_m` well, and each of the two hardly at all.

# %%
import arviz as az
import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.numpyro import declared_prior, log_density, sample_scaled

jax.config.update("jax_enable_x64", True)

DOSE = 500.0  # mg
hours = jnp.array([0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24])


def slope(t, c, v):
    taken_up = v["k_a"] * DOSE * jnp.exp(-v["k_a"] * t) / v["volume"]
    return taken_up - v["v_max"] * c / (v["k_m"] + c)


STEP = 0.125
TERM, SOLVER = diffrax.ODETerm(slope), diffrax.Tsit5()


def course(v):
    """The concentration in mg/L after every step of a day: a scan of one of Diffrax' steps."""
    start = jnp.zeros_like(v["volume"])
    state = SOLVER.init(TERM, 0.0, STEP, start, v)

    def step(carry, t):
        c, state = carry
        c, _, _, state, _ = SOLVER.step(TERM, t, t + STEP, c, v, state, made_jump=False)
        return (c, state), c

    return jax.lax.scan(step, (start, state), STEP * jnp.arange(192))[1]


def concentration(v):
    """When blood is taken."""
    return course(v)[jnp.round(hours / STEP).astype(int) - 1]


truth = {name: jnp.asarray(value) for name, value in
         {"k_a": 1.2, "volume": 40.0, "v_max": 8.0, "k_m": 25.0}.items()}  # fmt: skip
noise = 0.1 * jax.random.normal(jax.random.key(0), hours.shape)
measured = concentration(truth) * jnp.exp(noise)
plt.figure(figsize=(6, 3))
plt.plot(STEP * (1 + jnp.arange(192)), course(truth), color="0.6", label="truth")
plt.plot(hours, measured, "o", label="measured")
plt.gca().set(xlabel="hours", ylabel="concentration (mg/L)")
plt.legend()
plt.show()

# %% [markdown]
# ## The trouble
#
# Bounds and priors in physical units, and one site for all parameters.

# %%
space = ParameterSpace(
    k_a=Parameter(0.01, 20, mu=0, sigma=0.5, family="LogNormal", unit="1/h"),
    volume=Parameter(1, 500, mu=40, sigma=10, unit="L"),
    v_max=Parameter(0.01, 1e3, mu=2, sigma=1, family="LogNormal", unit="mg/L/h"),
    k_m=Parameter(0.1, 1e4, mu=3, sigma=1, family="LogNormal", unit="mg/L"),
    spread=Parameter(0, jnp.inf, sigma=0.3, family="HalfNormal"),
)
scaling, prior = Scaling.from_space(space), declared_prior(space)


def model(coordinates):
    v = sample_scaled("theta", coordinates, prior=prior)
    expected = jnp.log(concentration(v))
    numpyro.sample("measured", dist.Normal(expected, v["spread"]), obs=jnp.log(measured))


# Two short chains, with trajectories of up to 127 steps.
mcmc = MCMC(
    NUTS(model, max_tree_depth=7),
    num_warmup=100,
    num_samples=100,
    num_chains=2,
    chain_method="vectorized",
    progress_bar=False,
)
mcmc.warmup(jax.random.key(1), scaling, extra_fields=("num_steps",), collect_warmup=True)
spent = int(mcmc.get_extra_fields()["num_steps"].sum())
mcmc.run(jax.random.key(2), scaling, extra_fields=("num_steps",))
spent += int(mcmc.get_extra_fields()["num_steps"].sum())
plain = az.from_dict({name: mcmc.get_samples(group_by_chain=True)[name] for name in space})
plain_ess = min(float(x) for x in az.ess(plain).values())
r_hat = max(float(x) for x in az.rhat(plain).values())
print(f"{spent / plain_ess:.0f} solutions of the equation, with gradients, an effective draw; "
      f"R-hat {r_hat:.3f}")  # fmt: skip

# %% [markdown]
# ## The mending

# %%
from scalejax.calibrate import from_log_density, resample

density = log_density(model, (scaling,), scaling=scaling)
coordinates, report = from_log_density(density, scaling, key=jax.random.key(3), starts=16)
print(report)

# %% [markdown]
# The fit is close to the posterior itself: its draws are weighed by the density, each of which is
# one solution of the equation, and no chain is run.

# %%
posterior = resample(coordinates, density, jax.random.key(4), draws=2000)
print(f"{(report.gradients + 2000) / posterior.effective:.1f} solutions an effective draw")

# %%
draws = dict(zip(scaling.names, posterior.draws.T, strict=True))
z = coordinates.to_normalized(posterior.draws)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
axes[0].loglog(draws["v_max"], draws["k_m"], ".", markersize=2, alpha=0.4)
axes[0].plot(truth["v_max"], truth["k_m"], "k+", markersize=12, label="truth")
axes[0].set(xlabel="v_max (mg/L/h)", ylabel="K_m (mg/L)", title="the posterior")
axes[0].xaxis.set_minor_formatter(plt.NullFormatter())
axes[0].legend()
axes[1].plot(z[:, 2], z[:, 3], ".", markersize=2, alpha=0.4)
axes[1].set(xlabel="z of v_max", ylabel="z of K_m", title="in calibrated coordinates")
axes[1].set_aspect("equal")
plt.show()

# %% [markdown]
# What the data do tell is the clearance at low concentrations, `volume · v_max / k_m`:

# %%
clearance = draws["volume"] * draws["v_max"] / draws["k_m"]
print(f"{clearance.mean():.1f} ± {clearance.std():.1f} L/h, the truth {40 * 8 / 25:.1f}; "
      f"v_max alone {draws['v_max'].mean():.0f} ± {draws['v_max'].std():.0f} mg/L/h")  # fmt: skip

# %% tags=["check"]
assert report.good
assert abs(clearance.mean() - 12.8) < 4 * clearance.std()
assert (report.gradients + 2000) / posterior.effective < spent / plain_ess / 10
assert clearance.std() / clearance.mean() < draws["v_max"].std() / draws["v_max"].mean() / 3
