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

import jax
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


def log_normal(x, log_median, sd):
    return normal(jnp.log(x), log_median, sd) - jnp.log(x).sum()


def positive(scale, **options):
    return Parameter(0, inf, sigma=scale, family="HalfNormal", **options)


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
    white = jax.scipy.linalg.solve_triangular(factor, d["y"], lower=True)
    prior = gamma.logpdf(v["rho"], 25, scale=1 / 4) + normal(v["alpha"], 0, 2)
    return prior + normal(v["sigma"], 0, 1) - jnp.log(jnp.diag(factor)).sum() - (white**2).sum() / 2


def arma(v, d):
    """Each error goes on in the next; the one before the first is 0, and its value the mean."""
    prior = normal(v["mu"], 0, 10) + normal(v["phi"], 0, 2) + normal(v["theta"], 0, 2)

    def step(error, now):
        before, y = now
        error = y - v["mu"] - v["phi"] * before - v["theta"] * error
        return error, error

    before = jnp.concatenate([v["mu"][None], d["y"][:-1]])
    errors = jax.lax.scan(step, jnp.zeros_like(v["mu"]), (before, d["y"]))[1]
    return prior + cauchy.logpdf(v["sigma"], 0, 2.5) + normal(errors, 0, v["sigma"])


def garch(v, d):
    """beta1, between 0 and 1 − alpha1, is `share` of that: hence the last term."""
    beta = v["share"] * (1 - v["alpha1"])

    def step(variance, y):
        variance = v["alpha0"] + v["alpha1"] * (y - v["mu"]) ** 2 + beta * variance
        return variance, variance

    first = jnp.asarray(d["sigma1"]) ** 2 + 0 * v["mu"]
    later = jax.lax.scan(step, first, d["y"][:-1])[1]
    sd = jnp.sqrt(jnp.concatenate([first[None], later]))
    return normal(d["y"], v["mu"], sd) + jnp.log1p(-v["alpha1"])


def blr(v, d):
    prior = normal(v["beta"], 0, 10) + normal(v["sigma"], 0, 10)
    return prior + normal(d["y"], d["X"] @ v["beta"], v["sigma"])


STEPS = 20  # of Runge and Kutta, in a year


def lotka_volterra(v, d):
    """Hares and lynxes: the logarithms of both are integrated."""
    alpha, beta, gamma_, delta = v["theta"]

    def slope(x):
        return jnp.stack([alpha - beta * jnp.exp(x[1]), delta * jnp.exp(x[0]) - gamma_])

    def step(x, _):
        h = 1 / STEPS
        k1 = slope(x)
        k2 = slope(x + h / 2 * k1)
        k3 = slope(x + h / 2 * k2)
        k4 = slope(x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x, x

    start = jnp.log(v["z_init"])
    path = jax.lax.scan(step, start, length=STEPS * len(d["ts"]))[1][STEPS - 1 :: STEPS]
    prior = normal(v["theta"], jnp.array([1, 0.05, 1, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05]))
    prior += log_normal(v["sigma"], -1, 1) + log_normal(v["z_init"], np.log(10), 1)
    seen = log_normal(jnp.asarray(d["y_init"]), start, v["sigma"])
    return prior + seen + log_normal(jnp.asarray(d["y"]), path, v["sigma"])


def of_schools(data, name):
    vector = {name: unbounded(0, 1 if name == "unit" else 10, dim="school")}
    return ParameterSpace(mu=unbounded(0, 5), tau=positive(5), **vector).sized(school=8)


def of_blr(data):
    space = ParameterSpace(beta=unbounded(0, 10, dim="column"), sigma=positive(10))
    return space.sized(column=int(data["D"]))


def of_lynxes(data):
    rates = {"theta": Parameter(0, inf, mu=0.5, sigma=0.5, family="TruncatedNormal", dim="rate")}
    start = Parameter(0, inf, mu=np.log(10), sigma=1, family="LogNormal", dim="kind")
    noise = Parameter(0, inf, mu=-1, sigma=1, family="LogNormal", dim="kind")
    return ParameterSpace(**rates, z_init=start, sigma=noise).sized(rate=4, kind=2)


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
    "arma11": Model(
        "arma", "arma-arma11",
        lambda d: ParameterSpace(
            mu=unbounded(0, 10), phi=unbounded(0, 2), theta=unbounded(0, 2), sigma=positive(2.5)
        ),
        arma, {"mu": "mu", "phi": "phi", "theta": "theta", "sigma": "sigma"},
    ),
    "garch11": Model(
        "garch", "garch-garch11",
        lambda d: ParameterSpace(
            mu=unbounded(0, 10), alpha0=positive(5), alpha1=Parameter(0, 1, family="Uniform"),
            share=Parameter(0, 1, family="Uniform"),
        ),
        garch, {"mu": "mu", "alpha0": "alpha0", "alpha1": "alpha1"},
    ),
    "sblri": Model("sblri", "sblri-blr", of_blr, blr, {"sigma": "sigma"}),
    "sblrc": Model("sblrc", "sblrc-blr", of_blr, blr, {"sigma": "sigma"}),
    "lotka_volterra": Model(
        "hudson_lynx_hare", "hudson_lynx_hare-lotka_volterra", of_lynxes, lotka_volterra, {}
    ),
}  # fmt: skip


def directory() -> Path:
    """That of POSTERIORDB. **Raises** `SystemExit` where it is not said, or not there."""
    path = Path(os.environ.get("POSTERIORDB", ""))
    if not os.environ.get("POSTERIORDB") or not path.is_dir():
        raise SystemExit("POSTERIORDB must be a directory with the files of posteriordb")
    return path


def present() -> list[str]:
    """The models of which POSTERIORDB has the data."""
    return [name for name, model in MODELS.items() if _find(f"{model.data}.json.zip")]


def data(name: str) -> dict:
    """The data of a model, as arrays. **Raises** `SystemExit` where there are none."""
    file = _find(f"{name}.json.zip")
    if file is None:
        raise SystemExit(f"POSTERIORDB has no {name}.json.zip")
    return {key: np.asarray(value, float) for key, value in _read(file).items()}


def reference(model: Model) -> dict[str, np.ndarray] | None:
    """Its reference draws, (chains, draws), by our names; None where there are none."""
    file = _find(f"reference-{model.reference}.json.zip", f"draws/{model.reference}.json.zip")
    if file is None or not model.names:
        return None
    found = _read(file)
    return {ours: np.array([chain[name] for chain in found]) for ours, name in model.names.items()}


def _find(*names: str) -> Path | None:
    for name in names:
        for path in directory().rglob(Path(name).name):
            if path.as_posix().endswith(f"/{name}"):
                return path
    return None


def _read(path: Path):
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read(file.namelist()[0]))
