"""The parameters of the two-time correlation models: names, modes, units, defaults.

The one place where they are listed. It knows nothing of Scalings, arrays or samplers.
"""

from __future__ import annotations

import math

from scalejax.space import Parameter, ParameterSpace

PER_ANGLE = ("contrast", "offset")
"""One of each for every scattering angle: vectors along `phi`."""

DIFFUSION = ("D0", "alpha", "D_offset")
SHEAR = ("gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")

PHYSICAL = {"static": DIFFUSION, "laminar_flow": DIFFUSION + SHEAR}
"""The physical parameters of each mode, in order."""

UNITS = {
    "contrast": "",
    "offset": "",
    "D0": "Å²/s",
    "alpha": "",
    "D_offset": "Å²/s",
    "gamma_dot_t0": "s⁻¹",
    "beta": "",
    "gamma_dot_t_offset": "s⁻¹",
    "phi0": "°",
    "sigma": "",
}

NOISE = Parameter(0.0, math.inf, mu=math.log(0.01), sigma=1.0, family="LogNormal")
"""The standard deviation of the noise on c2, where a space does not state its own `sigma`: 68 % of
the prior lies between 0.0037 and 0.027."""


def for_mode(space: ParameterSpace, mode: str) -> ParameterSpace:
    """The part of a space that a mode's model needs, in the order of the model, with the noise.

    **Raises** `ValueError` for a mode that there is not, and for a parameter that is missing or,
    if it has one value an angle, not a vector along `phi`.

    Examples:
        >>> from scalejax.xpcs import default_space, for_mode
        >>> list(for_mode(default_space("laminar_flow"), "static"))
        ['contrast', 'offset', 'D0', 'alpha', 'D_offset', 'sigma']
    """
    check_mode(mode)
    names = PER_ANGLE + PHYSICAL[mode]
    if missing := [name for name in names if name not in space]:
        raise ValueError(f"the {mode} model needs {', '.join(missing)}: not in the space")
    for name in names:
        expected = "phi" if name in PER_ANGLE else None
        if space[name].dim != expected:
            raise ValueError(
                f"parameter {name!r}: expected dim={expected!r}; got {space[name].dim!r}"
            )
    noise = space.get("sigma", NOISE)
    if noise.low < 0 or noise.high <= 0:
        raise ValueError(
            f"parameter 'sigma': a standard deviation has bounds from 0 on; got [{noise.low}, "
            f"{noise.high}]"
        )
    chosen = {name: space[name] for name in names}
    if noise.pinned and all(parameter.pinned for parameter in chosen.values()):
        raise ValueError("every parameter is fixed: there is nothing to fit")
    return ParameterSpace(chosen, sigma=noise)


def check_mode(mode: str) -> None:
    """Raise for a mode that there is not."""
    if mode not in PHYSICAL:
        raise ValueError(f"mode: expected one of {', '.join(PHYSICAL)}; got {mode!r}")
