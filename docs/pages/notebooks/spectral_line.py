# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A faint line beside a bright one
#
# A spectrum has a bright emission line and, blended with it, a faint one whose strength one would
# like to know; the atom says how far apart they are. All is within bounds: strengths and widths are
# positive. Fluxes are of order 10⁻¹⁵, wavelengths of order 10⁴.

# %%
import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

jax.config.update("jax_enable_x64", True)

wavelength = jnp.linspace(6540.0, 6600.0, 121)  # Å
APART = 6.0  # Å


def profile(center, width):
    return jnp.exp(-(((wavelength - center) / width) ** 2) / 2)


def spectrum(v):
    bright = v["bright"] * profile(v["center"], v["width"])
    faint = v["faint"] * profile(v["center"] + APART, v["width"])
    return v["continuum"] + bright + faint


truth = {
    "bright": 8e-15, "faint": 2e-16, "center": 6563.0, "width": 4.0, "continuum": 1e-15,
}  # fmt: skip
noise = 3e-16  # erg/s/cm²/Å, and known
flux = spectrum(truth) + noise * jax.random.normal(jax.random.key(0), wavelength.shape)
plt.figure(figsize=(6, 3))
plt.plot(wavelength, flux, ".", label="measured")
plt.plot(wavelength, spectrum(truth), color="0.4", label="truth")
plt.plot(wavelength, spectrum({**truth, "faint": 0.0}), "--", color="0.6", label="no faint line")
plt.gca().set(xlabel="wavelength (Å)", ylabel="flux (erg/s/cm²/Å)")
plt.legend()
plt.show()

# %% [markdown]
# ## The trouble
#
# In units of physics, with sites as NumPyro has them:


# %%
def lines():
    v = {
        "bright": numpyro.sample("bright", dist.Uniform(0.0, 1e-13)),
        "faint": numpyro.sample("faint", dist.Uniform(0.0, 3e-15)),
        "center": numpyro.sample("center", dist.Uniform(6558.0, 6568.0)),
        "width": numpyro.sample("width", dist.Uniform(1.0, 10.0)),
        "continuum": numpyro.sample("continuum", dist.Uniform(0.0, 1e-14)),
    }
    numpyro.sample("flux", dist.Normal(spectrum(v), noise), obs=flux)


def sample(kernel, *, warmup, **options):
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=1000,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    fields = ("num_steps", "diverging")
    mcmc.warmup(jax.random.key(0), extra_fields=fields, collect_warmup=True, **options)
    spent = int(mcmc.get_extra_fields()["num_steps"].sum())
    mcmc.run(jax.random.key(1), extra_fields=fields, **options)
    extra = mcmc.get_extra_fields()
    spent += int(extra["num_steps"].sum())
    return mcmc.get_samples(group_by_chain=True), spent, int(extra["diverging"].sum())


def told(draws, spent, divergent):
    data = az.from_dict({name: draws[name] for name in truth})
    ess = min(float(x) for x in az.ess(data).values())
    r_hat = max(float(x) for x in az.rhat(data).values())
    print(
        f"{spent / ess:.0f} gradients an effective draw, {divergent} of 4000 draws diverged, "
        f"R-hat {r_hat:.3f}"
    )
    return {"spent": spent / ess, "divergent": divergent, "r_hat": r_hat}


plain, *cost = sample(NUTS(lines), warmup=1000)
plain_cost = told(plain, *cost)

# %% [markdown]
# The faint line may be absent: its strength leans on its bound. In the coordinates that NumPyro
# samples the bound lies at minus infinity, and the posterior runs out towards it in a long tail.
# And what the faint line does not take, the bright one does, with its place and its width.
#
# ## The mending
#
# The same bounds, stated once; the model stays as it is.

# %%
from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.calibrate import from_log_density
from scalejax.numpyro import log_density

space = ParameterSpace(
    bright=Parameter(0, 1e-13, unit="erg/s/cm²/Å"),
    faint=Parameter(0, 3e-15, unit="erg/s/cm²/Å"),
    center=Parameter(6558, 6568, unit="Å"),
    width=Parameter(1, 10, unit="Å"),
    continuum=Parameter(0, 1e-14, unit="erg/s/cm²/Å"),
)
scaling = Scaling.from_space(space)
density = log_density(lines, scaling=scaling)
coordinates, report = from_log_density(density, scaling, key=jax.random.key(1))
print(report)

# %%
of_z = coordinates.pullback(density)
z, spent, divergent = sample(
    NUTS(potential_fn=lambda z: -of_z(z), adapt_mass_matrix=False, target_accept_prob=0.98),
    warmup=300,
    init_params=2 * jax.random.normal(jax.random.key(2), (4, coordinates.size)),
)
mended = coordinates.unpack(coordinates.to_original(z))
mended_cost = told(mended, spent + report.gradients, divergent)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
axes[0].plot(mended["width"].ravel(), mended["faint"].ravel(), ".", markersize=2, alpha=0.4)
axes[0].plot(truth["width"], truth["faint"], "k+", markersize=12, label="truth")
axes[0].set(xlabel="width (Å)", ylabel="faint (erg/s/cm²/Å)", title="the posterior")
axes[0].legend()
axes[1].plot(z[..., 3].ravel(), z[..., 1].ravel(), ".", markersize=2, alpha=0.4)
axes[1].set(xlabel="z of width", ylabel="z of faint", title="in calibrated coordinates")
axes[1].set_aspect("equal")
plt.show()

# %%
faint = mended["faint"]
print(f"faint = ({1e16 * faint.mean():.1f} ± {1e16 * faint.std():.1f})·10⁻¹⁶ erg/s/cm²/Å; "
      f"strictly inside its bounds: {bool(((faint > 0) & (faint < 3e-15)).all())}")  # fmt: skip

# %% tags=["check"]
assert mended_cost["r_hat"] < 1.01
assert mended_cost["divergent"] == 0
assert mended_cost["spent"] < plain_cost["spent"] / 5
assert abs(faint.mean() - truth["faint"]) < 4 * faint.std()
assert ((faint > 0) & (faint < 3e-15)).all()
