"""python -m benchmarks [NAME…] [--json FILE [--resume]] [--quick]"""

import importlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import typer

from benchmarks import environment, limits_table

NAMES = (
    "accuracy",
    "throughput",
    "sharding",
    "startup",
    "memory",
    "posterior",
    "reparam",
    "sampling",
    "laminar",
    "trust",
    "nested",
    "sbc",
    "fuzz",
    "scale",
    "processes",
    "field",
)
GENERATED = Path(__file__).parent.parent / "docs" / "pages" / "generated"


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(NAMES)}.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file that rows are added to, one a line.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take the rows that the file has already.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only see that it runs; its figures mean nothing.")
    ] = False,
) -> None:
    """Run benchmarks, print their tables, and, unless --quick, write them for the documentation."""
    chosen = names or list(NAMES)
    if unknown := set(chosen) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(NAMES)}")
    logging.getLogger("scalejax").setLevel(logging.ERROR)  # what the homodyne rule does is known
    if len(chosen) == 1:
        return run(chosen[0], json_file, resume, quick)
    options = [] if json_file is None else ["--json", str(json_file)]
    options += ["--resume"] * resume + ["--quick"] * quick
    if not quick:
        for name in chosen:
            subprocess.run([sys.executable, "-m", "benchmarks", name, *options], check=True)
        return
    # Its figures mean nothing: two share the machine, and all what has been compiled.
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:
        shared = {"JAX_COMPILATION_CACHE_DIR": directory,
                  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # fmt: skip
        commands = ([sys.executable, "-m", "benchmarks", name, *options] for name in chosen)
        begin = partial(subprocess.run, check=True, env={**shared, **os.environ})
        for _ in pool.map(begin, commands):
            pass


def run(name: str, json_file: Path | None, resume: bool, quick: bool) -> None:
    """One benchmark, in this process."""
    module = importlib.import_module(f"benchmarks.{name}")
    jax.config.update("jax_num_cpu_devices", module.DEVICES)
    known = _read(json_file) if resume and json_file is not None else []
    rows = []
    for label, measure in module.tasks(quick):
        head = {"benchmark": name, "task": label, "quick": quick}
        found = [entry["row"] for entry in known if head.items() <= entry.items()]
        if not found:
            found = measure()
            # Each compiled function maps memory, of which a process has so many pieces.
            jax.clear_caches()
            _add(json_file, *({**head, "row": row} for row in found))
        for row in found:
            print(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
        rows += found
    text = f"Measured with {environment()}.\n\n{module.table(rows)}\n"
    if not quick:
        limits = list(module.limits(rows))
        _add(json_file, *({"benchmark": name, "limit": limit.to_dict()} for limit in limits))
        text += f"\n{limits_table(limits)}\n"
        (GENERATED / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def _read(json_file: Path) -> list[dict]:
    if not json_file.exists():
        return []
    return [json.loads(line) for line in json_file.read_text(encoding="utf-8").splitlines()]


def _add(json_file: Path | None, *entries: dict) -> None:
    if json_file is not None:
        with json_file.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(entry)}\n" for entry in entries)


if __name__ == "__main__":
    typer.run(main)
