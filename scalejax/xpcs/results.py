"""What a fit prints and writes, and what becomes of that when a terminal or a disk gives way.

A result that has been computed is not lost to a closed pipe, and one file that cannot be written
does not take the others with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from scalejax.files import first_process, replacing

if TYPE_CHECKING:  # the command line imports this, and its help waits for no sampler
    from scalejax.xpcs.fit import Draws

SUMMARY, FITTED = "summary.json", "fitted.h5"
FILES = ("posterior.nc", SUMMARY, FITTED, "fit.png", "residuals.png", "marginals.png")


class _Console(Console):
    """A console that goes on, into nothing, where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Called by rich; by default it ends the program."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Results:
    """Where results go: a terminal, and a directory. Of several processes the first alone tells."""

    def __init__(self, output: Path):
        self.output, self.console = output, _Console(quiet=not first_process())
        self.written: list[str] = []
        self.lost: list[str] = []
        self.draws: list[Draws] = []
        """What has been and is being drawn: where a run is cut off, the most of it is kept."""

    def say(self, what: Any) -> None:
        """Print: text as it is, without markup."""
        self.console.print(what, highlight=False, markup=False)

    def write(self, name: str, save: Callable[[str], Any]) -> None:
        """Write a file by `save(path)`, whole or not at all; say so if that cannot be done."""
        if not first_process():
            return
        try:
            with replacing(self.output / name) as part:
                save(str(part))
        except (OSError, RuntimeError) as error:  # HDF5's own is a RuntimeError
            self.lost.append(name)
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            self.say(f"Could not write {self.output / name}: {reason}")
        else:
            self.written.append(name)
