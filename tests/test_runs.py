"""Sampling to a directory: what is there at any moment, and going on from it."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray
from numpyro.infer import NUTS

from scalejax.runs import Run, sample_to


def model():
    x = numpyro.sample("x", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.deterministic("twice", 2 * x)
    numpyro.sample("sd", dist.HalfNormal(1))


class Stopped(Exception):
    """In place of a signal."""


def sample(directory, *, stop_at=None, **options):
    def told(chunk):
        if stop_at is not None and chunk.done >= stop_at:
            raise Stopped

    options = {"chains": 2, "warmup": 30, "samples": 45, "size": 10, "dims": {"x": ["axis"]},
               "settings": {"data": "of today"}, **options}  # fmt: skip
    return sample_to(directory, NUTS(model), jax.random.key(0), told=told, **options)


def same(one, other):
    for group in ("posterior", "sample_stats"):
        assert set(one[group].data_vars) == set(other[group].data_vars)
        for name in one[group].data_vars:
            np.testing.assert_array_equal(one[group][name].values, other[group][name].values)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "run")


def test_what_is_kept(whole):
    posterior = whole["posterior"]
    assert posterior["x"].dims == ("chain", "draw", "axis")
    assert posterior["x"].shape == (2, 45, 3)
    assert posterior["sd"].shape == (2, 45)
    assert (posterior["sd"].values > 0).all()
    np.testing.assert_array_equal(posterior["twice"], 2 * posterior["x"])
    assert {"diverging", "n_steps", "acceptance_rate", "lp"} <= set(whole["sample_stats"].data_vars)
    assert np.isfinite(posterior["x"]).all()


@pytest.mark.parametrize("stop_at", [10, 50])
def test_going_on(whole, tmp_path, stop_at):
    """In the warmup, and after it."""
    with pytest.raises(Stopped):
        sample(tmp_path / "run", stop_at=stop_at)
    store = tmp_path / "run" / "draws.zarr"
    if stop_at == 50:  # as ArviZ finds it while it is being written
        tree = xarray.open_datatree(store, engine="zarr", consolidated=False)
        assert tree.attrs["drawn"] == 20
        assert int(np.isfinite(tree["posterior"]["sd"]).sum()) == 2 * 20
    same(sample(tmp_path / "run", resume=True), whole)
    same(sample(tmp_path / "run", resume=True), whole)


def test_draws_without_their_state_are_drawn_again(whole, tmp_path):
    """As where a run is cut off between the one and the other."""
    with pytest.raises(Stopped):
        sample(tmp_path / "run", stop_at=50)
    state = (tmp_path / "run" / "state.npz").read_bytes()
    with pytest.raises(Stopped):
        sample(tmp_path / "run", stop_at=60, resume=True)
    (tmp_path / "run" / "state.npz").write_bytes(state)
    same(sample(tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"settings": {"data": "of tomorrow"}}, "data was of today, and is of tomorrow"),
        ({"settings": {}}, "data was of today, and is nothing"),
        ({"samples": 50}, "samples was 45, and is 50"),
        ({"chains": 4}, "chains was 2, and is 4"),
        ({"resume": False}, "has a run already"),
    ],
)
def test_something_else_is_refused(tmp_path, options, words):
    Run.begun(
        tmp_path / "run",
        {"data": "of today", "chains": "2", "warmup": "30", "samples": "45", "size": "10",
         "key": "[0, 0]"},
        draws=45, size=10,
    )  # fmt: skip
    with pytest.raises(ValueError, match=words):
        sample(tmp_path / "run", **{"resume": True, **options})


def test_no_run_to_resume(tmp_path):
    with pytest.raises(ValueError, match="has no run to resume"):
        sample(tmp_path / "run", resume=True)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        sample(tmp_path, resume=True)


def test_other_versions_are_refused(tmp_path, monkeypatch):
    Run.begun(tmp_path, {}, draws=1, size=1)
    monkeypatch.setattr("scalejax.runs.__version__", "99")
    with pytest.raises(ValueError, match=r"version of scalejax was .*, and is 99"):
        Run.begun(tmp_path, {}, draws=1, size=1, resume=True)
