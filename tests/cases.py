"""Scalings from ordinary to hostile, of every kind, and strategies that draw more of them."""

import numpy as np
from hypothesis import strategies as st

inf = np.inf

# name: (center, scale, low, high)
CASES = {
    "unit": (0.5, 0.25, 0.0, 1.0),
    "contrast": (0.06, 0.1, 0.0, 1.0),
    "D0": (1000.0, 9990.0, 100.0, 1e5),
    "D0 matched": (-61540.793, 20049.752, 100.0, 1e5),
    "across zero": (0.0, 150.0, -1e5, 1e5),
    "across zero, askew": (0.3, 0.4, -1.0, 2.0),
    "tiny low": (0.01, 0.1, 1e-6, 0.5),
    "far from zero": (1e6 + 0.25, 0.25, 1e6, 1e6 + 1),
    "below zero": (-3.0, 1.0, -7.0, 0.0),
    "center below": (-20.0, 3.0, 0.0, 10.0),
    "center above": (35.0, 3.0, 0.0, 10.0),
    "narrow scale": (0.5, 1e-3, 0.0, 1.0),
    "wide scale": (0.5, 10.0, 0.0, 1.0),
    "wide scale, wide range": (0.0, 1e6, 0.0, 1e5),
    "lower": (0.01, 0.01, 0.0, inf),
    "lower, hostile": (5.0, 40.0, 4.0, inf),
    "lower, negative": (-3.0, 0.5, -10.0, inf),
    "upper": (0.0, 1.0, -inf, 2.0),
    "upper, at zero": (-2.0, 3.0, -inf, 0.0),
    "unbounded": (3.0, 0.5, -inf, inf),
    "pinned": (2.5, 1.0, 2.5, 2.5),
}
NAMES = list(CASES)
COLUMNS = tuple(np.array(column) for column in zip(*CASES.values(), strict=True))

# Where branches meet, where chains start, and far out.
Z = np.unique(
    np.concatenate(
        [
            np.linspace(-30, 30, 241),
            np.linspace(-3, 3, 121),
            [s * v for s in (-1, 1) for v in (1e-30, 1e-10, 1e-6, 1e-3, 0.1, 0.54, 0.56, 1.1)],
            [0.0],
        ]
    )
)

EXTREME_Z = np.array([-np.inf, -3e38, -1e30, -1e9, -400.0, 400.0, 1e9, 1e30, 3e38, np.inf])


def numbers(most):
    """Numbers up to `most`, none subnormal in float32, which most devices take for 0."""
    return st.floats(-most, most).map(lambda v: v if abs(v) > 1e-30 else 0.0)


@st.composite
def factors(draw, kind):
    """(center, scale, low, high) of one kind, from ordinary to hostile."""
    at = draw(st.sampled_from([0.0, 1.0, -1.0, 1e-6, 100.0, -1e5, 1e6]) | numbers(1e6))
    # No range so narrow that float32 has hardly a number in it.
    width = max(draw(st.floats(1e-4, 1e6)), abs(at) * 1e-4)
    scale = width * 10 ** draw(st.floats(-3, 1))
    if kind == "interval":
        return at + width * draw(st.floats(-2, 3)), scale, at, at + width
    if kind == "lower":
        return at + width, scale, at, inf
    if kind == "upper":
        return at - width, scale, -inf, at
    if kind == "unbounded":
        return at, scale, -inf, inf
    return at, scale, at, at


KIND_NAMES = ("interval", "lower", "upper", "unbounded", "pinned")
