"""The densities that a benchmark has of posteriordb, against SciPy's, term by term."""

import json
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks import posteriordb

RNG = np.random.default_rng(0)
DATA = {
    "kilpisjarvi": {"x": np.arange(9.0), "y": RNG.normal(size=9), "pmualpha": 9.0, "psalpha": 3.0,
                    "pmubeta": 0.0, "psbeta": 0.4},
    "earn_height": {"height": RNG.normal(66, 3, 9), "earn": RNG.normal(2e4, 1e4, 9)},
    "eight_schools_centered": {"y": RNG.normal(8, 9, 8), "sigma": RNG.uniform(9, 18, 8)},
    "gp_regr": {"x": np.arange(7.0), "y": RNG.normal(size=7)},
    "arma11": {"y": RNG.normal(size=30)},
    "garch11": {"y": RNG.normal(size=30), "sigma1": 0.5},
    "sblri": {"X": RNG.normal(size=(12, 5)), "y": RNG.normal(size=12), "D": 5.0},
    "lotka_volterra": {"ts": np.arange(1.0, 7), "y_init": np.array([30.0, 4.0]),
                       "y": RNG.uniform(5, 50, (6, 2))},
}  # fmt: skip
DATA["eight_schools_noncentered"] = DATA["eight_schools_centered"]
DATA["sblrc"] = DATA["sblri"]


def line(v, d, x, y):
    prior = stats.norm.logpdf(v["alpha"], 9, 3) + stats.norm.logpdf(v["beta"], 0, 0.4)
    return prior + stats.norm.logpdf(d[y], v["alpha"] + v["beta"] * d[x], v["sigma"]).sum()


def schools(v, d, effects):
    hyper = stats.norm.logpdf(v["mu"], 0, 5) + stats.cauchy.logpdf(v["tau"], 0, 5)
    return hyper + stats.norm.logpdf(d["y"], effects, d["sigma"]).sum()


def gp(v, d):
    x = d["x"]
    cov = v["alpha"] ** 2 * np.exp(-((x[:, None] - x) ** 2) / (2 * v["rho"] ** 2))
    found = stats.multivariate_normal(np.zeros(len(x)), cov + v["sigma"] * np.eye(len(x)))
    prior = stats.gamma.logpdf(v["rho"], 25, scale=1 / 4) + stats.norm.logpdf(v["alpha"], 0, 2)
    # Up to the constant of the normal, which the benchmark leaves out.
    return (
        prior
        + stats.norm.logpdf(v["sigma"])
        + found.logpdf(d["y"])
        + len(x) / 2 * np.log(2 * np.pi)
    )


def arma(v, d):
    y, errors = d["y"], []
    for t, value in enumerate(y):
        before, error = (v["mu"], 0.0) if t == 0 else (y[t - 1], errors[-1])
        errors.append(value - (v["mu"] + v["phi"] * before + v["theta"] * error))
    prior = sum(stats.norm.logpdf(v[n], 0, s) for n, s in (("mu", 10), ("phi", 2), ("theta", 2)))
    prior += stats.cauchy.logpdf(v["sigma"], 0, 2.5)
    return prior + stats.norm.logpdf(errors, 0, v["sigma"]).sum()


def garch(v, d):
    y, sd = d["y"], [d["sigma1"]]
    beta = v["share"] * (1 - v["alpha1"])
    for before in y[:-1]:
        sd.append(np.sqrt(v["alpha0"] + v["alpha1"] * (before - v["mu"]) ** 2 + beta * sd[-1] ** 2))
    return stats.norm.logpdf(y, v["mu"], sd).sum() + np.log(1 - v["alpha1"])


def blr(v, d):
    prior = stats.norm.logpdf(v["beta"], 0, 10).sum() + stats.norm.logpdf(v["sigma"], 0, 10)
    return prior + stats.norm.logpdf(d["y"], d["X"] @ v["beta"], v["sigma"]).sum()


def lynxes(v, d):
    a, b, c, e = v["theta"]
    path = integrate.solve_ivp(
        lambda t, z: [(a - b * z[1]) * z[0], (e * z[0] - c) * z[1]], (0, 6), v["z_init"],
        t_eval=d["ts"], rtol=1e-11, atol=1e-11,
    ).y.T  # fmt: skip
    log = stats.lognorm
    seen = log.logpdf(d["y_init"], v["sigma"], scale=v["z_init"]).sum()
    seen += log.logpdf(d["y"], v["sigma"], scale=path).sum()
    prior = stats.norm.logpdf([a, c], 1, 0.5).sum() + stats.norm.logpdf([b, e], 0.05, 0.05).sum()
    prior += log.logpdf(v["sigma"], 1, scale=np.exp(-1)).sum()
    return prior + log.logpdf(v["z_init"], 1, scale=10).sum() + seen


EXPECTED = {
    "kilpisjarvi": lambda v, d: line(v, d, "x", "y"),
    "earn_height": lambda v, d: stats.norm.logpdf(
        d["earn"], v["b1"] + v["b2"] * d["height"], v["sigma"]
    ).sum(),
    "eight_schools_centered": lambda v, d: schools(v, d, v["theta"])
    + stats.norm.logpdf(v["theta"], v["mu"], v["tau"]).sum(),
    "eight_schools_noncentered": lambda v, d: schools(v, d, v["mu"] + v["tau"] * v["unit"])
    + stats.norm.logpdf(v["unit"]).sum(),
    "gp_regr": gp, "arma11": arma, "garch11": garch, "sblri": blr, "sblrc": blr,
    "lotka_volterra": lynxes,
}  # fmt: skip
VALUES = {
    "kilpisjarvi": {"alpha": 8.0, "beta": 0.1, "sigma": 1.3},
    "earn_height": {"b1": -9e3, "b2": 500.0, "sigma": 1.1e4},
    "eight_schools_centered": {"mu": 4.0, "tau": 3.0, "theta": RNG.normal(4, 3, 8)},
    "eight_schools_noncentered": {"mu": 4.0, "tau": 3.0, "unit": RNG.normal(size=8)},
    "gp_regr": {"rho": 5.0, "alpha": 1.5, "sigma": 0.4},
    "arma11": {"mu": 0.1, "phi": 0.8, "theta": -0.3, "sigma": 0.7},
    "garch11": {"mu": 0.2, "alpha0": 0.5, "alpha1": 0.3, "share": 0.6},
    "sblri": {"beta": RNG.normal(size=5), "sigma": 1.2},
    "sblrc": {"beta": RNG.normal(size=5), "sigma": 1.2},
    "lotka_volterra": {"theta": np.array([0.55, 0.028, 0.8, 0.024]),
                       "z_init": np.array([33.0, 5.9]), "sigma": np.array([0.25, 0.3])},
}  # fmt: skip


@pytest.mark.parametrize("name", posteriordb.MODELS)
def test_density(name, float64):
    values = {key: jnp.asarray(value) for key, value in VALUES[name].items()}
    data = {key: np.asarray(value) for key, value in DATA[name].items()}
    found = posteriordb.MODELS[name].log_density(values, data)
    # The lynxes are integrated by steps of a twentieth of a year, to 1e-7 or so.
    np.testing.assert_allclose(found, EXPECTED[name](VALUES[name], DATA[name]), rtol=1e-6)


@pytest.mark.parametrize("name", posteriordb.MODELS)
def test_space_has_the_parameters(name):
    space = posteriordb.MODELS[name].space(DATA[name])
    shapes = {group.name: group.shape for group in space.groups}
    assert shapes == {key: np.shape(value) for key, value in VALUES[name].items()}


def test_files(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTERIORDB", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="must be a directory"):
        posteriordb.present()
    monkeypatch.setenv("POSTERIORDB", str(tmp_path))
    assert posteriordb.present() == []
    draws = [{"mu": [1.0, 2.0], "phi": [3.0, 4.0], "theta": [5.0, 6.0], "sigma": [7.0, 8.0]}] * 2
    for path, content in (
        ("data/data/arma.json", {"T": 2, "y": [1, 2]}),
        ("reference_posteriors/draws/draws/arma-arma11.json", draws),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / f"{path}.zip", "w") as file:
            file.writestr(path.rsplit("/", 1)[1], json.dumps(content))
    assert posteriordb.present() == ["arma11"]
    assert posteriordb.data("arma")["y"].tolist() == [1.0, 2.0]
    found = posteriordb.reference(posteriordb.MODELS["arma11"])
    assert found is not None
    assert found["sigma"].tolist() == [[7.0, 8.0]] * 2
    assert posteriordb.reference(posteriordb.MODELS["lotka_volterra"]) is None
    with pytest.raises(SystemExit, match=r"no garch\.json\.zip"):
        posteriordb.data("garch")
