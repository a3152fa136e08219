"""scalejax: every parameter of a physical model at the same scale, for gradient-based samplers."""

from scalejax.bounds import Kind as Kind
from scalejax.coordinates import AbstractCoordinates as AbstractCoordinates
from scalejax.coordinates import AbstractLayer as AbstractLayer
from scalejax.families import Distribution as Distribution
from scalejax.families import Prior as Prior
from scalejax.groups import Group as Group
from scalejax.nested import NestedLaplace as NestedLaplace
from scalejax.scaling import Scaling as Scaling
from scalejax.space import Parameter as Parameter
from scalejax.space import ParameterSpace as ParameterSpace
from scalejax.whitened import Reflected as Reflected
from scalejax.whitened import Whitened as Whitened
from scalejax.whitened import WhitenedLowRank as WhitenedLowRank

__version__ = "0.1.0"
