"""Ten thousand constructions from hostile numbers: a documented error, or a map that holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from scalejax import Scaling
from tests import cases

NUMBERS = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.5, 100.0, 1e5, -1e5, 1e-6, 1e6, 1e6 + 1, 1e-30, 1e30, -1e30),
        *(np.inf, -np.inf, np.nan, 1e-38, 1e-45, 3.4e38, -3.4e38, 1e39, 1e300, 1e-300, np.pi),
    ]
)
Z = jnp.asarray([*cases.EXTREME_Z, 0.0, 1e-30, -1.0, 2.5, 30.0, np.nan], "float32")[:, None]


def draw(rng):
    """Two parameters: numbers from the list, nearly sound ones, or one spoilt in one place."""
    if rng.random() < 0.4:
        return rng.choice(NUMBERS, (4, 2))
    at, width = rng.choice([0.0, 1.0, -3.0, 1e5, -1e-3], 2), 10.0 ** rng.uniform(-8, 8, 2)
    rows = np.array(
        [at + width * rng.uniform(-1, 2, 2), width * 10 ** rng.uniform(-3, 1, 2), at, at + width]
    )
    rows[2] = np.where(rng.random(2) < 0.15, -np.inf, rows[2])
    rows[3] = np.where(rng.random(2) < 0.15, np.inf, rows[3])
    if rng.random() < 0.3:
        rows[rng.integers(4), rng.integers(2)] = rng.choice(NUMBERS)
    return rows


@pytest.mark.slow
def test_ten_thousand():
    rng = np.random.default_rng(0)
    built, refused, named = 0, 0, 0
    for _ in range(10_000):
        rows = draw(rng)
        try:
            scaling = Scaling(*rows, groups={"a": None, "b": None})
        except ValueError as error:
            refused += 1
            named += "parameter 'a'" in str(error) or "parameter 'b'" in str(error)
            continue
        built += 1
        theta, log_derivative = scaling.forward_and_log_derivative(Z * jnp.ones(2))
        back = scaling.to_normalized(theta[:-1])
        low, high = np.asarray(scaling.low), np.asarray(scaling.high)
        theta, pinned = np.asarray(theta), low == high
        assert np.isnan(theta[-1]).all(), rows
        inside = (low < theta[:-1]) & (theta[:-1] < high) & np.isfinite(theta[:-1])
        assert (inside | (pinned & (theta[:-1] == low))).all(), (rows, theta)
        assert not np.isnan(log_derivative[:-1]).any(), rows
        assert not np.isnan(back).any(), (rows, back)
        # As declared, too, and not only as rounded.
        declared = np.where(pinned, True, (theta[:-1] > rows[2]) & (theta[:-1] < rows[3]))
        assert declared.all(), (rows, theta)
    assert refused == named
    assert min(built, refused) > 1000
