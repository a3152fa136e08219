"""Results of least squares as a start of the search."""

import json

import pytest
import yaml

from scalejax import ParameterSpace
from scalejax.xpcs import default_space, for_mode
from scalejax.xpcs.start import started

SPACE = for_mode(default_space("static"), "static").sized(phi=2)
RESULT = {
    "D0": {"value": 2500.0, "uncertainty": 30.0},
    "alpha": {"value": -1.1, "uncertainty": None},
    "contrast": {"value": 0.05, "uncertainty": 0.01},
}


def written(path, content, dump=json.dumps):
    path.write_text(dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
@pytest.mark.parametrize(
    "content",
    [
        {"timestamp": "2026", "analysis_mode": "static", "parameters": RESULT},
        RESULT,
        {"parameters": {"D0": 2500.0, "alpha": -1.1, "contrast": 0.05, "gamma_dot_t0": 0.1}},
        {"parameters": [2500.0, -1.1, 0.05], "parameter_names": ["D0", "alpha", "contrast"]},
        {"parameters": {"D0": {"mean": 2500.0, "sd": 3.0}, "alpha": -1.1, "contrast": 0.05}},
    ],
)
def test_every_way_of_saying_it(tmp_path, content, dump):
    found = started(SPACE, written(tmp_path / "a", content, dump))
    assert found.initial == {"D0": 2500.0, "alpha": -1.1, "contrast": 0.05}
    assert found.sizes == {"phi": 2}
    assert found.get_prior("D0") == SPACE.get_prior("D0")  # a start, and never a prior


def test_one_for_each_angle_and_what_is_fixed(tmp_path):
    held = ParameterSpace({**SPACE, "alpha": SPACE["D_offset"].__class__(-1.0, -1.0)}).sized(phi=2)
    path = written(tmp_path / "a", {"contrast": [0.05, 0.06], "alpha": -1.2})
    assert started(held, path).initial == {"contrast": (0.05, 0.06)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"D_0": 1.0}, "'D_0' is no parameter; expected contrast, offset"),
        ({"D0": "many"}, "D0: expected a number"),
        ({"D0": [1.0, 2.0]}, "D0: expected one number; got shape"),
        ({"contrast": [0.1] * 3}, "contrast: expected one number, or 2 of them; got shape"),
        ({"D0": 1.0}, r"D0: expected a value within \[100.0, 100000.0\]; got 1.0"),
        ({"D0": float("nan")}, "D0: expected a value within"),
        ({"parameters": [1.0]}, "as many parameter_names"),
        ({"parameters": 3}, "expected a mapping"),
        ({"gamma_dot_t0": 0.1}, "no value for any of"),
        ({}, "no value for any of"),
        ([1.0], "expected a mapping"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        started(SPACE, written(tmp_path / "a", content))
