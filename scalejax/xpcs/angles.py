"""How contrast and offset depend on the angle: a value each, one for all, or a Fourier series.

Each is a map from what θ holds to a value for each angle. It knows no model of the decay, no data
and no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.space import Parameter, ParameterSpace
from scalejax.xpcs.parameters import AMPLITUDES, HARMONICS, PER_ANGLE

PER_ANGLE_MODES = ("individual", "constant", "averaged", "fourier")
"""A value for each angle; one for all; the values found first, held there; a Fourier series."""

ONE_SD = [0.15865525393145707, 0.8413447460685429]
"""The quantiles of a normal distribution at one standard deviation below and above."""


def at_angles(
    theta: Mapping[str, Float[ArrayLike, "..."]], name: str, phi: Float[ArrayLike, " n_phi"]
) -> Float[Array, " n_phi"]:
    """Contrast or offset at each angle, in degrees.

    It is `theta[name]`, one number or one for each angle, plus Σ_k (c_k·cos kφ + s_k·sin kφ) of the
    coefficients `theta[name_cos]` and `theta[name_sin]`, if they are there.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs.angles import at_angles
        >>> theta = {"contrast": 0.2, "contrast_cos": jnp.array([0.05]),
        ...          "contrast_sin": jnp.array([0.01])}
        >>> print(at_angles(theta, "contrast", jnp.array([0.0])))
        [0.25]
    """
    phi = jnp.asarray(phi)
    value = jnp.broadcast_to(jnp.asarray(theta[name]), phi.shape)
    cosine, sine = HARMONICS[name]
    if cosine not in theta:
        return value
    c, s = jnp.asarray(theta[cosine]), jnp.asarray(theta[sine])
    angle = jnp.deg2rad(phi)[:, None] * jnp.arange(1, c.shape[-1] + 1)
    return value + jnp.cos(angle) @ c + jnp.sin(angle) @ s


def with_angles(
    space: ParameterSpace, phi: Float[ArrayLike, " n_phi"], how: str, order: int = 2
) -> ParameterSpace:
    """A space whose contrast and offset, vectors along `phi`, depend on the angle as `how` says.

    `individual` and `averaged` leave them a value for each angle. `constant` has one for all, with
    the bounds and the prior declared. `fourier` has a mean over the circle, with these bounds and
    this prior, and `order` cosines and sines. A coefficient that the space does not declare itself
    has a normal prior about 0, whose sd is that of the declared prior over √order: values vary with
    the angle about their mean by as much as the mean itself is uncertain.

    **Raises** `ValueError` for a `how` that there is not, an order for which there are too few
    angles, and values for each angle, fixed or to start at, where there is one for all.

    Examples:
        >>> from scalejax.xpcs import default_space, for_mode
        >>> from scalejax.xpcs.angles import with_angles
        >>> space = for_mode(default_space("static"), "static")
        >>> with_angles(space, [0.0, 45.0, 90.0], "fourier", 1).sizes
        {'harmonic': 1}
    """
    phi = np.ravel(np.asarray(phi, float))
    angles = np.unique(np.round(phi % 360, 6))
    if how not in PER_ANGLE_MODES:
        raise ValueError(f"--per-angle: expected one of {', '.join(PER_ANGLE_MODES)}; got {how!r}")
    if how in ("individual", "averaged"):
        plain = {n: p for n, p in space.items() if n in PER_ANGLE or n not in AMPLITUDES}
        return ParameterSpace(plain).sized(phi=len(phi))
    if how == "fourier" and not 1 <= order <= (len(angles) - 1) / 2:
        raise ValueError(
            f"--order: a series of {order} harmonics needs {2 * order + 1} angles; there are "
            f"{len(angles)}"
        )
    parameters = {}
    for name, parameter in space.items():
        if name in PER_ANGLE:
            parameters |= _shared(name, parameter, space, order if how == "fourier" else 0)
        elif name not in AMPLITUDES:
            parameters[name] = parameter
    result = ParameterSpace(parameters)
    return result.sized(harmonic=order) if how == "fourier" else result


def true_values(
    space: ParameterSpace, truth: Mapping[str, Float[ArrayLike, "..."]]
) -> dict[str, Float[np.ndarray, "..."]]:
    """True values, of contrast and offset the same at each angle, of the parameters of a space."""
    found = {name: np.asarray(truth[name], float) for name in space if name in truth}
    for name, parameter in space.items():
        if name in PER_ANGLE and parameter.dim is None:
            found[name] = np.asarray(found[name].mean())
        elif name not in truth:
            found[name] = np.zeros(space.sizes["harmonic"])
    return found


def _shared(name: str, parameter: Parameter, space: ParameterSpace, order: int):
    if isinstance(parameter.initial, tuple) or parameter.fixed is not None:
        raise ValueError(
            f"{name}: it has a value for each angle, fixed or to start at, and --per-angle asks "
            "for one of all: leave one of the two out"
        )
    found = {name: replace(parameter, dim=None)}
    if not order or parameter.pinned:
        return found
    sigma = (parameter.high - parameter.low) / 4
    if parameter.prior is not None:
        below, above = parameter.prior.ppf(ONE_SD)
        sigma = float(above - below) / 2
    if not math.isfinite(sigma):
        raise ValueError(f"{name}: a Fourier series of it needs a prior or finite bounds")
    default = Parameter(
        -math.inf, math.inf, mu=0.0, sigma=sigma / math.sqrt(order), family="Normal",
        unit=parameter.unit,
    )  # fmt: skip
    for coefficient in HARMONICS[name]:
        declared = space.get(coefficient, default)
        found[coefficient] = replace(declared, dim="harmonic")
    return found
