"""scalejax: every parameter of a physical model at the same scale, for gradient-based samplers."""

from scalejax.coordinates import AbstractCoordinates as AbstractCoordinates
from scalejax.coordinates import Group as Group
from scalejax.homodyne import (
    compute_scaling_factors as compute_scaling_factors,
)
from scalejax.homodyne import (
    log_scaling_factors as log_scaling_factors,
)
from scalejax.scaling import Scaling as Scaling
from scalejax.space import Parameter as Parameter
from scalejax.space import ParameterSpace as ParameterSpace
from scalejax.space import Prior as Prior
from scalejax.whitened import Whitened as Whitened
from scalejax.whitened import WhitenedLowRank as WhitenedLowRank

__version__ = "0.1.0"
