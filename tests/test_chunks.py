"""Chains in chunks: the same draws however they are cut, on one device or several."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.sharding import Mesh
from numpyro.infer import NUTS, init_to_value

from scalejax.blocks import Blocks
from scalejax.numpyro import Chunk, chain_mesh, chunks


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


@pytest.mark.slow
def test_going_on_after_a_chunk():
    """From the numbers of its state alone, in the warmup and after it, bit for bit."""
    options = {
        "chains": 2,
        "warmup": 20,
        "samples": 30,
        "size": 10,
        "init_params": jnp.ones((2, 3)),
    }

    def parts(after=None):
        kernel = NUTS(potential_fn=potential)
        return list(chunks(kernel, jax.random.key(0), after=after, **options))

    whole = parts()
    for i in (0, 3):
        assert all(isinstance(leaf, np.ndarray) for leaf in whole[i].state)
        rest = parts(after=whole[i])
        assert [part.done for part in rest] == [part.done for part in whole[i + 1 :]]
        for one, other in zip(rest, whole[i + 1 :], strict=True):
            np.testing.assert_array_equal(one.z, other.z)
            jax.tree.map(np.testing.assert_array_equal, one.fields, other.fields)
    with pytest.raises(ValueError, match="the state of such a kernel"):
        parts(after=Chunk(None, {}, 10, True))


@pytest.mark.slow
def test_chains_beside_data(float64):
    """The same draws whatever the mesh: data in blocks over one axis, chains over the other."""
    x = np.random.default_rng(0).normal(1.0, 2.0, 1000)

    def model(blocks):
        mean = numpyro.sample("mean", dist.Normal(0, 10))
        sd = numpyro.sample("sd", dist.HalfNormal(10))
        numpyro.factor("x", blocks.sum(
            lambda theta, x: dist.Normal(theta[0], theta[1]).log_prob(x), (mean, sd)))  # fmt: skip

    def drawn(mesh):
        parts = chunks(
            NUTS(model, init_strategy=init_to_value(values={"mean": 0.5, "sd": 1.0})),
            jax.random.key(0), chains=2, warmup=50, samples=50, mesh=mesh,
            args=(Blocks.split(x, 50, mesh=mesh),),
        )  # fmt: skip
        return np.concatenate([part.z["mean"] for part in parts], 1)

    meshes = [Mesh(np.array(jax.devices()[: a * b]).reshape(a, b), ("chain", "data"))
              for a, b in ((1, 1), (2, 4), (1, 8))]  # fmt: skip
    want, *others = map(drawn, meshes)
    for found in others:
        np.testing.assert_allclose(found, want, atol=1e-6 * want[:, 50:].std())


@pytest.mark.parametrize(("devices", "axes"), [(2, ("data", "rows")), (3, ("chain", "data"))])
def test_a_mesh_that_does_not_fit(devices, axes):
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1), axes)
    with pytest.raises(ValueError, match="axis 'chain' that divides 2 chains"):
        next(chunks(NUTS(potential_fn=potential), jax.random.key(0), chains=2, warmup=1, samples=1,
                    mesh=mesh))  # fmt: skip


def test_chain_mesh():
    assert dict(chain_mesh(6).shape) == {"chain": 6, "data": 1}
    assert dict(chain_mesh(6, data=True).shape) == {"chain": 2, "data": 4}
    assert dict(chain_mesh(1, data=True).shape) == {"chain": 1, "data": 8}


@pytest.mark.parametrize(
    "options", [{"chains": 0}, {"warmup": -1}, {"samples": 0}, {"size": 0}], ids=str
)
def test_numbers_that_cannot_be(options):
    options = {"chains": 1, "warmup": 1, "samples": 1, **options}
    with pytest.raises(ValueError, match=r"chunks: .* must be at least"):
        next(chunks(NUTS(potential_fn=potential), jax.random.key(0), **options))
