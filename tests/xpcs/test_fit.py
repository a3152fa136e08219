"""What a fit keeps as it goes, and what it does when calibration was wrong."""

import jax.numpy as jnp
import numpy as np
import pytest

from scalejax import Scaling, Whitened
from scalejax.calibrate import CoordinatesKind, Report
from scalejax.numpyro import Chunk, declared_prior
from scalejax.sampling import Sampling
from scalejax.xpcs import default_config, fit, for_mode, read_space, run
from scalejax.xpcs.fit import Draws, exceeded
from scalejax.xpcs.inputs import simulate_measurement
from scalejax.xpcs.posterior import log_density
from scalejax.xpcs.results import Results
from tests.xpcs.test_cli import run as command


@pytest.fixture
def case(float64):
    config = default_config("static")
    space = for_mode(read_space(config), "static")
    measurement = simulate_measurement(config, space, "static", n_phi=2, seed=0)
    space = space.sized(phi=2)
    return measurement, Scaling.from_space(space), declared_prior(space), space


def truth(measurement, scaling):
    theta = {name: jnp.asarray(value) for name, value in measurement.truth.items()}
    return scaling.to_normalized(scaling.pack(theta))


def test_what_there_is_can_be_had_at_any_time(case):
    measurement, scaling, *_ = case
    draws = Draws(measurement, scaling)
    assert len(draws) == 0
    z = np.asarray(truth(measurement, scaling)) + np.zeros((3, 4, scaling.size))
    for i in range(2):
        draws.add(z, {"diverging": np.zeros((3, 4), bool), "potential_energy": np.full((3, 4), i)})
        assert len(draws) == 4 * (i + 1)
    result = draws.result()
    assert result["posterior"]["contrast"].shape == (3, 8, 2)
    np.testing.assert_allclose(result["posterior"]["D0"], measurement.truth["D0"])
    np.testing.assert_array_equal(result["sample_stats"]["lp"][0], [0] * 4 + [-1] * 4)


@pytest.mark.parametrize("below", [0.0, 2.0, 100.0])
def test_a_draw_that_exceeds_the_mode_is_found(case, below):
    measurement, scaling, prior, _ = case
    of_z = scaling.pullback(log_density(measurement, scaling, prior=prior))
    best = truth(measurement, scaling)
    z = np.asarray(jnp.stack([best + 0.3, best, best - 0.3]))[None]
    energy = -np.array([[float(of_z(row)) for row in z[0]]])
    draws = Draws(measurement, scaling)
    draws.add(z, {"potential_energy": energy})
    report = Report(
        CoordinatesKind.DENSE, 0, log_density=float(of_z(best)) - below, mode=tuple(z[0, 1])
    )
    found = exceeded(draws.result(), measurement, scaling, scaling, report, prior=prior)
    if below < 3:
        assert found is None
    else:
        above, theta = found
        np.testing.assert_allclose(above, below, rtol=1e-6)
        np.testing.assert_allclose(theta, scaling.to_original(best), rtol=1e-9)


def test_chains_begin_at_all_modes_that_were_found(case, monkeypatch):
    """Five of them at two: in turns."""
    measurement, scaling, prior, _ = case
    modes = tuple(tuple(np.full(scaling.size, value).tolist()) for value in (0.25, -0.5))
    report = Report(CoordinatesKind.NONE, 0, modes=modes)
    found = {}

    def chunks(kernel, key, *, init_params, **options):
        found.update(init_params)
        yield Chunk({"theta_z": np.zeros((5, 1, scaling.size))}, {}, 1, False)

    monkeypatch.setattr(fit, "chunks", chunks)
    sampling = Sampling(chains=5, warmup=1, samples=1)
    fit.sample_posterior(measurement, scaling, case[3], sampling, prior=prior, report=report)
    np.testing.assert_allclose(found["theta_z"][:, 0], [0.25, -0.5, 0.25, -0.5, 0.25])


def test_chains_begin_also_at_what_a_fit_leaves_out(case):
    """Every other one there; the rest at draws of the fit, each at its own."""
    _, scaling, *_ = case
    mode, place = np.full(scaling.size, 0.25), np.full(scaling.size, -0.5)
    fitted = Whitened(scaling, mode, 0.1 * np.eye(scaling.size))
    found = fit._in_coordinates(jnp.stack([mode, place, mode, place]), fitted, 0)
    np.testing.assert_allclose(found[1::2], np.full((2, scaling.size), -7.5), rtol=1e-9)
    assert 1 < found[::2].std() < 3
    assert not (found[0] == found[2]).any()


@pytest.mark.parametrize(
    ("target", "diverged", "accepted"),
    [
        (None, [3, 0], [0.9, 0.995]),
        (None, [3, 1], [0.9, 0.995]),
        (None, [0], [0.9]),
        (None, [100], [0.9]),
        (0.8, [3], [0.8]),
    ],
)
def test_a_few_divergent_draws_take_shorter_steps(
    target, diverged, accepted, case, tmp_path, monkeypatch
):
    """Once more; not where nearly all diverge, nor where the user has said how long steps are."""
    measurement, scaling, prior, space = case
    found = []

    def sample_posterior(*args, draws, run, **options):
        diverging = np.arange(400).reshape(4, 100) < diverged[len(found)]
        found.append(args[3].target_accept)
        draws.add(np.zeros((4, 100, scaling.size)), {"diverging": diverging})
        return draws.result()

    monkeypatch.setattr(run, "sample_posterior", sample_posterior)
    sampling = Sampling(target_accept=target)
    settings = run.Fit(measurement, scaling, space, sampling, "declared", prior, "none", "static",
                       "matched", "nuts", tmp_path)  # fmt: skip
    kept = run.begin(settings)
    result, *_ = run._sampled(settings, Results(tmp_path), kept, scaling, None)
    assert found == accepted
    assert int(result["sample_stats"]["diverging"].sum()) == diverged[-1]


@pytest.mark.slow
def test_a_wrong_calibration_is_said_and_begun_again(tmp_path, monkeypatch):
    """The first one claims a mode that is far too low."""
    calls = []

    def calibrated(measurement, scaling, space, *, start, **options):
        calls.append(start)
        if len(calls) == 1:
            report = Report(CoordinatesKind.NONE, 0, log_density=-1e9, mode=(0.0,) * scaling.size)
            return scaling, report
        return real(measurement, scaling, space, start=start, **options)

    real = run.calibrated
    monkeypatch.setattr(run, "calibrated", calibrated)
    result = command("--n-phi", 2, "--chains", 2, "--warmup", 50, "--samples", 50,
                     "--output", tmp_path, "--no-progress")  # fmt: skip
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert "Calibration was wrong: sampling found a density e^1000" in output
    assert "Beginning again from there." in output
    assert len(calls) == 2
    assert calls[1] is not None


@pytest.mark.slow
def test_a_posterior_without_chains_beside_one_of_chains(tmp_path):
    result = command("--n-phi", 2, "--sampler", "both", "--output", tmp_path, "--no-progress",
                     "--samples", 500)  # fmt: skip
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert "Importance sampling: 2000 draws, worth" in output
    assert "log evidence" in output
    assert "Importance sampling and NUTS agree: of 16 means" in output
