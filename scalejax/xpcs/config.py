"""Configurations: homodyne's schema, read into a `ParameterSpace`, and the ones that stand in.

An entry that cannot be honoured is a ValueError that names it by its path in the file. A section
that nothing here reads is not looked at.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from scalejax.families import FAMILIES
from scalejax.space import Parameter, ParameterSpace
from scalejax.xpcs.parameters import (
    ALIASES,
    PER_ANGLE,
    PHYSICAL,
    SHEAR,
    TWO_COMPONENTS,
    check_mode,
)

_BOUNDS_KEYS = {"name", "min", "max", "type", "prior_mu", "prior_sigma", "unit"}
_PRIOR_KEYS = {"dist_type", "mu", "sigma", "min_val", "max_val"}
_INITIAL_KEYS = {
    "parameter_names",
    "values",
    "per_angle_scaling",
    "units",
    "active_parameters",
    "fixed_parameters",
}


def read_space(source: str | PathLike[str] | Mapping[str, Any]) -> ParameterSpace:
    """Read homodyne's configuration schema, from a YAML (or JSON) file or a mapping.

    It reads `parameter_space` (bounds and priors) and `initial_parameters` (values,
    per_angle_scaling, active_parameters, fixed_parameters) and nothing else. `contrast` and
    `offset` are vectors along `phi`. A prior from the section `priors` stands in for the one
    in `bounds`; its min_val and max_val restrict the prior, not the bounds. A parameter that
    is fixed, or not active, is pinned.

    **Raises** `ValueError` for an entry that cannot be honoured, naming it; `OSError` for a
    file that cannot be read; `ImportError` for a file where PyYAML (in the extra `cli`) is
    not installed.

    Examples:
        >>> from scalejax.xpcs import read_space
        >>> space = read_space({
        ...     "parameter_space": {"bounds": [
        ...         {"name": "D0", "min": 100, "max": 1e5, "prior_mu": 1e3, "prior_sigma": 1e3},
        ...         {"name": "alpha", "min": -2, "max": 2}]},
        ...     "initial_parameters": {"fixed_parameters": {"alpha": -1.2}}})
        >>> space["alpha"].pinned, space.get_bounds("alpha")
        (True, (-1.2, -1.2))
    """
    config = source if isinstance(source, Mapping) else load_config(source)
    return ParameterSpace(_read_parameters(config))


def read_mode(config: Mapping[str, Any]) -> str:
    """The mode that a configuration states, or `static` where nothing in it is of another.

    **Raises** `ValueError` for an `analysis_mode` that is no text, and for one that is missing
    where there are parameters of a shear.
    """
    mode = config.get("analysis_mode")
    if mode is not None:
        if not isinstance(mode, str):
            raise ValueError(f"analysis_mode: expected a text; got {_shown(mode)}")
        return ALIASES.get(mode, mode)
    space = config.get("parameter_space")
    bounds = space.get("bounds") if isinstance(space, Mapping) else None
    entries = bounds if isinstance(bounds, list | tuple) else []
    names = {
        e["name"] for e in entries if isinstance(e, Mapping) and isinstance(e.get("name"), str)
    }
    for mode, own in (("laminar_flow", SHEAR), ("two_component", TWO_COMPONENTS)):
        if found := [name for name in own if name in names]:
            raise ValueError(
                f"analysis_mode: missing, and the file has {', '.join(found)}: say {mode}, or "
                "static if they are not meant (or --mode)"
            )
    return "static"


def data_path(config: Mapping[str, Any], file: str | PathLike[str]) -> Path | None:
    """The file of data that a configuration, itself in `file`, names, if it names one.

    **Raises** `ValueError` for one that is not there.
    """
    entries = config.get("experimental_data")
    if entries is None:
        return None
    entries = _mapping(entries, "experimental_data")
    name = entries.get("file_path")
    if name is None and entries.get("data_file_name") is not None:
        folder = _text(entries.get("data_folder_path"), "experimental_data.data_folder_path")
        name = Path(folder) / _text(entries["data_file_name"], "experimental_data.data_file_name")
    if name is None:
        return None
    if not isinstance(name, str | Path):
        raise ValueError(f"experimental_data.file_path: expected a text; got {_shown(name)}")
    path = Path(file).parent / name
    if not path.exists():
        raise ValueError(
            f"experimental_data: {path} is not there: mend its path, say --data, or leave the "
            "section out to simulate"
        )
    return path


@dataclass(frozen=True)
class Analyzer:
    """What a configuration says of how a measurement was made; None where it says nothing."""

    q: float | None
    frame_time: float | None
    gap: float | None
    frames: tuple[int, int | None]
    thin: int


def read_analyzer(config: Mapping[str, Any]) -> Analyzer:
    """The section `analyzer_parameters`: dt, frames and which of them, q and gap.

    **Raises** `ValueError` for an entry that is no positive number, naming it.
    """
    base = "analyzer_parameters"
    entries = _mapping(config.get(base) or {}, base)

    def positive(section: Mapping[str, Any], key: str, where: str) -> float | None:
        number = _optional(section.get(key), f"{where}.{key}")
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"{where}.{key}: expected a positive number; got {number:g}")
        return number

    frames = []
    for key in ("start_frame", "end_frame", "frame_step"):
        # Up to frame −1 is up to the last, in homodyne's words.
        whole = key == "end_frame" and entries.get(key) == -1
        number = None if whole else positive(entries, key, base)
        if number is not None and not number.is_integer():
            raise ValueError(f"{base}.{key}: expected a whole number; got {number:g}")
        frames.append(None if number is None else int(number))
    scattering, geometry = (
        _mapping(entries.get(name) or {}, f"{base}.{name}") for name in ("scattering", "geometry")
    )
    return Analyzer(
        positive(scattering, "wavevector_q", f"{base}.scattering"),
        positive(entries, "dt", base),
        positive(geometry, "stator_rotor_gap", f"{base}.geometry"),
        (frames[0] or 1, frames[1]),
        frames[2] or 1,
    )


def read_phi_ranges(config: Mapping[str, Any]) -> tuple[list[tuple[float, float]], bool]:
    """Ranges of angles in `phi_filtering`, and whether all are meant where none is in any.

    A range goes from its first angle on to its second, so (170, −170) has 180° in it, and is
    `tolerance` degrees wider on either side. There are none where it is not enabled.

    **Raises** `ValueError` for a range without its two angles, and numbers that are none.
    """
    base = "phi_filtering"
    entries = _mapping(config.get(base) or {}, base)
    if not entries.get("enabled"):
        return [], False
    slack = _optional(entries.get("tolerance"), f"{base}.tolerance") or 0.0
    ranges = []
    for i, item in enumerate(_list(entries.get("target_ranges") or [], f"{base}.target_ranges")):
        where = f"{base}.target_ranges[{i}]"
        first, last = (
            _number(_mapping(item, where).get(key), f"{where}.{key}")
            for key in ("min_angle", "max_angle")
        )
        if not (slack >= 0 and math.isfinite(last - first + slack)):
            raise ValueError(
                f"{where}: expected finite angles and a tolerance from 0 on; got {first:g} to "
                f"{last:g}, and {slack:g}"
            )
        ranges.append((first - slack, last + slack))
    return ranges, bool(entries.get("fallback_to_all_angles"))


@dataclass(frozen=True)
class Simulation:
    """What to simulate: how many angles and frames, and the true values."""

    angles: int
    frames: int
    truth: dict[str, float]


def read_simulation(config: Mapping[str, Any], mode: str) -> Simulation:
    """The section `simulation` of a configuration; what it leaves out is that of `default_config`.

    **Raises** `ValueError` for an entry that cannot be honoured, naming it.
    """
    given = config.get("simulation")
    entries = _mapping({} if given is None else given, "simulation")
    _only(entries, {"angles", "frames", "truth"}, "simulation")
    default = default_config(mode)["simulation"]
    truth = entries.get("truth")
    truth = _mapping({} if truth is None else truth, "simulation.truth")
    known = {*default["truth"], *(n for names in PHYSICAL.values() for n in names)}
    _only(truth, known, "simulation.truth")
    values = {
        name: _number(value, f"simulation.truth.{name}")
        for name, value in {**default["truth"], **truth}.items()
    }
    counts = {}
    for name, least in (("angles", 1), ("frames", 3)):
        where = f"simulation.{name}"
        number = _number(entries.get(name, default[name]), where)
        if not number.is_integer() or number < least:
            raise ValueError(f"{where}: expected a whole number from {least} on; got {number:g}")
        counts[name] = int(number)
    return Simulation(**counts, truth=values)


def default_config(mode: str) -> dict:
    """The configuration that stands in where there is none, in homodyne's schema.

    **Raises** `ValueError` for a mode that there is not.
    """
    import yaml

    check_mode(mode)
    text = resources.files("scalejax.xpcs").joinpath(f"{mode}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def default_space(mode: str) -> ParameterSpace:
    """The bounds and priors of `default_config(mode)`."""
    return read_space(default_config(mode))


def load_config(path: str | PathLike[str]) -> Mapping[str, Any]:
    """The mapping in a YAML or JSON file."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            "reading a configuration file needs PyYAML: pip install 'scalejax[cli]'"
        ) from error
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable YAML file: {reason}") from None
    return _mapping(config, str(path))


def _read_parameters(config: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters of a configuration, in the order of `parameter_space.bounds`."""
    space = _mapping(config.get("parameter_space"), "parameter_space")
    _only(space, {"model", "bounds", "priors"}, "parameter_space")
    parameters: dict[str, Parameter] = {}
    entries = _list(space.get("bounds"), "parameter_space.bounds")
    for i, item in enumerate(entries):
        entry = _mapping(item, f"parameter_space.bounds[{i}]")
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"parameter_space.bounds[{i}]: name must be a string; got {_shown(name)}"
            )
        if name in parameters:
            raise ValueError(f"parameter_space.bounds: {name!r} is there twice")
        parameters[name] = _bounded(name, entry)
    for name, entry in _mapping(space.get("priors") or {}, "parameter_space.priors").items():
        where = f"parameter_space.priors.{name}"
        parameters[name] = _with_prior(_known(parameters, name, where), entry, where)
    initial = _mapping(config.get("initial_parameters") or {}, "initial_parameters")
    initial = {key: value for key, value in initial.items() if value is not None}
    if "tied_parameters" in initial:
        raise ValueError(
            "initial_parameters.tied_parameters: parameters cannot be tied to each other here; fix "
            "one of them in fixed_parameters, or leave both free"
        )
    _only(initial, _INITIAL_KEYS, "initial_parameters")
    return _pinned(_with_initial(parameters, initial), initial)


def _bounded(name: str, entry: Mapping[str, Any]) -> Parameter:
    where = f"parameter_space.bounds: {name!r}"
    _only(entry, _BOUNDS_KEYS, where)
    return Parameter(
        low=_number(entry.get("min"), f"{where}: min"),
        high=_number(entry.get("max"), f"{where}: max"),
        mu=_optional(entry.get("prior_mu"), f"{where}: prior_mu"),
        sigma=_optional(entry.get("prior_sigma"), f"{where}: prior_sigma"),
        family=_family(entry.get("type"), f"{where}: type"),
        dim="phi" if name in PER_ANGLE else None,
        unit=_text(entry.get("unit"), f"{where}: unit"),
    )


def _with_prior(parameter: Parameter, entry: Any, where: str) -> Parameter:
    entry = _mapping(entry, where)
    _only(entry, _PRIOR_KEYS, where)
    if parameter.mu is not None:
        raise ValueError(f"{where}: parameter_space.bounds declares a prior of this one as well")
    return replace(
        parameter,
        mu=_optional(entry.get("mu"), f"{where}.mu"),
        sigma=_optional(entry.get("sigma"), f"{where}.sigma"),
        family=_family(entry.get("dist_type"), f"{where}.dist_type"),
        prior_low=_optional(entry.get("min_val"), f"{where}.min_val"),
        prior_high=_optional(entry.get("max_val"), f"{where}.max_val"),
    )


def _with_initial(
    parameters: Mapping[str, Parameter], initial: Mapping[str, Any]
) -> dict[str, Parameter]:
    result = dict(parameters)
    if (values := initial.get("values")) is not None:
        names = _list(initial.get("parameter_names"), "initial_parameters.parameter_names")
        values = _list(values, "initial_parameters.values")
        if len(names) != len(values):
            raise ValueError(
                f"initial_parameters: {len(names)} parameter_names but {len(values)} values"
            )
        for name, value in zip(names, values, strict=True):
            where = f"initial_parameters.values: {name!r}"
            result[name] = replace(_known(result, name, where), initial=_number(value, where))
    per_angle = _mapping(
        initial.get("per_angle_scaling") or {}, "initial_parameters.per_angle_scaling"
    )
    for name, value in per_angle.items():
        where = f"initial_parameters.per_angle_scaling.{name}"
        parameter = _known(result, name, where)
        if parameter.dim is None:
            raise ValueError(f"{where}: this parameter does not vary with angle")
        if value is not None:
            start = tuple(_number(v, where) for v in _list(value, where))
            result[name] = replace(parameter, initial=start)
    return result


def _pinned(
    parameters: Mapping[str, Parameter], initial: Mapping[str, Any]
) -> dict[str, Parameter]:
    values = _fixed(parameters, initial)
    if (active := initial.get("active_parameters")) is not None:
        where = "initial_parameters.active_parameters"
        active = _list(active, where)
        for name in active:
            _known(parameters, name, where)
            if name in values:
                raise ValueError(f"{where}: {name!r} is in fixed_parameters as well")
        for name, parameter in parameters.items():
            if name in active or name in values or parameter.dim is not None:
                continue
            if not isinstance(parameter.initial, (int, float)):
                raise ValueError(
                    f"{where} leaves out {name!r}, and nothing says what to hold it at: give it a "
                    "value in initial_parameters.values or in fixed_parameters"
                )
            values[name] = parameter.initial
    pinned = {}
    for name, value in values.items():
        parameter = _known(parameters, name, f"initial_parameters.fixed_parameters.{name}")
        if isinstance(value, tuple):
            pinned[name] = replace(parameter, fixed=value, initial=None)
        else:
            pinned[name] = Parameter(value, value, dim=parameter.dim, unit=parameter.unit)
    return {**parameters, **pinned}


def _fixed(
    parameters: Mapping[str, Parameter], initial: Mapping[str, Any]
) -> dict[str, float | tuple[float, ...]]:
    """The values of `fixed_parameters`, each within its bounds: one, or one for each angle."""
    entries = initial.get("fixed_parameters") or {}
    values: dict[str, float | tuple[float, ...]] = {}
    for name, value in _mapping(entries, "initial_parameters.fixed_parameters").items():
        where = f"initial_parameters.fixed_parameters.{name}"
        parameter, several = _known(parameters, name, where), isinstance(value, (list, tuple))
        if several and parameter.dim is None:
            raise ValueError(f"{where}: this parameter does not vary with angle")
        numbers = tuple(_number(one, where) for one in (value if several else [value]))
        for number in numbers:
            if not parameter.low <= number <= parameter.high:
                raise ValueError(
                    f"{where}: expected a value within [{parameter.low}, {parameter.high}]; got "
                    f"{number}"
                )
        values[name] = numbers if several else numbers[0]
    return values


def _known(parameters: Mapping[str, Parameter], name: Any, where: str) -> Parameter:
    if not isinstance(name, str) or name not in parameters:
        raise ValueError(
            f"{where}: no parameter {_shown(name)} in parameter_space.bounds, which has "
            f"{', '.join(parameters)}"
        )
    return parameters[name]


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping; got {_shown(value)}")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: expected a list; got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    # Not by repr: a few hundred bytes of YAML aliases can stand for terabytes.
    return "nothing" if value is None else _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxdict = 2, 4, 4


def _only(entry: Mapping[str, Any], keys: set[str], where: str):
    if unknown := sorted(str(key) for key in entry if key not in keys):
        raise ValueError(
            f"{where}: cannot honour {', '.join(unknown)}; expected only {', '.join(sorted(keys))}"
        )


def _family(value: Any, where: str) -> str:
    if value is None:
        return "TruncatedNormal"
    if not isinstance(value, str) or value not in FAMILIES:
        raise ValueError(f"{where}: expected one of {', '.join(FAMILIES)}; got {_shown(value)}")
    return value


def _text(value: Any, where: str) -> str:
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{where}: expected a text; got {_shown(value)}")
    return "" if value is None else str(value)


def _optional(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _number(value: Any, where: str) -> float:
    # YAML 1.1 reads 1e-6, without a point, as a string.
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected a number; got {_shown(value)}") from None
