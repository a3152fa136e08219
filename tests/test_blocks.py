"""Sums over blocks against the same sums over all data at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from scalejax.blocks import Blocks

ROWS = 3


def data(items):
    rng = np.random.default_rng(items)
    return {"x": rng.random(items), "y": rng.random((ROWS, items))}


def residuals(theta, block):
    """Of a pull and an amplitude a row, and a rate of all."""
    amplitude, rate = theta[:ROWS, None], theta[ROWS]
    return block["y"] - amplitude * jnp.exp(-rate * block["x"])


def squares(theta, block):
    return residuals(theta, block) ** 2


THETA = np.array([0.1, -0.5, 2.0, 0.7])


def mesh_of(devices):
    return None if devices == 1 else Mesh(np.array(jax.devices()[:devices]), ("data",))


def close(found, want, dtype):
    np.testing.assert_allclose(found, want, rtol=200 * np.finfo(dtype).eps, atol=1e-30)


# Few items, one a block, all in one, a block that is not full, and more devices than blocks.
@pytest.mark.parametrize(("items", "size", "devices"), [(1, 5, 1), (40, 50, 2), (10, 3, 8)])
def test_everything_of_any_cut(float64, items, size, devices):
    """Value, gradient, Hessian either way, and JᵀJ."""
    all_data = data(items)
    blocks = Blocks.split(all_data, size, mesh=mesh_of(devices))
    theta = jnp.asarray(THETA)

    @jax.jit
    def by_blocks(theta):
        def total(theta):
            return blocks.sum(squares, theta)

        normal = blocks.normal(residuals, theta)
        rowwise = blocks.normal(residuals, theta, rowwise=[range(ROWS)])
        backwards = jax.jacrev(jax.grad(total))(theta)
        return total(theta), jax.grad(total)(theta), jax.hessian(total)(theta), backwards, (
            normal, rowwise)  # fmt: skip

    def at_once(theta):
        return squares(theta, all_data).sum()

    value, gradient, hessian, backwards, normals = by_blocks(theta)
    np.testing.assert_allclose(value, at_once(theta), rtol=1e-13)
    np.testing.assert_allclose(gradient, jax.grad(at_once)(theta), rtol=1e-11, atol=1e-12)
    for found in (hessian, backwards):
        np.testing.assert_allclose(found, jax.hessian(at_once)(theta), rtol=1e-11, atol=1e-12)
    residual = residuals(theta, all_data).ravel()
    slopes = jax.jacfwd(lambda theta: residuals(theta, all_data).ravel())(theta)
    for normal in normals:
        np.testing.assert_allclose(normal.square, residual @ residual, rtol=1e-13)
        np.testing.assert_allclose(normal.pull, slopes.T @ residual, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(normal.gram, slopes.T @ slopes, rtol=1e-11, atol=1e-12)


def test_the_number_of_devices_changes_no_bit(dtype):
    """Sums over blocks and over devices are as good as exact."""
    found = []
    for devices in (1, 2, 4, 8):
        blocks = Blocks.split(data(10_007), 100, mesh=mesh_of(devices))
        f = jax.jit(jax.value_and_grad(lambda theta, blocks=blocks: blocks.sum(squares, theta)))
        found.append([np.asarray(x) for x in f(jnp.asarray(THETA))])
    for value, gradient in found[1:]:
        np.testing.assert_array_equal(value, found[0][0])
        np.testing.assert_array_equal(gradient, found[0][1])


def test_twice_the_digits():
    """In float32 a million tenths come to 10⁵ to the last digit: plain sums lose four of seven."""
    blocks = Blocks.split(np.full(1_000_000, 0.1, np.float32), 1)
    found = jax.jit(lambda: blocks.sum(lambda theta, x: theta * x, jnp.float32(1)))()
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 1e6 * float(np.float32(0.1)), rtol=1.2e-7)


def test_one_all_reduce_a_gradient(float64):
    blocks = Blocks.split(data(1000), 10, mesh=mesh_of(8))
    gradient = jax.jit(jax.value_and_grad(lambda theta, blocks: blocks.sum(squares, theta)))
    text = gradient.lower(jnp.asarray(THETA), blocks).compile().as_text()
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 1


def test_vmapped_scanned_and_traced(float64):
    blocks = Blocks.split(data(57), 10)
    thetas = jnp.asarray(THETA) + jnp.arange(3.0)[:, None] / 10

    def gradient(theta):
        return jax.grad(lambda theta: blocks.sum(squares, theta))(theta)

    want = jnp.stack([gradient(theta) for theta in thetas])
    np.testing.assert_allclose(jax.vmap(gradient)(thetas), want, rtol=1e-13)
    scanned = jax.lax.scan(lambda c, theta: (c, gradient(theta)), 0, thetas)[1]
    np.testing.assert_allclose(scanned, want, rtol=1e-13)

    @jax.jit
    def traced(blocks, theta):
        return jax.grad(lambda theta: blocks.sum(squares, theta))(theta)

    np.testing.assert_allclose(traced(blocks, thetas[0]), want[0], rtol=1e-13)


def test_inside_a_shard_map_of_chains(float64):
    """Chains along one axis of a mesh, data along the other."""
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("chain", "data"))
    blocks = Blocks.split(data(101), 5, mesh=mesh)
    thetas = jnp.asarray(THETA) + jnp.arange(4.0)[:, None] / 10
    gradient = jax.vmap(jax.grad(lambda theta, blocks: blocks.sum(squares, theta)), (0, None))
    chain, along = jax.sharding.PartitionSpec("chain"), jax.sharding.PartitionSpec("data")
    both = jax.shard_map(
        gradient, mesh=mesh, in_specs=(chain, along), out_specs=chain, check_vma=False
    )
    want = gradient(thetas, Blocks.split(data(101), 5))
    np.testing.assert_allclose(jax.jit(both)(thetas, blocks), want, rtol=1e-13)


def test_take(float64):
    all_data = data(57)
    for devices in (1, 8):
        blocks = Blocks.split(all_data, 10, mesh=mesh_of(devices))
        taken = blocks.take(jnp.array([0, 56, 23])).block(0)
        np.testing.assert_array_equal(taken["y"], all_data["y"][:, [0, 56, 23]])


def test_theta_of_any_structure(float64):
    blocks = Blocks.split(jnp.arange(5.0), 2)
    found = jax.grad(
        lambda a: blocks.sum(lambda theta, x: theta["a"] * x ** theta["n"], {"a": a, "n": 2})
    )(1.0)
    np.testing.assert_allclose(found, 30.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Blocks.split({}, 3), "one last axis"),
        (lambda: Blocks.split({"a": np.ones(3), "b": np.ones(4)}, 3), "one last axis"),
        (lambda: Blocks.split(np.float64(3), 3), "one last axis"),
        (lambda: Blocks.split(np.ones(0), 3), "at least one item"),
        (lambda: Blocks.split(np.ones(3), 0), "at least one item"),
        (lambda: Blocks.split(np.ones(3), 1, mesh=mesh_of(2), axis="rows"), "one of data"),
        (lambda: Blocks.split(np.ones(3), 2).sum(lambda theta, x: x.sum(), 1.0), "a value for"),
        (lambda: Blocks.split(np.ones(3), 2).normal(lambda t, x: t * x, jnp.ones(1),
                                                    rowwise=[(0, 1)]), "a place for each row"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_data_are_not_differentiated():
    blocks = Blocks.split(np.ones(3), 2)
    with pytest.raises(NotImplementedError, match="by θ alone"):
        jax.grad(lambda scale: Blocks(
            blocks.data * scale, blocks.counts, blocks.items, None, "data"
        ).sum(lambda theta, x: theta * x, 1.0))(1.0)  # fmt: skip
