"""The reading of configuration files, entry by entry."""

import copy

import pytest
import yaml

from scalejax import Parameter, Prior
from scalejax.xpcs import default_config, read_space


@pytest.fixture
def config():
    return default_config("laminar_flow")


def test_from_config(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    space = read_space(path)
    assert space == read_space(config)
    assert list(space) == [entry["name"] for entry in config["parameter_space"]["bounds"]]
    assert space["contrast"] == Parameter(
        0.0, 1.0, 0.27, 0.15, dim="phi", prior_low=0.0, prior_high=1.0
    )
    assert space["D0"] == Parameter(100.0, 1e5, 1000.0, 1000.0, unit="Å²/s")
    assert space.get_bounds("gamma_dot_t0") == (1e-6, 0.5)
    assert space.initial == {}


def test_a_prior_narrower_than_its_bounds():
    space = read_space(default_config("static"))
    assert space.get_bounds("contrast") == (0.0, 1.0)
    assert space.get_prior("contrast") == Prior("TruncatedNormal", 0.06, 0.05, 0.0, 0.5)


def test_initial_fixed_and_active(config):
    config["initial_parameters"] = {
        "parameter_names": ["D0", "alpha", "beta"],
        "values": [2000.0, "0.5", 0.1],
        "per_angle_scaling": {"contrast": [0.2, 0.3], "offset": None},
        "units": ["Å²/s", "", ""],
        "active_parameters": ["D0", "gamma_dot_t0", "phi0", "gamma_dot_t_offset"],
        "fixed_parameters": {"D_offset": 0.0},
    }
    space = read_space(config)
    assert space.initial == {"contrast": (0.2, 0.3), "D0": 2000.0}
    assert {name: p.low for name, p in space.items() if p.pinned} == {
        "alpha": 0.5,
        "beta": 0.1,
        "D_offset": 0.0,
    }


def test_all_families(config):
    for family in ("TruncatedNormal", "Normal", "BetaScaled"):
        config["parameter_space"]["bounds"][3]["type"] = family
        assert read_space(config)["alpha"].family == family
    config["parameter_space"]["priors"]["offset"] = {"dist_type": "Uniform"}
    config["parameter_space"]["priors"]["contrast"] = {
        "dist_type": "LogNormal", "mu": -1.5, "sigma": 0.5,
    }  # fmt: skip
    space = read_space(config)
    assert space.get_prior("offset") == Prior("Uniform", None, None, 0.5, 1.5)
    assert space.get_prior("contrast") == Prior("LogNormal", -1.5, 0.5, 0.0, 1.0)


def test_what_stands_elsewhere_is_not_looked_at(config):
    wanted = read_space(config)
    config |= {"optimization": {"method": "magic"}, "output": None, "parameter_count": -1}
    assert read_space(config) == wanted


def replaced(config, path, value):
    config = copy.deepcopy(config)
    *parents, last = path
    entry = config
    for key in parents:
        entry = entry.setdefault(key, {}) if isinstance(entry, dict) else entry[key]
    entry[last] = value
    return config


space_ = "parameter_space"
initial = "initial_parameters"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ([space_], None, "parameter_space: expected a mapping; got nothing"),
        ([space_, "bounds"], None, "parameter_space.bounds: expected a list; got nothing"),
        ([space_, "bounds", 0], 3, r"parameter_space.bounds\[0\]: expected a mapping; got 3"),
        ([space_, "bounds", 0, "name"], None, r"bounds\[0\]: name must be a string; got nothing"),
        ([space_, "bounds", 1, "name"], "contrast", "bounds: 'contrast' is there twice"),
        ([space_, "bounds", 2, "min"], None, "'D0': min: expected a number; got nothing"),
        ([space_, "bounds", 2, "max"], "wide", "'D0': max: expected a number; got 'wide'"),
        ([space_, "bounds", 2, "max"], True, "'D0': max: expected a number; got True"),
        ([space_, "bounds", 2, "max"], 1.0, "parameter 'D0': low must not exceed high"),
        ([space_, "bounds", 2, "type"], "Cauchy", "'D0': type: expected one of .* got 'Cauchy'"),
        ([space_, "bounds", 2, "log_space"], True, "'D0': cannot honour log_space"),
        ([space_, "bounds", 2, "prior_sigma"], -1.0, "parameter 'D0': sigma must be positive"),
        ([space_, "coupling"], {}, "parameter_space: cannot honour coupling"),
        ([space_, "priors", "D0"], {"mu": 1.0}, "priors.D0: .*declares a prior of this one as"),
        ([space_, "priors", "D1"], {}, "priors.D1: no parameter 'D1' in parameter_space.bounds"),
        ([space_, "priors", "offset"], {"alpha": 2}, "priors.offset: cannot honour alpha"),
        ([initial, "values"], [1.0], "parameter_names: expected a list; got nothing"),
        ([initial, "fixed_parameters"], {"D1": 1.0}, "fixed_parameters.D1: no parameter 'D1'"),
        ([initial, "fixed_parameters"], {"D0": 1.0}, r"D0: expected a value within \[100.0, 1000"),
        ([initial, "fixed_parameters"], {"D0": None}, "D0: expected a number; got nothing"),
        ([initial, "active_parameters"], ["D0"], "leaves out 'alpha', and nothing says what to"),
        ([initial, "active_parameters"], ["D1"], "active_parameters: no parameter 'D1'"),
        ([initial, "per_angle_scaling"], {"D0": [1.0]}, "D0: this parameter does not vary with"),
        ([initial, "frozen"], ["D0"], "initial_parameters: cannot honour frozen"),
    ],
)
def test_config_errors(config, path, value, message):
    with pytest.raises(ValueError, match=message):
        read_space(replaced(config, path, value))


def test_values_must_match_names(config):
    config[initial] = {"parameter_names": ["D0", "alpha"], "values": [1000.0]}
    with pytest.raises(ValueError, match="2 parameter_names but 1 values"):
        read_space(config)


def test_fixed_and_active_at_once(config):
    config[initial] = {"active_parameters": ["D0"], "fixed_parameters": {"D0": 1000.0}}
    with pytest.raises(ValueError, match="'D0' is in fixed_parameters as well"):
        read_space(config)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_space(tmp_path / "none.yaml")
    path = tmp_path / "config.yaml"
    path.write_text("a: [1, 2", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml is not a readable YAML file"):
        read_space(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml: expected a mapping; got nothing"):
        read_space(path)
