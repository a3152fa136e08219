"""Leapfrog steps an effective draw, for the NumPyro model of the recipe, as it is and moved.

    python -m benchmarks.reparam

The model and the run are the recipe's own code. Warmup counts. It writes the recipe's table.
"""

import re
from pathlib import Path

import arviz as az
import numpy as np
from numpyro.infer import init_to_median

from benchmarks import environment

PAGES = Path(__file__).parent.parent / "docs" / "pages"
TABLE = PAGES / "generated" / "reparam.md"
SETTINGS = {
    "NUTS as it comes": {},
    "started at the priors' medians": {"init_strategy": init_to_median},
    "started there, mass matrix not adapted": {
        "init_strategy": init_to_median,
        "adapt_mass_matrix": False,
    },
}


def recipe():
    text = (PAGES / "recipes" / "numpyro-model.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block.split("draws, steps =")[0], names)
    return names


def main():
    names = recipe()
    lines = [
        f"Measured with {environment()}; two chains of 500 + 1000 draws.",
        "",
        "| | model as it is | in normalized space |",
        "|---|---|---|",
    ]
    for label, options in SETTINGS.items():
        cells = []
        for model in ("growth", "moved"):
            draws, steps = names["sample"](names[model], **options)
            data = az.from_dict({name: np.asarray(value) for name, value in draws.items()})
            ess = min(float(value) for value in az.ess(data).values())
            worst = max(float(value) for value in az.rhat(data).values())
            cells.append(f"{steps / ess:.0f}" if worst < 1.02 else "not converged")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
