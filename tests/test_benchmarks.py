"""What all benchmarks share: limits, tables, and a run that takes up where another was cut off."""

import json
import sys
from types import SimpleNamespace

import jax
import pytest

from benchmarks import Limit, __main__, limits_table, markdown


def test_limits():
    assert Limit("x", 3.0, ">=", 2.5).held
    assert not Limit("x", 3.0, "<=", 2.5).held
    assert Limit("x", 1.0, "<=", 1.0).to_dict()["held"] is True
    table = limits_table([Limit("times", 3.0, "<=", 2.5)])
    assert table.splitlines()[2] == "| times | 3 | ≤ 2.5 | **not held** |"


def test_markdown():
    assert markdown(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A benchmark of three tasks, the second of which fails until it is mended."""
    calls, broken = [], [True]

    def measure(label):
        calls.append(label)
        if label == "b" and broken[0]:
            raise RuntimeError("cut off")
        return [{"label": label, "seconds": float(len(calls))}]

    module = SimpleNamespace(
        DEVICES=jax.config.jax_num_cpu_devices,
        tasks=lambda quick: [(label, lambda label=label: measure(label)) for label in "abc"],
        table=lambda rows: markdown(["label"], [[row["label"]] for row in rows]),
        limits=lambda rows: [Limit("tasks", len(rows), ">=", 3)],
    )
    monkeypatch.setitem(sys.modules, "benchmarks.fake", module)
    monkeypatch.setattr(__main__, "GENERATED", tmp_path)
    return SimpleNamespace(calls=calls, broken=broken, path=tmp_path)


def test_a_run_that_was_cut_off_is_resumed(fake, capsys):
    rows = fake.path / "rows.json"
    with pytest.raises(RuntimeError, match="cut off"):
        __main__.run("fake", rows, resume=False, quick=False)
    assert [json.loads(line)["task"] for line in rows.read_text().splitlines()] == ["a"]
    fake.broken[0] = False
    __main__.run("fake", rows, resume=True, quick=False)
    assert fake.calls == ["a", "b", "b", "c"]
    *measured, limit = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [entry["row"]["seconds"] for entry in measured] == [1.0, 3.0, 4.0]
    assert limit["limit"]["held"]
    written = (fake.path / "fake.md").read_text()
    assert "| a |\n| b |\n| c |" in written
    assert "| tasks | 3 | ≥ 3 | held |" in written
    assert written in capsys.readouterr().out


def test_a_quick_run_writes_no_page(fake):
    fake.broken[0] = False
    __main__.run("fake", None, resume=False, quick=True)
    assert not (fake.path / "fake.md").exists()
