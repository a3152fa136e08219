"""Files in the layouts of the APS and of homodyne, and every way in which they can be wrong."""

import contextlib
import json
import re

import arviz as az
import h5py
import jax
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scalejax.xpcs import Experiment, default_config, two_time
from scalejax.xpcs.beamline import contents, is_beamline, read_beamline
from scalejax.xpcs.chosen import Chosen
from scalejax.xpcs.cli import app
from scalejax.xpcs.config import data_path, read_mode
from scalejax.xpcs.correlation import to_matrix, two_time_at


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


FRAMES, Q, PHI = 12, np.array([0.005, 0.008]), np.array([-170.0, 0.0, 90.0])


def matrices(count, seed=0):
    """Symmetric ones, each with a diagonal of its own that nobody is to use."""
    c2 = 1.05 + 0.01 * np.random.default_rng(seed).normal(size=(count, FRAMES, FRAMES))
    c2 = (c2 + c2.swapaxes(1, 2)) / 2
    c2[:, range(FRAMES), range(FRAMES)] = 7.0
    return c2


def aps_u(path, change=lambda file: None, bins=(1, 2, 3, 5, 6), half=np.triu, c2=None):
    """As boost_corr writes them: of some of all bins of q and angle, half a matrix each."""
    c2 = matrices(len(bins)) if c2 is None else c2
    with h5py.File(path, "w") as file:
        file["xpcs/qmap/dynamic_v_list_dim0"] = Q
        file["xpcs/qmap/dynamic_v_list_dim1"] = PHI
        file["xpcs/twotime/processed_bins"] = np.array(bins)
        for number, matrix in zip(bins, c2, strict=True):
            file[f"xpcs/twotime/correlation_map/c2_{number:05d}"] = half(matrix)
        file["entry/instrument/detector_1/frame_time"] = 0.1
        file["xpcs/twotime/config/stride_frame"] = 2
        file["xpcs/twotime/config/avg_frame"] = 3
        change(file)
    return path


def aps(path, change=lambda file: None, half=np.triu):
    with h5py.File(path, "w") as file:
        file["xpcs/dqlist"] = np.array([[0.005, 0.00501, 0.00499, 0.008]])
        file["xpcs/dphilist"] = np.array([[90.0, 0.0, -170.0, 0.0]])
        for number, matrix in enumerate(matrices(4)):
            file[f"exchange/C2T_all/g2_{number + 1:05d}"] = half(matrix)
        file["measurement/instrument/detector/exposure_period"] = np.array([[0.25]])
        change(file)
    return path


def cache(path, **changed):
    t = np.arange(FRAMES) * 0.5
    arrays = {
        "c2_exp": matrices(3), "t1": np.meshgrid(t, t, indexing="ij")[0], "t2": t,
        "wavevector_q_list": np.full(3, 0.005), "phi_angles_list": PHI,
        "cache_metadata": np.array(0), **changed,
    }  # fmt: skip
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("half", [np.triu, np.tril, np.asarray])
def test_the_upgraded_aps(tmp_path, half):
    path = aps_u(tmp_path / "data.bin", half=half)
    found = contents(path)
    assert (found.layout, found.frames) == ("APS-U", FRAMES)
    np.testing.assert_allclose(found.frame_time, 0.6)
    np.testing.assert_allclose(found.rings, Q)
    measured = read_beamline(path, q=0.0075, gap=2e6)
    experiment, c2 = measured.experiment, matrices(5)
    np.testing.assert_allclose(experiment.q, 0.008, rtol=1e-6)
    np.testing.assert_allclose(experiment.phi, [0.0, 90.0])
    np.testing.assert_allclose(experiment.t, 0.6 * np.arange(FRAMES), rtol=1e-6)
    i, j = experiment.pairs
    np.testing.assert_array_equal(measured.c2, c2[3:, i, j])


def test_bins_out_of_order_are_known_by_their_numbers(tmp_path):
    """And by their order, where the numbers are others."""
    measured = read_beamline(aps_u(tmp_path / "a.h5", bins=(3, 1, 2)))
    np.testing.assert_allclose(measured.experiment.phi, PHI)
    i, j = measured.experiment.pairs
    np.testing.assert_array_equal(measured.c2, matrices(3)[[1, 2, 0]][:, i, j])

    def renamed(file):
        for number in (1, 2, 3):
            base = "xpcs/twotime/correlation_map"
            file.move(f"{base}/c2_{number + 3:05d}", f"{base}/c2_{number:05d}")

    measured = read_beamline(aps_u(tmp_path / "b.h5", change=renamed, bins=(4, 5, 6)))
    np.testing.assert_array_equal(measured.c2, matrices(3)[:, i, j])


def test_the_aps_before(tmp_path):
    """q of a ring differ a bit from angle to angle; the mean is taken."""
    path = aps(tmp_path / "data.hdf")
    assert contents(path).layout == "APS, before its upgrade"
    np.testing.assert_allclose(contents(path).frame_time, 0.25)
    measured = read_beamline(path, q=0.005, phi_ranges=[(80, 100), (170, -160)])
    np.testing.assert_allclose(measured.experiment.phi, [-170.0, 90.0])
    np.testing.assert_allclose(measured.experiment.q, 0.004995, rtol=1e-6)
    i, j = measured.experiment.pairs
    np.testing.assert_array_equal(measured.c2, matrices(4)[[2, 0]][:, i, j])


def test_several_q_together(tmp_path):
    """A row for each q and angle, with its q."""
    measured = read_beamline(aps_u(tmp_path / "data.h5"), q=[0.008, 0.005])
    np.testing.assert_allclose(measured.experiment.q, [0.008] * 2 + [0.005] * 3, rtol=1e-6)
    np.testing.assert_allclose(measured.experiment.phi, [0.0, 90.0, *PHI])
    assert measured.c2.shape == (5, FRAMES * (FRAMES - 1) // 2)


def test_what_homodyne_keeps(tmp_path):
    for t1 in (np.arange(FRAMES) * 0.5, np.meshgrid(*[np.arange(FRAMES) * 0.5] * 2)[0]):
        measured = read_beamline(cache(tmp_path / "cache.npz", t1=t1))
        np.testing.assert_allclose(measured.experiment.t, np.arange(FRAMES) * 0.5, rtol=1e-6)
        i, j = measured.experiment.pairs
        np.testing.assert_array_equal(measured.c2, matrices(3)[:, i, j])


def test_some_of_the_frames(tmp_path):
    """Counted from 1, both ends included; t is 0 at the first."""
    path = cache(tmp_path / "cache.npz")
    measured = read_beamline(path, frames=(3, 9), thin=2, frame_time=0.2)
    np.testing.assert_allclose(measured.experiment.t, [0.0, 0.4, 0.8, 1.2], rtol=1e-6)
    i, j = measured.experiment.pairs
    np.testing.assert_array_equal(measured.c2, matrices(3)[:, 2:9:2, 2:9:2][:, i, j])


def replaced(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


MAP = "xpcs/twotime/correlation_map"


BROKEN_APS_U = [
    (replaced("xpcs/qmap/dynamic_v_list_dim1", None), "missing xpcs/qmap/dynamic_v_list_dim1"),
    (replaced("xpcs/qmap/dynamic_v_list_dim0", "text"), "dynamic_v_list_dim0 must hold num"),
    (replaced("xpcs/qmap/dynamic_v_list_dim0", np.ones((2, 2))), r"got float64 of shape \(2"),
    (replaced("xpcs/qmap/dynamic_v_list_dim0", np.array([0.005, np.nan])), "q must be finite"),
    (replaced("xpcs/qmap/dynamic_v_list_dim0", np.array([-0.005, 0.0])), "q must be positive"),
    (replaced("xpcs/qmap/dynamic_v_list_dim0", np.array([0.005])), "processed_bins must be fr"),
    (replaced("xpcs/twotime/processed_bins", None), "missing xpcs/twotime/processed_bins"),
    (replaced("xpcs/twotime/processed_bins", np.array([1.5])), "must be whole numbers"),
    (replaced("xpcs/twotime/processed_bins", np.array([0, 1])), "must be from 1 to 2 q"),
    (replaced("xpcs/twotime/processed_bins", np.array([1, 2, 4])), "which is which is not kn"),
    (replaced(f"{MAP}/c2_00001", None), "has 4 matrices, and processed_bins 5"),
    (replaced(f"{MAP}/c2_00001", np.ones((3, 3))), r"c2_00001 is of shape \(3, 3\)"),
    (replaced(f"{MAP}/c2_00002", np.ones(3)), r"square matrices of one size.*c2_00002 of \(3"),
    (replaced(f"{MAP}/c2_00002", np.full((12, 12), b"x")), "c2_00002 must hold numbers"),
    (replaced(MAP, np.ones(3)), "must be a group of matrices; it is a dataset"),
    (replaced("entry/instrument/detector_1/frame_time", -1.0), "frame_time must be one pos"),
    (replaced("xpcs/twotime/config/avg_frame", np.zeros(2)), "avg_frame must be one positive"),
    (replaced(f"{MAP}/c2_00001", np.full((12, 12), np.nan)), r"66 of its.*c2_00001\[0, 1\]"),
    (replaced(f"{MAP}/c2_00001", matrices(1)[0] + np.triu(np.ones((12, 12)))), "neither half"),
    (replaced("entry/instrument/detector_1/frame_time", None), "give it, in seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN_APS_U)
def test_a_broken_file_of_the_upgraded_aps(tmp_path, change, message):
    path = aps_u(tmp_path / "data.h5", change)
    with pytest.raises(ValueError, match=rf"data\.h5: .*{message}"):
        read_beamline(path, q=0.005)


BROKEN_APS = [
    (replaced("xpcs/dqlist", None), "missing xpcs/dqlist"),
    (replaced("xpcs/dphilist", np.ones((1, 3))), "got 4 in xpcs/dqlist, 3 in xpcs/dphilist"),
    (replaced("exchange/C2T_all/g2_00003", None), r"4 in xpcs/dphilist and 3 in exchange"),
    (replaced("exchange/C2T_all", None), "of no known layout: expected .*it has exchange, m"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN_APS)
def test_a_broken_file_of_the_aps_before(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"data\.hdf: .*{message}"):
        read_beamline(aps(tmp_path / "data.hdf", change), q=0.005)


BROKEN_CACHE = [
    ({"t1": None}, "missing t1; expected c2_exp"),
    ({"t1": np.zeros(FRAMES)}, "t1 must increase in equal steps"),
    ({"t1": np.arange(3.0)}, r"and t1 of n_t times; got \(3, 12, 12\) and \(3,\)"),
    ({"c2_exp": np.ones((3, 12, 11))}, "expected c2_exp of shape"),
    ({"c2_exp": np.full((3, 12, 12), "x")}, "c2_exp must hold numbers"),
    ({"phi_angles_list": np.ones(2)}, "got 3 in wavevector_q_list, 2 in phi_angles_list"),
    ({"c2_exp": np.ones((3, 12, 12))}, "c2 is 1 for every pair"),
    ({"wavevector_q_list": np.array(object())}, "not a readable .npz"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), BROKEN_CACHE)
def test_a_broken_cache(tmp_path, changed, message):
    with pytest.raises(ValueError, match=rf"cache\.npz: .*{message}"):
        read_beamline(cache(tmp_path / "cache.npz", **changed))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"expected which q \(--q\); the file has 0.005, 0.008 1/Å"),
        ({"q": 0.1}, "no q near 0.1; the file has 0.005, 0.008"),
        ({"q": np.nan}, "no q near nan"),
        ({"q": [0.005, 0.0051]}, "are one ring"),
        ({"q": 0.005, "phi_ranges": [(20, 30)]}, "is in 20° to 30°; there are -170, 0, 90°"),
        ({"q": 0.005, "frames": (0, None)}, "expected at least three of the frames 1 to 12; got 0"),
        ({"q": 0.005, "frames": (5, 40)}, "got 5 to 40"),
        ({"q": 0.005, "thin": 7}, "each 7-th"),
    ],
)
def test_what_is_not_there(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_beamline(aps_u(tmp_path / "data.h5"), **options)


def test_a_damaged_file(tmp_path):
    """Cut short, or with bytes that are others: a clear error or what it was, and never a crash."""
    path = aps_u(tmp_path / "data.h5")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        data = bytearray(whole[: rng.integers(len(whole))] if trial % 2 else whole)
        for place in rng.integers(len(data), size=20) if data else ():
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            read_beamline(path, q=0.005)
        except ValueError:
            refused += 1
    assert refused > 20
    for content in (b"", b"not a file of numbers", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="data"):
            contents(path)
    with pytest.raises(FileNotFoundError):
        contents(tmp_path / "none.h5")


SAID = {
    "analyzer_parameters": {
        "dt": 0.6, "start_frame": 2, "end_frame": 9,
        "scattering": {"wavevector_q": 0.008}, "geometry": {"stator_rotor_gap": 1e6},
    }
}  # fmt: skip


def test_what_a_configuration_says_and_an_option_overrules(tmp_path):
    path = aps_u(tmp_path / "data.h5")
    measured = Chosen(path).measurement(SAID, "laminar_flow")
    assert measured.experiment.t.size == 8
    np.testing.assert_allclose(measured.experiment.q, 0.008, rtol=1e-6)
    np.testing.assert_allclose(measured.experiment.gap, 1e6)
    analyzer = {**SAID["analyzer_parameters"], "frame_step": 3, "end_frame": -1}
    measured = Chosen(path).measurement({"analyzer_parameters": analyzer}, "laminar_flow")
    np.testing.assert_allclose(measured.experiment.t, [0.0, 1.8, 3.6, 5.4], rtol=1e-6)
    options = Chosen(path, q=[0.005], phi_ranges=["-10:10"], frames="1:6", thin=2, frame_time=0.1)
    measured = options.measurement(SAID, "static")
    np.testing.assert_allclose(measured.experiment.t, [0.0, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(measured.experiment.phi, [0.0])


@pytest.mark.parametrize(
    ("options", "config", "mode", "message"),
    [
        ({"q": [0.005]}, {}, "laminar_flow", "--gap: a shear needs the gap"),
        ({"gap": -1.0}, SAID, "static", "--gap: expected a positive number; got -1"),
        ({"frame_time": np.inf}, SAID, "static", "--frame-time: expected a positive"),
        ({"frames": "1:2:3"}, SAID, "static", "--frames: expected two numbers, FIRST:LAST"),
        ({"frames": "1.5:9"}, SAID, "static", "--frames: expected whole numbers; got 1.5:9"),
        ({"phi_ranges": ["a:b"]}, SAID, "static", "--phi-range: expected two numbers"),
        ({"phi_ranges": ["0:inf"]}, SAID, "static", "--phi-range: expected finite numbers"),
        ({}, {"analyzer_parameters": {"dt": 0.5}}, "static", "dt is 0.5 s, and .* says 0.6 s"),
        ({}, {"analyzer_parameters": {"dt": -1}}, "static", "analyzer_parameters.dt: expected a"),
        ({}, {"analyzer_parameters": {"start_frame": 1.5}}, "static", "start_frame: expected a wh"),
        ({}, {"analyzer_parameters": [1]}, "static", "analyzer_parameters: expected a mapping"),
        ({}, {"analyzer_parameters": {"scattering": 1}}, "static", "scattering: expected a mapp"),
    ],
)
def test_a_wrong_choice(tmp_path, options, config, mode, message):
    with pytest.raises(ValueError, match=message):
        Chosen(aps_u(tmp_path / "data.h5"), **options).measurement(config, mode)


def test_options_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="--q, --thin: not expected without --data"):
        Chosen(None, q=[0.1], thin=2).measurement({}, "static")
    np.savez(tmp_path / "own.npz", c2=np.ones(3))
    assert not is_beamline(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"--frames: not expected for .*own\.npz"):
        Chosen(tmp_path / "own.npz", frames="1:3").measurement({}, "static")


def test_the_data_that_a_configuration_names(tmp_path):
    """By its path from the configuration, and in either way of saying it."""
    (tmp_path / "data").mkdir()
    path, file = aps(tmp_path / "data" / "a.hdf"), tmp_path / "config.yaml"
    named = {"data_folder_path": "./data/", "data_file_name": "a.hdf"}
    for entries in ({"file_path": "./data/a.hdf"}, {"file_path": None, **named}):
        assert data_path({"experimental_data": entries}, file).samefile(path)
    assert data_path({"experimental_data": {"file_path": None}}, file) is None
    assert data_path(default_config("static"), file) is None
    for entries, message in (
        ({"file_path": "none.hdf"}, "none.hdf is not there"),
        ({"file_path": 3}, "experimental_data.file_path: expected a text; got 3"),
        ([1], "experimental_data: expected a mapping"),
    ):
        with pytest.raises(ValueError, match=message):
            data_path({"experimental_data": entries}, file)
    assert read_mode({"analysis_mode": "static_isotropic"}) == "static"


def test_rows_of_several_q_are_those_of_each():
    theta = {
        "contrast": np.array([0.1, 0.2, 0.3]), "offset": np.ones(3), "D0": 3000.0, "alpha": -0.5,
        "D_offset": 10.0, "gamma_dot_t0": 0.01, "beta": 0.1, "gamma_dot_t_offset": 0.0, "phi0": 2.0,
    }  # fmt: skip
    q, phi, t = np.array([0.004, 0.005, 0.006]), np.array([0.0, 45.0, 45.0]), np.arange(6) * 0.1
    together = Experiment(t=t, phi=phi, q=q, gap=2e6)
    found = jax.jit(two_time)(theta, together)
    for k in range(3):
        one = {**theta, "contrast": theta["contrast"][[k]], "offset": theta["offset"][[k]]}
        alone = jax.jit(two_time)(one, Experiment(t=t, phi=phi[[k]], q=q[k], gap=2e6))
        np.testing.assert_allclose(found[k], alone[0], rtol=2e-6)
    places = np.array([3, 17, 40])
    np.testing.assert_allclose(
        two_time_at(theta, together, places), found.ravel()[places], rtol=2e-6
    )
    assert together.rows[1] == "45°, 0.005 1/Å"


def test_what_is_shown_of_a_file(tmp_path):
    result = invoke("data", aps(tmp_path / "data.hdf"), "--plot", tmp_path / "c2.png", "--q", 0.005)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "APS, before its upgrade 12 frames, from one to the next 0.25 s" in said
    assert "0.00499 3 -170, 0, 90 0.008 1 0 Wrote" in said
    assert (tmp_path / "c2.png").read_bytes().startswith(b"\x89PNG")
    silent = cache(tmp_path / "cache.npz")
    assert "cache of homodyne" in " ".join(invoke("data", silent).stdout.split())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"enabled": True, "tolerance": 3.0, "target_ranges": [(-8, -2), (88, 92)]}, [0.0, 90.0]),
        ({"enabled": True, "target_ranges": [(-8, -4), (88, 92)]}, [90.0]),
        ({"enabled": False, "target_ranges": [(88, 92)]}, PHI),
        ({"enabled": True, "target_ranges": [(170, -160)]}, [-170.0]),
        ({"enabled": True, "fallback_to_all_angles": True, "target_ranges": [(20, 30)]}, PHI),
        ({"enabled": True, "target_ranges": []}, PHI),
        (None, PHI),
    ],
)
def test_angles_that_a_configuration_chooses(tmp_path, section, expected):
    if section:
        ranges = [{"min_angle": a, "max_angle": b} for a, b in section["target_ranges"]]
        section = {**section, "target_ranges": ranges}
    config = {
        "phi_filtering": section,
        "analyzer_parameters": {"scattering": {"wavevector_q": Q[0]}},
    }
    path = aps_u(tmp_path / "data.h5")
    measured = Chosen(path).measurement(config, "static")
    np.testing.assert_allclose(measured.experiment.phi, expected, atol=1e-5)
    chosen = Chosen(path, phi_ranges=["-10:10"]).measurement(config, "static")
    np.testing.assert_allclose(chosen.experiment.phi, [0.0])


BROKEN_CONFIGS = [
    (["analysis_mode"], 3, "analysis_mode: expected a text; got 3"),
    (["analysis_mode"], "flow", "mode: expected one of static, laminar_flow, two_component"),
    (["analyzer_parameters", "dt"], "fast", "analyzer_parameters.dt: expected a number"),
    (["analyzer_parameters", "start_frame"], 0, "analyzer_parameters.start_frame: expected a pos"),
    (["analyzer_parameters", "end_frame"], 900, "three of the frames 1 to 12; got 1 to 900"),
    (["experimental_data"], {"file_path": "gone.h5"}, "gone.h5 is not there"),
    (["phi_filtering"], {"enabled": True, "target_ranges": 3}, "target_ranges: expected a list"),
    (["phi_filtering"], {"enabled": True, "target_ranges": [{}]}, "[0].min_angle: expected a"),
    (["phi_filtering"], {"enabled": True, "target_ranges": [{"min_angle": 9, "max_angle": "inf"}]},
     "target_ranges[0]: expected finite angles"),
    (["phi_filtering"], {"enabled": True, "tolerance": -1, "target_ranges":
                         [{"min_angle": 1, "max_angle": 9}]}, "from 0 on; got 1 to 9, and -1"),
    (["initial_parameters"], {"tied_parameters": {"D0": "alpha"}}, "cannot be tied to each other"),
    (["initial_parameters"], {"fixed_parameters": {"contrast": [0.1]}}, "expected 3 values"),
    (["initial_parameters"], {"fixed_parameters": {"D0": [200.0]}}, "does not vary with angle"),
    (["parameter_space", "bounds", 0, "type"], "Cauchy", "'contrast': type: expected one of"),
]  # fmt: skip


def test_what_is_broken_is_refused_in_one_line(tmp_path, monkeypatch):
    """By the command line: status 2, one line that names what is wrong, and no fit is begun."""
    tried = 0

    def begun(run):
        raise AssertionError("a fit was begun")

    monkeypatch.setattr("scalejax.xpcs.run.begin", begun)

    def refused(message, *options):
        nonlocal tried
        tried += 1
        result = invoke("fit", *options, "--output", tmp_path / "out")
        assert result.exit_code == 2, (message, result.output)
        (line,) = result.stderr.splitlines()
        assert result.stdout == ""
        assert re.search(message, line), (message, line)

    for change, message in BROKEN_APS_U:
        refused(message, "--data", aps_u(tmp_path / "a.h5", change), "--q", 0.005)
    for change, message in BROKEN_APS:
        refused(message, "--data", aps(tmp_path / "b.hdf", change), "--q", 0.005)
    for changed, message in BROKEN_CACHE:
        refused(message, "--data", cache(tmp_path / "c.npz", **changed))
    for where, value, message in BROKEN_CONFIGS:
        config = default_config("static")
        del config["analyzer_parameters"]["scattering"], config["analyzer_parameters"]["dt"]
        config["experimental_data"] = {"file_path": "whole.npz"}
        entry = config
        for key in where[:-1]:
            entry = entry[key]
        entry[where[-1]] = value
        cache(tmp_path / "whole.npz")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        refused(re.escape(message), "--config", tmp_path / "config.yaml")
    assert tried >= 40


TRUTH = {
    mode: default_config(mode)["simulation"]["truth"]
    for mode in ("static", "laminar_flow", "two_component")
}


def measured(truth, t, phi, q):
    """Matrices with noise of 0.003, and a diagonal that nobody is to use."""
    experiment = Experiment(t=t, phi=phi, q=q, gap=2e6)
    clean = to_matrix(jax.jit(two_time)(truth, experiment), np.full(len(phi), 7.0), len(t))
    noise = 0.003 * np.random.default_rng(0).normal(size=clean.shape)
    return clean + (noise + noise.swapaxes(1, 2)) / np.sqrt(2)


def as_homodyne_has_it(file, mode, dt, q, frames):
    """Every section that its templates have, with what they leave out being null."""
    declared = default_config(mode)
    bounds = declared["parameter_space"]["bounds"]
    names = [entry["name"] for entry in bounds[2:]]
    return {
        "metadata": {"config_version": "2.23.2", "generated_at": None, "parameter_count": 7},
        "analysis_mode": mode,
        "analyzer_parameters": {
            "dt": dt, "start_frame": 1, "end_frame": frames, "frame_step": 1,
            "scattering": {"wavevector_q": q}, "geometry": {"stator_rotor_gap": 2000000},
        },
        "analysis_settings": {"model_description": {"type": mode}},
        "experimental_data": {
            "file_path": f"./data/{file}", "data_folder_path": "./data/", "data_file_name": file,
            "phi_angles_file": "phi.txt", "cache_compression": True, "exchange_key": "exchange",
        },
        "phi_filtering": {
            "enabled": True, "fallback_to_all_angles": True, "algorithm": "range_based",
            "tolerance": 3.0, "quality_control": {"min_angles_required": 1},
            "target_ranges": [
                {"min_angle": -10.0, "max_angle": 10.0, "description": "parallel"},
                {"min_angle": 85.0, "max_angle": 95.0, "description": "perpendicular"},
            ],
        },
        "initial_parameters": {
            "parameter_names": names, "values": None, "units": ["?"] * len(names),
            "per_angle_scaling": {"contrast": None, "offset": None}, "active_parameters": None,
            "fixed_parameters": declared.get("initial_parameters", {}).get("fixed_parameters"),
            "tied_parameters": None,
        },
        "parameter_space": declared["parameter_space"],
        "optimization": {"method": "nlsq", "nlsq": {"loss": "soft_l1"}},
        "output": {"directory": "./results"},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "mode", "known", "options"),
    [
        ("aps", "laminar_flow", "laminar_flow", ["--per-angle", "constant"]),
        ("aps_u", "static_isotropic", "static", []),
        ("cache", "heterodyne", "two_component", ["--per-angle", "constant"]),
    ],
)
def test_a_configuration_as_it_is(layout, mode, known, options, tmp_path):
    """By the command line, from the file it names to the posterior: the truth within five sds."""
    phi, frames, truth = np.array([-5.0, 5.0, 45.0, 88.0, 92.0]), 40, TRUTH[known]
    # What is fixed is true at its value.
    truth = truth | default_config(known).get("initial_parameters", {}).get("fixed_parameters", {})
    dt, q = {"static": (0.001, 0.0054), "laminar_flow": (0.05, 0.0054)}.get(known, (0.1, 0.0237))
    c2 = measured(truth, np.arange(frames) * dt, phi, q)
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / {"aps": "a.hdf", "aps_u": "a.h5", "cache": "a.npz"}[layout]
    if layout == "cache":
        t = np.arange(frames) * dt
        cache(file, c2_exp=c2, t1=t, t2=t, wavevector_q_list=np.full(5, q), phi_angles_list=phi)
    with h5py.File(file, "w") if layout != "cache" else contextlib.nullcontext({}) as made:
        if layout == "aps":
            made["xpcs/dqlist"], made["xpcs/dphilist"] = np.full((1, 5), q), phi[None]
            made["measurement/instrument/detector/exposure_period"] = np.array([[dt]])
        elif layout == "aps_u":
            made["xpcs/qmap/dynamic_v_list_dim0"] = np.array([q])
            made["xpcs/qmap/dynamic_v_list_dim1"] = phi
            made["xpcs/twotime/processed_bins"] = np.arange(1, 6)
            made["entry/instrument/detector_1/frame_time"] = dt
        group = {"aps": "exchange/C2T_all/g2", "aps_u": f"{MAP}/c2"}.get(layout)
        for number, matrix in enumerate(c2 if group else ()):
            made[f"{group}_{number + 1:05d}"] = np.triu(matrix)
    config = {**as_homodyne_has_it(file.name, known, dt, q, frames), "analysis_mode": mode}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    start = {"analysis_mode": mode, "parameters": {
        name: {"value": truth[name], "uncertainty": 0.1} for name in ("contrast", "offset")
    }}  # fmt: skip
    (tmp_path / "parameters.json").write_text(json.dumps(start), encoding="utf-8")
    result = invoke(
        "fit", "--config", tmp_path / "config.yaml", "--start", tmp_path / "parameters.json",
        "--sampler", "importance", "--no-progress", "--output", tmp_path / "out", *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"{known} model, 4 angles × 780 pairs" in result.output
    assert "Importance sampling: 4000 draws" in result.output, result.output
    assert "Draws without chains, weighed: nothing to converge." in result.output
    assert "NUTS with" not in result.output
    assert "Residuals are white" in result.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["converged"]
    for name, value in truth.items():
        found = summary["parameters"][name]
        if "fixed" not in found:
            off = np.abs(np.array(found["mean"]) - value) / np.array(found["sd"])
            assert (off < 5).all(), name
    with h5py.File(tmp_path / "out" / "fitted.h5") as fitted:
        low, value, high = (fitted[f"c2/{name}"][:] for name in ("low", "measured", "high"))
    inside = (low < value) & (value < high)
    # Four binomial standard errors of 4 × 780.
    assert abs(inside.sum() / (4 * 780) - 0.9) < 4 * np.sqrt(0.09 / (4 * 780))


@pytest.mark.slow
def test_two_q_together(tmp_path):
    """By the command line, at two q together: the truth within five sds."""
    phi, t, rng = np.array([0.0, 60.0, 120.0]), np.arange(40) * 0.001, np.random.default_rng(0)
    truth = {"contrast": np.full(3, 0.06), "offset": np.ones(3), "D0": 3000.0, "alpha": -1.2,
             "D_offset": 50.0}  # fmt: skip
    rings = np.array([0.004, 0.0054])
    c2 = [
        to_matrix(two_time(truth, Experiment(t=t, phi=phi, q=one, gap=1.0)), np.full(3, 7.0), 40)
        for one in rings
    ]
    c2 = np.concatenate(c2) + 0.003 * rng.normal(size=(6, 40, 40))

    def change(file):
        for name, value in (
            ("xpcs/qmap/dynamic_v_list_dim0", rings),
            ("xpcs/qmap/dynamic_v_list_dim1", phi),
            ("entry/instrument/detector_1/frame_time", 0.001 / 6),
        ):
            replaced(name, value)(file)

    path = aps_u(tmp_path / "data.h5", change, bins=range(1, 7), c2=c2)
    result = CliRunner().invoke(
        app, ["fit", "--data", str(path), "--q", "0.004", "--q", "0.0054", "--no-progress",
              "--sampler", "importance", "--output", str(tmp_path / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    posterior = az.from_netcdf(tmp_path / "out" / "posterior.nc")["posterior"]
    assert posterior["contrast"].shape[-1] == 6
    np.testing.assert_allclose(posterior["q"], np.repeat(rings, 3))
    assert "at q = 0.004, 0.0054 1/Å" in " ".join(result.output.split())
    for name in ("D0", "alpha", "D_offset"):
        mean, sd = float(posterior[name].mean()), float(posterior[name].std())
        assert abs(mean - truth[name]) < 5 * sd, name
    assert "contrast 60°, 0.004 1/Å" in result.output
