"""A fit that is cut off, and one of several processes, from the outside."""

import os
import random
import socket
import subprocess
import sys
import time

import arviz as az
import numpy as np
import pytest

from tests.xpcs.test_cli import run

COMMAND = [sys.executable, "-c", "from scalejax.xpcs.cli import app; app()", "fit", "--n-phi", "2",
           "--no-progress"]  # fmt: skip


def begun(output, *options):
    """The command in a process of its own, with as many devices as it asks for."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [*COMMAND, "--output", str(output), *map(str, options)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def draws(output):
    return az.from_netcdf(output / "posterior.nc")


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    """At two random moments of sampling: the same draws, bit for bit."""
    sampling = "--chains", 2, "--warmup", 200, "--samples", 1500
    begin = time.monotonic()
    ended(begun(tmp_path / "whole", *sampling))
    whole, want = time.monotonic() - begin, draws(tmp_path / "whole")
    generator, output, options = random.Random(0), tmp_path / "killed", []
    for _ in range(2):
        process = begun(output, *sampling, *options)
        state = output / "run" / "2-chains" / "state.npz"
        known = state.stat().st_mtime if state.exists() else 0
        while process.poll() is None:  # from when there is something to go on from
            if state.exists() and state.stat().st_mtime > known:
                break
            time.sleep(0.02)
        time.sleep(generator.uniform(0, whole / 10))
        process.kill()
        process.communicate()
        options = ["--resume"]
    assert "Going on after" in ended(begun(output, *sampling, "--resume"))
    found = draws(output)
    for group in ("posterior", "sample_stats"):
        for name in want[group].data_vars:
            np.testing.assert_array_equal(found[group][name].values, want[group][name].values)


@pytest.mark.slow
def test_two_processes(tmp_path):
    """The draws of one, to a millionth of their sd; one that dies ends the other with a line."""
    sampling = "--chains", 2, "--warmup", 200, "--samples", 100
    ended(begun(tmp_path / "one", *sampling))
    want = draws(tmp_path / "one")["posterior"]
    together = [begun(tmp_path / "two", *sampling, *of) for of in processes(2)]
    first, second = map(ended, together)
    assert "Converged" in first or "Warning" in first
    assert "Calibration" not in second
    found = draws(tmp_path / "two")["posterior"]
    for name in want.data_vars:
        sd = want[name].std(("chain", "draw"))
        assert float((np.abs(found[name] - want[name]) / sd).max()) < 1e-6, name

    long = "--chains", 2, "--warmup", 200, "--samples", 100000
    left, dead = (begun(tmp_path / "three", *long, *of) for of in processes(2))
    while not (tmp_path / "three" / "run" / "2-chains" / "state.npz").exists():
        assert left.poll() is None
        time.sleep(0.1)
    dead.kill()
    dead.communicate()
    output, _ = left.communicate()
    assert left.returncode == 1
    assert "another process has ended" in output.splitlines()[-1]


def processes(count):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for i in range(count):
        yield "--coordinator", f"localhost:{port}", "--processes", count, "--process-id", i


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--coordinator", "localhost:1"], "expected all three"),
        (["--processes", "2"], "expected all three"),
        (["--coordinator", "localhost:1", "--processes", "2", "--process-id", "2"],
         "expected one from 0 to 1"),
        (["--resume"], "has no run to resume"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, options, words):
    result = run("--n-phi", 1, "--output", tmp_path, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert len(result.output.splitlines()) == 1


@pytest.mark.slow
def test_another_fit_is_not_gone_on_with(tmp_path):
    """Of other data, or other priors: one line, and the run stays as it is."""
    options = ["--n-phi", 2, "--chains", 1, "--warmup", 10, "--samples", 4, "--output", tmp_path,
               "--no-progress", "--calibrate", "none"]  # fmt: skip
    assert run(*options).exit_code == 0
    before = sorted((path, path.stat().st_mtime) for path in (tmp_path / "run").rglob("*"))
    for other, words in (
        (["--seed", 1], "data (SHA-256) was"),
        (["--prior", "normal"], "prior was declared, and is normal"),
        (["--rule", "homodyne"], "rule was matched, and is homodyne"),
    ):
        result = run(*options, *other, "--resume")
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())
    after = sorted((path, path.stat().st_mtime) for path in (tmp_path / "run").rglob("*"))
    assert after == before
    assert run(*options, "--resume").exit_code == 0
