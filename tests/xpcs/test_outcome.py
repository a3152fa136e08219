"""What a fit leaves: the band of its c2, frames left out, the summary, and fits compared."""

import json

import arviz as az
import h5py
import jax
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from scalejax.xpcs import Experiment, default_space, for_mode, two_time
from scalejax.xpcs.cli import app
from scalejax.xpcs.inputs import Measurement
from scalejax.xpcs.outcome import summarised, write_fitted, write_summary
from scalejax.xpcs.predicted import LeftOut, _stretches, left_out, predicted
from scalejax.xpcs.whiteness import Whiteness

T = np.arange(12) * 0.001
EXPERIMENT = Experiment(t=T, phi=np.array([0.0, 90.0]), q=0.0054, gap=1.0)
DRAWS = 300


@pytest.fixture(scope="module")
def posterior():
    """Draws of contrast and D0 about the truth; the rest is known."""
    rng = np.random.default_rng(0)
    shape = (2, DRAWS // 2)
    return az.from_dict({
        "contrast": 0.06 + 0.0002 * rng.normal(size=(*shape, 2)),
        "offset": np.ones((*shape, 2)),
        "D0": 3000 + 20 * rng.normal(size=shape),
        "alpha": np.full(shape, -1.2),
        "D_offset": np.full(shape, 50.0),
        "sigma": np.full(shape, 0.003),
        "theta_z": rng.normal(size=(*shape, 8)),
    })  # fmt: skip


@pytest.fixture(scope="module")
def measurement():
    truth = {"contrast": np.full(2, 0.06), "offset": np.ones(2), "D0": 3000.0, "alpha": -1.2,
             "D_offset": 50.0}  # fmt: skip
    noise = 0.003 * np.random.default_rng(1).normal(size=(2, 66))
    return Measurement(EXPERIMENT, np.asarray(two_time(truth, EXPERIMENT)) + noise)


def at(posterior, draw):
    values = posterior["posterior"]
    return {str(name): values[name].values.reshape(DRAWS, *values[name].shape[2:])[draw]
            for name in values.data_vars}  # fmt: skip


of = jax.jit(two_time)


def test_the_band_is_that_of_the_draws(posterior, measurement, float64):
    found = predicted(posterior, EXPERIMENT, DRAWS)
    models = np.array([of(at(posterior, k), EXPERIMENT) for k in range(DRAWS)])
    np.testing.assert_allclose(found.mean, models.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.sd, models.std(0, ddof=1), rtol=1e-7, atol=1e-12)
    low, high = found.band
    # As many measured values within as it says: four binomial standard errors of 132.
    inside = np.mean((low < measurement.c2) & (measurement.c2 < high))
    assert abs(inside - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 132)
    residuals = found.residuals(measurement.c2)
    np.testing.assert_allclose(residuals, (measurement.c2 - found.mean) / 0.003)


def test_frames_left_out_against_importance_sampling_by_hand(posterior, measurement, float64):
    """elpd of each stretch is that of its pairs, of draws weighed by one over their likelihood."""
    found = left_out(posterior, measurement)
    _, later = EXPERIMENT.pairs
    stretch = _stretches(EXPERIMENT)
    assert len(found.elpd) == 11
    np.testing.assert_array_equal(stretch, later - 1)
    many = _stretches(Experiment(t=np.arange(201.0), phi=[0.0], q=1.0, gap=1.0))
    later = np.triu_indices(201, k=1)[1]
    assert all(len(np.unique(later[many == k])) == 4 for k in range(50))
    _, later = EXPERIMENT.pairs
    mine = []
    density = np.array([
        stats.norm.logpdf(measurement.c2, of(at(posterior, k), EXPERIMENT), 0.003).sum(0)
        for k in range(DRAWS)
    ])  # fmt: skip
    for k in range(11):
        log = density[:, stretch == k].sum(1)
        mine.append(-np.log(np.mean(np.exp(-(log - log.mean())))) + log.mean())
    # Pareto smoothing changes the largest of 300 weights, by little where k̂ is small.
    assert found.trusted
    np.testing.assert_allclose(found.elpd, mine, atol=0.02)


def test_the_fitted_c2(posterior, measurement, tmp_path, float64):
    found = predicted(posterior, EXPERIMENT)
    write_fitted(str(tmp_path / "fitted.h5"), measurement, found)
    i, j = EXPERIMENT.pairs
    with h5py.File(tmp_path / "fitted.h5") as file:
        assert set(file) == {"c2", "t", "phi", "q"}
        np.testing.assert_array_equal(file["phi"], EXPERIMENT.phi)
        for name, rows in (
            ("measured", measurement.c2),
            ("fitted", found.mean),
            ("low", found.band[0]),
            ("high", found.band[1]),
        ):
            matrices = file[f"c2/{name}"][:]
            assert matrices.shape == (2, 12, 12)
            np.testing.assert_allclose(matrices[:, i, j], rows, rtol=1e-6)
            assert np.isnan(matrices[:, j, i]).all()


def summary_of(directory, mode, elpd, evidence=None, how="individual", k_hat=0.3, data="a"):
    directory.mkdir()
    content = {
        "settings": {"data (SHA-256)": data, "mode": mode, "per angle": how},
        "log_evidence": evidence and {"value": evidence, "error": 0.1},
        "left_out_frames": {"elpd": elpd, "k_hat": k_hat},
        "converged": True,
        "calibration": {"doubts": ["it is odd"] if mode == "odd" else []},
    }
    (directory / "summary.json").write_text(json.dumps(content), encoding="utf-8")
    return str(directory)


def compared(*directories):
    return CliRunner().invoke(app, ["compare", *directories])


def test_fits_beside_each_other(tmp_path):
    static = summary_of(tmp_path / "s", "static", [1.0, 2.0, 3.0], 10.0)
    flow = summary_of(tmp_path / "f", "laminar_flow", [2.0, 3.5, 4.0], 22.0)
    said = " ".join(compared(static, flow).stdout.split())
    assert "By log evidence: laminar_flow" in said
    assert "by 12.0 ± 0.1." in said
    # Differences 1, 1.5 and 1: their sd times √3.
    assert "by 3.5 ± 0.5." in said
    odd = summary_of(tmp_path / "o", "odd", [1.0, 2.0, 3.0], 9.0)
    said = " ".join(compared(odd, flow).stdout.split())
    assert f"Of {odd} its calibration says: it is odd." in said
    near = summary_of(tmp_path / "n", "laminar_flow", [2.0, 3.5, 4.1], 22.1)
    assert "by 0.1 ± 0.1: as good as equal." in " ".join(compared(near, flow).stdout.split())


def test_what_cannot_be_compared(tmp_path):
    one = summary_of(tmp_path / "1", "static", [1.0, 2.0, 3.0], 10.0)
    none = summary_of(tmp_path / "2", "static", [1.0, 2.0, 3.0])
    rough = summary_of(tmp_path / "3", "static", [1.0, 2.0, 3.0], 10.0, k_hat=0.9)
    held = summary_of(tmp_path / "4", "static", [1.0, 2.0, 3.0], 10.0, "averaged")
    other = summary_of(tmp_path / "5", "static", [1.0, 2.0, 3.0], 10.0, data="b")
    assert f"No log evidence of {none}" in " ".join(compared(one, none).stdout.split())
    assert "k̂ = 0.90" in " ".join(compared(one, rough).stdout.split())
    assert "have seen the same data" in " ".join(compared(one, held).stdout.split())
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "summary.json").write_text("[]", encoding="utf-8")
    for directories, words in (
        ((one,), "at least two"),
        ((one, other), "different data"),
        ((one, str(tmp_path / "7")), "7"),
        ((one, str(tmp_path / "6")), "not the summary of a fit"),
    ):
        result = compared(*directories)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert words in result.stderr


def test_a_summary_is_json_without_what_json_has_not(tmp_path, measurement):
    space = for_mode(default_space("static"), "static").sized(phi=2)
    statistics = ["mean", "R-hat"]
    table = az.convert_to_dataset({name: np.ones((1, 1)) for name in space}).rename(
        {"chain": "statistic"}
    ).squeeze("draw", drop=True)  # fmt: skip
    table = table.reindex(statistic=[0, 1]).assign_coords(statistic=statistics)
    found = summarised(
        {"mode": "static"}, measurement, space, table, None, ["it diverged"],
        LeftOut((1.0, 2.0), np.inf), ([Whiteness(0, 0.0)] * 2, "residuals are white"),
    )  # fmt: skip
    write_summary(str(tmp_path / "a.json"), found)
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert read == found
    assert read["parameters"]["D0"] == {"unit": "Å²/s", "mean": 1.0, "R-hat": None}
    assert read["left_out_frames"]["k_hat"] is None
    assert read["converged"] is False
    assert read["data"]["frames"] == 12
