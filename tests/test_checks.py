"""The assertions, and what they stand on: checked Scalings, and placement over eight devices."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from scalejax import Scaling
from scalejax.checks import assert_round_trip, assert_scaling
from tests import cases
from tests.test_scaling import mixed


def changed(scaling, **values):
    for name, value in values.items():
        array = getattr(scaling, name).at[0].set(value)
        scaling = eqx.tree_at(lambda s, n=name: getattr(s, n), scaling, array)
    return scaling


BAD = [
    ({"scale": -1.0}, "scale must be positive and finite"),
    ({"scale": np.nan}, "scale must be positive and finite"),
    ({"center": np.inf}, "center must be finite"),
    ({"low": 2.0}, "low must not exceed high"),
    ({"low": 1.0 - 1e-7}, "the range must span at least four float32 numbers"),
]


def test_every_case_passes(dtype):
    scaling = Scaling(*(c.astype(dtype) for c in cases.COLUMNS))
    assert_scaling(scaling, platform="cpu")
    assert_round_trip(scaling)
    assert_round_trip(scaling, np.zeros(scaling.size))


@pytest.mark.parametrize(("values", "message"), BAD)
def test_unsound_values(values, message):
    with pytest.raises(AssertionError, match=f"parameter 'contrast_0': {message}"):
        assert_scaling(changed(mixed(np.float32), **values))


@pytest.mark.parametrize(("values", "message"), BAD)
def test_checked_under_jit(values, message):
    """What was traced is checked at run time, naming the group; without `checked` nothing is."""

    @eqx.filter_jit
    def value(scaling, check):
        scaling = scaling.checked() if check else scaling
        return scaling.to_original(jnp.zeros(scaling.size))

    good, bad = mixed(np.float32), changed(mixed(np.float32), **values)
    np.testing.assert_array_equal(value(good, True), value(good, False))
    # Of which type depends on how JAX passes on what a callback raises.
    with pytest.raises((RuntimeError, ValueError), match=f"in 'contrast': {message}"):
        value(bad, True)
    value(bad, False)


def test_checked_outside_jit():
    scaling = mixed()
    assert scaling.checked() is scaling
    with pytest.raises(ValueError, match="parameter 'contrast_0': scale must be positive"):
        changed(scaling, scale=0.0).checked()


def test_a_kind_that_has_changed_is_found():
    """Its map was chosen at construction: with another bound it would be the wrong one."""
    intervals = Scaling(0.5, 1.0, 0.0, [1.0, 1.0], groups={"contrast": 2})
    assert intervals.checked() is intervals
    half = changed(intervals, high=np.inf)
    with pytest.raises(ValueError, match="parameter 'contrast_0': its kind of bounds must be one"):
        half.checked()
    with pytest.raises(AssertionError, match="its kind of bounds must be one of interval"):
        assert_scaling(half)


def test_shapes_and_dtypes():
    scaling = mixed(np.float32)
    with pytest.raises(AssertionError, match="shape"):
        assert_scaling(eqx.tree_at(lambda s: s.low, scaling, jnp.zeros(3)))
    with pytest.raises(AssertionError, match="input 1 has type int32"):
        assert_scaling(eqx.tree_at(lambda s: s.scale, scaling, jnp.ones(9, int)))
    with pytest.raises(AssertionError, match="arrays of one dtype"):
        assert_scaling(eqx.tree_at(lambda s: s.scale, scaling, jnp.ones(9, jnp.bfloat16)))


def test_a_broken_round_trip():
    """An inverse that is off is found; here by a map whose bounds were moved behind its back."""
    scaling = mixed(np.float32)

    class Off(Scaling):
        def to_normalized(self, theta):
            return super().to_normalized(theta) + 1e-3

    off = Off(scaling.center, scaling.scale, scaling.low, scaling.high, groups=scaling.groups)
    with pytest.raises(AssertionError, match=r"parameter '.*': z → θ → z is off by 0\.001"):
        assert_round_trip(off)


def test_under_tracing():
    """Shapes are looked at; values are not there to be."""
    jax.jit(assert_scaling)(changed(mixed(), scale=-1.0))
    with pytest.raises(TypeError, match="call it outside of jit"):
        jax.jit(assert_round_trip)(mixed())


class Variants(chex.TestCase):
    """As a user's own test would use them."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    def test_variants(self):
        scaling = mixed(np.float32)
        assert_scaling(scaling)
        theta = self.variant(lambda s, z: s.to_original(z))(scaling, jnp.zeros(9))
        np.testing.assert_allclose(theta, scaling.to_original(jnp.zeros(9)), rtol=1e-6)

    def test_fake_jit(self):
        with chex.fake_jit():
            assert_scaling(mixed(np.float32))
            assert_round_trip(mixed(np.float32))


# --- where things live ---


@pytest.fixture
def mesh():
    return jax.make_mesh((8,), ("x",))


@pytest.fixture
def wide():
    """64 parameters, so that eight devices can share them."""
    rows = np.resize(np.array(list(cases.CASES.values()), np.float32), (64, 4)).T
    return Scaling(*rows)


def test_replicated_with_sharded_draws(mesh, wide):
    everywhere, by_draw = NamedSharding(mesh, Spec()), NamedSharding(mesh, Spec("x"))
    scaling = jax.device_put(wide, everywhere)
    assert_scaling(scaling, platform="cpu", sharding=everywhere)
    with pytest.raises(AssertionError, match=r"center is sharded as .*; expected"):
        assert_scaling(scaling, sharding=by_draw)
    z = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    f = jax.jit(lambda s, z: s.to_original_and_log_det(z))
    theta, log_det = f(scaling, jax.device_put(z, by_draw))
    assert theta.sharding.is_equivalent_to(NamedSharding(mesh, Spec("x", None)), 2)
    assert log_det.sharding.is_equivalent_to(by_draw, 1)
    one = f(wide, jnp.asarray(z))
    np.testing.assert_array_equal(theta, one[0])
    np.testing.assert_array_equal(log_det, one[1])


def test_sharded_over_parameters(mesh, wide):
    by_parameter = NamedSharding(mesh, Spec("x"))
    scaling = jax.device_put(wide, by_parameter)
    assert_scaling(scaling, sharding=by_parameter)
    z = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    columns = NamedSharding(mesh, Spec(None, "x"))
    f = jax.jit(lambda s, z: s.to_original(z))
    theta = f(scaling, jax.device_put(z, columns))
    assert theta.sharding.is_equivalent_to(columns, 2)
    np.testing.assert_array_equal(theta, f(wide, jnp.asarray(z)))


def test_in_shardings_move_nothing_to_the_host(mesh, wide):
    everywhere, by_draw = NamedSharding(mesh, Spec()), NamedSharding(mesh, Spec("x"))
    f = jax.jit(
        lambda s, z: s.to_original_and_log_det(z),
        in_shardings=(everywhere, by_draw),
        out_shardings=by_draw,
    )
    scaling = jax.device_put(wide, everywhere)
    z = jax.device_put(np.zeros((32, 64), np.float32), by_draw)
    text = f.lower(scaling, z).compile().as_text()
    for transfer in ("all-gather(", "all-reduce(", "all-to-all(", "outfeed", "host_transfer=true"):
        assert transfer not in text
    with jax.transfer_guard("disallow"):
        theta, _ = f(scaling, z)
    assert_scaling(scaling, sharding=everywhere)
    assert len(theta.devices()) == 8


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_on_an_accelerator(platform, wide):
    try:
        device = jax.devices(platform)[0]
    except RuntimeError:
        pytest.skip(f"no {platform} here")
    scaling = jax.device_put(wide, device)
    assert_scaling(scaling, platform=platform)
    assert_round_trip(scaling)
    z = jax.device_put(
        jnp.asarray(np.random.default_rng(0).normal(size=(32, 64)), "float32"), device
    )
    theta = scaling.to_original(z)
    assert theta.devices() == {device}
    host = jax.device_put(wide, jax.devices("cpu")[0]).to_original(np.asarray(z))
    np.testing.assert_allclose(theta, host, rtol=1e-5)
