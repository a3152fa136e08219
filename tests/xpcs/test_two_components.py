"""A sample that flows through a reference, against the formula of the paper, pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalejax.xpcs import Experiment, default_space, for_mode, two_time
from scalejax.xpcs.correlation import two_time_at
from scalejax.xpcs.parameters import TWO_COMPONENTS, UNITS

THETA = {
    "contrast": np.array([0.25, 0.2, 0.3]), "offset": np.array([1.0, 1.01, 0.99]),
    "D0_ref": 400.0, "alpha_ref": 0.1, "D_offset_ref": 5.0,
    "D0_sample": 2500.0, "alpha_sample": -0.1, "D_offset_sample": 20.0,
    "v0": 120.0, "v_beta": 0.2, "v_offset": -30.0,
    "f0": 0.6, "f1": -0.2, "f2": 0.5, "f3": 0.05, "phi0_het": 3.0,
}  # fmt: skip


def experiment():
    return Experiment(t=np.arange(9) * 0.1, phi=np.array([0.0, 40.0, 90.0]), q=0.0237, gap=2e6)


def by_loops(theta, experiment):
    """He et al. 2024, eq. S-95: complex amplitudes of both components, pair by pair."""
    t, q = np.asarray(experiment.t, float), float(experiment.q)
    at = np.where(t == 0, (t[1] - t[0]) / 2, t)
    share = np.clip(theta["f0"] * np.exp(theta["f1"] * (t - theta["f2"])) + theta["f3"], 0, 1)
    velocity = theta["v0"] * at ** theta["v_beta"] + theta["v_offset"]
    result = []
    for phi, contrast, offset in zip(
        np.asarray(experiment.phi), theta["contrast"], theta["offset"], strict=True
    ):
        row = []
        for i in range(len(t)):
            for j in range(i + 1, len(t)):
                g = {}
                for of in ("ref", "sample"):
                    rate = theta[f"D0_{of}"] * at ** theta[f"alpha_{of}"] + theta[f"D_offset_{of}"]
                    g[of] = np.exp(-(q**2) / 2 * np.trapezoid(rate[i : j + 1], t[i : j + 1]))
                way = np.trapezoid(velocity[i : j + 1], t[i : j + 1])
                turn = np.exp(1j * q * np.cos(np.radians(phi + theta["phi0_het"])) * way)
                field = (1 - share[i]) * (1 - share[j]) * g["ref"]
                field = field + share[i] * share[j] * g["sample"] * turn
                norm = [(1 - s) ** 2 + s**2 for s in (share[i], share[j])]
                row.append(offset + contrast * abs(field) ** 2 / (norm[0] * norm[1]))
        result.append(row)
    return np.array(result)


def test_against_the_formula(dtype):
    got = jax.jit(two_time)(THETA, experiment())
    # Rates level off at 0.1 Å²/s: in float64 that shows.
    tolerance = {"float32": 3e-6, "float64": 1e-8}[dtype]
    np.testing.assert_allclose(got, by_loops(THETA, experiment()), atol=tolerance)
    index = np.array([0, 50, 107])
    np.testing.assert_allclose(
        jax.jit(two_time_at)(THETA, experiment(), index), np.ravel(got)[index], rtol=2e-6
    )


@pytest.mark.parametrize(("share", "of"), [(1.0, "sample"), (0.0, "ref")])
def test_one_component_alone_is_static(share, of, float64):
    """Whatever the velocity is."""
    alone = {**THETA, "f0": share, "f1": 0.0, "f3": 0.0}
    static = {name: THETA[name] for name in ("contrast", "offset")} | {
        name: THETA[f"{name}_{of}"] for name in ("D0", "alpha", "D_offset")
    }
    np.testing.assert_allclose(
        jax.jit(two_time)(alone, experiment()), jax.jit(two_time)(static, experiment()), rtol=1e-12
    )


@given(
    f0=st.floats(0, 1), f1=st.floats(-1, 1), f2=st.floats(-1, 1), f3=st.floats(-1, 1),
    step=st.sampled_from([1e-3, 0.1, 100.0]),
)  # fmt: skip
def test_finite_with_its_gradient_everywhere(dtype, f0, f1, f2, f3, step):
    """Also where a share would grow beyond all numbers: 900 s at 1/s."""
    at = Experiment(t=jnp.arange(9) * step, phi=jnp.zeros(1), q=0.0237, gap=2e6)
    one = {**THETA, "contrast": np.ones(1), "offset": np.ones(1)}
    share = jnp.asarray([f0, f1, f2, f3], dtype)
    value, slope = _with_gradient(share, {**one, "alpha_ref": 0.0, "alpha_sample": 0.0}, at)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    assert (value >= 1 - 1e-6).all()
    assert (value <= 2 + 1e-6).all()


@jax.jit
def _with_gradient(share, theta, at):
    def c2(share):
        return two_time({**theta, **dict(zip(("f0", "f1", "f2", "f3"), share, strict=True))}, at)

    return c2(share), jax.jacfwd(c2)(share)


def test_the_model_has_its_fourteen_parameters():
    assert len(TWO_COMPONENTS) == 14
    space = for_mode(default_space("two_component"), "two_component")
    assert set(TWO_COMPONENTS) < set(space)
    assert set(TWO_COMPONENTS) < set(UNITS)
    assert {name for name, p in space.items() if p.pinned} == {"v_offset", "f1", "f2", "f3"}
