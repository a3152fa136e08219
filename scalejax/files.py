"""Files that are whole or not there, and which of several processes writes them.

It knows nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once that has been done in full."""
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def first_process() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def together(what: str) -> None:
    """Wait until all processes are here: what one of them has seen is what all have seen."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)
