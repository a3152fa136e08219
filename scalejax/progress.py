"""How far something long has come, for people: a bar on a terminal, or lines in a log.

It knows nothing of what is being done.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Told = Callable[[str, float, float], None]
"""Called with what is being done, how much of it has been, and of how much; 0 if nobody knows."""

EVERY = 30.0
"""Seconds between two lines in a log."""


def untold(what: str, done: float, of: float) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def shown(stream: TextIO | None = None, *, every: float = EVERY) -> Iterator[Told]:
    """What is told, with the time that is left of each thing that is done.

    A bar where `stream`, by default the standard error, is a terminal; elsewhere a line at most
    every so many seconds, so that what is short leaves none.

    Examples:
        >>> import sys
        >>> from scalejax.progress import shown
        >>> with shown(sys.stdout, every=0.0) as told:
        ...     told("sampling", 0, 1500)
        ...     told("sampling", 1500, 1500)
        sampling: 0 of 1500
        sampling: 1500 of 1500, 0:00:00 left
    """
    to: Any = sys.stderr if stream is None else stream
    teller: Any = _Bar(to) if to.isatty() else _Lines(to, every)
    try:
        yield teller
    finally:
        teller.close()


class _Bar:
    """One bar at a time, which goes when what it is of is done."""

    def __init__(self, stream: TextIO):
        self._stream, self._what, self._bar = stream, "", None

    def __call__(self, what: str, done: float, of: float) -> None:
        if what != self._what:
            self.close()
            self._begin(what)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=of or None)
            if of and done >= of:
                self.close()

    def _begin(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._what, self._bar = what, Progress(console=Console(file=self._stream))
        self._bar.add_task(what, total=None)
        self._bar.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
        self._what, self._bar = "", None


class _Lines:
    """Lines with what is left, by the time that it has taken so far."""

    def __init__(self, stream: TextIO, every: float):
        self._stream, self._every, self._last = stream, every, time.monotonic()
        self._what, self._begun, self._first = "", 0.0, 0.0

    def __call__(self, what: str, done: float, of: float) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._first = what, now, done
        if now - self._last < self._every:
            return
        self._last = now
        line = f"{what}: {done:.0f}" + (f" of {of:.0f}" if of else "")
        if of and done > self._first:
            left = (now - self._begun) / (done - self._first) * (of - done)
            minutes, seconds = divmod(round(left), 60)
            line += f", {minutes // 60}:{minutes % 60:02}:{seconds:02} left"
        with contextlib.suppress(OSError):  # nobody reads any more
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""
