"""The recipes' code gives what their words say, against quadrature over the prior."""

import arviz as az
import jax
import numpy as np
import pytest
from scipy import optimize, stats

from tests.test_readme import ROOT, run_page

pytestmark = pytest.mark.slow

RECIPES = ROOT / "docs" / "pages" / "recipes"
PRIORS = {
    "rate": stats.truncnorm(-3, 97, 0.3, 0.1),
    "capacity": stats.truncnorm(-2.4999995, 497.5, 5e6, 2e6),
    "offset": stats.truncnorm(-500, 500, 0, 2e4),
}


def curve(hours, rate, capacity, offset):
    return offset + capacity / (1 + np.exp(-rate * (hours - 24)))


def reference(hours, counts):
    """Means and sds of the posterior, by the midpoint rule over the priors' quantiles."""
    q = {"rate": 160, "capacity": 160, "offset": 30}
    nodes = [PRIORS[name].ppf((np.arange(n) + 0.5) / n) for name, n in q.items()]
    grid = np.meshgrid(*nodes, indexing="ij")
    log_weight = -sum(
        ((count - curve(hour, *grid)) / 5e5) ** 2 / 2
        for hour, count in zip(np.asarray(hours, float), np.asarray(counts, float), strict=True)
    )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = {n: (weight * g).sum() for n, g in zip(PRIORS, grid, strict=True)}
    return {
        n: (mean[n], np.sqrt((weight * (g - mean[n]) ** 2).sum()))
        for n, g in zip(PRIORS, grid, strict=True)
    }


def assert_posterior(draws, names):
    """Means and sds within 4 Monte Carlo standard errors, and 1 % of a sd for the quadrature."""
    data = az.from_dict({n: np.asarray(draws[n], float).reshape(-1, 1000) for n in PRIORS})
    known = reference(names["hours"], names["counts"])
    for name, (mean, sd) in known.items():
        found = data["posterior"][name]
        error = az.mcse(data, method="mean")[name], az.mcse(data, method="sd")[name]
        assert abs(float(found.mean()) - mean) < 4 * error[0] + 0.01 * sd, name
        assert abs(float(found.std()) - sd) < 4 * error[1] + 0.01 * sd, name


def test_numpyro_model():
    names = run_page(RECIPES / "numpyro-model.md")
    for draws in (names["draws"], names["own_draws"]):
        assert_posterior(draws, names)
    steps = [
        count / min(float(v) for v in az.ess({n: np.asarray(v) for n, v in draws.items()}).values())
        for draws, count in (
            (names["draws"], names["steps"]), (names["own_draws"], names["own_steps"])
        )
    ]  # fmt: skip
    assert steps[0] < steps[1]


def test_blackjax():
    names = run_page(RECIPES / "blackjax.md")
    assert_posterior(names["draws"], names)


def test_optimistix():
    """The MAP is that of SciPy in the priors' own units; the mode in z has no gradient left."""
    names = run_page(RECIPES / "optimistix.md")
    hours, counts = np.asarray(names["hours"]), np.asarray(names["counts"])
    units = np.array([0.1, 2e6, 2e4])

    def loss(x):
        theta = x * units
        prior = sum(p.logpdf(t) for p, t in zip(PRIORS.values(), theta, strict=True))
        return -prior + (((counts - curve(hours, *theta)) / 5e5) ** 2).sum() / 2

    known = optimize.minimize(loss, [3.0, 2.5, 0.0], method="Nelder-Mead",
                              options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})  # fmt: skip
    found = np.array([names["theta"][name] for name in PRIORS])
    # The loss is flat to 1e-12 of it there, which leaves 1e-5 of the units open.
    np.testing.assert_allclose(found / units, known.x, atol=3e-5)
    np.testing.assert_allclose(jax.grad(names["log_density_of_z"])(names["mode"]), 0, atol=1e-5)


def test_arrays():
    names = run_page(RECIPES / "arrays.md")
    t, datasets = np.asarray(names["t"], float), np.asarray(names["datasets"], float)
    for data, (found, exponent) in zip(datasets, np.asarray(names["modes"], float), strict=True):
        known, covariance = optimize.curve_fit(lambda t, D0, a: D0 * t**a, t, data, [1e3, 0.5])
        # The prior and the log-Jacobian move the mode by less than a standard deviation.
        assert (np.abs([found, exponent] - known) < 10 * np.sqrt(np.diag(covariance))).all()
    assert names["curves"].shape == (23, 50)
    np.testing.assert_allclose(
        names["spread"][1], names["scaling"].to_original(np.ones(2)), rtol=1e-6
    )
    assert names["split"].sharding.is_equivalent_to(names["z"].sharding, 2)
    np.testing.assert_array_equal(
        names["split"],
        jax.jit(lambda s, z: s.to_original(z))(names["scaling"], np.asarray(names["z"])),
    )


def test_real_size():
    """Truth within five standard deviations, and of all sites; the amplitudes are 1, 2 and 3."""
    names = run_page(RECIPES / "real-size.md")
    assert names["report"].good, str(names["report"])
    posterior = names["result"]["posterior"]
    for name, truth in (("rate", 0.07), ("sigma", 0.3), ("amplitude", [1.0, 2.0, 3.0])):
        mean, sd = (getattr(posterior[name], f)(("chain", "draw")).values for f in ("mean", "std"))
        assert (np.abs(mean - truth) < 5 * sd).all(), name
    shared = names["posterior"]
    # The rate alike, of chains and of shards: the error of 1000 draws and of 400.
    rate = posterior["rate"]
    apart = abs(shared.mean[3] - float(rate.mean()))
    assert apart < 5 * float(rate.std()) * np.sqrt(1 / shared.effective + 1 / 100)
    theta = names["scaling"].to_original(np.zeros(5))
    found = names["blocks"].sum(lambda t, b: names["residuals"](t, b) ** 2, theta)
    rest = names["prior"].log_prob(theta) - names["y"].size * np.log(theta[-1])
    np.testing.assert_allclose(names["log_density"](theta), rest - found / 2, rtol=1e-5)


def test_funnels():
    """In single precision, as it is read: v is normal with sd 3, and the evidence is known."""
    names = run_page(ROOT / "docs" / "pages" / "funnels.md")
    assert names["report"].good, str(names["report"])
    mean, error = names["v"]
    assert abs(mean) < 4 * error
    evidence, error = names["evidence"]
    assert abs(evidence - 5 * np.log(2 * np.pi) - np.log(3)) < 4 * error + 1e-2


def test_balance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page(RECIPES / "balance.md")
    assert names["balance"].spread_theta > 100 * names["balance"].spread_z
    assert names["report"].kind == "nested"
    assert names["report"].good
    plain, calibrated = names["balances"].values()
    assert calibrated.condition_z < 3
    assert plain.condition_z > 30
    assert (tmp_path / "gradients.png").stat().st_size > 10_000
