"""Parity with homodyne's scaling module, whose formulas are written out here.

θ = mid + half·tanh((center + scale·z − mid)/half) with mid = (low + high)/2 and
half = (high − low)/2; center = mu or mid; scale = max(sigma or range/4, range/10, 1e-6); the
inverse clips (θ − mid)/half to ±(1 − 1e-6). They are evaluated in arbitrary precision, since next
to a bound double precision itself would lose the twelve digits that are asked for.
"""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scalejax import Parameter, ParameterSpace, Scaling
from scalejax.xpcs import default_config, read_space
from scalejax.xpcs.homodyne import (
    compute_scaling_factors,
    homodyne,
    log_scaling_factors,
    report_distortions,
)
from tests import cases
from tests.oracle import mpmath

MODES = ("static", "laminar_flow")
PHYSICAL = {
    "static": ["D0", "alpha", "D_offset"],
    "laminar_flow": [
        *("D0", "alpha", "D_offset"),
        *("gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0"),
    ],
}
Z = np.linspace(-8, 8, 33)


def seed_factors(low, high, mu, sigma):
    center = (low + high) / 2 if mu is None else mu
    scale = (high - low) / 4 if sigma is None else sigma
    return center, max(scale, (high - low) / 10, 1e-6)


def seed_to_original(z, center, scale, low, high):
    z, center, scale, low, high = map(mpmath.mpf, map(float, (z, center, scale, low, high)))
    mid, half = (low + high) / 2, (high - low) / 2
    return mid + half * mpmath.tanh((center + scale * z - mid) / half)


def seed_to_normalized(theta, center, scale, low, high):
    theta, center, scale, low, high = map(mpmath.mpf, map(float, (theta, center, scale, low, high)))
    mid, half = (low + high) / 2, (high - low) / 2
    edge = 1 - mpmath.mpf("1e-6")
    y = min(max((theta - mid) / half, -edge), edge)
    return (mid + half * mpmath.atanh(y) - center) / scale


def assert_parity(scaling):
    factors = [np.asarray(a) for a in (scaling.center, scaling.scale, scaling.low, scaling.high)]
    theta = np.asarray(scaling.to_original(Z[:, None] * np.ones(scaling.size)))
    back = np.asarray(scaling.to_normalized(theta))
    for i, row in enumerate(zip(*factors, strict=True)):
        low, high = row[2:]
        want = np.array([float(seed_to_original(z, *row)) for z in Z])
        # Relative to θ, or to the largest term of the sum where that cancels.
        np.testing.assert_allclose(theta[:, i], want, rtol=1e-12, atol=1e-14 * (high - low))
        margin = 5e-7 * (high - low)
        inside = (theta[:, i] > low + margin) & (theta[:, i] < high - margin)
        want = np.array([float(seed_to_normalized(v, *row)) for v in theta[:, i]])
        np.testing.assert_allclose(back[inside, i], want[inside], rtol=1e-12, atol=1e-12)
        edges = np.array([low - 1, low, high, high + 1])
        got = np.asarray(scaling.to_normalized(edges[:, None] * np.ones(scaling.size)))[:, i]
        want = [float(seed_to_normalized(v, *row)) for v in edges]
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_shipped_configurations(mode, float64):
    config = default_config(mode)
    space = read_space(config)
    scaling = compute_scaling_factors(space, 3, mode)
    assert list(scaling.names) == ["contrast", "offset", *PHYSICAL[mode]]
    bounds = {entry["name"]: entry for entry in config["parameter_space"]["bounds"]}
    priors = config["parameter_space"]["priors"]
    flat = iter(zip(*map(np.asarray, (scaling.center, scaling.scale)), strict=True))
    for group in scaling.groups:
        entry, prior = bounds[group.name], priors.get(group.name, {})
        mu = prior.get("mu", entry.get("prior_mu"))
        sigma = prior.get("sigma", entry.get("prior_sigma"))
        want = seed_factors(entry["min"], entry["max"], mu, sigma)
        for _ in range(group.size or 1):
            np.testing.assert_allclose(next(flat), want, rtol=1e-12)
    assert_parity(scaling)
    assert_parity(Scaling.from_space(space.sized(phi=3), rule=homodyne))


@settings(max_examples=20)
@given(rows=st.lists(cases.factors("interval"), min_size=6, max_size=6))
def test_random_scalings(float64, rows):
    # Centers within a range of the bounds: farther out the seed's tanh is 1 in any precision.
    assert_parity(Scaling(*np.array(rows).T))


BOUNDS = {
    "contrast": (0.0, 1.0),
    "offset": (0.5, 1.5),
    "D0": (100.0, 1e5),
    "D_offset": (-1e5, 1e5),
}


class DuckTyped:
    """Any object with get_bounds and get_prior will do."""

    class OnlyMu:
        mu = 0.3

    def get_bounds(self, name):
        return BOUNDS[name]

    def get_prior(self, name):
        if name == "contrast":
            return self.OnlyMu()
        raise KeyError(name)


def test_any_object_with_bounds_and_priors(caplog, float64):
    with caplog.at_level(logging.WARNING, logger="scalejax"):
        scaling = compute_scaling_factors(DuckTyped(), 2, "static")
    assert scaling.names == ("contrast", "offset", "D0", "D_offset")
    assert [record.getMessage() for record in caplog.records] == [
        "parameter alpha is not in the parameter space: skipped"
    ]
    np.testing.assert_allclose(scaling["contrast"].center, 0.3)
    np.testing.assert_allclose(scaling["contrast"].scale, 0.25)
    np.testing.assert_allclose(scaling["D0"].center, 50050.0)


def test_errors():
    space = read_space(default_config("static"))
    with pytest.raises(ValueError, match="laminar_flow, two_component; got 'shear'"):
        compute_scaling_factors(space, 3, "shear")
    with pytest.raises(ValueError, match="n_phi: expected at least 1; got 0"):
        compute_scaling_factors(space, 0, "static")
    with pytest.raises(KeyError, match="contrast"):
        compute_scaling_factors(ParameterSpace({"D0": space["D0"]}), 1, "static")


def test_log_scaling_factors(caplog):
    scaling = Scaling([0.5, 1e3], [0.1, 500.0], [0, 100], [1, 1e5], groups={"c": 1, "D0": None})
    with caplog.at_level(logging.DEBUG, logger="scalejax"):
        log_scaling_factors(scaling)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "scaling of 2 parameters: c, D0"),
        ("DEBUG", "  c_0: center=0.5, scale=0.1, bounds=[0, 1]"),
        ("DEBUG", "  D0: center=1000, scale=500, bounds=[100, 1e+05]"),
    ]


def test_what_the_rule_does_to_declared_priors_is_said(caplog):
    """Once a parameter, with both numbers; nothing of those it leaves alone, or of flat ones."""
    space = ParameterSpace(
        contrast=Parameter(0, 1, mu=0.06, sigma=0.05, dim="phi"),  # floored, and off the median
        offset=Parameter(0.5, 1.5, mu=1, sigma=0.2, dim="phi"),  # as declared
        D0=Parameter(100, 1e5, mu=1000, sigma=1000),
        alpha=Parameter(-2, 2, mu=-1.2, sigma=0.3),  # floored only
        D_offset=Parameter(-1e5, 1e5),  # no prior
    )
    expected = [
        ("contrast", "z = 0 is at 0.14679, the declared prior's median at 0.0672361; "
                     "the scale is 0.1, the declared sigma 0.05"),
        ("D0", "z = 0 is at 12391.6, the declared prior's median at 1232.77; "
               "the scale is 9990, the declared sigma 1000"),
        ("alpha", "the scale is 0.4, the declared sigma 0.3"),
    ]  # fmt: skip
    messages = [f"parameter {name} under the homodyne rule: {text}" for name, text in expected]
    # By the quantiles of SciPy, and the formula.
    assert abs(stats.truncnorm(-0.9, 99, 1000, 1000).median() - 1232.77) < 0.01
    assert abs(50050 + 49950 * np.tanh((1000 - 50050) / 49950) - 12391.6) < 0.05

    with caplog.at_level(logging.WARNING):
        report_distortions(space)
    assert [record.getMessage() for record in caplog.records] == messages
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        compute_scaling_factors(space, 3, "static")
    assert [record.getMessage() for record in caplog.records] == messages
    caplog.clear()
    Scaling.from_space(space.sized(phi=3))
    assert not caplog.records


def test_a_distortion_is_said_of_priors_in_other_words(caplog):
    """Those of another package, with a mu and a sigma and no family."""

    class Space:
        def get_bounds(self, name):
            return (100.0, 1e5)

        def get_prior(self, name):
            return type("Theirs", (), {"mu": 1000.0, "sigma": 1000.0})()

    with caplog.at_level(logging.WARNING):
        compute_scaling_factors(Space(), 2, "static")
    assert len(caplog.records) == 5
    assert "median at 1232.77" in caplog.text
