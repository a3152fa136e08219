"""Calibration of densities drawn at random: it ends in a report, and `good` is what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.fuzz import drawn, unbounded
from scalejax.calibrate import from_log_density

UNIMODAL = {"gaussian"}  # and close to normal: those that calibration has to accept


@pytest.mark.slow
def test_random_densities(float64):
    """No exception; where it is called good, plain importance sampling from far wider agrees.

    The mean of each z within 5 standard errors of both estimates, for those whose wide sample has
    weights that say so (an effective size of 200).
    """
    rng = np.random.default_rng(0)
    good, checked = 0, 0
    for i in range(16):
        shape, log_density, size, hole = drawn(rng)
        found, report = from_log_density(log_density, unbounded(size), key=jax.random.key(i))
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
    assert checked > 3


def estimate(log_density, coordinates, width, draws, seed):
    """Mean of z, its standard error, and the effective size, from draws `width` times as wide."""
    w = width * jax.random.normal(jax.random.key(seed), (draws, coordinates.size))
    z, log_det = coordinates.to_root_and_log_det(w)
    log_weight = jax.vmap(log_density)(z) + log_det + (w**2).sum(1) / 2 / width**2
    log_weight = jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf)
    weight = np.asarray(jax.nn.softmax(log_weight))
    z = np.asarray(z)
    mean = weight @ z
    return mean, np.sqrt((weight**2) @ (z - mean) ** 2), 1 / (weight**2).sum()
