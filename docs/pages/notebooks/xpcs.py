# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A sheared, diffusing sample under X-rays
#
# X-ray photon correlation sees a suspension under shear at three angles. The model has seven
# physical parameters, a contrast and an offset for each angle, and the noise: 14 in all, from 10⁻³
# to 10⁴. The measurement here is simulated, with known truth.

# %%
import logging

import arviz as az
import jax
import matplotlib.pyplot as plt
import numpy as np
from numpyro.infer import MCMC, NUTS

from scalejax import Scaling
from scalejax.numpyro import declared_prior, init_to_standard_normal
from scalejax.xpcs import default_config, for_mode, read_space, to_matrix
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.model import model

jax.config.update("jax_enable_x64", True)
logging.getLogger("scalejax").setLevel(logging.ERROR)

config = default_config("laminar_flow")
space = for_mode(read_space(config), "laminar_flow")
measurement = simulate_measurement(config, space, "laminar_flow", 3, seed=0)
space = space.sized(phi=3)
data = (measurement.experiment, measurement.c2)

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
phis = np.asarray(measurement.experiment.phi)
c2 = to_matrix(measurement.c2, np.full(3, np.nan), measurement.experiment.t.size)
for axis, matrix, phi in zip(axes, c2, phis, strict=True):
    axis.imshow(matrix, origin="lower")
    axis.set(title=f"c2 at {phi:.0f}°", xlabel="frame", ylabel="frame")
plt.show()

# %% [markdown]
# ## The trouble
#
# In normalized space all parameters are of order one, but the shear rate, its exponent and its
# offset lie on a curved ridge, and NUTS is lost on it. Trajectories are cut off after 63 steps
# here, or it would take a quarter of an hour.

# %%
scaling, prior = Scaling.from_space(space), declared_prior(space)
free = [name for name, parameter in space.items() if not parameter.pinned]


def sample(coordinates, *, warmup, draws, **options):
    mcmc = MCMC(
        NUTS(model, max_tree_depth=6, **options),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    fields = ("num_steps", "diverging")
    mcmc.warmup(
        jax.random.key(0), coordinates, *data, prior=prior, extra_fields=fields,
        collect_warmup=True,
    )  # fmt: skip
    spent = int(mcmc.get_extra_fields()["num_steps"].sum())
    mcmc.run(jax.random.key(1), coordinates, *data, prior=prior, extra_fields=fields)
    found = mcmc.get_samples(group_by_chain=True)
    result = az.from_dict({name: found[name] for name in free})
    ess = min(float(x.min()) for x in az.ess(result).values())
    r_hat = max(float(x.max()) for x in az.rhat(result).values())
    spent += int(mcmc.get_extra_fields()["num_steps"].sum())
    print(f"R-hat {r_hat:.2f}; {ess:.0f} effective draws of {4 * draws}, {spent} gradients")
    return found, {"r_hat": r_hat, "ess": ess, "gradients": spent}


plain, plain_cost = sample(scaling, warmup=100, draws=100)

# %% [markdown]
# ## The mending
#
# The noise is normal, so that calibration can search by least squares. It looks for the mode from
# two thousand points, follows the ridge, and checks what it has found by importance sampling.

# %%
from scalejax.xpcs.fit import calibrated

coordinates, report = calibrated(
    measurement, scaling, space, prior=prior, method="least-squares", seed=0
)
print(report)

# %%
mended, mended_cost = sample(
    coordinates,
    warmup=200,
    draws=250,
    target_accept_prob=0.98,
    adapt_mass_matrix=False,
    init_strategy=init_to_standard_normal(scale=2.0),
)
for name in ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0"):
    values, truth = mended[name], float(measurement.truth[name])
    print(f"{name:>18}: {values.mean():.4g} ± {values.std():.2g}, the truth {truth:.4g}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
place = [list(scaling.flat_names).index(name) for name in ("beta", "gamma_dot_t_offset")]
for axis, draws, title in (
    (axes[0], plain, "not calibrated: four chains"), (axes[1], mended, "calibrated")
):  # fmt: skip
    for chain in range(4):
        axis.plot(draws["beta"][chain], draws["gamma_dot_t_offset"][chain], ".", markersize=3)
    axis.set(xlabel="beta", ylabel="gamma_dot_t_offset (1/s)", title=title)
z = mended["theta_z"]
axes[2].plot(*z[..., place].reshape(-1, 2).T, ".", markersize=3)
axes[2].set(xlabel="z of beta", ylabel="z of gamma_dot_t_offset", title="the same, as NUTS sees it")
plt.show()

# %% [markdown]
# `scalejax fit` does all this, for files as a beamline writes them:
# [from a beamline file to a posterior](../beamline.md).

# %% tags=["check"]
assert plain_cost["r_hat"] > 1.05
assert mended_cost["r_hat"] < 1.03
for name in ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0"):
    values = mended[name]
    assert abs(values.mean() - float(measurement.truth[name])) < 5 * values.std()
