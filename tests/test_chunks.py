"""Chains in chunks: the same draws however they are cut, on one device or several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import NUTS

from scalejax.numpyro import chunks


def potential(z):
    return (z**2).sum() / 2


def drawn(size, *, chains=2, warmup=30, samples=50):
    parts = list(chunks(
        NUTS(potential_fn=potential), jax.random.key(0), chains=chains, warmup=warmup,
        samples=samples, size=size, init_params=jnp.ones((chains, 3)),
    ))  # fmt: skip
    assert parts[-1].done == warmup + samples
    return [np.concatenate([p.z for p in parts if p.warmup == of], axis=1) for of in (True, False)]


@pytest.mark.slow
def test_the_draws_do_not_depend_on_the_cuts():
    (warmup, draws), others = drawn(50), drawn(7)
    assert warmup.shape == (2, 30, 3)
    assert draws.shape == (2, 50, 3)
    np.testing.assert_array_equal(others[0], warmup)
    np.testing.assert_array_equal(others[1], draws)
    assert not (draws[0] == draws[1]).any()


@pytest.mark.slow
def test_chains_beside_each_other_on_devices():
    """Of eight, six chains take six. Means within 4 standard errors, for independent draws."""
    _, draws = drawn(100, chains=6, warmup=300, samples=500)
    assert draws.shape == (6, 500, 3)
    assert (np.abs(draws.mean((0, 1))) < 4 / np.sqrt(1000)).all()
    assert (np.abs(draws.std((0, 1)) - 1) < 0.15).all()


@pytest.mark.parametrize(
    "options", [{"chains": 0}, {"warmup": -1}, {"samples": 0}, {"size": 0}], ids=str
)
def test_numbers_that_cannot_be(options):
    options = {"chains": 1, "warmup": 1, "samples": 1, **options}
    with pytest.raises(ValueError, match=r"chunks: .* must be at least"):
        next(chunks(NUTS(potential_fn=potential), jax.random.key(0), **options))
