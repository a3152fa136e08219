"""How far something has come: lines in a log, and a bar on a terminal."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalejax import Scaling
from scalejax.blocks import Blocks
from scalejax.calibrate import from_log_density, from_residuals, resample
from scalejax.progress import shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_what_is_short_leaves_no_line():
    log = io.StringIO()
    with shown(log) as told:
        told("search", 1, 2)
    assert log.getvalue() == ""


def test_lines_with_what_is_left(monkeypatch):
    """By the time that what has been done of this thing took, not that of the one before."""
    now = [0.0]
    monkeypatch.setattr("scalejax.progress.time.monotonic", lambda: now[0])
    log = io.StringIO()
    with shown(log, every=30.0) as told:
        for now[0], done in ((100.0, 0), (130.0, 100), (140.0, 133), (220.0, 400)):
            told("sampling", done, 1500)
        now[0] = 300.0
        told("search", 3, 0)
    assert log.getvalue().splitlines() == [
        "sampling: 0 of 1500",
        "sampling: 100 of 1500, 0:07:00 left",
        "sampling: 400 of 1500, 0:05:30 left",
        "search: 3",
    ]


def test_a_reader_that_goes_away():
    with shown(Gone(), every=0.0) as told:
        told("search", 1, 2)


def test_a_bar_comes_and_goes():
    terminal = Terminal()
    with shown(terminal) as told:
        told("search", 1, 2)
        told("sampling", 2, 2)
    assert "search" in terminal.getvalue()
    assert re.search("100%", terminal.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize("by", ["residuals", "density"])
def test_calibration_tells_of_search_and_check(by):
    scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
    x = np.linspace(0.0, 1.0, 50)
    said = []
    options = {"key": jax.random.key(0), "told": lambda *what: said.append(what)}

    def residuals(theta):
        return (theta[0] + theta[1] * x - 1) / 0.1

    def log_prior(theta):
        return -(theta**2).sum() / 2

    def log_density(theta):
        return log_prior(theta) - (residuals(theta) ** 2).sum() / 2

    if by == "residuals":
        coordinates, _ = from_residuals(residuals, scaling, log_prior=log_prior, **options)
    else:
        coordinates, _ = from_log_density(log_density, scaling, **options)
    assert {"Newton's method, steps", "draws of a fit"} <= {what for what, *_ in said}
    assert all(0 <= done <= of or not of for _, done, of in said)
    said.clear()
    resample(coordinates, log_density, jax.random.key(1), 1000, told=options["told"])
    assert said[-1] == ("draws of a fit", 1000, 1000)


@pytest.mark.slow
def test_a_density_of_blocks_is_sought_on_a_part_of_them():
    """A regression of Poisson counts: the same fit, with a search on a tenth of the data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=40_000)
    y = rng.poisson(np.exp(0.3 + 0.5 * x)).astype(float)
    blocks = Blocks.split({"x": x, "y": y}, size=4096)
    scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})

    def of_items(theta, block):
        log_rate = theta[0] + theta[1] * block["x"]
        return block["y"] * log_rate - jnp.exp(log_rate)

    def log_prior(theta):
        return -(theta**2).sum() / 2

    key = jax.random.key(0)
    _, thinned = from_log_density(of_items, scaling, key=key, blocks=blocks, log_prior=log_prior)
    _, plain = from_log_density(
        lambda theta: log_prior(theta) + blocks.sum(of_items, theta), scaling, key=key
    )
    assert thinned.good
    assert thinned.search_gradients < plain.search_gradients / 5
    # Both modes to a tenth of a standard deviation, 1/200 or so in z, which is at worst θ/5.
    np.testing.assert_allclose(thinned.mode, plain.mode, atol=5e-4)
    for missing in ({"blocks": blocks}, {"log_prior": log_prior}):
        with pytest.raises(ValueError, match="both blocks and log_prior"):
            from_log_density(of_items, scaling, key=key, **missing)
