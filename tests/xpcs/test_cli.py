"""`scalejax fit` from the outside: what it writes, prints and refuses."""

import io
import json
import re
from types import SimpleNamespace

import arviz as az
import numpy as np
import pytest
import xarray
import yaml
from rich.console import Console
from typer.testing import CliRunner

from scalejax import Parameter, ParameterSpace
from scalejax.calibrate import CoordinatesKind, Report
from scalejax.diagnostics.chains import concerns, summary
from scalejax.sampling import Sampling
from scalejax.xpcs import default_config
from scalejax.xpcs.cli import app
from scalejax.xpcs.results import FILES
from scalejax.xpcs.tables import posterior_table
from tests.xpcs.test_inputs import write

WRITTEN = sorted([*FILES, "run"])
SHORT = ["--chains", "2", "--warmup", "300", "--samples", "200", "--no-progress"]


def run(*args, command="fit"):
    return CliRunner().invoke(app, [command, *map(str, args)])


@pytest.mark.slow
def test_a_fit_of_simulated_data(tmp_path):
    """What it says, what it writes, and how calibration settles how to sample."""
    output = tmp_path / "fit"
    result = run("--n-phi", 2, "--output", output, "--chains", 2, "--no-progress")
    assert result.exit_code == 0, result.output
    settled_by_calibration(result, output, "least-squares")
    assert "static model, 2 angles × 780 pairs of frames (simulated)" in result.output
    for row in ("contrast 0°", "offset 90°", "D0 (Å²/s)", "alpha", "D_offset (Å²/s)", "sigma"):
        assert row in result.output
    assert re.search(r"^ *(Converged|Not converged)", result.output, re.MULTILINE)
    assert sorted(p.name for p in output.iterdir()) == WRITTEN
    for picture in ("fit.png", "marginals.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")

    result = az.from_netcdf(output / "posterior.nc")
    posterior = result["posterior"]
    assert posterior["contrast"].dims == ("chain", "draw", "phi")
    np.testing.assert_allclose(posterior["phi"], [0.0, 90.0])
    assert posterior["theta_z"].dims == ("chain", "draw", "parameter")
    assert list(posterior["parameter"].values)[-1] == "sigma"
    assert result.attrs["mode"] == "static"
    # D0 = 3000 in truth; ten posterior standard deviations, which is no statistical test.
    draws = posterior["D0"]
    assert abs(draws.mean() - 3000) < 10 * draws.std()
    assert "diverging" in result["sample_stats"]


def test_a_narrow_terminal_takes_no_figure_away():
    """In 80 columns, for the longest name there is: the name goes on in another line."""
    names = ["mean", "sd", "5 %", "95 %", "ESS", "R-hat"]
    figures = [0.000523, 0.000113, 0.000321, 0.000694, 626.0, 1.0012]
    table = xarray.Dataset(
        {"gamma_dot_t_offset": ("statistic", figures)}, coords={"statistic": names}
    )
    space = ParameterSpace(gamma_dot_t_offset=Parameter(-0.1, 0.1, unit="s⁻¹"))
    measurement = SimpleNamespace(truth={"gamma_dot_t_offset": np.float64(0.00052345)})
    console = Console(width=80, file=io.StringIO())
    console.print(posterior_table(table, space, measurement))
    output = console.file.getvalue()
    for text in ("0.00052", "0.00011", "0.00032", "0.00069", "626", "1.001", "0.00052345"):
        assert text in output
    assert "…" not in output
    folded = "".join(line[:20].strip() for line in output.splitlines()[4:])
    assert "gamma_dot_t_offset" in folded


@pytest.mark.slow
def test_a_fit_of_given_data(tmp_path):
    """A configuration with initial and fixed values, and data from a file."""
    i, j = np.triu_indices(20, k=1)
    t = np.arange(20) * 0.001
    decay = np.exp(-0.1 * (j - i))
    c2 = np.ones((1, 20, 20))
    noise = np.random.default_rng(0).normal(0, 0.003, i.size)
    c2[0, i, j] += 0.06 * decay + noise
    write(tmp_path / "data.npz", c2=c2, phi=np.zeros(1), t=t)
    config = default_config("static")
    config["initial_parameters"] = {
        "parameter_names": ["D0", "D_offset"],
        "values": [2000.0, 10.0],
        "per_angle_scaling": {"contrast": [0.05], "offset": None},
        "fixed_parameters": {"alpha": 0.0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = run("--config", tmp_path / "config.yaml", "--data", tmp_path / "data.npz",
                 "--output", tmp_path / "out", "--rule", "homodyne", "--calibrate", "none",
                 *SHORT)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "(measured)" in result.output
    assert "truth" not in result.output
    assert re.search(r"alpha +0 +fixed", result.output)


def settled_by_calibration(result, output, how):
    """Where it is good, 300 draws of warmup are enough."""
    # Of a fit that is next to exact there is no k̂ to tell.
    assert re.search(f"Calibration by {how}: nested calibration; (k̂ = 0|efficiency 0.9)",
                     result.output)  # fmt: skip
    assert "2 chains of 300 + 1000 draws" in result.output
    # The chains agree. Whether one draw in two thousand diverges is a matter of rounding.
    assert "R-hat exceeds" not in result.output
    attributes = az.from_netcdf(output / "posterior.nc").attrs
    assert attributes["calibration"].startswith("nested calibration")


@pytest.mark.slow
def test_a_fit_calibrated_by_its_density(tmp_path):
    result = run("--n-phi", 2, "--output", tmp_path, "--calibrate", "laplace", "--chains", 2,
                 "--no-progress")  # fmt: skip
    settled_by_calibration(result, tmp_path, "laplace")


@pytest.mark.parametrize(
    ("report", "settled"),
    [
        (Report(CoordinatesKind.NESTED, 10, k_hat=0.5), (300, 0.98, False, False)),
        (Report(CoordinatesKind.NESTED, 10, k_hat=0.9), (1000, 0.98, False, True)),
        (Report(CoordinatesKind.DENSE, 10, k_hat=0.5), (300, 0.9, False, True)),
        (Report(CoordinatesKind.DENSE, 10, k_hat=0.9), (1000, 0.95, False, True)),
        (Report(CoordinatesKind.DIAGONAL, 10, k_hat=0.5), (1000, 0.95, True, True)),
        (Report(CoordinatesKind.NESTED, 10, k_hat=0.5, efficiency=0.8), (300, 0.98, False, False)),
        (Report(CoordinatesKind.DENSE, 10, k_hat=0.5, efficiency=0.8), (150, 0.8, False, False)),
        (Report(CoordinatesKind.NONE, 10), (1000, 0.9, True, True)),
        (None, (1000, 0.9, True, True)),
    ],
)
def test_what_is_left_open_is_settled(report, settled):
    found = Sampling().settled(report)
    assert (found.warmup, found.target_accept, found.dense_mass, found.adapt_mass) == settled
    asked = Sampling(chains=2, warmup=7, target_accept=0.6, dense_mass=True, adapt_mass=False)
    assert asked.settled(report) == asked


@pytest.mark.slow
def test_says_when_it_has_not_converged(tmp_path):
    result = run("--n-phi", 1, "--output", tmp_path, "--chains", 2, "--warmup", 3, "--samples", 20,
                 "--calibrate", "none",
                 "--no-progress")  # fmt: skip
    assert result.exit_code == 0
    assert "Warning: R-hat exceeds 1.01 for" in result.output.replace("\n", " ")
    assert "Not converged." in result.output


def test_chains_that_stand_still_have_not_converged():
    """Their R-hat is nan, which exceeds nothing."""
    still = {"D0": np.ones((2, 10))}
    result = az.from_dict(still, sample_stats={"diverging": np.zeros((2, 10), bool)})
    table = summary(result, ["D0"])
    assert list(table.data_vars) == ["D0"]
    (trouble,) = concerns(result, table)
    assert trouble.startswith("R-hat exceeds 1.01 for D0")


def refused(*args, command="fit"):
    result = run(*args, command=command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert result.stdout == ""
    return line


def test_refuses_bad_data(tmp_path):
    data, output = tmp_path / "data.npz", ["--output", tmp_path / "out"]
    assert "none.npz" in refused("--data", tmp_path / "none.npz", *output)
    assert "missing q" in refused("--data", write(data, q=None), *output)
    assert "q must be positive" in refused("--data", write(data, q=np.array(-1.0)), *output)
    assert "expected 3 angles, as --n-phi says; got 2" in refused(
        "--data", write(data), "--n-phi", 3, *output
    )
    c2 = np.ones((2, 5, 5))
    c2[0, 1, 2] = np.nan
    assert "c2[0, 1, 2] = nan" in refused("--data", write(data, c2=c2), *output)


def test_other_names_of_a_mode_are_known(tmp_path):
    """It comes as far as the angles, of which there are too few."""
    series = "--per-angle", "fourier", "--order", 5
    said = refused("--mode", "heterodyne", "--n-phi", 2, *series, "--output", tmp_path)
    assert "5 harmonics needs 11 angles; there are 2" in said


def test_refuses_bad_settings(tmp_path):
    output = ["--output", tmp_path / "out"]
    assert "none.yaml" in refused("--config", tmp_path / "none.yaml", *output)
    config = default_config("static")
    config["parameter_space"]["bounds"][2]["max"] = 1.0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert "parameter 'D0': low must not exceed high" in refused(
        "--config", tmp_path / "config.yaml", *output
    )
    config = default_config("static")
    config["initial_parameters"] = {"per_angle_scaling": {"contrast": [0.1, 0.1, 0.1]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert "contrast: expected 2 values, one an angle; got 3" in refused(
        "--config", tmp_path / "config.yaml", "--n-phi", 2, *output
    )
    assert "got 'turbulent'" in refused("--mode", "turbulent", *output)
    assert "--rule: expected one of matched, homodyne; got 'x'" in refused("--rule", "x", *output)
    assert "--sampler: expected one of nuts, importance, both; got 'x'" in refused(
        "--sampler", "x", *output
    )


def test_refuses_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write there" in refused("--output", tmp_path / "file")


# --- inspect ---


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    settings = default_config("laminar_flow")
    settings["initial_parameters"] = {"fixed_parameters": {"phi0": 1.5}}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.mark.parametrize("columns", [80, 200])
def test_inspect_shows_what_is_declared_and_what_is_made_of_it(config, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run(config, "--n-phi", 23, command="inspect")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= columns
    assert not any("…" in line for line in lines)
    assert sum("gamma_dot_t_offset" in line for line in lines) == (2 if columns == 80 else 1)
    assert re.search(r"contrast ×23 .*0 to 1 +0.27 ± 0.15 normal", result.output)
    assert re.search(r"D0 .*610.76 +1232.8 +2593.3", result.output)
    assert re.search(r"phi0 .*1.5 +fixed", result.output)
    assert re.search(r"Scales span \d\.\de\+0[5-7]", result.output)
    text = " ".join(result.output.split())
    assert "D0: z = 0 is at 12391.6, the declared prior's median at 1232.77" in text


def test_inspect_says_nothing_to_the_log(config, caplog):
    """Its table says what the rule distorts."""
    run(config, "--rule", "homodyne", command="inspect")
    assert not caplog.records


def test_inspect_for_programs(config):
    """Scaling's own numbers, and nothing but JSON on the way."""
    result = run(config, "--rule", "homodyne", "--json", command="inspect")
    found = json.loads(result.output)
    by_name = {row["name"]: row for row in found["parameters"]}
    assert (by_name["D0"]["center"], by_name["D0"]["scale"]) == (1000.0, 9990.0)
    assert by_name["D0"]["prior"]["family"] == "TruncatedNormal"
    np.testing.assert_allclose(by_name["D0"]["theta"][1], 12391.57, rtol=1e-6)
    scales = [row["scale"] for name, row in by_name.items() if name != "phi0"]
    np.testing.assert_allclose(found["span"], max(scales) / min(scales))


def test_inspect_draws(config, tmp_path):
    result = run(config, "--plot", tmp_path / "maps.png", command="inspect")
    assert result.exit_code == 0
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_refuses(config, tmp_path):
    assert "none.yaml" in refused(tmp_path / "none.yaml", command="inspect")
    assert "rule: expected one of" in refused(config, "--rule", "x", command="inspect")
    assert "No such file" in refused(config, "--plot", tmp_path / "no" / "a.png", command="inspect")
