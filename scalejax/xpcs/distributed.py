"""A fit over several processes: how they find each other, and what becomes of one that is left.

It knows nothing of what they compute.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

WAIT = 60
"""Seconds that a process waits for the others at the beginning."""


def distributed(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes, where there are any; before JAX is used for anything.

    **Raises** `ValueError` where only some of the three are given; `RuntimeError` where the others
    are not found.
    """
    given = (coordinator, processes, process_id)
    if all(option is None for option in given):
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if any(option is None for option in given):
        raise ValueError("--coordinator, --processes and --process-id: expected all three of them")
    assert processes is not None and process_id is not None
    if process_id >= processes:
        raise ValueError(
            f"--process-id: expected one from 0 to {processes - 1}, for --processes {processes}; "
            f"got {process_id}"
        )
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        initialization_timeout=WAIT,
        heartbeat_timeout_seconds=30,
    )


@contextlib.contextmanager
def together_to_the_end() -> Iterator[None]:
    """What to do with a process that others have left: it says so, and ends with status 1.

    It does not wait for them, as JAX would at the end of a process.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).splitlines()[0]
        sys.stderr.write(
            f"scalejax fit: another process has ended ({reason}); what was saved can be gone on "
            "with by --resume, by all of them\n"
        )
        sys.stderr.flush()
        os._exit(1)
