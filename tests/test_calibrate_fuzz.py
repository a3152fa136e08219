"""Calibration of densities drawn at random: it ends in a report, and `good` is what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalejax import Scaling
from scalejax.calibrate import from_log_density

SHAPES = ("gaussian", "flat", "rising", "ring", "plateau", "steps", "cusp", "funnel", "banana",
          "mixture", "student", "quartic", "cliff")  # fmt: skip
UNIMODAL = {"gaussian"}  # and close to normal: those that calibration has to accept


def drawn(rng):
    """A shape, its log-density with numbers and holes of its own, and how many parameters."""
    shape, size = rng.choice(SHAPES), int(rng.integers(1, 6))
    matrix = rng.normal(size=(size, size)) * 10 ** rng.uniform(-1, 2)
    at, scale = rng.normal(size=size), 10 ** rng.uniform(-1.5, 1)
    other = at + rng.normal(size=size) * 3 * scale
    hole = rng.random() < 0.2

    def base(t):
        x = (t - at) / scale
        r2 = (x**2).sum()
        return {
            "gaussian": lambda: -((matrix @ (t - at)) ** 2).sum() / 2 - (t**2).sum() / 2,
            "flat": lambda: 0.0 * r2,
            "rising": x.sum,
            "ring": lambda: -50 * (jnp.sqrt(r2) - 1) ** 2,
            "plateau": lambda: -jnp.maximum(r2 - 4, 0),
            "steps": lambda: -jnp.floor(r2),
            "cusp": lambda: -3 * jnp.abs(x).sum(),
            "funnel": lambda: -(x[0] ** 2) / 18 - (x[1:] ** 2).sum() * jnp.exp(-x[0]) / 2
            - (size - 1) * x[0] / 2,
            "banana": lambda: -(x[0] ** 2) / 2 - ((x[-1] - x[0] ** 2) / 0.1) ** 2 / 2,
            "mixture": lambda: jnp.logaddexp(-r2 / 2, -(((t - other) / scale) ** 2).sum() / 2),
            "student": lambda: -1.5 * jnp.log1p(r2),
            "quartic": lambda: -(x**4).sum(),
            "cliff": lambda: jnp.where(x[0] > 0, -r2, -jnp.inf),
        }[shape]()  # fmt: skip

    def log_density(t):
        return jnp.where(t[0] > at[0] + 2 * scale, jnp.nan, base(t)) if hole else base(t)

    return shape, log_density, size, hole


@pytest.mark.slow
def test_random_densities(float64):
    """No exception; where it is called good, plain importance sampling from far wider agrees.

    The mean of each z within 5 standard errors of both estimates, for those whose wide sample has
    weights that say so (an effective size of 200).
    """
    rng = np.random.default_rng(0)
    good, checked = 0, 0
    for i in range(30):
        shape, log_density, size, hole = drawn(rng)
        scaling = Scaling(0.0, 1.0, -jnp.inf, jnp.inf, groups={"x": size})
        found, report = from_log_density(log_density, scaling, key=jax.random.key(i))
        assert report.good or report.reasons or report.doubts, shape
        if shape in UNIMODAL and not hole:
            assert report.kind == "dense", (i, str(report))
        if not report.good:
            continue
        good += 1
        fitted = estimate(log_density, found, 1.0, 4000, i)
        wide = estimate(log_density, found, 3.0, 40000, i + 1000)
        if wide[2] > 200:
            checked += 1
            error = np.hypot(fitted[1], wide[1])
            assert (np.abs(fitted[0] - wide[0]) < 5 * error + 1e-9).all(), (i, shape, str(report))
    assert good > 3
    assert checked > 1


def estimate(log_density, coordinates, width, draws, seed):
    """Mean of z, its standard error, and the effective size, from draws `width` times as wide."""
    w = width * jax.random.normal(jax.random.key(seed), (draws, coordinates.size))
    z = coordinates.to_root_and_log_det(w)[0]
    log_weight = jax.vmap(log_density)(z) + (w**2).sum(1) / 2 / width**2
    log_weight = jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf)
    weight = np.asarray(jax.nn.softmax(log_weight))
    z = np.asarray(z)
    mean = weight @ z
    return mean, np.sqrt((weight**2) @ (z - mean) ** 2), 1 / (weight**2).sum()
