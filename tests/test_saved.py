"""Coordinates written to a file and read again, and files that are none."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalejax import (
    AbstractLayer,
    Group,
    NestedLaplace,
    Reflected,
    Scaling,
    Whitened,
    WhitenedLowRank,
)
from scalejax.bounds import KINDS, Kind
from scalejax.calibrate import CoordinatesKind, Report
from scalejax.saved import load, save

SIZE = 4


def layered(dtype):
    """Every layer on top of every kind of bounds."""
    scaling = Scaling(
        jnp.asarray([0.3, 2.0, -1.0, 0.5], dtype), jnp.asarray(0.1, dtype),
        [0.0, 1.0, -jnp.inf, 0.5], [1.0, jnp.inf, jnp.inf, 0.5],
        groups=[Group("a", 3, "phi"), Group("b")],
    )  # fmt: skip
    key = jax.random.key(0)
    factor = jnp.tril(jax.random.normal(key, (SIZE, SIZE), dtype)) / 3 + jnp.eye(SIZE, dtype=dtype)
    factor = factor.at[jnp.diag_indices(SIZE)].set(1.5)
    found = Whitened(scaling, jnp.arange(4.0, dtype=dtype) / 7, factor)
    found = WhitenedLowRank(found, 0.1, jnp.full(SIZE, 0.3, dtype))
    found = Reflected(found, jnp.asarray([0.6, 0.0, 0.0, -0.8], dtype))
    u = np.linspace(-3, 3, 9)
    return NestedLaplace(found, along=1, reach=3.0, point=u + 0.1 * np.sin(u),
                         mean=np.outer(u, [0.1, 0.2, 0.3]) ** 2,
                         log_width=np.outer(u, [0.3, 0.2, 0.1]))  # fmt: skip


REPORT = Report(
    CoordinatesKind.NESTED, 123, k_hat=0.31, starts=(2, 64), mode=(0.1, -0.2), along=("a_0",),
    bends=("the rest bends",), modes=((0.1, -0.2), (3.0, 4.0)), doubts=("ß",),
)  # fmt: skip


def test_every_bit(dtype, tmp_path):
    coordinates = layered(dtype)
    save(tmp_path / "c.npz", coordinates, REPORT)
    found, report = load(tmp_path / "c.npz")
    assert str(report) == str(REPORT)
    assert set(vars(report)) == set(vars(REPORT))
    for name, value in vars(REPORT).items():
        assert repr(vars(report)[name]) == repr(value), name  # which NaN is that of NaN as well
    assert jax.tree.structure(found) == jax.tree.structure(coordinates)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(coordinates), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    z = jax.random.normal(jax.random.key(1), (3, SIZE), dtype)
    np.testing.assert_array_equal(found.to_original(z), coordinates.to_original(z))
    assert list(tmp_path.iterdir()) == [tmp_path / "c.npz"]


def test_without_a_report(tmp_path):
    save(tmp_path / "c.npz", Scaling(0.0, 1.0, -1.0, 1.0))
    assert load(tmp_path / "c.npz")[1] is None


class Shifted(AbstractLayer):
    base: AbstractLayer
    by: jax.Array
    how: object = None

    def to_base_and_log_det(self, z):
        return z + self.by, jnp.zeros(z.shape[:-1])

    def from_base(self, z):
        return z - self.by


def test_what_is_of_ones_own(tmp_path):
    """A class that has been imported is known; a kind of bounds is given."""
    path = tmp_path / "c.npz"
    save(path, Shifted(layered("float32"), jnp.ones(SIZE)))
    assert isinstance(load(path)[0], Shifted)
    kind = Kind(**{**vars(KINDS["log_interval"]), "name": "mine"})
    save(path, Scaling(1.0, 1.0, 0.5, 2.0, groups=[Group("a", kind=kind)]))
    with pytest.raises(ValueError, match="'mine' is not known: give it in kinds"):
        load(path)
    assert load(path, kinds=[kind])[0].groups[0].kind is kind
    with pytest.raises(ValueError, match="expected coordinates of arrays"):
        save(path, Shifted(layered("float32"), jnp.ones(SIZE), how=print))
    assert load(path, kinds=[kind])[0].groups[0].kind is kind  # what was there is there still


@given(data=st.data())
def test_a_damaged_file_is_one_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    save(folder / "c.npz", layered("float32"), REPORT)
    whole = bytearray((folder / "c.npz").read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for _ in range(data.draw(st.integers(0, 5))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "d.npz").write_bytes(whole)
    said = str(folder)
    try:
        load(folder / "d.npz")
    except ValueError as error:
        said = str(error)
    assert str(folder) in said


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"format": 99, "coordinates": {}, "report": None}, "has format 99"),
        ({"format": 1, "coordinates": {"coordinates": "os.system", "fields": {}},
          "report": None}, "os.system are not known"),
        ({}, "format"),
    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path, head, words):
    np.savez(tmp_path / "c.npz", head=np.array(json.dumps(head)))
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "c.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
