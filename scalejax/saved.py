"""Coordinates and the report of their calibration in one file, and back.

An .npz file: every array as it is, and the rest as JSON. What is read is data alone: no code is
named in it or run. It knows nothing of what coordinates there are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from scalejax.bounds import KINDS, Kind
from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.coordinates import AbstractCoordinates
from scalejax.files import replacing
from scalejax.groups import Group

FORMAT = 1


def save(
    path: str | os.PathLike[str], coordinates: AbstractCoordinates, report: Report | None = None
) -> None:
    """Write coordinates, and perhaps the report of their calibration, whole or not at all.

    **Raises** `ValueError` for coordinates that hold what is neither an array, a number, a text
    nor other coordinates; `OSError` where the file cannot be written.

    Examples:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling, Whitened
        >>> from scalejax.saved import load, save
        >>> coordinates = Whitened(Scaling(0.0, 1.0, -5.0, 5.0), 0.5, 2 * jnp.eye(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/coordinates.npz", coordinates)
        ...     found, report = load(f"{folder}/coordinates.npz")
        >>> bool((found.to_original(jnp.ones(1)) == coordinates.to_original(jnp.ones(1))).all())
        True
    """
    arrays: list[np.ndarray] = []
    head = {"format": FORMAT, "coordinates": _encoded(coordinates, arrays), "report": None}
    if report is not None:
        head["report"] = asdict(report)
    named: Any = {f"array_{i}": array for i, array in enumerate(arrays)}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, head=np.array(json.dumps(head)), **named)


def load(
    path: str | os.PathLike[str], *, kinds: Iterable[Kind] = ()
) -> tuple[AbstractCoordinates, Report | None]:
    """Coordinates as they were saved, bit for bit, and the report of their calibration or None.

    `kinds` are kinds of bounds of your own, where the coordinates have any; classes of your own are
    known once they are imported. In single precision, arrays of double precision are rounded.

    **Raises** `ValueError` for a file that is none of these, or names what is not known; `OSError`
    for one that cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            arrays = {name: file[name] for name in file.files}
        if head["format"] != FORMAT:
            raise ValueError(f"it has format {head['format']}, and this version reads {FORMAT}")
        known = {_name_of(cls): cls for cls in _below(AbstractCoordinates)}
        records = {**KINDS, **{kind.name: kind for kind in kinds}}
        coordinates = _decoded(head["coordinates"], arrays, known, records)
        return coordinates, None if head["report"] is None else _report(head["report"])
    except OSError:
        raise
    except Exception as error:  # of a damaged file zipfile and JSON raise whatever they come upon
        raise ValueError(f"{path}: no coordinates that can be read ({error})") from None


def _encoded(value: Any, arrays: list[np.ndarray]) -> Any:
    """As JSON, with arrays by their place in a list."""
    if isinstance(value, jax.Array | np.ndarray):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, Kind):
        return {"kind": value.name}
    if isinstance(value, Group):
        return {"group": [_encoded(part, arrays) for part in value]}
    if isinstance(value, AbstractCoordinates):
        parts = {
            field.name: _encoded(getattr(value, field.name), arrays) for field in fields(value)
        }
        return {"coordinates": _name_of(type(value)), "fields": parts}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_encoded(part, arrays) for part in value]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(
        f"expected coordinates of arrays, numbers, texts and other coordinates; got {value!r}"
    )


def _decoded(value: Any, arrays: dict, known: dict, kinds: dict) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return jnp.asarray(arrays[f"array_{value['array']}"])
    if "kind" in value:
        if value["kind"] not in kinds:
            raise ValueError(f"the kind of bounds {value['kind']!r} is not known: give it in kinds")
        return kinds[value["kind"]]
    if "coordinates" not in value:
        ((name, parts),) = value.items()
        made = [_decoded(part, arrays, known, kinds) for part in parts]
        return {"group": lambda parts: Group(*parts), "tuple": tuple, "list": list}[name](made)
    if value["coordinates"] not in known:
        raise ValueError(f"the coordinates {value['coordinates']} are not known: import them first")
    cls = known[value["coordinates"]]
    found = object.__new__(cls)
    for name, part in value["fields"].items():
        object.__setattr__(found, name, _decoded(part, arrays, known, kinds))
    return found


def _report(given: dict[str, Any]) -> Report:
    """Lists of JSON are tuples of a report."""
    found = {name: _tupled(value) for name, value in given.items()}
    return Report(**{**found, "kind": CoordinatesKind(found["kind"])})


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _below(cls: type[eqx.Module]) -> Iterator[type]:
    """All classes that derive from one."""
    for derived in cls.__subclasses__():
        yield derived
        yield from _below(derived)


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
