"""Which part of which data to fit: what the command line says, and else a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalejax.xpcs.config import read_analyzer, read_phi_ranges
from scalejax.xpcs.inputs import Measurement, read_measurement
from scalejax.xpcs.parameters import PHYSICAL, SHEAR

AGREED = 1e-3
"""The part by which a configuration's frame time may differ from a file's."""


@dataclass(frozen=True)
class Chosen:
    """A file of data and a part of it, as the options of the command line give them."""

    path: Path | None
    q: Sequence[float] = ()
    phi_ranges: Sequence[str] = ()
    frames: str | None = None
    thin: int | None = None
    frame_time: float | None = None
    gap: float | None = None

    def measurement(self, config: Mapping[str, Any], mode: str) -> Measurement | None:
        """What is to be fitted; None without a file.

        Of a beamline's file, what no option says is that of the configuration, if it says it.

        **Raises** `ValueError` for options that are no such numbers or have nothing to be options
        of, a gap that a shear needs and nobody says, and frame times that differ.
        """
        from scalejax.xpcs.beamline import contents, is_beamline, read_beamline

        own = self.path is not None and not is_beamline(self.path)
        if self.path is None or own:
            if given := self._given:
                where = "without --data" if self.path is None else f"for {self.path}, which has one"
                raise ValueError(f"{', '.join(given)}: not expected {where} measurement")
            return read_measurement(self.path) if self.path is not None else None
        said = read_analyzer(config)
        gap = said.gap if self.gap is None else self.gap
        sheared = mode in PHYSICAL and set(SHEAR) & set(PHYSICAL[mode])
        if sheared and gap is None:
            raise ValueError(
                "--gap: a shear needs the gap between stator and rotor, in Å, which no file of "
                "data has: give it, or analyzer_parameters.geometry of a configuration"
            )
        frame_time = self.frame_time
        if frame_time is None and said.frame_time is not None:
            known = contents(self.path).frame_time
            if known is not None and abs(said.frame_time / known - 1) > AGREED:
                raise ValueError(
                    f"analyzer_parameters.dt is {said.frame_time:g} s, and {self.path} says "
                    f"{known:g} s from frame to frame: say which, by --frame-time"
                )
            frame_time = said.frame_time if known is None else known
        for name, value in (("--gap", gap), ("--frame-time", frame_time)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a positive number; got {value:g}")
        frames = said.frames if self.frames is None else _whole(_pair(self.frames, "--frames"))
        q = list(self.q) or said.q
        ranges = [_pair(text, "--phi-range") for text in self.phi_ranges]
        if not ranges:
            ranges, otherwise_all = read_phi_ranges(config)
            if otherwise_all and not contents(self.path).any_angle(q, ranges):
                ranges = []
        return read_beamline(
            self.path,
            q=q,
            phi_ranges=ranges,
            frames=frames,
            thin=said.thin if self.thin is None else self.thin,
            frame_time=frame_time,
            gap=gap,
        )

    @property
    def _given(self) -> list[str]:
        """The options that are not as they are by default."""
        options = {
            "--q": self.q, "--phi-range": self.phi_ranges, "--frames": self.frames,
            "--thin": self.thin, "--frame-time": self.frame_time, "--gap": self.gap,
        }  # fmt: skip
        return [name for name, value in options.items() if value]


def _pair(text: str, name: str) -> tuple[float, float]:
    parts = text.split(":")
    try:
        first, last = map(float, parts)
    except ValueError:
        raise ValueError(f"{name}: expected two numbers, FIRST:LAST; got {text!r}") from None
    if not (abs(first) < float("inf") and abs(last) < float("inf")):
        raise ValueError(f"{name}: expected finite numbers; got {text!r}")
    return first, last


def _whole(pair: tuple[float, float]) -> tuple[int, int]:
    if not all(value.is_integer() for value in pair):
        raise ValueError(f"--frames: expected whole numbers; got {pair[0]:g}:{pair[1]:g}")
    return int(pair[0]), int(pair[1])
