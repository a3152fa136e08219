"""Worst errors of the map and its peers in float32, against arbitrary precision.

Same inputs for all: the Scalings of tests/cases.py, from ordinary to hostile, over |z| ≤ 30. Held
against 8 units in the last place of θ, 4·10⁻⁶ of ∂θ/∂z, 2·10⁻⁶ of its logarithm, each beyond one
rounding of the map's argument; every θ strictly inside its bounds; and, of the inverse at each of
these θ, 8 roundings of the terms that z is a difference of.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import Limit, markdown
from benchmarks.peers import PEERS
from scalejax import bounds
from tests import cases, oracle

DEVICES = 1
COLUMNS = ("θ (ulp)", "∂θ/∂z (relative)", "log ∂θ/∂z", "θ not inside", "z(θ) (roundings)")
EPS, LARGEST = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).max)
SMALLEST = 2 * float(np.finfo(np.float32).tiny)


def reference(factors, z):
    """For each z: θ, its ulp, ∂θ/∂z, log ∂θ/∂z, and what one rounding of x does to each."""
    low, high = factors[2:]
    first, last = oracle.innermost(low, high, np.float32)
    a = abs(oracle.argument(0.0, *factors))
    for zi in z:
        theta, x_slope, slope, log_slope = oracle.exact(zi, *factors)
        x = abs(oracle.argument(zi, *factors))
        rounding = EPS * (1 + a / x) if x else 0
        nearest = oracle.distance_to_anchor(theta, *factors)
        ulp = max(oracle.ulp(theta, np.float32), oracle.ulp(nearest, np.float32))
        held = min(max(theta, first), last)
        yield held, ulp, abs(x_slope) * rounding, slope, log_slope, x * rounding


def worst(kind, z, scalings):
    """By peer, in the order of `COLUMNS`: the worst errors, and how many θ were out of bounds."""
    errors = {name: [0.0, 0.0, 0.0, 0, 0.0] for name, peer in PEERS.items() if peer(kind)}
    for factors in scalings:
        exact = list(reference(factors, z))
        first, last = oracle.innermost(*factors[2:], np.float32)
        thetas = np.unique(np.array([float(row[0]) for row in exact], np.float32))
        inside = thetas[(thetas >= first) & (thetas <= last)]
        wanted = [oracle.inverse(t, *factors) for t in inside]
        for name, found in errors.items():
            forward = PEERS[name](kind).forward
            arrays = [jnp.full(z.shape, v) for v in factors]
            theta, log_slope = map(np.asarray, jax.jit(forward)(z, *arrays))
            slope = jax.jvp(lambda z, f=forward, a=arrays: f(z, *a)[0], (z,), (np.ones_like(z),))[1]
            low, high = factors[2:]
            if kind != "pinned":
                found[3] += int((~((low < theta) & (theta < high))).sum())
            for i, (want, ulp, spread, want_slope, want_log, x) in enumerate(exact):
                if not SMALLEST < abs(want) < LARGEST:
                    continue  # float32 has no number there, and the last column says the rest
                error = [
                    max(0.0, float(abs(_number(theta[i]) - want) - spread) / ulp),
                    0.0,
                    max(0.0, float(abs(_number(log_slope[i]) - want_log) - x))
                    / max(1.0, float(abs(want_log))),
                ]
                if SMALLEST < want_slope < LARGEST:
                    error[1] = max(0.0, float(abs(_number(slope[i]) / want_slope - 1) - x))
                found[:3] = [max(old, new) for old, new in zip(found, error, strict=False)]
            back = jax.jit(PEERS[name](kind).inverse)(inside, *factors)
            found[4] = max(found[4], roundings(back, wanted, oracle.inverse_offset(*factors)))
    return errors


def roundings(back, wanted, offset):
    """The largest error of z, in roundings of the terms that it is a difference of."""
    return max(
        float(abs(_number(got) - want) / (EPS * (abs(want + offset) + abs(offset)) or EPS))
        for got, want in zip(np.asarray(back), wanted, strict=True)
    )


def _number(value):
    value = float(value)
    return value if np.isfinite(value) else oracle.mpmath.inf


def measure(kind, quick):
    z = np.asarray(cases.Z[:: 20 if quick else 1], np.float32)
    scalings = [tuple(map(np.float32, case)) for case in cases.CASES.values()]
    of_kind = bounds.KINDS[kind].applies
    scalings = [s for s in scalings if of_kind(*s[2:])][: 1 if quick else None]
    return [
        {"kind": kind, "by": name, **dict(zip(COLUMNS, found, strict=True))}
        for name, found in worst(kind, z, scalings).items()
    ]


def tasks(quick):
    for kind in (kind.name for kind in bounds.BY_BOUNDS):
        yield kind, partial(measure, kind, quick)


def table(rows):
    lines = [
        [f"{value:.2g}" if isinstance(value, float) else value for value in row.values()]
        for row in rows
    ]
    return markdown(["kind", "by", *COLUMNS], lines)


def limits(rows):
    for column, bound in zip(COLUMNS, (8, 4e-6, 2e-6, 0, 8), strict=True):
        own = [row[column] for row in rows if row["by"] == "scalejax"]
        yield Limit(f"scalejax, worst of all kinds: {column}", max(own), "<=", bound)
