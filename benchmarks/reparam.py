"""Leapfrog steps an effective draw, for the NumPyro model of the recipe, as it is and moved.

The model and the run are the recipe's own code, and so are its two chains of 500 + 1000 draws.
Warmup counts. Held against: once moved it is no more than without.
"""

from functools import partial

import arviz as az
import numpy as np
from numpyro.infer import init_to_median

from benchmarks import Limit, markdown
from tests.test_readme import ROOT, blocks

DEVICES = 1
MODELS = {"growth": "model as it is", "moved": "in normalized space"}
SETTINGS = {
    "NUTS as it comes": {},
    "started at the priors' medians": {"init_strategy": init_to_median},
    "started there, mass matrix not adapted": {
        "init_strategy": init_to_median,
        "adapt_mass_matrix": False,
    },
}


def recipe():
    """The names that the recipe's code defines, up to where it samples."""
    names = {}
    for block in blocks(ROOT / "docs" / "pages" / "recipes" / "numpyro-model.md"):
        exec(block.split("draws, steps =")[0], names)
    return names


def measure(label, model):
    names = recipe()
    draws, steps = names["sample"](names[model], **SETTINGS[label])
    data = az.from_dict({name: np.asarray(value) for name, value in draws.items()})
    ess = min(float(value) for value in az.ess(data).values())
    r_hat = max(float(value) for value in az.rhat(data).values())
    return [{"settings": label, "model": MODELS[model], "steps": steps, "ess": ess,
             "r_hat": r_hat}]  # fmt: skip


def tasks(quick):
    for label in list(SETTINGS)[: 1 if quick else None]:
        for model in MODELS:
            yield f"{label}, {model}", partial(measure, label, model)


def _cells(rows, label):
    found = {row["model"]: row for row in rows if row["settings"] == label}
    return [found[model] for model in MODELS.values()]


def table(rows):
    labels = dict.fromkeys(row["settings"] for row in rows)
    return markdown(
        ["leapfrog steps an effective draw", *MODELS.values()],
        [
            [label, *(f"{r['steps'] / r['ess']:.0f}" if r["r_hat"] < 1.02 else "not converged"
                      for r in _cells(rows, label))]
            for label in labels
        ],
    )  # fmt: skip


def limits(rows):
    for label in SETTINGS:
        plain, moved = (row["steps"] / row["ess"] for row in _cells(rows, label))
        yield Limit(f"{label}: steps moved over steps as it is", moved / plain, "<=", 1)
