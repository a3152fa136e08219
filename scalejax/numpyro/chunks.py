"""Chains in chunks: what has been drawn can be kept, shown or written while the rest is drawn.

This module knows nothing of models, coordinates or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from numpyro.infer.mcmc import MCMCKernel

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
) -> Iterator[Chunk]:
    """Chains of NumPyro's HMC or NUTS, `size` draws at a time, those of the warmup first.

    All chunks are one compiled function. Chains are spread over as many local devices as divide
    them evenly, and run side by side on each. The draws do not depend on `size`.

    **Raises** `ValueError` for numbers of chains, draws or size that are not positive.

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
    keys = jax.random.split(key, chains)
    state = kernel.init(keys, warmup, init_params, args, kwargs)
    devices = max(n for n in range(1, jax.local_device_count() + 1) if chains % n == 0)
    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("chain",))
    along = PartitionSpec("chain")
    state = jax.device_put(state, NamedSharding(mesh, along))

    def some(state):
        def one(state, _):
            state = kernel.sample(state, args, kwargs)
            kept = {name: getattr(state, name) for name in FIELDS if hasattr(state, name)}
            return state, (getattr(state, kernel.sample_field), kept)

        state, drawn = jax.lax.scan(one, state, length=size)
        return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), drawn)

    # Each device steps through trajectories of its own chains, without waiting for the others.
    step = jax.jit(jax.shard_map(some, mesh=mesh, in_specs=along, out_specs=along, check_vma=False))
    total, done = warmup + samples, 0
    while done < total:
        state, drawn = step(state)
        z, fields = jax.tree.map(np.asarray, drawn)
        # A chunk that begins in the warmup and ends after it is handed out in two pieces.
        edges = sorted({done, min(max(warmup, done), done + size), min(done + size, total)})
        for first, last in pairwise(edges):
            cut = partial(_cut, first - done, last - done)
            yield Chunk(jax.tree.map(cut, z), jax.tree.map(cut, fields), last, last <= warmup)
        done += size


def _cut(first: int, last: int, array: np.ndarray) -> np.ndarray:
    return array[:, first:last]
