"""Sampling that can be cut off at any moment: draws on disk as they come, and the state to go on.

A run is a directory: `run.json` says what it is a run of, `draws.zarr` has the draws, in groups and
dimensions as ArviZ has them, and `state.npz` the sampler's state after the last of them. It knows
no model and no coordinates.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from numpyro.infer.mcmc import MCMCKernel

from scalejax import __version__
from scalejax.files import first_process, replacing, together
from scalejax.numpyro.chunks import Chunk, chunks

Groups = Mapping[str, Mapping[str, np.ndarray]]
"""Arrays of shape (chains, n, …), by ArviZ's group and their name."""

_STATS = {"num_steps": "n_steps", "accept_prob": "acceptance_rate", "potential_energy": "lp"}


def sample_to(
    directory: str | os.PathLike[str],
    kernel: MCMCKernel,
    key: Array,
    *,
    chains: int,
    warmup: int,
    samples: int,
    size: int = 50,
    settings: Mapping[str, str] | None = None,
    resume: bool = False,
    values: Callable[[Any], Mapping[str, Array]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    init_params: Any = None,
    args: tuple = (),
    kwargs: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
    told: Callable[[Chunk], None] = lambda chunk: None,
) -> Any:
    """Chains of NumPyro's HMC or NUTS, written to a directory as they are drawn, `size` at a time.

    A run that was cut off, at whatever moment, goes on with `resume`, and ends with the draws that
    it would have had, bit for bit. `settings` are texts that say what it is a run of, such as a
    hash of the data: a run of something else is not gone on with. `values` makes named arrays of a
    chunk's unconstrained values, of shape (chains, n, …); by default they are the model's sites.
    `dims` names the axes of those beyond (chain, draw). `told` is called with each chunk. The other
    options are those of `scalejax.numpyro.chunks`. The result is an ArviZ InferenceData.

    **Raises** `ValueError` for a directory that has a run, without `resume`; with it, for one that
    has none, or a run with other settings, numbers or versions, naming what differs; `OSError`
    where nothing can be written.

    Examples:
        >>> import tempfile
        >>> import jax, numpyro, numpyro.distributions as dist
        >>> from numpyro.infer import NUTS
        >>> from scalejax.runs import sample_to
        >>> def model():
        ...     numpyro.sample("x", dist.Normal(0, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = sample_to(f"{folder}/run", NUTS(model), jax.random.key(0),
        ...                        chains=2, warmup=50, samples=100)
        >>> result["posterior"]["x"].shape
        (2, 100)
    """
    kwargs = {} if kwargs is None else dict(kwargs)
    numbers = {"chains": chains, "warmup": warmup, "samples": samples, "size": size,
               "key": np.asarray(jax.random.key_data(key)).tolist()}  # fmt: skip
    what = {**(settings or {}), **{name: str(value) for name, value in numbers.items()}}
    run = Run.begun(directory, what, draws=samples, size=size, dims=dims, resume=resume)

    @jax.jit
    def by_model(z):
        sites = kernel.postprocess_fn(args, kwargs)
        found = jax.vmap(jax.vmap(sites))(z)
        return found if isinstance(found, dict) else {"z": found}

    make = by_model if values is None else values
    parts = chunks(
        kernel, key, chains=chains, warmup=warmup, samples=samples, size=size,
        init_params=init_params, args=args, kwargs=kwargs, mesh=mesh, after=run.after(),
    )  # fmt: skip
    for chunk in parts:
        named = {} if chunk.warmup else {
            "posterior": {name: np.asarray(x) for name, x in make(chunk.z).items()},
            "sample_stats": sample_stats(chunk.fields),
        }  # fmt: skip
        run.add(chunk, named, warmup=warmup)
        told(chunk)
    return run.result()


def sample_stats(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a sampler says of its draws, by ArviZ's names."""
    stats = {_STATS.get(name, name): value for name, value in fields.items()}
    if "lp" in stats:
        stats["lp"] = -stats["lp"]
    return stats


@dataclass(frozen=True)
class Run:
    """A run's directory. Of several processes the first alone writes."""

    directory: Path
    draws: int
    size: int
    dims: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def begun(
        cls,
        directory: str | os.PathLike[str],
        settings: Mapping[str, str],
        *,
        draws: int,
        size: int,
        dims: Mapping[str, Sequence[str]] | None = None,
        resume: bool = False,
    ) -> Run:
        """A new run, or one to go on with; see `sample_to` for what it raises."""
        run = cls(Path(directory), draws, size, dims or {})
        known = run.directory / "run.json"
        settings = {**settings, **versions()}
        if resume:
            check_same(known, settings)
        elif known.exists():
            raise ValueError(f"{run.directory} has a run already: resume it, or name another")
        together(f"begin {run.directory}")
        if not resume and first_process():
            run.directory.mkdir(parents=True, exist_ok=True)
            write_settings(known, settings)
        return run

    def after(self) -> Chunk | None:
        """The chunk to go on after, which has no draws; None to begin."""
        if not (self.directory / "state.npz").exists():
            return None
        with np.load(self.directory / "state.npz", allow_pickle=False) as file:
            leaves = [file[f"leaf_{i}"] for i in range(len(file.files) - 2)]
            return Chunk(None, {}, int(file["done"]), bool(file["warmup"]), leaves)

    def add(self, chunk: Chunk, groups: Groups, *, warmup: int) -> None:
        """Write draws, and then the state after them: what is cut off between is drawn again."""
        if not first_process():
            return
        if not chunk.warmup:
            last = chunk.done - warmup
            self._write(groups, last)
        if chunk.state is not None:
            named: Any = {f"leaf_{i}": leaf for i, leaf in enumerate(chunk.state)}
            with replacing(self.directory / "state.npz") as part, part.open("wb") as file:
                np.savez(file, done=chunk.done, warmup=chunk.warmup, **named)

    def groups(self, most: int | None = None) -> dict[str, dict[str, np.ndarray]]:
        """The draws that there are of each chain, or the first so many of them."""
        import zarr

        if not (self.directory / "draws.zarr").exists():
            return {}
        root = zarr.open_group(self.directory / "draws.zarr", mode="r")
        drawn: Any = root.attrs["drawn"]
        last = drawn if most is None else min(most, drawn)
        return {
            name: {key: np.asarray(array[:, :last]) for key, array in group.arrays()
                   if key not in _INDEX}
            for name, group in root.groups()
        }  # fmt: skip

    def result(self) -> Any:
        """The draws that there are, as ArviZ InferenceData."""
        import arviz as az

        groups = self.groups()
        dims = {name: list(axes) for name, axes in self.dims.items()}
        return az.from_dict(
            groups.get("posterior"), sample_stats=groups.get("sample_stats"), dims=dims
        )

    def _write(self, groups: Groups, last: int) -> None:
        import zarr

        path = self.directory / "draws.zarr"
        if not path.exists():
            self._create(groups)
        root = zarr.open_group(path, mode="r+")
        for name, arrays in groups.items():
            for key, array in arrays.items():
                stored: Any = root[f"{name}/{key}"]
                stored[:, last - array.shape[1] : last] = array
        root.attrs["drawn"] = last

    def _create(self, groups: Groups) -> None:
        """A store for all draws, whole or not at all; what has not been drawn is NaN, or 0."""
        import zarr

        path, part = self.directory / "draws.zarr", self.directory / ".draws.zarr.part"
        root = zarr.create_group(part, overwrite=True)
        for name, arrays in groups.items():
            group = root.create_group(name)
            chains = next(iter(arrays.values())).shape[0]
            for label, count in zip(_INDEX, (chains, self.draws), strict=True):
                index = group.create_array(
                    label, shape=(count,), dtype="int64", dimension_names=[label]
                )
                index[:] = np.arange(count)
            for key, array in arrays.items():
                tail = array.shape[2:]
                axes = list(self.dims.get(key, [f"{key}_dim_{i}" for i in range(len(tail))]))
                group.create_array(
                    key,
                    shape=(chains, self.draws, *tail),
                    chunks=(chains, min(self.size, self.draws), *(max(n, 1) for n in tail)),
                    dtype=array.dtype,
                    fill_value=np.nan if array.dtype.kind == "f" else 0,
                    dimension_names=[*_INDEX, *axes],
                )
        root.attrs["drawn"] = 0
        part.replace(path)


_INDEX = ("chain", "draw")


def versions() -> dict[str, str]:
    """What a run's bits depend on besides its settings."""
    found = {f"version of {name}": version(name) for name in ("jax", "jaxlib", "numpyro", "numpy")}
    precision = "double" if jax.config.read("jax_enable_x64") else "single"
    return {"version of scalejax": __version__, **found, "precision": precision}


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """What a run is a run of."""
    with replacing(path) as part:
        part.write_text(json.dumps(dict(settings), indent=2), encoding="utf-8")


def check_same(path: Path, settings: Mapping[str, str]) -> None:
    """**Raises** `ValueError` for a run that is not there, or has other settings, naming them."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no run to resume") from None
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    for name in {**known, **settings}:
        if known.get(name) != settings.get(name):
            raise ValueError(
                f"{path.parent} has a run of something else, which cannot be resumed: {name} was "
                f"{known.get(name, 'nothing')}, and is {settings.get(name, 'nothing')}"
            )


def removed(directory: Path) -> None:
    """Remove a run."""
    if directory.exists():
        shutil.rmtree(directory)
