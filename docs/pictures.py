"""Draw the README's picture: python docs/pictures.py

Gradients of the log-likelihood of the static model of `scalejax fit`, with respect to each
parameter in physical units and in normalized space, where both stand at the priors' medians.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from scalejax import ParameterSpace, Scaling
from scalejax.plotting import POSTERIOR, PRIOR
from scalejax.xpcs import default_config, for_mode, two_time
from scalejax.xpcs.inputs import simulate_measurement


def gradients():
    """Flat names, |∂/∂θ| and |∂/∂z| at z = 0."""
    config = default_config("static")
    space = for_mode(ParameterSpace.from_config(config), "static")
    measurement = simulate_measurement(config, space, "static", n_phi=None, seed=0)
    scaling = Scaling.from_space(space, {"phi": measurement.experiment.phi.size})

    def log_likelihood(theta):
        values = scaling.unpack(theta)
        mean = two_time(values, measurement.experiment)
        residual = (measurement.c2 - mean) / values["sigma"]
        return -(residual**2).sum() / 2 - residual.size * jnp.log(values["sigma"])

    z = jnp.zeros(len(scaling))
    in_theta = jax.grad(log_likelihood)(scaling.to_original(z))
    in_z = jax.grad(lambda z: log_likelihood(scaling.to_original(z)))(z)
    return scaling.flat_names, np.abs(in_theta), np.abs(in_z)


def main():
    """Write pages/images/gradients.png, and print the spreads."""
    jax.config.update("jax_enable_x64", True)
    names, *sizes = gradients()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(names))
    titles = ("in physical units, ∂/∂θ", "in normalized space, ∂/∂z")
    for size, title, color, marker in zip(sizes, titles, (PRIOR, POSTERIOR), "so", strict=True):
        spread = size.max() / size.min()
        axis.plot(at, size, marker, color=color, label=f"{title}: spread {spread:.1e}")
        print(f"{title}: spread {spread:.3g}")
        others = size[np.array(names) != "D_offset"]
        print(f"  without D_offset: {others.max() / others.min():.3g}")
    axis.set_yscale("log")
    axis.set_xticks(at, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_ylabel("|gradient of log-likelihood|")
    axis.grid(axis="y", alpha=0.3)
    axis.set_title("Static model, 10 angles, at the priors' medians", fontsize=10)
    axis.legend(loc="lower left", frameon=False)
    figure.savefig(Path(__file__).parent / "pages" / "images" / "gradients.png", dpi=130)


if __name__ == "__main__":
    main()
