"""Scaling as a pytree: construction, names, packing, and every transformation of JAX."""

from functools import partial

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from scalejax import Group, Parameter, ParameterSpace, Scaling
from scalejax.xpcs.homodyne import homodyne
from tests import cases

GROUPS = {"contrast": 3, "offset": 3, "D0": None, "alpha": None, "sigma": None}


def mixed(dtype=np.float64):
    """A vector of interval, half-bounded, unbounded and pinned parameters."""
    columns = np.array(
        [
            *[(0.06, 0.1, 0.0, 1.0)] * 3,
            *[(1.0, 0.1, 0.5, 1.5)] * 3,
            (1000.0, 9990.0, 100.0, 1e5),
            (-1.2, 1.0, -1.2, -1.2),
            (0.01, 0.01, 0.0, np.inf),
        ],
        dtype,
    ).T
    return Scaling(*columns, groups=GROUPS)


@pytest.fixture
def scaling(dtype):
    return mixed(dtype)


@pytest.fixture
def z(scaling):
    draws = np.random.default_rng(0).normal(size=(5, scaling.size))
    return jnp.asarray(draws, scaling.center.dtype)


def close(one, other):
    """Equal to a few roundings, of which compilers make more or fewer."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), one, other)


# --- the map ---


def test_values(scaling, z):
    theta, log_det = scaling.to_original_and_log_det(z)
    close(theta, scaling.to_original(z))
    close(log_det, scaling.log_det(z))
    assert theta.shape == z.shape
    assert log_det.shape == z.shape[:-1]
    assert ((theta > scaling.low) & (theta < scaling.high))[:, [0, 3, 6, 8]].all()
    assert (theta[:, 7] == scaling.low[7]).all()
    back = scaling.to_normalized(theta)
    np.testing.assert_allclose(back, z.at[:, 7].set(0.0), rtol=1e-3, atol=1e-4)


def test_log_det_is_that_of_the_jacobian(float64):
    scaling = Scaling(*np.delete(cases.COLUMNS, cases.NAMES.index("pinned"), axis=1))
    z = jnp.asarray(np.random.default_rng(1).normal(size=scaling.size))
    jacobian = jax.jacfwd(scaling.to_original)(z)
    sign, log_det = jnp.linalg.slogdet(jacobian)
    assert sign == 1
    np.testing.assert_allclose(scaling.log_det(z), log_det, rtol=1e-12)


def test_pinned_adds_nothing(scaling, z):
    moved = z.at[:, 7].add(3.0)
    close(scaling.log_det(moved), scaling.log_det(z))
    close(scaling.to_original(moved), scaling.to_original(z))


def test_pullback_integrates_to_one(float64):
    """A normalized density of θ is a normalized density of z: by quadrature over a wide z."""
    for center, scale, low, high in ((0.3, 0.2, 0.0, 1.0), (2.0, 0.7, 1.0, np.inf)):
        scaling = Scaling([center], [scale], [low], [high])

        def log_density(theta, low=low, high=high):
            # A uniform on an interval, an exponential above a bound.
            return (-jnp.log(high - low) if high < np.inf else low - theta[0]) + 0.0

        z = jnp.linspace(-60, 60, 200_001)[:, None]
        total = jnp.trapezoid(jnp.exp(jax.vmap(scaling.pullback(log_density))(z)), z[:, 0])
        np.testing.assert_allclose(total, 1.0, rtol=1e-9)


# --- names ---


def test_names():
    scaling = mixed()
    assert scaling.names == ("contrast", "offset", "D0", "alpha", "sigma")
    assert scaling.flat_names == [
        *(f"contrast_{i}" for i in range(3)),
        *(f"offset_{i}" for i in range(3)),
        *("D0", "alpha", "sigma"),
    ]
    assert scaling.size == 9
    assert [kind.name for kind in scaling.kinds] == ["interval", "lower", "pinned"]


def test_groups_by_default_and_scalars_spread():
    scaling = Scaling(0.0, [1.0, 2.0, 3.0], -5.0, 5.0)
    assert scaling.groups == (Group("theta", 3),)
    assert scaling.center.shape == scaling.low.shape == (3,)
    assert Scaling(0.0, 1.0, -5.0, 5.0).size == 1
    assert Scaling(0.0, 1.0, -5.0, 5.0, groups={"a": 4}).size == 4


def test_pack_and_unpack(scaling, z):
    parts = scaling.unpack(z)
    assert {name: part.shape for name, part in parts.items()} == {
        "contrast": (5, 3),
        "offset": (5, 3),
        "D0": (5,),
        "alpha": (5,),
        "sigma": (5,),
    }
    np.testing.assert_array_equal(scaling.pack(parts), z)
    one = scaling.pack({**scaling.unpack(z[0]), "D0": z[:, 6]})
    assert one.shape == z.shape
    assert scaling.unpack(z[0])["D0"].shape == ()


def test_group_is_a_scaling(scaling, z):
    whole = scaling.unpack(scaling.to_original(z))
    for name, part in scaling.unpack(z).items():
        group = scaling[name]
        wide = part if GROUPS[name] else part[:, None]
        close(group.unpack(group.to_original(wide))[name], whole[name])
    with pytest.raises(KeyError, match="no group 'beta' in this Scaling, which has contrast"):
        scaling["beta"]


# --- transformations ---


def test_jit_as_argument_and_as_constant(scaling, z):
    close(jax.jit(lambda s, z: s.to_original(z))(scaling, z), scaling.to_original(z))
    close(jax.jit(lambda z: 1 * scaling.to_original(z))(z), scaling.to_original(z))
    close(eqx.filter_jit(scaling.to_original_and_log_det)(z), scaling.to_original_and_log_det(z))


def test_grad_hessian_and_vmap(scaling, z):
    def f(z):
        theta, log_det = scaling.to_original_and_log_det(z)
        return jnp.log(jnp.abs(theta)).sum() + log_det

    gradient = jax.jit(jax.vmap(jax.grad(f)))(z)
    assert jnp.isfinite(gradient).all()
    close(gradient[2], jax.grad(f)(z[2]))
    hessian = jax.jit(jax.hessian(f))(z[0])
    close(hessian, jax.jit(jax.jacrev(jax.grad(f)))(z[0]))
    assert jnp.isfinite(hessian).all()
    many = jnp.resize(z, (100, scaling.size))
    close(jax.jit(jax.vmap(jax.grad(f)))(many), jnp.resize(gradient, many.shape))
    total = jax.jit(jax.grad(lambda z: jax.vmap(f)(z).sum()))
    close(total(many), jnp.resize(gradient, many.shape))
    close(jax.jit(jax.vmap(jax.hessian(f)))(many)[0], hessian)


def test_grad_with_respect_to_the_scaling(scaling, z):
    interval = scaling["contrast"]
    gradient = eqx.filter_grad(lambda s: s.to_original(z[:, :3]).sum())(interval)
    step = 1e-3
    for name in ("center", "scale", "low", "high"):
        moved = [
            eqx.tree_at(lambda s, n=name: getattr(s, n), interval, getattr(interval, name) + d)
            for d in (step, -step)
        ]
        up, down = (m.to_original(z[:, :3]).sum() for m in moved)
        np.testing.assert_allclose(
            getattr(gradient, name).sum(), (up - down) / (2 * step), rtol=5e-3, atol=1e-2
        )


def test_vmap_over_a_stack(scaling, z):
    factors = [1.0, 0.5, 2.0]
    several = [eqx.tree_at(lambda s: s.scale, scaling, scaling.scale * f) for f in factors]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    mapped = jax.vmap(lambda s, z: s.to_original_and_log_det(z), in_axes=(0, None))(stack, z)
    looped = [s.to_original_and_log_det(z) for s in several]
    close(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped))


def test_constructed_under_jit_and_vmap(scaling, z):
    """Bounds may be traced: then every kind is provided for, unless the kinds are said."""
    arrays = (scaling.center, scaling.scale, scaling.low, scaling.high)

    def build(kinds, *arrays):
        return Scaling(*arrays, kinds=kinds).to_original(z)

    close(jax.jit(partial(build, None))(*arrays), scaling.to_original(z))
    close(jax.jit(partial(build, scaling.kinds))(*arrays), scaling.to_original(z))
    stacked = jax.vmap(partial(build, None))(*(jnp.stack([a, a]) for a in arrays))
    close(stacked[1], scaling.to_original(z))


def test_scan(scaling, z):
    _, theta = jax.lax.scan(lambda s, z: (s, s.to_original(z)), scaling, z)
    close(theta, scaling.to_original(z))


def test_serialise(scaling, z, tmp_path):
    eqx.tree_serialise_leaves(tmp_path / "scaling.eqx", scaling)
    like = jax.tree.map(jnp.zeros_like, scaling)
    loaded = eqx.tree_deserialise_leaves(tmp_path / "scaling.eqx", like)
    assert eqx.tree_equal(loaded, scaling)
    np.testing.assert_array_equal(loaded.to_original(z), scaling.to_original(z))


def test_device_put(scaling, z):
    device = jax.devices()[-1]
    assert len(jax.devices()) > 1
    moved = jax.device_put(scaling, device)
    theta = moved.to_original(jax.device_put(z, device))
    assert theta.devices() == {device}
    np.testing.assert_array_equal(theta, scaling.to_original(z))


@pytest.mark.parametrize("by_row", [False, True])
def test_shard_map(scaling, by_row):
    mesh = jax.make_mesh((8,), ("draw",))
    z = jnp.asarray(np.random.default_rng(2).normal(size=(800, scaling.size)), scaling.center.dtype)

    def transform(s, z):
        f = s.to_original_and_log_det
        return jax.vmap(f)(z) if by_row else f(z)

    mapped = jax.jit(
        jax.shard_map(
            transform,
            mesh=mesh,
            in_specs=(Spec(), Spec("draw")),
            out_specs=Spec("draw"),
        )
    )
    theta, log_det = mapped(scaling, jax.device_put(z, NamedSharding(mesh, Spec("draw"))))
    close((theta, log_det), scaling.to_original_and_log_det(z))
    assert len(theta.devices()) == 8


def test_tracing_does_not_grow_with_the_number_of_parameters():
    def equations(size):
        rows = np.resize(np.array(list(cases.CASES.values())), (size, 4)).T
        scaling = Scaling(*rows, groups={"a": size - 10, "b": 10} if size > 10 else None)

        def f(scaling, z):
            theta, log_det = scaling.to_original_and_log_det(z)
            values = scaling.unpack(theta)
            return log_det + sum(v.sum() for v in values.values()), scaling.to_normalized(theta)

        return sum(1 for _ in _equations(jax.make_jaxpr(f)(scaling, jnp.zeros(size)).jaxpr))

    assert equations(30) == equations(10_000)


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


# --- from a space ---


@pytest.mark.hostile
def test_from_space(dtype):
    space = ParameterSpace(
        contrast=Parameter(0, 1, mu=0.06, sigma=0.05, dim="phi"), D0=Parameter(100, 1e5, 1000, 1000)
    )
    scaling = Scaling.from_space(space.sized(phi=4), rule=homodyne)
    assert scaling.groups == (Group("contrast", 4, "phi"), Group("D0"))
    np.testing.assert_allclose(scaling.center, [*[0.06] * 4, 1000.0], rtol=1e-6)
    np.testing.assert_allclose(scaling.scale, [*[0.1] * 4, 9990.0], rtol=1e-6)
    with pytest.raises(ValueError, match="parameter 'contrast' is a vector along 'phi': say how"):
        Scaling.from_space(space)
    with pytest.raises(ValueError, match=r"rule: expected a callable .*; got 'best'"):
        Scaling.from_space(space, rule="best")
    with pytest.raises(ValueError, match=r"parameter 'contrast': .*expected 4, got 2"):
        Scaling.from_space(space.sized(phi=4), rule=lambda p: (p.low, p.high))


def test_iteration_is_over_names():
    scaling = mixed()
    assert list(scaling) == list(GROUPS)
    assert "D0" in scaling
    assert "d0" not in scaling
    assert (len(scaling), scaling.size) == (5, 9)
    assert {name: part.size for name in scaling for part in [scaling[name]]}["contrast"] == 3


def test_pinned(scaling):
    assert scaling.pinned.tolist() == [False] * 7 + [True, False]


# --- bad input ---

nan, inf = np.nan, np.inf


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"center": [0, nan]}, "parameter 'b': center must be finite; got center = nan"),
        ({"center": [0, -inf]}, "parameter 'b': center must be finite; got center = -inf"),
        ({"scale": [0, 1]}, "parameter 'a': scale must be positive and finite; got scale = 0"),
        ({"scale": [1, -2]}, "parameter 'b': scale must be positive and finite; got scale = -2"),
        ({"scale": [1, inf]}, "parameter 'b': scale must be positive and finite; got scale = inf"),
        ({"scale": [1, nan]}, "parameter 'b': scale must be positive and finite; got scale = nan"),
        ({"low": [nan, -1]}, "parameter 'a': low must be a number below inf; got low = nan"),
        ({"low": [inf, -1]}, "parameter 'a': low must be a number below inf; got low = inf"),
        ({"high": [1, nan]}, "parameter 'b': high must be a number above -inf; got high = nan"),
        ({"low": [2, -1]}, "parameter 'a': low must not exceed high; got low = 2, high = 1"),
        (
            {"low": [-1, 3], "high": [1, inf]},
            "parameter 'b': center must be above the only bound; got center = 0, low = 3",
        ),
        (
            {"low": [-1, -inf], "high": [1, 0]},
            "parameter 'b': center must be below the only bound; got center = 0, high = 0",
        ),
        (
            {"low": [1, -1], "high": [1 + 4e-7, 1]},
            "parameter 'a': the range must span at least four float32 numbers and be finite; "
            "got low = 1, high = 1.0000004",
        ),
        ({"low": [-3e38, 0], "high": [3e38, 1]}, "parameter 'a': the range must span at least"),
        ({"center": [3e7, 0]}, "parameter 'a': center must lie within 2.20 ranges of the bounds"),
        ({"scale": [1e38, 1]}, "parameter 'a': scale must be within a factor 2.100 of the range"),
        ({"center": [0, 0, 0]}, r"must have one shape \(P,\).*center \(3,\), scale \(2,\)"),
        ({"center": [[0, 0]]}, r"must have one shape \(P,\).*center \(1, 2\)"),
        ({"groups": {"a": 3}}, "groups: sizes add up to 3, but there are 2 parameters"),
        ({"groups": {"a": 0, "b": 2}}, "groups: 'a' must have a size of at least 1, or None"),
        ({"groups": {"": 2}}, "groups: a name must be a non-empty string, got ''"),
        ({"groups": {}}, "groups: expected at least one"),
        ({"groups": [("a", None), ("a", None)]}, "groups: 'a' would name more than one thing"),
        ({"groups": {"a": 1, "a_0": None}}, "groups: 'a_0' would name more than one thing"),
        ({"kinds": ("closed",)}, "kind: expected one of interval, lower.*got 'closed'"),
    ],
)
@pytest.mark.hostile
def test_construction_errors(changed, message):
    good = {
        "center": [0, 0],
        "scale": [1, 1],
        "low": [-1, -1],
        "high": [1, 1],
        "groups": {"a": None, "b": None},
    }
    with pytest.raises(ValueError, match=message):
        Scaling(**{**good, **changed})


@pytest.mark.hostile
@pytest.mark.parametrize("method", ["to_original", "to_normalized", "log_det", "unpack"])
@pytest.mark.parametrize("shape", [(), (8,), (9, 1)])
def test_wrong_last_axis(method, shape):
    with pytest.raises(ValueError, match=r"expected shape \(…, 9\).*got \(.*\)"):
        getattr(mixed(), method)(jnp.zeros(shape))


def test_pack_errors():
    scaling = mixed()
    values = scaling.unpack(jnp.zeros(9))
    with pytest.raises(ValueError, match="missing D0; unknown d0"):
        scaling.pack({**{k: v for k, v in values.items() if k != "D0"}, "d0": 1.0})
    with pytest.raises(ValueError, match=r"'contrast' expects shape \(…, 3\), got \(2,\)"):
        scaling.pack({**values, "contrast": jnp.zeros(2)})
