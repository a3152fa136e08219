"""Measurements as beamlines write them: what is in a file, and the matrices of some q.

HDF5 of the APS, before and after its upgrade, as boost_corr and others write it, and the .npz that
homodyne keeps. It knows no model and no configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from scalejax.xpcs.correlation import Experiment
from scalejax.xpcs.inputs import Measurement, checked_c2

SAME_Q = 0.01
"""q of one ring of a detector may differ by this part of them, from angle to angle."""

_APS_U = ("xpcs/twotime/correlation_map", "xpcs/qmap/dynamic_v_list_dim0")
_APS = ("exchange/C2T_all", "xpcs/dqlist")
_CACHE = ("c2_exp", "t1", "wavevector_q_list", "phi_angles_list")
# Where a file says how far frames are apart (s), and of how many each is made.
_PERIODS = (
    "entry/instrument/detector_1/frame_time",
    "measurement/instrument/detector/exposure_period",
)
_STEPS = (
    ("xpcs/twotime/config/stride_frame", "xpcs/twotime/config/avg_frame"),
    ("xpcs/multitau/config/stride_frame", "xpcs/multitau/config/avg_frame"),
    ("xpcs/stride_frames", "xpcs/avg_frames"),
)


@dataclass(frozen=True)
class Contents:
    """What is in a file of two-time correlations: one matrix for each q and angle."""

    path: str
    layout: str
    """In words."""
    q: np.ndarray
    """Of each matrix, 1/Å."""
    phi: np.ndarray
    """Of each matrix, in degrees."""
    frames: int
    frame_time: float | None
    """Seconds from frame to frame; None where the file does not say."""
    names: tuple[str, ...]
    """Where each matrix is."""

    @property
    def rings(self) -> np.ndarray:
        """The q that there are, each once, those of one ring being one."""
        found: list[float] = []
        for q in np.sort(self.q):
            if not found or q > found[-1] * (1 + SAME_Q):
                found.append(float(q))
        return np.array(found)

    def any_angle(self, q: float | Sequence[float] | None, ranges) -> bool:
        """Whether at any of these q there is an angle in any of the ranges."""
        wanted = [None] if q is None else np.atleast_1d(np.asarray(q, float)).tolist()
        return any(_within(phi, ranges) for one in wanted for phi in self.phi[self.at(one)])

    def at(self, q: float | None, phi_ranges: Sequence[tuple[float, float]] = ()) -> np.ndarray:
        """Which matrices are of the ring nearest to q, and of these angles, by angle.

        A range goes from its first angle on to its second, so (170, −170) has 180° in it.

        **Raises** `ValueError` for a q that is not given where there are several, or is not near
        any of them, and ranges without an angle, with what there is.
        """
        rings = self.rings
        if q is None:
            if len(rings) > 1:
                raise ValueError(
                    f"{self.path}: expected which q (--q); the file has {_shown(rings)} 1/Å"
                )
            q = float(rings[0])
        nearest = float(self.q[np.argmin(np.abs(self.q - q))])
        if not 0.5 * q <= nearest <= 2 * q:
            raise ValueError(f"{self.path}: no q near {q:g}; the file has {_shown(rings)} 1/Å")
        ring = np.flatnonzero(np.abs(self.q - nearest) <= SAME_Q * nearest)
        # Of an angle that is there twice, the one with the q that was meant.
        ring = ring[np.argsort(np.abs(self.q[ring] - q), kind="stable")]
        _, first = np.unique(self.phi[ring], return_index=True)
        ring = ring[first]
        inside = np.array([_within(angle, phi_ranges) for angle in self.phi[ring]], bool)
        if not inside.any():
            raise ValueError(
                f"{self.path}: no angle at q = {nearest:g} 1/Å is in {_ranges(phi_ranges)}; there "
                f"are {_shown(self.phi[ring])}°"
            )
        return ring[inside]


def contents(path: str | PathLike[str]) -> Contents:
    """What is in a file, found by what is in it and not by its name; no matrix is read.

    **Raises** `ValueError` for a file of no known layout, and a group that is missing or of another
    shape, naming it; `OSError` for a file that cannot be opened.
    """
    with _opened(path) as (file, kind):
        return _contents(file, kind, path)


def read_beamline(
    path: str | PathLike[str],
    *,
    q: float | Sequence[float] | None = None,
    phi_ranges: Sequence[tuple[float, float]] = (),
    frames: tuple[int, int | None] = (1, None),
    thin: int = 1,
    frame_time: float | None = None,
    gap: float | None = None,
) -> Measurement:
    """The measurement at a q, or at several, of the angles that were asked for.

    `frames` are the first and the last, counted from 1, both included; of these each `thin`-th is
    taken, and t is 0 at the first. `frame_time`, in seconds, stands in for what the file says. Of a
    matrix one triangle is used, and not the diagonal, where shot noise is. With several q there are
    as many rows for each as it has angles. `gap` (Å) is what only a shear needs, and no file has.

    **Raises** `ValueError` for what is not there, naming group and value, frames that are not in
    the file, a frame time that nobody states, and matrices that are no numbers.
    """
    with _opened(path) as (file, kind):
        found = _contents(file, kind, path)
        wanted = [None] if q is None else np.atleast_1d(np.asarray(q, float)).tolist()
        chosen = [found.at(one, phi_ranges) for one in wanted]
        places = np.concatenate(chosen)
        if len(set(places.tolist())) < len(places):
            raise ValueError(f"{path}: two of the q asked for, {_shown(np.array(q))}, are one ring")
        first, last = frames
        last = found.frames if last is None else last
        if not (1 <= first <= last <= found.frames) or thin < 1 or (last - first) // thin < 2:
            raise ValueError(
                f"{path}: expected at least three of the frames 1 to {found.frames}; got {first} "
                f"to {last}, each {thin}-th"
            )
        step = found.frame_time if frame_time is None else frame_time
        if step is None:
            raise ValueError(
                f"{path}: it does not say how far frames are apart: give it, in seconds, as "
                "--frame-time, or as analyzer_parameters.dt of a configuration"
            )
        part = slice(first - 1, last, thin)
        t = step * thin * np.arange(len(range(*part.indices(found.frames))))
        of_row = found.q[places]
        rings = [np.full(len(some), found.q[some].mean()) for some in chosen]
        mean_q = np.concatenate(rings) if len(chosen) > 1 else float(of_row.mean())
        experiment = Experiment(
            t=t, phi=found.phi[places], q=mean_q, gap=1.0 if gap is None else gap
        )
        i, j = experiment.pairs
        rows = np.empty((len(places), len(i)))
        for row, place in enumerate(places):
            matrices = file["c2_exp"] if kind == "cache" else file
            key = place if kind == "cache" else found.names[place]
            rows[row] = _triangle(matrices, key, found.names[place], part, (i, j), path)
    checked_c2(rows, path, lambda k, p: f"{found.names[places[k]]}[{i[p]}, {j[p]}]")
    return Measurement(experiment, rows)


def _triangle(matrices, key, name, part, pairs, path) -> np.ndarray:
    """The values at t1 < t2 of a half matrix, upper or lower, or a symmetric one."""
    try:
        matrix = np.asarray(matrices[key][part, part], float)
    except MemoryError:
        raise ValueError(
            f"{path}: {name} is too large for the memory there is: give --frames or --thin"
        ) from None
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        hint = " (pip install hdf5plugin)" if "filter" in str(error) else ""
        raise ValueError(f"{path}: {name} cannot be read{hint}: {_line(error)}") from None
    i, j = pairs
    upper, lower = matrix[i, j], matrix[j, i]
    if not upper.any():
        return lower
    if not lower.any() or np.allclose(upper, lower, rtol=1e-5, equal_nan=True):
        return upper
    raise ValueError(f"{path}: {name} is neither half a matrix nor a symmetric one")


def is_beamline(path: str | PathLike[str]) -> bool:
    """Whether a file is HDF5 or a cache of homodyne, and none with scalejax's own arrays."""
    import h5py

    with contextlib.suppress(Exception):
        if h5py.is_hdf5(path):
            return True
        with np.load(path, allow_pickle=False) as file:
            return "c2_exp" in file.files
    return False


# --- layouts ---


@contextlib.contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[tuple[Any, str]]:
    """The file and its kind; of a cache its matrices, and its other arrays beside them."""
    with open(path, "rb") as raw:  # what cannot be opened is an OSError
        start = raw.read(8)
    if start.startswith(b"PK"):
        with _cache(path) as arrays:
            yield arrays, "cache"
        return
    import h5py

    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{path}: expected HDF5 or an .npz file; it can be read as none ({_line(error)})"
        ) from None
    try:
        with file:
            kinds = {"APS-U": _APS_U[0], "APS": _APS[0]}
            kind = next((kind for kind, name in kinds.items() if name in file), None)
            if kind is None:
                raise ValueError(
                    f"{path}: an HDF5 file of no known layout: expected {_APS_U[0]} (APS-U), or "
                    f"{_APS[0]} (the APS before); it has {', '.join(_names(file)) or 'nothing'}"
                )
            yield file, kind
    # What HDF5 comes upon in a damaged file, at whatever is asked of it.
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: it cannot be read: {_line(error)}") from None


@contextlib.contextmanager
def _cache(path) -> Iterator[dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _CACHE if name not in file.files]
            arrays = {} if missing else {name: file[name] for name in _CACHE}
    except Exception as error:
        # Of a damaged file NumPy, zipfile and zlib raise whatever they come upon.
        raise ValueError(f"{path}: not a readable .npz file of numbers ({error})") from None
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; expected {', '.join(_CACHE)}")
    yield arrays


def _contents(file: Any, kind: str, path: Any) -> Contents:
    made: dict[str, Callable[..., Contents]] = {
        "APS-U": _of_aps_u, "APS": _of_aps, "cache": _of_cache,
    }  # fmt: skip
    found = made[kind](file, str(path))
    for name, values in (("q", found.q), ("phi", found.phi)):
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} must be finite; got {_shown(values)}")
    if not len(found.q):
        raise ValueError(f"{path}: it has no correlation matrix")
    if not (found.q > 0).all():
        raise ValueError(f"{path}: q must be positive; got {_shown(found.q)}")
    return found


def _of_aps_u(file: Any, path: str) -> Contents:
    q, phi = (_vector(file, f"xpcs/qmap/dynamic_v_list_dim{k}", path) for k in (0, 1))
    bins = _vector(file, "xpcs/twotime/processed_bins", path)
    if not len(bins) or (bins != np.round(bins)).any():
        raise ValueError(f"{path}: xpcs/twotime/processed_bins must be whole numbers")
    if bins.min() < 1 or bins.max() > len(q) * len(phi):
        raise ValueError(
            f"{path}: xpcs/twotime/processed_bins must be from 1 to {len(q)} q × {len(phi)} angles;"
            f" got {bins.min():g} to {bins.max():g}"
        )
    places = bins.astype(int) - 1
    group, base = _group(file, _APS_U[0], path), _APS_U[0]
    names = [f"c2_{place + 1:05d}" for place in places]
    if any(name not in group for name in names):
        names = _names(group)  # numbered in the order of the bins
    if len(names) != len(bins):
        raise ValueError(
            f"{path}: {base} has {len(names)} matrices, and processed_bins {len(bins)}: which is "
            "which is not known"
        )
    return _made(
        file, path, "APS-U", q[places // len(phi)], phi[places % len(phi)],
        [f"{base}/{name}" for name in names],
    )  # fmt: skip


def _of_aps(file: Any, path: str) -> Contents:
    q, phi = (_vector(file, name, path) for name in ("xpcs/dqlist", "xpcs/dphilist"))
    names = _names(_group(file, _APS[0], path))
    if not len(q) == len(phi) == len(names):
        raise ValueError(
            f"{path}: expected as many q, angles and matrices; got {len(q)} in xpcs/dqlist, "
            f"{len(phi)} in xpcs/dphilist and {len(names)} in {_APS[0]}"
        )
    full = [f"{_APS[0]}/{name}" for name in names]
    return _made(file, path, "APS, before its upgrade", q, phi, full)


def _of_cache(file: Any, path: str) -> Contents:
    arrays = {}
    for name in _CACHE:
        if file[name].dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name} must hold numbers; got dtype {file[name].dtype}")
        arrays[name] = file[name]
    c2, t = arrays["c2_exp"], np.asarray(arrays["t1"], float)
    t = t[:, 0] if t.ndim == 2 and t.shape[0] > 1 and t[0, 0] != t[-1, 0] else np.atleast_2d(t)[0]
    if c2.ndim != 3 or c2.shape[1] != c2.shape[2] or len(t) != c2.shape[1]:
        raise ValueError(
            f"{path}: expected c2_exp of shape (n, n_t, n_t) and t1 of n_t times; got "
            f"{c2.shape} and {arrays['t1'].shape}"
        )
    steps = np.diff(t)
    if not len(steps) or not (steps > 0).all() or np.ptp(steps) > 1e-6 * steps.mean():
        raise ValueError(f"{path}: t1 must increase in equal steps")
    q, phi = (np.ravel(arrays[k]).astype(float) for k in ("wavevector_q_list", "phi_angles_list"))
    if len(q) == 1:
        q = np.full(len(phi), q[0])
    if not len(q) == len(phi) == len(c2):
        raise ValueError(
            f"{path}: expected as many q, angles and matrices; got {len(q)} in wavevector_q_list, "
            f"{len(phi)} in phi_angles_list and {len(c2)} in c2_exp"
        )
    names = tuple(f"c2_exp[{k}]" for k in range(len(c2)))
    return Contents(path, "cache of homodyne", q, phi, len(t), float(steps.mean()), names)


def _made(file, path, layout, q, phi, names) -> Contents:
    """With the frames, which all matrices have in common."""
    shapes: dict[str, tuple[int, ...]] = {name: getattr(file[name], "shape", ()) for name in names}
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[0] != shape[1] or shape != shapes[names[0]]:
            raise ValueError(
                f"{path}: expected square matrices of one size; {names[0]} is of shape "
                f"{shapes[names[0]]}, and {name} of {shape}"
            )
        if file[name].dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name} must hold numbers; got dtype {file[name].dtype}")
    frames = shapes[names[0]][0]
    return Contents(path, layout, q, phi, frames, _frame_time(file, path), tuple(names))


def _frame_time(file: Any, path: str) -> float | None:
    period = next((name for name in _PERIODS if name in file), None)
    if period is None:
        return None
    time = _scalar(file, period, path)
    for pair in _STEPS:
        if any(name in file for name in pair):
            for name in pair:
                time *= _scalar(file, name, path) if name in file else 1.0
            break
    return time


def _scalar(file: Any, name: str, path: str) -> float:
    values = _vector(file, name, path)
    if len(values) != 1 or not 0 < values[0] < np.inf:
        raise ValueError(f"{path}: {name} must be one positive number; got {_shown(values)}")
    return float(values[0])


def _vector(file: Any, name: str, path: str) -> np.ndarray:
    """Some numbers, of shape (), (n,) or (1, n)."""
    try:
        values = np.asarray(file[name][()])
    except KeyError:
        raise ValueError(f"{path}: missing {name}") from None
    except (OSError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise ValueError(f"{path}: {name} cannot be read: {_line(error)}") from None
    if values.dtype.kind not in "fiu" or values.ndim > 2 or (values.ndim == 2 and 1 not in
                                                             values.shape):  # fmt: skip
        raise ValueError(
            f"{path}: {name} must hold numbers, of shape (n,) or (1, n); got {values.dtype} of "
            f"shape {values.shape}"
        )
    return np.ravel(values).astype(float)


def _group(file: Any, name: str, path: str) -> Any:
    import h5py

    if not isinstance(file[name], h5py.Group):
        raise ValueError(f"{path}: {name} must be a group of matrices; it is a dataset")
    if not len(file[name]):
        raise ValueError(f"{path}: {name} is empty")
    return file[name]


def _names(group: Any) -> list[str]:
    """In order; of a damaged file some may be no text."""
    return sorted(map(str, group))


def _within(angle: float, ranges: Sequence[tuple[float, float]]) -> bool:
    """On a circle, its ends included, with what is left of rounding."""
    return not ranges or any(
        (angle - first + 1e-9) % 360 <= (last - first) % 360 + 2e-9 or last - first >= 360
        for first, last in ranges
    )


def _ranges(ranges: Sequence[tuple[float, float]]) -> str:
    return " or ".join(f"{first:g}° to {last:g}°" for first, last in ranges)


def _shown(values: np.ndarray, most: int = 12) -> str:
    """A few numbers, in order, or the first and last of many."""
    shown = [f"{value:.4g}" for value in np.unique(np.ravel(values))]
    if len(shown) > most:
        shown = [*shown[: most - 2], "…", shown[-1]]
    return ", ".join(shown)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
