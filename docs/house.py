"""Draw the house, the rooms of the library and what each imports: python docs/house.py

It reads the imports from the source; `tests/test_house.py` holds them to `FLOORS`.
"""

import ast
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

SOURCE = Path(__file__).parent.parent / "scalejax"
IMAGE = Path(__file__).parent / "pages" / "images" / "house.png"

# From the ground up. A room imports from its own floor's rooms never, from lower floors freely.
FLOORS = (
    ("bounds", "cut", "spline", "blocks", "files", "progress"),
    ("groups", "families"),
    ("space",),
    ("coordinates", "rules", "density"),
    ("scaling", "whitened", "nested"),
    ("checks", "diagnostics", "numpyro", "calibrate"),
    ("sampling", "plotting", "saved", "consensus"),
    ("runs",),
    ("xpcs",),
)


def modules() -> dict[str, Path]:
    """Every module by its name below `scalejax`, the package itself being ''."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of scalejax that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        below = [name.removeprefix("scalejax").lstrip(".") for name in named
                 if name.split(".")[0] == "scalejax"]  # fmt: skip
        # `from scalejax.bounds import Kind` is an import of the module scalejax.bounds.
        found |= {name for name in below if name in known and name}
    return found


def room(module: str) -> str:
    """The room a module is in: the first part of its name."""
    return module.split(".", maxsplit=1)[0]


def graph() -> dict[str, set[str]]:
    """What each module imports."""
    found = modules()
    return {name: imports(path, set(found)) for name, path in found.items()}


def main() -> None:
    """Write pages/images/house.png."""
    edges = {
        (room(name), room(other))
        for name, others in graph().items()
        for other in others
        if name and room(name) != room(other)
    }
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axis = figure.subplots()
    at = {}
    for height, floor in enumerate(FLOORS):
        for i, name in enumerate(floor):
            at[name] = ((i + 0.5) / len(floor) * 10, height)
    for name, other in sorted(edges):
        (x, y), (to_x, to_y) = at[name], at[other]
        axis.annotate(
            "", (to_x, to_y + 0.22), (x, y - 0.22),
            arrowprops={"arrowstyle": "-|>", "color": "#0072B2", "alpha": 0.35, "linewidth": 0.9},
        )  # fmt: skip
    for name, (x, y) in at.items():
        color = "#f6d5c0" if name == "xpcs" else "#e8eef4"
        box = FancyBboxPatch((x - 0.8, y - 0.2), 1.6, 0.4, boxstyle="round,pad=0.02",
                             facecolor=color, edgecolor="#555555")  # fmt: skip
        axis.add_patch(box)
        axis.text(x, y, name, ha="center", va="center", fontsize=11)
    axis.set_xlim(0, 10)
    axis.set_ylim(-0.5, len(FLOORS) - 0.5)
    axis.set_axis_off()
    figure.savefig(IMAGE, dpi=110)


if __name__ == "__main__":
    main()
