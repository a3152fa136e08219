"""Functions of homodyne's scaling module, under their names, on top of `Scaling`.

For code that is moving over: one Scaling takes the place of a dictionary of objects.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scalejax.families import Prior
from scalejax.groups import Group
from scalejax.scaling import Scaling
from scalejax.xpcs.homodyne.rule import center_and_scale, report_distortion
from scalejax.xpcs.parameters import PER_ANGLE, PHYSICAL

logger = logging.getLogger(__name__)


@runtime_checkable
class SupportsBoundsAndPriors(Protocol):
    """What `compute_scaling_factors` asks of a parameter space."""

    def get_bounds(self, name: str) -> tuple[float, float]:
        """(low, high), or KeyError."""
        ...

    def get_prior(self, name: str) -> Any:
        """An object with `mu` and `sigma`, either of which may be missing or None, or KeyError."""
        ...


def compute_scaling_factors(
    parameter_space: SupportsBoundsAndPriors, n_phi: int, analysis_mode: str
) -> Scaling:
    """One Scaling under the homodyne rule: contrast (n_phi), offset (n_phi), then the physical.

    A physical parameter that the space does not have is skipped with a warning. Where there is no
    prior, the midpoint and a quarter of the range stand in. A warning says which declared priors
    the rule distorts (see `report_distortion`).

    **Raises** `ValueError` for a mode other than `static` and `laminar_flow` and for n_phi < 1;
    `KeyError` for a space without contrast or offset.

    Examples:
        >>> from scalejax import Parameter, ParameterSpace
        >>> from scalejax.xpcs.homodyne import compute_scaling_factors
        >>> space = ParameterSpace(contrast=Parameter(0, 1), offset=Parameter(0.5, 1.5),
        ...                        D0=Parameter(100, 1e5, mu=1000, sigma=1000),
        ...                        alpha=Parameter(-2, 2), D_offset=Parameter(-1e5, 1e5))
        >>> scaling = compute_scaling_factors(space, 3, "static")
        >>> scaling.size, float(scaling["D0"].scale[0])
        (9, 9990.0)
    """
    if analysis_mode not in PHYSICAL:
        raise ValueError(
            f"analysis_mode: expected one of {', '.join(PHYSICAL)}; got {analysis_mode!r}"
        )
    if n_phi < 1:
        raise ValueError(f"n_phi: expected at least 1; got {n_phi}")
    groups = [Group(name, n_phi, "phi") for name in PER_ANGLE]
    groups += [Group(name) for name in PHYSICAL[analysis_mode]]
    present, columns = [], []
    for group in groups:
        try:
            low, high = parameter_space.get_bounds(group.name)
        except KeyError:
            if group.name in PER_ANGLE:
                raise
            logger.warning("parameter %s is not in the parameter space: skipped", group.name)
            continue
        try:
            prior = parameter_space.get_prior(group.name)
        except KeyError:
            prior = None
        mu, sigma = getattr(prior, "mu", None), getattr(prior, "sigma", None)
        center, scale = center_and_scale(low, high, mu, sigma)
        if mu is not None and sigma is not None and low < high:
            if not isinstance(prior, Prior):
                prior = Prior("TruncatedNormal", mu, sigma, low, high)
            report_distortion(group.name, prior, center, scale, low, high)
        present.append(group)
        columns.append((center, scale, low, high))
    return Scaling.from_groups(present, columns)


def log_scaling_factors(scaling: Scaling) -> None:
    """Log a Scaling through `logging`: a headline (INFO), then each parameter (DEBUG)."""
    logger.info("scaling of %d parameters: %s", scaling.size, ", ".join(scaling.names))
    arrays = (np.asarray(a) for a in (scaling.center, scaling.scale, scaling.low, scaling.high))
    for name, center, scale, low, high in zip(scaling.flat_names, *arrays, strict=True):
        logger.debug(
            "  %s: center=%.4g, scale=%.4g, bounds=[%.4g, %.4g]", name, center, scale, low, high
        )
