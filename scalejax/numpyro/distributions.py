"""Coordinates as a NumPyro Transform, and priors as NumPyro distributions.

This module knows nothing of models and sites.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from scalejax.coordinates import AbstractCoordinates
from scalejax.density import Density
from scalejax.scaling import Scaling
from scalejax.space import ParameterSpace


class ScalingTransform(Transform):
    """A Scaling as a NumPyro Transform: z ↦ θ, from real vectors of length P to the bounds.

    Any other coordinates, such as `Whitened`, can take the place of the Scaling.

    That of one scalar group, such as `ScalingTransform(scaling["D0"])`, acts on scalars, for scalar
    sites and for those in a plate. `inv` is θ ↦ z. Two are equal if their Scalings are, by value.

    `ExplicitReparam(ScalingTransform(scaling["D0"]).inv)` moves the site `D0` of a model that is
    already written into normalized space, and leaves its posterior as it is.

    Examples:
        >>> import jax
        >>> import numpyro.distributions as dist
        >>> from scalejax import Scaling
        >>> from scalejax.numpyro import ScalingTransform
        >>> transform = ScalingTransform(Scaling(0.5, 0.25, low=0.0, high=[1.0, 2.0]))
        >>> theta = dist.TransformedDistribution(dist.Normal(0, 1).expand([2]), transform)
        >>> theta.event_shape, theta.sample(jax.random.key(0), (5,)).shape
        ((2,), (5, 2))
    """

    scaling: AbstractCoordinates

    def __init__(self, scaling: AbstractCoordinates):
        self.scaling = scaling

    @property
    def domain(self) -> Constraint:
        """All real vectors, or numbers."""
        return constraints.real if _is_scalar(self.scaling) else constraints.real_vector

    @property
    def codomain(self) -> Constraint:
        """The bounds of the Scaling."""
        return _Bounds(self.scaling)

    @property
    def sign(self) -> int:
        """1: θ rises with z."""
        return 1

    def __call__(self, x):
        """θ(z)."""
        return self.call_with_intermediates(x)[0]

    def call_with_intermediates(self, x):
        """θ(z), and log |det ∂θ/∂z| for `log_abs_det_jacobian` to take up."""
        if _is_scalar(self.scaling):
            theta, log_det = self.scaling.to_original_and_log_det(jnp.expand_dims(x, -1))
            return theta[..., 0], log_det
        return self.scaling.to_original_and_log_det(x)

    def _inverse(self, y):
        if _is_scalar(self.scaling):
            return self.scaling.to_normalized(jnp.expand_dims(y, -1))[..., 0]
        return self.scaling.to_normalized(y)

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        """log |det ∂θ/∂z| at z = x; y is not looked at."""
        return self.call_with_intermediates(x)[1] if intermediates is None else intermediates

    def tree_flatten(self):
        """The Scaling is the one child."""
        return (self.scaling,), (("scaling",), {})

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether the other is of the same kind, with an equal Scaling."""
        return type(other) is type(self) and _equal(self.scaling, other.scaling, static)


class DeclaredPrior(dist.Distribution):
    """The declared priors of a space as one distribution; `declared_prior` makes it.

    `log_prob`, `sample` and `icdf` (the quantiles of each element) act on vectors θ of length P in
    physical units. `scaling` is that of the `matched` rule: in its coordinates NumPyro samples a
    site with this distribution.
    """

    pytree_data_fields = ("scaling", "density")
    scaling: Scaling
    density: Density

    def __init__(self, scaling: Scaling, density: Density, *, validate_args: bool | None = None):
        self.scaling, self.density = scaling, density
        super().__init__(event_shape=(scaling.size,), validate_args=validate_args)

    @property
    def support(self) -> Constraint:
        """The bounds of the priors, which may be narrower than those of the parameters."""
        bounds = _Bounds(self.scaling)
        return constraints.independent(bounds, 1 - bounds.event_dim)

    def log_prob(self, value, intermediates=None):
        """The log-density of θ, shape (…, P), summed over the last axis; −inf off the support."""
        del intermediates
        return self.density.log_prob(value).sum(-1)

    def sample(self, key, sample_shape=()):
        """Draws of θ, of shape (*sample_shape, P), strictly inside the bounds."""
        assert key is not None
        return self.density.sample(key, sample_shape)

    def icdf(self, q):
        """The quantile q of each element, for q that broadcasts against (P,)."""
        return self.density.quantile(q)


class NormalPrior(eqx.Module):
    """Normal(0, scale) on every z of the root's; `normal_prior` makes it."""

    scale: Any


def normal_prior(scale: Any = 1.0) -> NormalPrior:
    """The normal prior: z of the Scaling beneath is Normal(0, scale) in every element.

    The prior on θ is then its image under the Scaling, which is another one for every rule.

    **Raises** `ValueError` for a scale that is not positive.

    Examples:
        >>> from scalejax.numpyro import normal_prior
        >>> normal_prior(2.0)
        NormalPrior(scale=2.0)
    """
    return NormalPrior(positive("scale", scale))


def declared_prior(space: ParameterSpace) -> DeclaredPrior:
    """The declared priors of a space, independent of each other, as one NumPyro distribution.

    Its event is θ, of shape (P,), in the order of `Scaling.from_space(space)`. A parameter
    without a declared prior has a flat one between its bounds; one that is pinned contributes
    nothing. Their densities are normalised over the bounds.

    **Raises** `ValueError` as `Scaling.from_space` does.

    Examples:
        >>> from scalejax import Parameter, ParameterSpace
        >>> from scalejax.numpyro import declared_prior
        >>> space = ParameterSpace(contrast=Parameter(0, 1, mu=0.1, sigma=0.1, dim="phi"),
        ...                        D0=Parameter(100, 1e5, mu=1000, sigma=1000))
        >>> prior = declared_prior(space.sized(phi=3))
        >>> print(prior.event_shape, prior.icdf(0.5).round(2))
        (4,) [1.20000e-01 1.20000e-01 1.20000e-01 1.23277e+03]
    """
    return DeclaredPrior(Scaling.from_space(space), Density.from_space(space))


def positive(name: str, value: Any) -> Any:
    """The value; **raises** `ValueError` where it is known and not above 0."""
    if not isinstance(value, Tracer) and not value > 0:
        raise ValueError(f"{name} must be positive; got {value}")
    return value


def pulled_back(prior: dist.Distribution, scaling: AbstractCoordinates) -> dist.Distribution:
    """The distribution of z under which θ has the given one.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpyro.distributions as dist
        >>> from scalejax import Scaling
        >>> from scalejax.numpyro.distributions import pulled_back
        >>> scaling = Scaling(0.5, 0.25, low=0.0, high=[1.0, 1.0])
        >>> z = pulled_back(dist.Uniform(0, 1).expand([2]).to_event(1), scaling)
        >>> print(jnp.exp(z.log_prob(jnp.zeros(2))))
        0.0625
    """
    return dist.TransformedDistribution(prior, _Proper(scaling).inv)


def normal_of_root(scale: Any, coordinates: AbstractCoordinates) -> dist.Distribution:
    """The normal prior, which is one on the root's z, in these coordinates."""
    normal = dist.Normal(0.0, scale).expand([coordinates.size]).to_event(1)
    if coordinates.root is coordinates:
        return normal
    return dist.TransformedDistribution(normal, _ToRoot(coordinates).inv)


class _Bounds(Constraint):
    """θ within the bounds of a Scaling."""

    def __init__(self, scaling: AbstractCoordinates):
        self.scaling = scaling

    @property
    def event_dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0 if _is_scalar(self.scaling) else 1

    def __call__(self, x):
        low, high = self.scaling.low, self.scaling.high
        if _is_scalar(self.scaling):
            return (low[0] <= x) & (x <= high[0])
        return ((low <= x) & (x <= high)).all(-1)

    def feasible_like(self, prototype):
        return ScalingTransform(self.scaling)(jnp.zeros_like(prototype))

    def tree_flatten(self):
        return (self.scaling,), (("scaling",), {})

    def eq(self, other: object, static: bool = False) -> Any:
        return isinstance(other, _Bounds) and _equal(self.scaling, other.scaling, static)


class _Proper(ScalingTransform):
    """A ScalingTransform to sample through: z of a pinned parameter, which no density depends on,
    is given a normal one, lest a chain wander off along it."""

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        log_det = super().log_abs_det_jacobian(x, y, intermediates)
        z = jnp.expand_dims(x, -1) if _is_scalar(self.scaling) else x
        return log_det + self.scaling.log_density_of_pinned(z)


class _ToRoot(Transform):
    """From coordinates to those of their root."""

    def __init__(self, coordinates: AbstractCoordinates):
        self.coordinates = coordinates

    @property
    def domain(self) -> Constraint:
        return constraints.real_vector

    @property
    def codomain(self) -> Constraint:
        return constraints.real_vector

    def __call__(self, x):
        return self.coordinates.to_root_and_log_det(x)[0]

    def _inverse(self, y):
        return self.coordinates.from_root(y)

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        return self.coordinates.to_root_and_log_det(x)[1]

    def tree_flatten(self):
        return (self.coordinates,), (("coordinates",), {})


biject_to.register(_Bounds, lambda constraint: _Proper(constraint.scaling))


def _is_scalar(scaling: AbstractCoordinates) -> bool:
    return len(scaling) == 1 and scaling.groups[0].size is None


def _equal(one: Any, other: Any, static: bool) -> Any:
    """Whether two pytrees are equal by value; of traced ones, if `static`, whether the same."""
    (leaves, tree), (others, other_tree) = jax.tree.flatten(one), jax.tree.flatten(other)
    if tree != other_tree:
        return False
    result = True
    for leaf, other_leaf in zip(leaves, others, strict=True):
        if leaf is other_leaf:
            continue
        if isinstance(leaf, Tracer) or isinstance(other_leaf, Tracer):
            result = False if static else result & jnp.array_equal(leaf, other_leaf)
        else:
            result = result & np.array_equal(leaf, other_leaf)
    return result
