"""How far out of balance gradients are, in θ and in other coordinates.

It takes a log-density and coordinates, of any kind. It knows no sampler, draws nothing and prints
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.coordinates import AbstractCoordinates

HESSIAN_LIMIT = 2000
# Of a condition number, and of a variance inflation: what lies above costs a sampler more than
# three times the steps, √10.
LIMIT = 10.0


@dataclass(frozen=True)
class Pair:
    """Two parameters that go together, and their correlation."""

    names: tuple[str, str]
    correlation: float


@dataclass(frozen=True, eq=False)
class GradientBalance:
    """What `gradient_balance` found, for the free parameters: those that are not pinned.

    A gradient is that of the log-density with respect to θ, and that of its pullback with respect
    to z, which is what a sampler follows. The curvature is the negative Hessian of the same.
    """

    names: tuple[str, ...]
    """Flat names of the free parameters."""
    groups: tuple[str, ...]
    """The group of each."""
    theta: Float[np.ndarray, " free"]
    """|∂/∂θ|: the median over points, each in one over the unit of its parameter."""
    theta_range: Float[np.ndarray, "2 free"]
    """The 10 % and 90 % quantiles over points."""
    z: Float[np.ndarray, " free"]
    """|∂/∂z|: the median over points."""
    z_range: Float[np.ndarray, "2 free"]
    curvature_theta: Float[np.ndarray, " free"] | None
    """Eigenvalues, rising, of the curvature in θ, at the point of highest density; None if there
    are more than 2000 parameters."""
    curvature_z: Float[np.ndarray, " free"] | None
    """The same in z."""
    curvature_scaled: Float[np.ndarray, " free"] | None
    """The same in z after a diagonal scaling by the widths that it implies, which is what a
    diagonal mass matrix comes to."""
    inflation: Float[np.ndarray, " free"] | None
    """Variance inflation of each parameter: its variance over what it would be if all others were
    known. 1 where it is correlated to none; no diagonal scaling changes it."""
    pairs: tuple[Pair, ...]
    """Pairs whose two parameters alone have a condition number above 10 whatever their scales
    (|correlation| above 0.82), the strongest first."""

    @property
    def spread_theta(self) -> float:
        """Largest over smallest |∂/∂θ|; infinite where the smallest is 0."""
        return _ratio(self.theta)

    @property
    def spread_z(self) -> float:
        """Largest over smallest |∂/∂z|; infinite where the smallest is 0."""
        return _ratio(self.z)

    @property
    def condition_theta(self) -> float | None:
        """Condition number of the curvature in θ."""
        return _condition(self.curvature_theta)

    @property
    def condition_z(self) -> float | None:
        """Condition number of the curvature in z."""
        return _condition(self.curvature_z)

    @property
    def condition_scaled(self) -> float | None:
        """Condition number of the curvature in z after a diagonal scaling."""
        return _condition(self.curvature_scaled)

    @property
    def negative(self) -> int:
        """How many directions of z the density curves upwards in; at a mode none does."""
        return 0 if self.curvature_z is None else int((self.curvature_z <= 0).sum())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings and lists, for JSON."""
        fields = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        derived = ("spread_theta", "spread_z", "condition_theta", "condition_z",
                   "condition_scaled", "negative")  # fmt: skip
        return {
            **fields,
            "names": list(self.names),
            "groups": list(self.groups),
            "pairs": [[*pair.names, pair.correlation] for pair in self.pairs],
            **{name: getattr(self, name) for name in derived},
        }

    def __str__(self) -> str:
        """In a table and a few lines, for people."""
        width = max(map(len, (*self.names, "parameter")))
        lines = [f"{'parameter':<{width}}  {'|∂/∂θ|':>9}  {'|∂/∂z|':>9}"]
        lines += [
            f"{name:<{width}}  {theta:>9.2e}  {z:>9.2e}"
            for name, theta, z in zip(self.names, self.theta, self.z, strict=True)
        ]
        lines.append(f"{'spread':<{width}}  {self.spread_theta:>9.2g}  {self.spread_z:>9.2g}")
        return "\n".join([*lines, *self._verdict()])

    def _verdict(self) -> list[str]:
        if self.inflation is None:
            return [f"curvature: left out, for more than {HESSIAN_LIMIT} parameters"]
        lines = [
            f"condition number of the curvature: {self.condition_theta:.2g} in θ, "
            f"{self.condition_z:.2g} in z, {self.condition_scaled:.2g} after a diagonal scaling"
        ]
        if self.negative:
            lines.append(
                f"the density curves upwards in {self.negative} directions: this is no mode, and "
                "the condition numbers are those of the sizes of the curvature"
            )
        bound: dict[str, float] = {}
        for group, inflation in zip(self.groups, self.inflation, strict=True):
            if inflation > LIMIT:
                bound[group] = max(inflation, bound.get(group, 0.0))
        if bound:
            named = [f"{g} (×{x:.2g})" for g, x in sorted(bound.items(), key=lambda x: -x[1])]
            lines.append(
                "no diagonal scaling will do: by the others, the variance is inflated of "
                + ", ".join(named)
            )
        if self.pairs:
            lines.append(f"correlated pairs: {', '.join(self._named_pairs())}")
        return lines

    def _named_pairs(self) -> list[str]:
        """The pairs, those of the same two groups together."""
        group = dict(zip(self.names, self.groups, strict=True))
        found: dict[tuple[str, str], list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault((group[pair.names[0]], group[pair.names[1]]), []).append(pair)
        return [
            f"{' and '.join(pairs[0].names)} ({pairs[0].correlation:+.3f})"
            if len(pairs) == 1
            else f"{' and '.join(groups)} ({len(pairs)} pairs, to {pairs[0].correlation:+.3f})"
            for groups, pairs in found.items()
        ]


def gradient_balance(
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    scaling: AbstractCoordinates,
    z: Float[ArrayLike, "*batch P"],
) -> GradientBalance:
    """The sizes of the gradients in θ and in z, and the curvature's condition numbers.

    `log_density` is a function of θ, of shape (P,); `scaling` any coordinates; `z` one point or a
    batch of them, in those coordinates. The curvature is taken at the point of highest density.

    A scaling that gives the inverse curvature a unit diagonal is within a factor P of the best
    diagonal one (van der Sluis 1969, doi:10.1007/BF02165096).

    **Raises** `ValueError` for a z that does not fit, and where the density or its gradient is not
    finite at some point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax import Scaling
        >>> from scalejax.diagnostics import gradient_balance
        >>> scaling = Scaling(0.0, [1.0, 1e3], low=-1e5, high=1e5, groups={"a": None, "b": None})
        >>> def log_density(theta):
        ...     return -((theta[0] - 1) ** 2) / 2 - (theta[1] / 1e3 + 1) ** 2 / 2
        >>> balance = gradient_balance(log_density, scaling, jnp.zeros(2))
        >>> f"{balance.spread_theta:.3g}, {balance.spread_z:.3g}, {balance.condition_z:.3g}"
        '1e+03, 1, 1'
    """
    points = jnp.asarray(z, scaling.low.dtype)
    if points.ndim == 0 or points.shape[-1] != scaling.size:
        raise ValueError(f"z: expected shape (…, {scaling.size}); got {points.shape}")
    points = points.reshape(-1, scaling.size)

    def of_theta(theta):
        return jnp.asarray(log_density(theta))

    of_z = scaling.pullback(of_theta)
    value, gradient_z = jax.jit(jax.vmap(jax.value_and_grad(of_z)))(points)
    gradient_theta = jax.jit(jax.vmap(lambda w: jax.grad(of_theta)(scaling.to_original(w))))(points)
    free = ~np.asarray(scaling.pinned)
    in_z, in_theta = (
        np.abs(np.asarray(g, np.float64))[:, free] for g in (gradient_z, gradient_theta)
    )
    labels = [(name, group.name) for group in scaling.groups for name in group.flat_names]
    names, groups = zip(*(labels[i] for i in np.flatnonzero(free)), strict=True)
    for label, sizes in (("θ", in_theta), ("z", in_z)):
        if not (finite := np.isfinite(sizes)).all():
            point, i = np.argwhere(~finite)[0]
            raise ValueError(
                f"log_density: its gradient with respect to {label} of {names[i]!r} is "
                f"{sizes[point, i]} at point {point}; expected a finite number"
            )
    spectra: tuple[Any, ...] = (None, None, None, None)
    pairs: tuple[Pair, ...] = ()
    if free.sum() <= HESSIAN_LIMIT:
        best = points[int(np.argmax(np.asarray(value)))]
        curvature_z = _curvature(of_z, best, free)
        curvature_theta = _curvature(of_theta, scaling.to_original(best), free)
        correlation = _correlation(curvature_z)
        spectra = (
            np.linalg.eigvalsh(curvature_theta),
            np.linalg.eigvalsh(curvature_z),
            np.sort(1 / np.linalg.eigvalsh(correlation)),
            np.diag(np.linalg.inv(correlation)),
        )
        pairs = _pairs(correlation, names)
    medians = [np.median(sizes, 0) for sizes in (in_theta, in_z)]
    ranges = [np.quantile(sizes, [0.1, 0.9], axis=0) for sizes in (in_theta, in_z)]
    return GradientBalance(
        names, groups, medians[0], ranges[0], medians[1], ranges[1], *spectra, pairs=pairs
    )


def _curvature(log_density, point, free) -> np.ndarray:
    matrix = -np.asarray(jax.jit(jax.hessian(log_density))(point), np.float64)[np.ix_(free, free)]
    return (matrix + matrix.T) / 2


def _correlation(curvature: np.ndarray) -> np.ndarray:
    """Of the Gaussian with this curvature, or, where it has none, with the size of it."""
    values, vectors = np.linalg.eigh(curvature)
    sizes = np.maximum(np.abs(values), np.abs(values).max() * 1e-15)
    covariance = (vectors / sizes) @ vectors.T
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


def _pairs(correlation: np.ndarray, names: tuple[str, ...]) -> tuple[Pair, ...]:
    i, j = np.triu_indices(len(names), k=1)
    r = correlation[i, j]
    strong = 1 + np.abs(r) > LIMIT * (1 - np.abs(r))
    order = np.flatnonzero(strong)[np.argsort(-np.abs(r[strong]))]
    return tuple(Pair((names[i[k]], names[j[k]]), float(r[k])) for k in order)


def _ratio(sizes: np.ndarray) -> float:
    return float(sizes.max() / sizes.min()) if sizes.min() > 0 else float("inf")


def _condition(values: np.ndarray | None) -> float | None:
    return None if values is None else _ratio(np.abs(values))
