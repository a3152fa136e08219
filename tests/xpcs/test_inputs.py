"""Reading and simulating measurements, and every way in which an input can be wrong."""

import numpy as np
import pytest

from scalejax import Parameter, ParameterSpace
from scalejax.xpcs import default_config, default_space, for_mode, read_space, two_time
from scalejax.xpcs.inputs import read_measurement, simulate_measurement

GOOD = {
    "c2": np.full((2, 5, 5), 1.05),
    "phi": np.array([0.0, 45.0]),
    "t": np.arange(5) * 0.1,
    "q": np.array(0.0054),
    "gap": np.array([2e6]),
}


def write(path, **changed):
    arrays = {k: v for k, v in {**GOOD, **changed}.items() if v is not None}
    np.savez(path, **arrays)
    return path


def test_read(tmp_path):
    c2 = np.random.default_rng(0).normal(size=(2, 5, 5))
    measurement = read_measurement(write(tmp_path / "data.npz", c2=c2))
    assert measurement.truth is None
    np.testing.assert_array_equal(measurement.c2[1, :4], c2[1, 0, 1:])
    assert measurement.c2.shape == (2, 10)
    np.testing.assert_allclose(measurement.experiment.gap, 2e6)


def broken(name, index, value):
    array = GOOD[name].copy()
    array[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"c2": None, "q": None}, "missing c2, q; expected the arrays c2, phi, t, q, gap"),
        ({"c2": np.ones((2, 5, 4))}, r"c2 must have shape .*, here \(2, 5, 5\).*got \(2, 5, 4\)"),
        ({"c2": np.ones((3, 5, 5))}, r"from 2 angles in phi and 5 frames in t; got \(3, 5, 5\)"),
        ({"c2": np.ones((5, 5))}, r"c2 must have shape \(n_phi, n_t, n_t\)"),
        ({"c2": np.ones((2, 5, 5), complex)}, "c2 must hold real numbers; got dtype complex128"),
        (broken("c2", (1, 0, 2), np.nan), r"1 of its values are not.*c2\[1, 0, 2\] = nan"),
        (broken("phi", 0, np.inf), r"phi must be finite.*phi\[0\] = inf"),
        ({"phi": np.zeros((2, 1))}, r"phi must have shape \(n_phi,\).*got \(2, 1\)"),
        ({"q": np.array(-0.0054)}, "q must be positive; got -0.0054"),
        ({"q": np.array([1.0, 2.0])}, r"q must have shape \(\)"),
        ({"gap": np.array(0.0)}, "gap must be positive; got 0.0"),
        ({"gap": np.array(np.nan)}, "gap must be finite.*gap = nan"),
        (broken("t", 0, -0.1), r"t must increase from t\[0\] ≥ 0 s"),
        (broken("t", 3, 0.1), r"t must increase from t\[0\] ≥ 0 s"),
        (
            {"t": np.arange(2.0), "c2": np.ones((2, 2, 2))},
            "at least one angle and three frames; got 2 and 2",
        ),
    ],
)
def test_wrong_arrays(tmp_path, changed, message):
    with pytest.raises(ValueError, match=rf"data\.npz: .*{message}"):
        read_measurement(write(tmp_path / "data.npz", **changed))


def test_unreadable(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_measurement(tmp_path / "none.npz")
    path = tmp_path / "data.npz"
    for content in (b"", b"PK\x03\x04 cut short", b"not a zip file at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a readable \.npz file of numbers"):
            read_measurement(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(ValueError, match="it holds one array"):
        read_measurement(tmp_path / "one.npy")
    with pytest.raises(ValueError, match="not a readable"):
        read_measurement(write(path, q=np.array(object())))


def test_simulate():
    config = default_config("static")
    space = for_mode(read_space(config), "static")
    measurement = simulate_measurement(config, space, "static", 3, 0)
    assert measurement.c2.shape == (3, 780)
    assert set(measurement.truth) == set(space)
    mean = two_time(measurement.truth, measurement.experiment)
    residual = (measurement.c2 - np.asarray(mean)) / measurement.truth["sigma"]
    np.testing.assert_allclose(residual.std(), 1.0, rtol=4 / np.sqrt(2 * residual.size))
    other = simulate_measurement(config, space, "static", 3, 1)
    assert not np.array_equal(other.c2, measurement.c2)


def test_simulated_truth_respects_pins_and_bounds():
    config = default_config("static")
    config["initial_parameters"] = {"fixed_parameters": {"alpha": -1.0}}
    space = for_mode(read_space(config), "static")
    assert simulate_measurement(config, space, "static", 1, 0).truth["alpha"] == -1.0
    config["simulation"] = {"truth": {"D0": 50.0}}
    with pytest.raises(ValueError, match=r"simulation\.truth\.D0: expected a value inside"):
        simulate_measurement(config, space, "static", 1, 0)
    config["analyzer_parameters"]["dt"] = None
    config["simulation"] = None
    with pytest.raises(ValueError, match=r"analyzer_parameters\.dt: .* positive number; got noth"):
        simulate_measurement(config, space, "static", 1, 0)


def test_for_mode():
    static, flow = default_space("static"), default_space("laminar_flow")
    assert list(for_mode(flow, "laminar_flow"))[-2:] == ["phi0", "sigma"]
    own = ParameterSpace({**static, "sigma": Parameter(0, 1)})
    assert for_mode(own, "static")["sigma"] == Parameter(0, 1)
    with pytest.raises(ValueError, match="laminar_flow model needs gamma_dot_t0, beta, "):
        for_mode(static, "laminar_flow")
    with pytest.raises(
        ValueError, match="expected one of static, laminar_flow, two_component; got"
    ):
        for_mode(static, "x")
    with pytest.raises(ValueError, match="parameter 'contrast': expected dim='phi'; got None"):
        for_mode(ParameterSpace({**static, "contrast": Parameter(0, 1)}), "static")
