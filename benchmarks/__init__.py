"""The library beside its peers: `python -m benchmarks [name…]`.

A benchmark is a module with `tasks(quick)`, which yields labels, each with a function that measures
and returns rows, as dicts; `table(rows)`, the same in Markdown; and `limits(rows)`, what they are
held against. `DEVICES` is how many CPU devices it asks for. Each runs in a process of its own, with
its peers in the same process.
"""

import contextlib
import operator
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import jax

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Limit:
    """A figure, and what it is held against."""

    what: str
    value: float
    relation: str
    bound: float

    @property
    def held(self) -> bool:
        return bool(_COMPARE[self.relation](self.value, self.bound))

    def to_dict(self) -> dict:
        return {**asdict(self), "held": self.held}


def environment() -> str:
    """Versions of what is installed, and the device, for the head of a table."""
    versions = []
    for name in ("jax", "numpyro", "blackjax", "nutpie", "tfp-nightly", "flowjax", "distrax"):
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    device = jax.devices()[0]
    return f"{', '.join(versions)}, on {device.device_kind} with {os.cpu_count()} cores"


def markdown(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def limits_table(limits: Iterable[Limit]) -> str:
    """What was held against which limit, in Markdown."""
    rows = [
        [limit.what, f"{limit.value:.3g}", f"{limit.relation} {limit.bound:g}".replace(
            "<=", "≤").replace(">=", "≥"), "held" if limit.held else "**not held**"]
        for limit in limits
    ]  # fmt: skip
    return markdown(["what", "measured", "limit", ""], rows)
