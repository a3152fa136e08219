"""Parameters and spaces, and what they refuse."""

import math

import pytest

from scalejax import Parameter, ParameterSpace, Prior

inf, nan = math.inf, math.nan


def test_mapping():
    space = ParameterSpace({"b": Parameter(0, 1)}, a=Parameter(-2, 2, -1.2, 0.3, unit="m"))
    assert list(space) == ["b", "a"]
    assert len(space) == 2
    assert space == ParameterSpace(b=Parameter(0, 1), a=Parameter(-2, 2, -1.2, 0.3, unit="m"))
    assert space.get_bounds("b") == (0.0, 1.0)
    assert space.get_prior("a") == Prior("TruncatedNormal", -1.2, 0.3, -2.0, 2.0)
    assert "alpha" not in space
    assert [space.label(name) for name in space] == ["b", "a (m)"]
    for missing in ("alpha", "b"):
        with pytest.raises(KeyError, match=missing):
            space.get_prior(missing)
    with pytest.raises(KeyError, match="no parameter 'alpha' in this space, which has b, a"):
        space.get_bounds("alpha")


def test_prior_support():
    narrower = Parameter(0, 1, 0.06, 0.05, prior_low=-1, prior_high=0.5)
    assert narrower.prior == Prior("TruncatedNormal", 0.06, 0.05, 0, 0.5)
    assert Parameter(-1, 5, 0.0, 1.0, "LogNormal").prior == Prior("LogNormal", 0.0, 1.0, 0.0, 5)
    assert Parameter(0, 1, family="Uniform").prior == Prior("Uniform", None, None, 0, 1)
    assert Parameter(0, 1).prior is None
    assert Parameter(1, 1, 0.0, 1.0).prior is None


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (Parameter(2, 1), "low must not exceed high; got low = 2.0, high = 1.0"),
        (Parameter(inf, inf), "low must not exceed high"),
        (Parameter(nan, 1), "low must be a number; got nan"),
        (Parameter("x", 1), "low must be a number; got 'x'"),
        (
            Parameter(0, 1, 0.5),
            "a TruncatedNormal prior needs both mu and sigma; got mu = 0.5",
        ),
        (Parameter(0, 1, 0.5, 0.0), "sigma must be positive and finite; got sigma = 0.0"),
        (Parameter(0, 1, 0.5, -1.0), "sigma must be positive and finite; got sigma = -1.0"),
        (Parameter(0, 1, inf, 1.0), "mu must be finite; got mu = inf"),
        (Parameter(0, 1, 0.5, 1.0, "Cauchy"), "family must be one of .*; got 'Cauchy'"),
        (Parameter(0, inf, family="Uniform"), "a Uniform prior needs finite bounds"),
        (Parameter(0, inf, 1, 1, "BetaScaled"), "a BetaScaled prior needs finite bounds"),
        (Parameter(0, 1, 1.0, 0.1, "BetaScaled"), r"needs mu inside \(0.0, 1.0\); got mu = 1.0"),
        (Parameter(0, 1, 0.5, 0.5, "BetaScaled"), "no beta distribution .* is so wide"),
        (Parameter(-2, -1, 0, 1, "LogNormal"), "the prior must have room within the bounds"),
        (Parameter(0, 1, 0.5, 1.0, prior_low=2), "the prior must have room within the bounds"),
        (Parameter(0, 1, initial=2.0), r"initial must be within \[0.0, 1.0\]; got initial = 2.0"),
        (Parameter(0, 1, initial=(0.5, 0.5)), "a scalar parameter starts at one value"),
        (Parameter(0, 1, dim="phi", initial=(0.5, nan)), "initial must be a number; got nan"),
        ((0, 1), r"expected a Parameter; got \(0, 1\)"),
    ],
)
def test_parameter_errors(parameter, message):
    with pytest.raises(ValueError, match=f"parameter 'x': .*{message}"):
        ParameterSpace(x=parameter)


def test_empty():
    with pytest.raises(ValueError, match="at least one parameter"):
        ParameterSpace()


def test_sizes_are_bound_once():
    space = ParameterSpace(a=Parameter(0, 1, dim="phi"), b=Parameter(0, 1))
    with pytest.raises(ValueError, match="parameter 'a' is a vector along 'phi': say how long"):
        _ = space.groups
    sized = space.sized(phi=3)
    assert sized.sizes == {"phi": 3}
    assert [group.shape for group in sized.groups] == [(3,), ()]
    assert space.sizes == {}
    assert ParameterSpace(sized, c=Parameter(0, 1)).sizes == {"phi": 3}
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="sized: phi must be a whole number from 1 on; got"):
            space.sized(phi=wrong)
    with pytest.raises(ValueError, match="sized: 'psi' is none of the dimensions phi"):
        space.sized(psi=3)
    start = ParameterSpace(a=Parameter(0, 1, dim="phi", initial=(0.5, 0.5)))
    with pytest.raises(ValueError, match="parameter 'a': initial has 2 values, where phi = 3"):
        start.sized(phi=3)
