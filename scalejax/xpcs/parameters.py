"""The parameters of the two-time correlation models: names, modes, units, defaults.

The one place where they are listed. It knows nothing of Scalings, arrays or samplers.
"""

from __future__ import annotations

import math

from scalejax.space import Parameter, ParameterSpace

PER_ANGLE = ("contrast", "offset")
"""One of each for every scattering angle: vectors along `phi`."""

HARMONICS = {name: (f"{name}_cos", f"{name}_sin") for name in PER_ANGLE}
"""The coefficients of their Fourier series in the angle, each a vector along `harmonic`."""

AMPLITUDES = tuple(name for of in PER_ANGLE for name in (of, *HARMONICS[of]))
"""All in which c2 is linear."""

DIFFUSION = ("D0", "alpha", "D_offset")
SHEAR = ("gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
TWO_COMPONENTS = (
    *("D0_ref", "alpha_ref", "D_offset_ref"),
    *("D0_sample", "alpha_sample", "D_offset_sample"),
    *("v0", "v_beta", "v_offset"),
    *("f0", "f1", "f2", "f3"),
    "phi0_het",
)

PHYSICAL = {
    "static": DIFFUSION,
    "laminar_flow": DIFFUSION + SHEAR,
    "two_component": TWO_COMPONENTS,
}
"""The physical parameters of each mode, in order."""

ALIASES = {
    "static_isotropic": "static",
    "static_anisotropic": "static",
    "heterodyne": "two_component",
    "two-component": "two_component",
}
"""Other names of modes, in configurations."""

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
    "D0_ref": "Å²/s",
    "alpha_ref": "",
    "D_offset_ref": "Å²/s",
    "D0_sample": "Å²/s",
    "alpha_sample": "",
    "D_offset_sample": "Å²/s",
    "v0": "Å/s",
    "v_beta": "",
    "v_offset": "Å/s",
    "f0": "",
    "f1": "s⁻¹",
    "f2": "s",
    "f3": "",
    "phi0_het": "°",
    "sigma": "",
}

NOISE = Parameter(0.0, math.inf, mu=math.log(0.01), sigma=1.0, family="LogNormal")
"""The standard deviation of the noise on c2, where a space does not state its own `sigma`: 68 % of
the prior lies between 0.0037 and 0.027."""


def for_mode(space: ParameterSpace, mode: str) -> ParameterSpace:
    """The part of a space that a mode's model needs, in the order of the model, with the noise.

    Coefficients of `HARMONICS` stay where the space has them.

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
    declared = [name for name in AMPLITUDES if name in space and name not in PER_ANGLE]
    chosen = {name: space[name] for name in (*names, *declared)}
    if noise.pinned and all(parameter.pinned for parameter in chosen.values()):
        raise ValueError("every parameter is fixed: there is nothing to fit")
    return ParameterSpace(chosen, sigma=noise)


def check_mode(mode: str) -> None:
    """Raise for a mode that there is not."""
    if mode not in PHYSICAL:
        raise ValueError(f"mode: expected one of {', '.join(PHYSICAL)}; got {mode!r}")
