"""Posteriors of posteriordb, their densities written in JAX, with their data and reference draws.

The files are those of github.com/stan-dev/posteriordb, in a directory that POSTERIORDB names.
Priors that are flat in Stan are flat here, and parameters that have a bound are in a Scaling with
it.
"""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import cauchy, gamma, norm

from scalejax import Parameter, ParameterSpace

inf = np.inf


@dataclass(frozen=True)
class Model:
    """Its data, its parameters with bounds, and the log-density of their values.

    What a space declares are priors that the coordinates follow; the density has its own.
    """

    data: str
    reference: str
    space: Callable[[dict], ParameterSpace]
    log_density: Callable[[dict, dict], jnp.ndarray]
    names: dict[str, str]
    """Of the reference's parameters, by ours."""


def normal(x, mean, sd):
    return norm.logpdf(x, mean, sd).sum()


def positive(scale):
    return Parameter(0, inf, sigma=scale, family="HalfNormal")


def unbounded(mean, scale, **options):
    return Parameter(-inf, inf, mu=mean, sigma=scale, family="Normal", **options)


def kilpisjarvi(v, d):
    prior = normal(v["alpha"], d["pmualpha"], d["psalpha"])
    prior += normal(v["beta"], d["pmubeta"], d["psbeta"])
    return prior + normal(d["y"], v["alpha"] + v["beta"] * d["x"], v["sigma"])


def earn_height(v, d):
    return normal(d["earn"], v["b1"] + v["b2"] * d["height"], v["sigma"])


def schools(v, d):
    prior = normal(v["mu"], 0, 5) + cauchy.logpdf(v["tau"], 0, 5)
    return prior + normal(d["y"], v["theta"], d["sigma"])


def centered(v, d):
    return schools(v, d) + normal(v["theta"], v["mu"], v["tau"])


def noncentered(v, d):
    theta = v["mu"] + v["tau"] * v["unit"]
    return schools({**v, "theta": theta}, d) + normal(v["unit"], 0, 1)


def gp_regr(v, d):
    apart = d["x"][:, None] - d["x"]
    covariance = v["alpha"] ** 2 * jnp.exp(-((apart / v["rho"]) ** 2) / 2)
    factor = jnp.linalg.cholesky(covariance + v["sigma"] * jnp.eye(len(d["x"])))
    white = jnp.linalg.solve(factor, d["y"])
    prior = gamma.logpdf(v["rho"], 25, scale=1 / 4) + normal(v["alpha"], 0, 2)
    return prior + normal(v["sigma"], 0, 1) - jnp.log(jnp.diag(factor)).sum() - (white**2).sum() / 2


def of_schools(data, name):
    vector = {name: unbounded(0, 1 if name == "unit" else 10, dim="school")}
    return ParameterSpace(mu=unbounded(0, 5), tau=positive(5), **vector).sized(school=8)


SCHOOLS = {"mu": "mu", "tau": "tau"}
MODELS = {
    "kilpisjarvi": Model(
        "kilpisjarvi_mod", "kilpisjarvi_mod-kilpisjarvi",
        lambda d: ParameterSpace(
            alpha=unbounded(d["pmualpha"], d["psalpha"]), beta=unbounded(0, d["psbeta"]),
            sigma=positive(5),
        ),
        kilpisjarvi, {"alpha": "alpha", "beta": "beta", "sigma": "sigma"},
    ),
    "earn_height": Model(
        "earnings", "earnings-earn_height",
        lambda d: ParameterSpace(
            b1=unbounded(0, 1e5), b2=unbounded(0, 1e4), sigma=positive(5e4)
        ),
        earn_height, {"b1": "beta[1]", "b2": "beta[2]", "sigma": "sigma"},
    ),
    "eight_schools_centered": Model(
        "eight_schools", "eight_schools-eight_schools_noncentered",
        lambda d: of_schools(d, "theta"), centered, SCHOOLS,
    ),
    "eight_schools_noncentered": Model(
        "eight_schools", "eight_schools-eight_schools_noncentered",
        lambda d: of_schools(d, "unit"), noncentered, SCHOOLS,
    ),
    "gp_regr": Model(
        "gp_pois_regr", "gp_pois_regr-gp_regr",
        lambda d: ParameterSpace(rho=positive(10), alpha=positive(3), sigma=positive(1)),
        gp_regr, {"rho": "rho", "alpha": "alpha", "sigma": "sigma"},
    ),
}  # fmt: skip


def directory() -> Path:
    """That of POSTERIORDB. **Raises** `SystemExit` where it is not said, or not there."""
    path = Path(os.environ.get("POSTERIORDB", ""))
    if not os.environ.get("POSTERIORDB") or not path.is_dir():
        raise SystemExit("POSTERIORDB must be a directory with the files of posteriordb")
    return path


def data(name: str) -> dict:
    """The data of a model, as arrays."""
    return {key: np.asarray(value, float) for key, value in _read(f"{name}.json.zip").items()}


def reference(model: Model) -> dict[str, np.ndarray]:
    """Its reference draws, (chains, draws), by our names."""
    found = _read(f"reference-{model.reference}.json.zip", f"draws/{model.reference}.json.zip")
    return {ours: np.array([chain[name] for chain in found]) for ours, name in model.names.items()}


def _read(*names: str):
    for name in names:
        for path in directory().rglob(Path(name).name):
            if path.as_posix().endswith(name):
                with zipfile.ZipFile(path) as file:
                    return json.loads(file.read(file.namelist()[0]))
    raise SystemExit(f"POSTERIORDB has no {' or '.join(names)}")
