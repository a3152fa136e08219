"""Draw the pictures of the documentation: python docs/pictures.py

The posterior is that of the static model of `scalejax fit`: gradients at the priors' medians, in
physical units and in normalized space; then gradients at draws of a Gaussian fitted to it, and the
curvature at its mode, in calibrated coordinates as well.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from scalejax import Scaling, plotting
from scalejax.calibrate import from_log_density, resample
from scalejax.diagnostics import gradient_balance
from scalejax.numpyro import declared_prior
from scalejax.xpcs import default_config, for_mode, read_space
from scalejax.xpcs.fit import calibrated
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.posterior import log_density as xpcs_log_density

IMAGES = Path(__file__).parent / "pages" / "images"


def main():
    """Write pages/images/*.png, and print what they show."""
    jax.config.update("jax_enable_x64", True)
    config = default_config("static")
    space = for_mode(read_space(config), "static")
    measurement = simulate_measurement(config, space, "static", n_phi=None, seed=0)
    space = space.sized(phi=measurement.experiment.phi.size)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    log_density = xpcs_log_density(measurement, scaling, prior=prior)

    start = gradient_balance(log_density, scaling, jnp.zeros(scaling.size))
    save(plotting.gradients({"normalized": start}).figure, "gradients", start)

    whitened, report = calibrated(
        measurement, scaling, space, prior=prior, method="least-squares", seed=0
    )
    print(report)
    w = jax.random.normal(jax.random.key(0), (200, scaling.size)).at[0].set(0.0)  # the mode
    z = whitened.to_base_and_log_det(w)[0]
    balances = {
        "matched": gradient_balance(log_density, scaling, z),
        "calibrated": gradient_balance(log_density, whitened, w),
    }
    figure = Figure(figsize=(9, 8.4), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    plotting.gradients(balances, ax=upper)
    plotting.curvature(balances, ax=lower)
    save(figure, "balance", *balances.values())

    save(funnel(), "funnel")
    save(ridge(), "ridge")


def funnel():
    """Neal's funnel, straightened."""
    scaling = Scaling([0.0] * 10, [3.0] + [1.0] * 9, -jnp.inf, jnp.inf,
                      groups={"v": None, "x": 9})  # fmt: skip

    def log_density(theta):
        v, x = theta[0], theta[1:]
        return -(v**2) / 18 - (x**2).sum() * jnp.exp(-v) / 2 - x.size * v / 2

    coordinates, report = from_log_density(log_density, scaling, key=jax.random.key(0))
    print(report)
    draws = resample(coordinates, log_density, jax.random.key(1)).draws
    return plotting.straightened(coordinates, draws, along="v", other="x_0")


def ridge():
    """Laminar flow at three angles, straightened."""
    config = default_config("laminar_flow")
    space = for_mode(read_space(config), "laminar_flow")
    measurement = simulate_measurement(config, space, "laminar_flow", n_phi=3, seed=0)
    space = space.sized(phi=3)
    scaling, prior = Scaling.from_space(space), declared_prior(space)
    coordinates, report = calibrated(
        measurement, scaling, space, prior=prior, method="least-squares", seed=0
    )
    print(report)
    log_density = xpcs_log_density(measurement, scaling, prior=prior)
    draws = resample(coordinates, log_density, jax.random.key(1)).draws
    along, other = report.along[0], "beta"
    return plotting.straightened(coordinates, draws, along=along, other=other)


def save(figure, name, *balances):
    """To a file; and its numbers to the terminal."""
    figure.savefig(IMAGES / f"{name}.png", dpi=110)
    print(name, *balances, sep="\n\n")


if __name__ == "__main__":
    main()
