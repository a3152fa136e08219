"""What a fit starts from: a measurement read and checked, or one simulated with known truth.

Everything wrong with an input is one ValueError that says what, where and what was expected.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from scalejax.space import Parameter, ParameterSpace
from scalejax.xpcs.config import read_simulation
from scalejax.xpcs.correlation import Experiment, simulate
from scalejax.xpcs.parameters import PER_ANGLE

_SHAPES = {"c2": "(n_phi, n_t, n_t)", "phi": "(n_phi,)", "t": "(n_t,)", "q": "()", "gap": "()"}


@dataclass(frozen=True)
class Measurement:
    """A measured c2 at the pairs t1 < t2, where and how it was measured, and the truth if known."""

    experiment: Experiment
    c2: np.ndarray  # (n_phi, n_pairs)
    truth: Mapping[str, np.ndarray] | None = None


def read_measurement(path: str | PathLike[str]) -> Measurement:
    """A measurement from an .npz file with `c2`, `phi` (°), `t` (s), `q` (1/Å) and `gap` (Å).

    c2 has shape (n_phi, n_t, n_t); only its upper triangle, t1 < t2, is used.

    **Raises** `ValueError` for an array that is missing, of another shape or not finite, frame
    times that are negative or do not increase, and a q or gap that is not positive; `OSError` for
    a file that cannot be read.
    """
    with open(path, "rb"):
        pass  # what cannot be opened is an OSError, and not a matter of its format
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array")
        with file:
            if missing := [name for name in _SHAPES if name not in file.files]:
                raise _Missing(", ".join(missing))
            arrays = {name: file[name] for name in _SHAPES}
    except _Missing as error:
        raise ValueError(
            f"{path}: missing {error}; expected the arrays {', '.join(_SHAPES)}"
        ) from None
    except Exception as error:
        # Of a damaged file NumPy, zipfile and zlib raise whatever they come upon.
        raise ValueError(f"{path}: not a readable .npz file of numbers ({error})") from None
    arrays = {name: _numbers(name, array, path) for name, array in arrays.items()}
    c2, phi, t, q, gap = arrays.values()
    n_phi, n_t = phi.size, t.size
    expected = {"c2": (n_phi, n_t, n_t), "phi": (n_phi,), "t": (n_t,), "q": (), "gap": ()}
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise ValueError(
                f"{path}: {name} must have shape {_SHAPES[name]}, here {expected[name]} from "
                f"{n_phi} angles in phi and {n_t} frames in t; got {array.shape}"
            )
    if n_phi < 1 or n_t < 3:
        raise ValueError(
            f"{path}: expected at least one angle and three frames; got {n_phi} and {n_t}"
        )
    if t[0] < 0 or not (np.diff(t) > 0).all():
        raise ValueError(f"{path}: t must increase from t[0] ≥ 0 s")
    for name, value in (("q", q), ("gap", gap)):
        if value <= 0:
            raise ValueError(f"{path}: {name} must be positive; got {value}")
    experiment = Experiment(t=t, phi=phi, q=q, gap=gap)
    i, j = experiment.pairs
    c2 = c2[:, i, j]
    checked_c2(c2, path, lambda angle, pair: f"c2[{angle}, {i[pair]}, {j[pair]}]")
    return Measurement(experiment, c2)


def checked_c2(
    c2: Float[np.ndarray, "n_phi n_pairs"], path: Any, name: Callable[[int, int], str]
) -> None:
    """**Raises** `ValueError` for values that are not finite, or all one; `name` is that of one."""
    if not (finite := np.isfinite(c2)).all():
        angle, pair = map(int, np.unravel_index(np.argmin(finite), c2.shape))
        raise ValueError(
            f"{path}: c2 must be finite for t1 < t2; {np.sum(~finite)} of its values are not, the "
            f"first being {name(angle, pair)} = {c2[angle, pair]}"
        )
    if not c2.std():
        raise ValueError(f"{path}: c2 is {c2.flat[0]:g} for every pair t1 < t2: nothing to fit")


class _Missing(Exception):
    """Names of arrays that are not there."""


def _numbers(name: str, array: np.ndarray, path: Any) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {name} must hold real numbers; got dtype {array.dtype}")
    array = array.astype(np.float64)
    if name in ("q", "gap") and array.size == 1:
        array = array.reshape(())
    # Of c2 one triangle is used, and what stands elsewhere does not matter.
    if name != "c2" and not (finite := np.isfinite(array)).all():
        where = np.unravel_index(np.argmin(finite), array.shape)
        at = f"[{', '.join(map(str, where))}]" if where else ""
        raise ValueError(
            f"{path}: {name} must be finite; {np.sum(~finite)} of its values are not, the first "
            f"being {name}{at} = {array[where]}"
        )
    return array


def simulate_measurement(
    config: Mapping[str, Any], space: ParameterSpace, mode: str, n_phi: int | None, seed: int
) -> Measurement:
    """A measurement simulated from a configuration's geometry and the truth of its `simulation`.

    A section or a true value that the configuration does not have is that of `default_config`. A
    pinned parameter is true at its value.

    **Raises** `ValueError` for geometry that is missing, and for a true value outside its bounds.
    """
    simulation = read_simulation(config, mode)
    truth = simulation.truth
    n_phi = simulation.angles if n_phi is None else n_phi
    n_t = simulation.frames
    if n_phi < 1:
        raise ValueError(f"expected at least one angle; got {n_phi}")
    values = {}
    for name, parameter in space.items():
        values[name] = _true(name, parameter, truth, n_phi)
    experiment = Experiment(
        t=np.arange(n_t) * _positive_entry(config, "analyzer_parameters", "dt"),
        phi=np.arange(n_phi) * 180.0 / n_phi,
        q=_positive_entry(config, "analyzer_parameters", "scattering", "wavevector_q"),
        gap=_positive_entry(config, "analyzer_parameters", "geometry", "stator_rotor_gap"),
    )
    c2 = simulate(jax.random.key(seed), values, experiment)
    i, j = experiment.pairs
    return Measurement(experiment, np.asarray(c2[:, i, j]), values)


def _true(name: str, parameter: Parameter, truth: Mapping[str, float], n_phi: int) -> np.ndarray:
    if parameter.fixed is not None:
        if len(parameter.fixed) != n_phi:
            raise ValueError(f"{name}: fixed at {len(parameter.fixed)} values, of {n_phi} angles")
        return np.array(parameter.fixed)
    value = parameter.low if parameter.pinned else truth[name]
    if not parameter.pinned and not parameter.low < value < parameter.high:
        raise ValueError(
            f"simulation.truth.{name}: expected a value inside ({parameter.low}, "
            f"{parameter.high}); got {value}"
        )
    return np.full(n_phi if name in PER_ANGLE else (), value, np.float64)


def _positive_entry(config: Mapping[str, Any], *path: str) -> float:
    value: Any = config
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 < number < float("inf"):
        shown = "nothing" if value is None else reprlib.repr(value)
        raise ValueError(f"{'.'.join(path)}: a simulation needs a positive number; got {shown}")
    return number
