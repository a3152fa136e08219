"""Where a search begins: the result of a fit by least squares, as homodyne and xpcsjax write it.

It is a start and nothing else: a prior from the same data would count them twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from scalejax.space import ParameterSpace
from scalejax.xpcs.config import load_config
from scalejax.xpcs.parameters import UNITS


def started(space: ParameterSpace, path: str | PathLike[str]) -> ParameterSpace:
    """A sized space with the values of a result as its initial ones.

    The file is JSON or YAML: `parameters`, or all of it, maps names to numbers, lists of one number
    an angle, or mappings with `value` (or `mean`, as in a summary.json); or `parameters` is a list
    beside `parameter_names`. Uncertainties are not used. Parameters of other models, and those that
    are fixed, are left out.

    **Raises** `ValueError` for a name that is no parameter of any model, a value that is no number
    or out of bounds, a list of another length than there are angles, and a file without a value for
    any free parameter; `OSError` for one that cannot be read.
    """
    values = _values(load_config(path), path)
    found = {}
    for name, value in values.items():
        if name not in space and name not in UNITS:
            raise ValueError(f"{path}: {name!r} is no parameter; expected {', '.join(space)}")
        if name in space and not space[name].pinned and value is not None:
            found[name] = replace(space[name], initial=_initial(space, name, value, path))
    if not found:
        raise ValueError(f"{path}: no value for any of {', '.join(space)}")
    return ParameterSpace({**space, **found}).sized(**space.sizes)


def _values(content: Mapping[str, Any], path: Any) -> Mapping[str, Any]:
    given = content.get("parameters", content)
    if isinstance(given, (list, tuple)):
        names = content.get("parameter_names")
        if not isinstance(names, (list, tuple)) or len(names) != len(given):
            raise ValueError(
                f"{path}: parameters is a list of {len(given)}: expected as many parameter_names"
            )
        given = dict(zip(map(str, names), given, strict=True))
    if not isinstance(given, Mapping):
        raise ValueError(f"{path}: parameters: expected a mapping of names to values")
    return {str(name): _value(entry) for name, entry in given.items()}


def _value(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return entry.get("value", entry.get("mean"))
    return entry


def _initial(space: ParameterSpace, name: str, value: Any, path: Any) -> float | tuple[float, ...]:
    parameter = space[name]
    size = space.sizes.get(parameter.dim or "")
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path}: {name}: expected a number, or one for each angle") from None
    if numbers.ndim > 1 or (numbers.ndim == 1 and numbers.shape != (size,)):
        expected = "one number" if size is None else f"one number, or {size} of them"
        raise ValueError(f"{path}: {name}: expected {expected}; got shape {numbers.shape}")
    for number in numbers.ravel():
        if not parameter.low <= number <= parameter.high:
            raise ValueError(
                f"{path}: {name}: expected a value within [{parameter.low}, {parameter.high}]; got "
                f"{number}"
            )
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)
