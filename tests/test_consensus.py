"""The posterior of all data from those of shards: right, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from scalejax import Scaling
from scalejax.calibrate import NotTrusted, from_log_density
from scalejax.consensus import combined, consensus

SHARDS = 4
SCALING = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"level": None, "slope": None})


def line(seed=0, n=400):
    """Data far from where a line's level is, so that level and slope are correlated by −0.9."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(1.0, 3.0, n)
    return x, 0.5 + 0.8 * x + 0.3 * rng.normal(size=n)


def of_line(x, y, power=1.0):
    """With its data as arrays, so that it is compiled once for all shards."""
    return Partial(_of_line, jnp.asarray(x), jnp.asarray(y), jnp.asarray(power))


def _of_line(x, y, power, theta):
    residual = (y - theta[0] - theta[1] * x) / 0.3
    return -(residual**2).sum() / 2 - power * (theta**2).sum() / 2


def exact(x, y):
    """Mean and covariance, by linear algebra."""
    design = np.c_[np.ones_like(x), x] / 0.3
    covariance = np.linalg.inv(design.T @ design + np.eye(2))
    return covariance @ design.T @ y / 0.3, covariance


def agrees(posterior, mean, covariance):
    """Means and sds within four standard errors, which in 1 of 4000 trials they are not."""
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(posterior.mean - mean), 4 * posterior.mean_error)
    np.testing.assert_array_less(np.abs(posterior.sd - sd), 4 * posterior.sd_error)


@pytest.mark.slow
def test_the_product_of_fits_has_the_covariance_of_all_data():
    x, y = line()
    keys = jax.random.split(jax.random.key(0), SHARDS + 1)
    shards = [
        from_log_density(of_line(x[k::SHARDS], y[k::SHARDS], 1 / SHARDS), SCALING, key=keys[k])[0]
        for k in range(SHARDS)
    ]
    coordinates, posterior = consensus(
        shards, SCALING, log_density=of_line(x, y), key=keys[-1], draws=2000
    )
    mean, covariance = exact(x, y)
    agrees(posterior, mean, covariance)
    # The bounds of ±9 bend z by little over widths of 0.05: next to a normal.
    assert posterior.effective > 0.98 * 2000
    slopes = jax.jacfwd(coordinates.to_original)(jnp.zeros(2))
    found = np.asarray(slopes @ slopes.T)
    np.testing.assert_allclose(found, covariance, rtol=0.02)
    assert found[0, 1] / np.sqrt(found[0, 0] * found[1, 1]) < -0.9


def drawn(x, y, seed):
    """Draws of the posterior of each shard."""
    rng = np.random.default_rng(seed)
    for k in range(SHARDS):
        design = np.c_[np.ones(len(x[k::SHARDS])), x[k::SHARDS]] / 0.3
        covariance = np.linalg.inv(design.T @ design + np.eye(2) / SHARDS)
        mean = covariance @ design.T @ y[k::SHARDS] / 0.3
        yield np.asarray(SCALING.to_normalized(rng.multivariate_normal(mean, covariance, 2000)))


def test_draws_of_shards_will_do_where_they_are_right():
    """And where they are biased, by four of their widths, nothing is returned."""
    x, y = line(1)
    shards = list(drawn(x, y, 1))
    options = {"log_density": of_line(x, y), "key": jax.random.key(1), "draws": 2000}
    agrees(consensus(shards, SCALING, **options)[1], *exact(x, y))
    biased = [z + 4 * z.std(0) for z in shards]
    with pytest.raises(NotTrusted, match=r"consensus of 4 shards cannot be trusted: .*k̂"):
        consensus(biased, SCALING, **options)


@pytest.mark.slow
def test_shards_that_bend():
    """Of a banana, whose shards are fitted by nested coordinates: no normal would do."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(3, 1)) * 0.1
    scaling = Scaling(0.0, 1.0, low=-50.0, high=50.0, groups={"a": None, "b": None})

    def of(part, power):
        def log_density(theta):
            a, b = theta
            off = (y[part, 0] - (b - a**2)) / 0.1
            return -(off**2).sum() / 2 - power * (2 * a**2 + b**2 / 25) / 2

        return log_density

    keys = jax.random.split(jax.random.key(2), 4)
    found = [from_log_density(of([k], 1 / 3), scaling, key=keys[k]) for k in range(3)]
    assert [report.kind for _, report in found] == ["nested"] * 3
    shards = [coordinates for coordinates, _ in found]
    _, posterior = consensus(shards, scaling, log_density=of([0, 1, 2], 1.0), key=keys[3])
    # By quadrature: b given a is normal, and its integral a function of a.
    a = np.linspace(-6, 6, 200_001)
    precision = 3 / 0.01 + 1 / 25
    middle = (a[:, None] ** 2 + y[:, 0]).sum(1) / 0.01 / precision
    squares = ((a[:, None] ** 2 + y[:, 0]) ** 2).sum(1) / 0.01
    log = -(squares - precision * middle**2) / 2 - a**2
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    mean_b = weights @ middle
    var_b = weights @ (middle**2) - mean_b**2 + 1 / precision
    agrees(posterior, [0.0, mean_b], np.diag([weights @ a**2, var_b]))


def test_what_is_no_shard():
    other = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"level": None, "width": None})
    key = jax.random.key(0)
    for shards, said in (
        ([], "at least one"),
        ([SCALING, other], r"shard 1: expected the parameters level, slope; got level, width"),
        ([np.zeros((3, 2))], "shard 0: no fit to its draws: 3 draws are too few"),
        ([np.full((300, 2), np.nan)], "shard 0: z: expected finite draws"),
        ([np.zeros((300, 3))], r"shard 0: z: expected draws of shape"),
    ):
        with pytest.raises(ValueError, match=said):
            combined(shards, SCALING, key=key)
