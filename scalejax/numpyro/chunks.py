"""Chains in chunks: what has been drawn can be kept, shown or written while the rest is drawn.

This module knows nothing of models, coordinates or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from numpyro.infer.mcmc import MCMCKernel

CHAIN, DATA = "chain", "data"
FIELDS = ("num_steps", "accept_prob", "diverging", "energy", "potential_energy")


@dataclass(frozen=True)
class Chunk:
    """Some draws of all chains, one after another."""

    z: Any
    """Of the kernel's unconstrained sites: arrays of shape (chains, n, …)."""
    fields: dict[str, np.ndarray]
    """Of the kernel's state, each (chains, n)."""
    done: int
    """How many draws of a chain there have been, with these and with those of the warmup."""
    warmup: bool
    """Whether they are of the warmup, and to be left out."""
    state: list[np.ndarray] | None = None
    """The kernel's state after these draws, to go on from; None where a chunk is cut in two."""


def chunks(
    kernel: MCMCKernel,
    key: Array,
    *,
    chains: int,
    warmup: int,
    samples: int,
    size: int = 50,
    init_params: Any = None,
    args: tuple = (),
    kwargs: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
    after: Chunk | None = None,
) -> Iterator[Chunk]:
    """Chains of NumPyro's HMC or NUTS, `size` draws at a time, those of the warmup first.

    All chunks are one compiled function. Chains are spread over the axis `chain` of a mesh, and run
    side by side on each of its devices; by default there are as many local devices in it as divide
    them evenly. Arrays of the model's `args` that lie over other axes of the mesh, such as those of
    `scalejax.blocks.Blocks`, stay where they are. The draws do not depend on `size`.

    `after` is a chunk of an earlier run of the same: what follows it is drawn, to the last bit.

    **Raises** `ValueError` for numbers of chains, draws or size that are not positive, a mesh
    without an axis `chain` or with one that does not divide the chains, and a chunk to go on from
    that has no state or one of another kernel.

    Examples:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> from numpyro.infer import NUTS
        >>> from scalejax.numpyro import chunks
        >>> kernel = NUTS(potential_fn=lambda z: (z**2).sum() / 2)
        >>> parts = chunks(kernel, jax.random.key(0), chains=2, warmup=100, samples=200,
        ...                init_params=jnp.zeros((2, 3)))
        >>> draws = np.concatenate([part.z for part in parts if not part.warmup], axis=1)
        >>> draws.shape
        (2, 200, 3)
    """
    for name, value, least in (
        ("chains", chains, 1), ("warmup", warmup, 0), ("samples", samples, 1), ("size", size, 1)
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"chunks: {name} must be at least {least}; got {value}")
    kwargs = {} if kwargs is None else dict(kwargs)
    mesh = chain_mesh(chains) if mesh is None else mesh
    if CHAIN not in mesh.axis_names or chains % mesh.shape[CHAIN]:
        raise ValueError(
            f"chunks: expected a mesh with an axis {CHAIN!r} that divides {chains} chains; got "
            f"{dict(mesh.shape)}"
        )
    keys = jax.random.split(key, chains)
    state = kernel.init(keys, warmup, init_params, args, kwargs)
    if after is not None:
        state = _taken_up(state, after.state)
    along = PartitionSpec(CHAIN)
    state = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, along))(state)
    given, static = eqx.partition((args, kwargs), eqx.is_array)
    given_along = jax.tree.map(partial(_spec_of, mesh=mesh), given)

    def some(state, given):
        args, kwargs = eqx.combine(given, static)

        def one(state, _):
            state = kernel.sample(state, args, kwargs)
            kept = {name: getattr(state, name) for name in FIELDS if hasattr(state, name)}
            return state, (getattr(state, kernel.sample_field), kept)

        state, drawn = jax.lax.scan(one, state, length=size)
        return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), drawn)

    # Each device steps through trajectories of its own chains, without waiting for the others.
    sharded = jax.shard_map(
        some, mesh=mesh, in_specs=(along, given_along), out_specs=along, check_vma=False
    )
    # What is drawn comes to every process.
    step = jax.jit(
        sharded, out_shardings=(NamedSharding(mesh, along), NamedSharding(mesh, PartitionSpec()))
    )
    everywhere = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    total, done = warmup + samples, 0 if after is None else after.done
    while done < total:
        state, drawn = step(state, given)
        z, fields = jax.tree.map(np.asarray, drawn)
        leaves = [np.asarray(everywhere(leaf)) for leaf in jax.tree.leaves(_raw(state))]
        # A chunk that begins in the warmup and ends after it is handed out in two pieces.
        edges = sorted({done, min(max(warmup, done), done + size), min(done + size, total)})
        for first, last in pairwise(edges):
            cut = partial(_cut, first - done, last - done)
            ended = leaves if last == edges[-1] else None
            yield Chunk(
                jax.tree.map(cut, z), jax.tree.map(cut, fields), last, last <= warmup, ended
            )
        done += size


def chain_mesh(chains: int, *, data: bool = False) -> Mesh:
    """A mesh with chains along one axis, `chain`, and `data` along the other.

    As many chains side by side as divide both them and the devices of a process. With `data`, the
    other axis takes the other devices of each process, and all processes; without, it is only as
    long as there are processes.

    Examples:
        >>> from scalejax.numpyro import chain_mesh
        >>> dict(chain_mesh(1).shape)
        {'chain': 1, 'data': 1}
    """
    processes, local = jax.process_count(), jax.local_device_count()
    beside = max(n for n in range(1, local + 1) if chains % n == 0 and (local % n == 0 or not data))
    each = local // beside if data else 1
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    grid = np.array(devices).reshape(processes, local)[:, : beside * each]
    grid = grid.reshape(processes, beside, each).swapaxes(0, 1).reshape(beside, -1)
    return Mesh(grid, (CHAIN, DATA))


def _raw(state: Any) -> Any:
    """With keys as the numbers that they are."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _taken_up(state: Any, leaves: list[np.ndarray] | None) -> Any:
    """A state like another, with other numbers."""
    known, structure = jax.tree.flatten(state)
    raw = jax.tree.leaves(_raw(state))
    shapes = [(x.shape, x.dtype) for x in raw]
    if leaves is None or [(x.shape, x.dtype) for x in leaves] != shapes:
        raise ValueError("chunks: expected a chunk with the state of such a kernel to go on from")
    made = [
        jax.random.wrap_key_data(jnp.asarray(new)) if _is_key(old) else jnp.asarray(new)
        for old, new in zip(known, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, made)


def _spec_of(leaf: Any, mesh: Mesh) -> PartitionSpec:
    """How an array lies over a mesh already, or that it lies everywhere."""
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and sharding.mesh == mesh:
        return sharding.spec
    return PartitionSpec()


def _cut(first: int, last: int, array: np.ndarray) -> np.ndarray:
    return array[:, first:last]
