"""python -m benchmarks [NAME…] [--json FILE] [--quick]"""

import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import jax
import typer

from benchmarks import environment, limits_table

NAMES = ("sampling",)
GENERATED = Path(__file__).parent.parent / "docs" / "pages" / "generated"


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(NAMES)}.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file that rows are added to, one a line.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only see that it runs; its figures mean nothing.")
    ] = False,
) -> None:
    """Run benchmarks, print their tables, and, unless --quick, write them for the documentation."""
    chosen = names or list(NAMES)
    if unknown := set(chosen) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(NAMES)}")
    if len(chosen) == 1:
        return run(chosen[0], json_file, quick)
    for name in chosen:
        options = [] if json_file is None else ["--json", str(json_file)]
        command = [sys.executable, "-m", "benchmarks", name, *options, *["--quick"] * quick]
        subprocess.run(command, check=True)


def run(name: str, json_file: Path | None, quick: bool) -> None:
    """One benchmark, in this process."""
    module = importlib.import_module(f"benchmarks.{name}")
    jax.config.update("jax_num_cpu_devices", module.DEVICES)
    logging.getLogger("scalejax").setLevel(logging.ERROR)  # what the homodyne rule does is known
    rows = []
    for row in module.measure(quick):
        rows.append(row)
        _add(json_file, {"benchmark": name, "quick": quick, **row})
        print(
            {key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()}, flush=True
        )
    text = f"Measured with {environment()}.\n\n{module.table(rows)}\n"
    if not quick:
        limits = list(module.limits(rows))
        for limit in limits:
            _add(json_file, {"benchmark": name, "limit": limit.to_dict()})
        text += f"\n{limits_table(limits)}\n"
        (GENERATED / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def _add(json_file: Path | None, row: dict) -> None:
    if json_file is not None:
        with json_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    typer.run(main)
