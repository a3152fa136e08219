"""Broken files, signals, full disks and odd terminals: one line, or results that survive."""

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray
import yaml
import zarr

from scalejax import Parameter, ParameterSpace
from scalejax.xpcs import default_config, read_space
from scalejax.xpcs.config import read_mode, read_simulation
from scalejax.xpcs.inputs import read_measurement
from scalejax.xpcs.parameters import for_mode
from scalejax.xpcs.results import FILES, Results
from scalejax.xpcs.tables import posterior_table
from tests.xpcs.test_cli import run
from tests.xpcs.test_inputs import write

# 361 bytes of YAML that stand for more numbers than a memory holds.
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)


def with_(config, path, value):
    config = copy.deepcopy(config)
    entry = config
    for key in path[:-1]:
        entry = entry[key] if isinstance(entry, list) else entry.setdefault(key, {})
    entry[path[-1]] = value
    return config


BOUNDS = ("parameter_space", "bounds")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("simulation",), [1], "simulation: expected a mapping; got [1]"),
        (("simulation", "frames"), None, "simulation.frames: expected a number; got nothing"),
        (("simulation", "frames"), "many", "simulation.frames: expected a number; got 'many'"),
        (("simulation", "frames"), 2, "simulation.frames: expected a whole number from 3 on"),
        (("simulation", "angles"), 1.5, "simulation.angles: expected a whole number from 1 on"),
        (("simulation", "frame"), 10, "simulation: cannot honour frame"),
        (("simulation", "truth", "D0"), [1], "simulation.truth.D0: expected a number; got [1]"),
        (("simulation", "truth", "D1"), 1.0, "simulation.truth: cannot honour D1"),
        ((*BOUNDS, 2, "max"), 10**400, "'D0': max: expected a number; got 1000"),
        ((*BOUNDS, 2, "type"), ["Normal"], "'D0': type: expected one of TruncatedNormal"),
        ((*BOUNDS, 2, "unit"), ["m"], "'D0': unit: expected a text; got ['m']"),
        ((*BOUNDS, 2, "name"), ["D0"], "bounds[2]: name must be a string; got ['D0']"),
        (("initial_parameters",), {"active_parameters": [["D0"]]}, "no parameter ['D0'] in"),
    ],
)
def test_a_broken_entry_is_one_line(path, value, message, tmp_path):
    file = tmp_path / "config.yaml"
    config = with_(default_config("static"), path, value)
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    refused(file, tmp_path, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BOMB}\nparameter_space: *a8", "parameter_space: expected a mapping; got [[["),
        (f"{BOMB}\nanalysis_mode: *a8", "analysis_mode: expected a text; got [[["),
        (
            f"{BOMB}\nparameter_space:\n  bounds: [{{name: D0, min: *a8, max: 1}}]",
            "'D0': min: expected a number; got [[[",
        ),
        ("a: " + "[" * 5000 + "]" * 5000, "not a readable YAML file: maximum recursion"),
        ("\x00\x01", "not a readable YAML file"),
        ("a:\n\t- b", "not a readable YAML file"),
    ],
)
def test_a_broken_file_is_one_line(text, message, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    refused(file, tmp_path, message)


def refused(file, tmp_path, message):
    result = run("--config", file, "--output", tmp_path / "out")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert message in line
    assert len(line) < 500


def test_numbers_as_yaml_writes_them():
    config = {"simulation": {"frames": "4e1", "truth": {"D0": "3e3"}}}
    simulation = read_simulation(config, "static")
    assert (simulation.frames, simulation.truth["D0"]) == (40, 3000.0)


def test_a_mode_that_is_missing():
    sheared = default_config("laminar_flow")
    sheared.pop("analysis_mode", None)
    with pytest.raises(ValueError, match="analysis_mode: missing, and the file has gamma_dot_t0"):
        read_mode(sheared)
    static = default_config("static")
    static.pop("analysis_mode", None)
    assert read_mode(static) == "static"


def test_a_noise_that_may_be_negative_is_refused():
    space = read_space(default_config("static"))
    with pytest.raises(ValueError, match="'sigma': a standard deviation has bounds from 0 on"):
        for_mode(ParameterSpace(space, sigma=Parameter(-1, 1)), "static")


def test_where_everything_is_fixed():
    space = read_space(default_config("static"))
    pinned = {name: Parameter(p.high, p.high, dim=p.dim) for name, p in space.items()}
    with pytest.raises(ValueError, match="every parameter is fixed: there is nothing to fit"):
        for_mode(ParameterSpace(pinned, sigma=Parameter(0.01, 0.01)), "static")


def test_damaged_measurements(tmp_path):
    """Cut off, or with bytes changed, anywhere: a ValueError that names the file, or the data."""
    whole = write(tmp_path / "good.npz").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.npz"
    for i in range(200):
        damaged = bytearray(whole)
        if i % 2:
            damaged = damaged[: rng.integers(len(whole))]
        for _ in range(rng.integers(1, 30) if not i % 2 else 0):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        # What is left may be whole, where only a name in the archive was hit that is not looked at.
        with contextlib.suppress(ValueError):
            read_measurement(path)
    path.write_text("t,c2\n1,2\n")
    with pytest.raises(ValueError, match=r"not a readable \.npz file of numbers"):
        read_measurement(path)


def test_what_is_not_used_may_be_anything(tmp_path):
    rng = np.random.default_rng(0)
    c2 = 1 + 0.01 * rng.normal(size=(2, 5, 5))
    c2[:, np.tril_indices(5)[0], np.tril_indices(5)[1]] = np.nan
    read_measurement(write(tmp_path / "data.npz", c2=c2))
    for constant in (np.ones((2, 5, 5)), np.ones((2, 5, 5), int)):
        with pytest.raises(ValueError, match="c2 is 1 for every pair t1 < t2: nothing to fit"):
            read_measurement(write(tmp_path / "data.npz", c2=constant))


def test_a_directory_in_the_way(tmp_path):
    (tmp_path / "posterior.nc").mkdir()
    result = run("--output", tmp_path)
    assert result.exit_code == 2
    assert "posterior.nc is a directory there" in result.stderr


def test_a_seed_that_is_too_large(tmp_path):
    assert run("--seed", 2**64, "--output", tmp_path).exit_code == 2


def test_what_cannot_be_written_is_said_and_the_rest_is(tmp_path, capsys):
    def full(path):
        raise OSError(28, "No space left on device")

    output = tmp_path / "[red]"  # a name that rich would take for a colour
    output.mkdir()
    results = Results(output)
    results.write("posterior.nc", full)
    results.write("fit.png", lambda path: Path(path).write_text("here"))
    assert (results.lost, results.written) == (["posterior.nc"], ["fit.png"])
    assert [path.name for path in output.iterdir()] == ["fit.png"]
    said = "".join(capsys.readouterr().out.split())  # wherever lines are broken
    assert "[red]/posterior.nc:Nospaceleftondevice" in said


@pytest.mark.parametrize("size", [1e-300, 1e-12, 1.0, 1e12, 1e300])
def test_a_table_keeps_its_names_whatever_the_numbers(size, capsys):
    names = ["mean", "sd", "5 %", "95 %", "ESS", "R-hat"]
    figures = [3 * size, size, 2 * size, 4 * size, 400.0, 1.001]
    table = xarray.Dataset({"D_offset": ("statistic", figures)}, coords={"statistic": names})
    space = ParameterSpace(D_offset=Parameter(-1, 1, unit="[red]Å²/s"))
    measurement = type("M", (), {"truth": None})()
    Results(".").say(posterior_table(table, space, measurement))
    output = capsys.readouterr().out
    assert "D_offset" in output
    assert "[red]" in output


FIT = ["fit", "--n-phi", "1", "--chains", "2", "--calibrate", "none", "--no-progress"]
SHORT = ["--warmup", "20", "--samples", "10"]


def started(*args, **options):
    command = [sys.executable, "-c", "from scalejax.xpcs.cli import app; app()", *FIT, *args]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options)


def drawn(store):
    """How many draws of each chain are on disk."""
    try:
        return zarr.open_group(store, mode="r").attrs["drawn"]
    except (OSError, KeyError):
        return 0


@pytest.mark.slow
def test_a_reader_that_goes_away(tmp_path):
    process = started(*SHORT, "--output", str(tmp_path), stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(300) == 0, process.stderr.read()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FILES, "run"])


@pytest.mark.slow
def test_a_terminal_without_the_letters(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    process = started(*SHORT, "--output", str(tmp_path), env=environment, stdout=subprocess.DEVNULL)
    assert process.wait(300) == 0, process.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize(("chains", "bar"), [(2, "--no-progress"), (4, "--progress")])
def test_an_interruption_ends_it_at_once(chains, bar, tmp_path):
    """With status 130, while sampling runs, and what was drawn is saved; in 5 s, as promised."""
    process = started("--chains", str(chains), bar, "--warmup", "20", "--samples", "2000000",
                      "--output", str(tmp_path), stdout=subprocess.PIPE)  # fmt: skip
    while "NUTS with" not in process.stdout.readline():
        assert process.poll() is None
    while not drawn(tmp_path / "run" / "1-chains" / "draws.zarr"):
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(2)  # in the middle of what comes next
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert "Interrupted" in process.stderr.read()
    result = xarray.open_dataset(tmp_path / "posterior.nc", group="posterior")
    assert result.sizes["chain"] == chains
    assert result.sizes["draw"] >= 50
    assert np.isfinite(result["D0"]).all()
