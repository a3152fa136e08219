"""Pictures of gradients, maps, priors and posteriors: returned, not shown and not written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import arviz as az
import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from scalejax.coordinates import AbstractCoordinates, AbstractLayer
from scalejax.density import Density, declared_or_flat
from scalejax.diagnostics import GradientBalance
from scalejax.nested import NestedLaplace
from scalejax.scaling import Scaling
from scalejax.space import Parameter, ParameterSpace

# Okabe and Ito's palette, which the colour-blind can tell apart.
POSTERIOR, PRIOR, TRUTH = "#0072B2", "#999999", "#D55E00"


def gradients(balances: Mapping[str, GradientBalance], *, ax: Axes | None = None) -> Axes:
    """Sizes of gradients, a column a parameter: median, and the middle 80 % over points.

    `balances` has those of one density in different coordinates, by the names of these: drawn are
    the gradients in θ, of the first, and in z, of each.
    """
    first = next(iter(balances.values()))
    axis = _axes(ax, figsize=(max(5.0, 0.33 * len(first.names) + 1.5), 3.8))
    at = np.arange(len(first.names))
    rows = [("∂/∂θ", first.theta, first.theta_range, first.spread_theta)]
    rows += [(f"∂/∂z, {name}", b.z, b.z_range, b.spread_z) for name, b in balances.items()]
    for (name, sizes, (low, high), spread), (color, marker) in zip(rows, _STYLES, strict=False):
        axis.vlines(at, low, high, color=color, alpha=0.4, linewidth=3)
        label = f"{name}: largest / smallest {spread:.2g}"
        axis.plot(at, sizes, marker, color=color, label=label)
    axis.set_yscale("log")
    axis.set_xlim(-1, len(at))
    axis.set_xticks(at, first.names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_ylabel("|gradient of log-density|\n(per unit of the parameter, or of z)")
    return _finished(axis)


def curvature(balances: Mapping[str, GradientBalance], *, ax: Axes | None = None) -> Axes:
    """Eigenvalues of the curvature, in θ, of the first of `balances`, and in z, of each.

    Where the density curves upwards, the size of the eigenvalue is drawn, hollow.

    **Raises** `ValueError` for a balance without a spectrum, of more than 2000 parameters.
    """
    axis = _axes(ax, figsize=(6.0, 3.8))
    first = next(iter(balances.values()))
    rows = [("in θ", first.curvature_theta, first.condition_theta)]
    rows += [(f"in z, {name}", b.curvature_z, b.condition_z) for name, b in balances.items()]
    for (name, values, condition), (color, marker) in zip(rows, _STYLES, strict=False):
        if values is None:
            raise ValueError(f"curvature {name}: not known, for there are too many parameters")
        at, down = np.arange(1, len(values) + 1), values > 0
        label = f"{name}: condition number {condition:.2g}"
        axis.plot(at, np.where(down, values, np.nan), marker, color=color, label=label)
        axis.plot(at, np.where(down, np.nan, -values), marker, color=color, fillstyle="none")
    axis.set_yscale("log")
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("eigenvalue, counted from the smallest")
    axis.set_ylabel("curvature of log-density")
    return _finished(axis)


_STYLES = ((PRIOR, "s"), (POSTERIOR, "o"), (TRUTH, "^"), ("#009E73", "v"), ("#CC79A7", "D"))


def _finished(axis: Axes, *, columns: int = 1) -> Axes:
    """With a legend above, where no point can be."""
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False)
    return axis


def mapping(scaling: Scaling, name: str, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """θ(z) of a parameter with its bounds, and on a second axis the derivative.

    Of a vector, its first element.
    """
    axis = _axes(ax, figsize=(4.5, 3.2))
    part = scaling[name]
    z = np.linspace(-4, 4, 201)
    at = np.broadcast_to(z[:, None], (z.size, part.size))
    theta, log_slope = (np.asarray(x)[:, 0] for x in part.forward_and_log_derivative(at))
    label = f"{name} ({unit})" if unit else name
    axis.plot(z, theta, color=POSTERIOR)
    axis.set_xlabel("z")
    axis.set_ylabel(label, color=POSTERIOR)
    for bound in (float(part.low[0]), float(part.high[0])):
        if theta.min() - np.ptp(theta) / 4 < bound < theta.max() + np.ptp(theta) / 4:
            axis.axhline(bound, color="black", linewidth=0.8, linestyle=":", label="bound")
    slope = axis.twinx()
    slope.plot(z, np.exp(log_slope), color=TRUTH, linestyle="--")
    slope.set_ylabel(f"derivative{f' ({unit})' if unit else ''}", color=TRUTH)
    slope.set_ylim(0, 1.08 * np.exp(log_slope.max()))
    return axis


def priors(
    scaling: Scaling,
    space: ParameterSpace,
    name: str,
    *,
    prior_scale: float = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """The declared prior of one parameter, beside the image of Normal(0, prior_scale) on z."""
    axis = _axes(ax, figsize=(4.5, 3.2))
    declared, image = _declared(name, space[name]), _normal(scaling[name], prior_scale)
    ends = np.concatenate([np.ravel(p.ppf(np.array([0.005, 0.995])))
                           for p in (declared, image)])  # fmt: skip
    theta = np.linspace(ends.min(), ends.max(), 400)
    axis.fill_between(theta, np.exp(declared.log_density(theta)), color=PRIOR, alpha=0.5,
                      linewidth=0, label="declared prior")  # fmt: skip
    axis.plot(theta, np.exp(image.log_density(theta)), color=POSTERIOR, label="normal prior on z")
    axis.set_xlabel(space.label(name))
    axis.set_ylabel("density")
    axis.set_yticks([])
    axis.set_ylim(bottom=0)
    axis.locator_params(axis="x", nbins=4)
    return axis


def maps(scaling: Scaling, space: ParameterSpace) -> Figure:
    """For every parameter that is not pinned, `mapping` and `priors` side by side."""
    names = [name for name in scaling.names if not space[name].pinned]
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(15, 2.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False).reshape(-1, 2)
    for pair in axes[len(names) :]:
        for axis in pair:
            axis.set_axis_off()
    for name, (left, right) in zip(names, axes, strict=False):
        unit = space[name].unit
        mapping(scaling, name, unit="" if unit == "dimensionless" else unit, ax=left)
        priors(scaling, space, name, ax=right)
    _shared_legend(figure)
    return figure


def warmup(
    step_size: Float[ArrayLike, "chain draw"],
    trace: Float[ArrayLike, "chain draw"],
    *,
    label: str,
    figure: Figure | None = None,
) -> Figure:
    """Step sizes and draws of a parameter during warmup, a line a chain; `label` names the latter.

    NumPyro collects both by `mcmc.warmup(key, extra_fields=("adapt_state.step_size",),
    collect_warmup=True)`.
    """
    figure = Figure(figsize=(7.0, 4.6), layout="constrained") if figure is None else figure
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axis, values in ((upper, trace), (lower, step_size)):
        for i, chain in enumerate(np.asarray(values)):
            axis.plot(chain, color=_STYLES[1:][i % 4][0], linewidth=0.8, label=f"chain {i + 1}")
        axis.grid(axis="y", alpha=0.3)
    upper.set_ylabel(label)
    lower.set_yscale("log")
    lower.set_ylabel("step size")
    lower.set_xlabel("draw of the warmup")
    _shared_legend(figure)
    return figure


def _shared_legend(figure: Figure) -> None:
    """One legend above all panels, each entry once."""
    handles = {}
    for axis in figure.axes:
        found, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper right", ncols=4, frameon=False
    )


def _axes(ax: Axes | None, **options) -> Axes:
    """The one given, or that of a new figure."""
    return Figure(layout="constrained", **options).subplots() if ax is None else ax


def marginals(
    result: az.InferenceData,
    scaling: Scaling,
    space: ParameterSpace,
    truth: Mapping[str, np.ndarray] | None = None,
    *,
    prior_scale: float | None = None,
    dims: Mapping[str, str] | None = None,
) -> Figure:
    """Posterior of every parameter that is not pinned, with its prior and, if known, its truth.

    A panel a group: a histogram for a scalar, 5 %–95 % intervals along its dimension for a vector.
    The prior is the declared one, or, if `prior_scale` is given, the image of
    Normal(0, prior_scale) under the Scaling. `dims` has labels of dimensions, as
    `{"phi": "φ (°)"}`.
    """
    groups = [group for group in scaling.groups if not space[group.name].pinned]
    columns = min(4, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(3.5 * columns, 2.9 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(groups) :]:
        axis.set_axis_off()
    for group, axis in zip(groups, axes[: len(groups)], strict=True):
        draws = result["posterior"][group.name]
        true = None if truth is None else np.atleast_1d(truth[group.name])
        label = space.label(group.name)
        if prior_scale is None:
            prior = _declared(group.name, space[group.name])
        else:
            prior = _normal(scaling[group.name], prior_scale)
        if group.size is None:
            _histogram(axis, draws.values.ravel(), prior, true)
            axis.set_xlabel(label)
        else:
            _intervals(axis, draws, prior, true, (dims or {}).get(str(group.dim)))
            axis.set_ylabel(label)
    _shared_legend(figure)
    return figure


def along(
    result: az.InferenceData,
    space: ParameterSpace,
    name: str,
    truth: ArrayLike | None = None,
    *,
    dim: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Medians and 5 %–95 % intervals of a vector along its dimension, such as contrast over phi.

    With the 5 %–95 % interval of the declared prior and, if it is known, the truth. `dim` is the
    label of the dimension, such as `φ (°)`; its name by default.
    """
    axis = _axes(ax, figsize=(6.0, 3.6))
    true = None if truth is None else np.atleast_1d(np.asarray(truth))
    _intervals(axis, result["posterior"][name], _declared(name, space[name]), true, dim)
    axis.set_ylabel(space.label(name))
    return _finished(axis, columns=3)


@dataclass(frozen=True)
class _Prior:
    """The prior of one group: the density of each of its elements, and its quantiles."""

    log_density: Callable[[np.ndarray], ArrayLike]
    ppf: Callable[[np.ndarray], ArrayLike]


def _declared(name: str, parameter: Parameter) -> _Prior:
    density = Density.from_space(ParameterSpace({name: replace(parameter, dim=None, initial=None)}))
    return _Prior(
        lambda theta: density.log_prob(theta[:, None])[:, 0],
        declared_or_flat(name, parameter).ppf,
    )


def _normal(scaling: Scaling, prior_scale: float) -> _Prior:
    """The image of Normal(0, prior_scale) under the Scaling of a group, in its first element."""
    ones = np.ones(scaling.size)

    def log_density(theta):
        z = scaling.to_normalized(theta[:, None] * ones)
        _, log_slope = scaling.forward_and_log_derivative(z)
        inside = (theta > float(scaling.low[0])) & (theta < float(scaling.high[0]))
        log_density = stats.norm.logpdf(np.asarray(z), scale=prior_scale) - log_slope
        return np.where(inside, log_density[:, 0], -np.inf)

    def at(q):
        return scaling.to_original(prior_scale * stats.norm.ppf(q)[:, None] * ones)[:, 0]

    return _Prior(log_density, at)


def _histogram(axis: Axes, draws, prior: _Prior, truth) -> None:
    axis.hist(draws, bins=40, density=True, color=POSTERIOR, alpha=0.75, label="posterior")
    theta = np.linspace(*axis.get_xlim(), 400)
    axis.plot(
        theta, np.exp(prior.log_density(theta)), color=PRIOR, linestyle="--", label="prior density"
    )
    if truth is not None:
        axis.axvline(truth[0], color=TRUTH, linewidth=2, label="truth")
    axis.set_yticks([])
    axis.set_ylabel("density")
    axis.locator_params(axis="x", nbins=4)


def _intervals(axis: Axes, draws, prior: _Prior, truth, label: str | None) -> None:
    dim = draws.dims[-1]
    at = draws[dim].values
    low, middle, high = draws.quantile([0.05, 0.5, 0.95], dim=("chain", "draw")).values
    axis.errorbar(
        at, middle, [middle - low, high - middle], color=POSTERIOR, fmt="o", markersize=4,
        capsize=2, label="posterior",
    )  # fmt: skip
    limits = np.array([low.min(), high.max()])
    if truth is not None:
        truth = np.broadcast_to(truth, at.shape)
        axis.plot(at, truth, "_", color=TRUTH, markersize=12, markeredgewidth=2, label="truth")
        limits = np.array([min(limits[0], truth.min()), max(limits[1], truth.max())])
    band = np.asarray(prior.ppf(np.array([0.05, 0.95])))
    axis.fill_between(at, *band, color=PRIOR, alpha=0.2, linewidth=0, label="prior, 5 %–95 %")
    axis.set_ylim(limits + np.ptp(limits) * np.array([-0.15, 0.15]))
    axis.set_xlabel(label or dim)


def straightened(
    coordinates: AbstractCoordinates,
    theta: Float[ArrayLike, "n P"],
    *,
    along: str,
    other: str,
    figure: Figure | None = None,
) -> Figure:
    """What nested coordinates do to a posterior: draws of two parameters, in three coordinates.

    `theta` has draws of the posterior, in physical units, such as those of `calibrate.resample`.
    From the left: the marginal along one parameter, that of the draws and that of the coordinates;
    the draws in the z that the coordinates stand on, with the mean of the other and its width as
    they move; whitened by their covariance, which is the best that a linear map can do; and in the
    nested coordinates, where they are round.

    **Raises** `ValueError` for names of no parameter, and coordinates that are nested along none,
    or not along that one.
    """
    names = coordinates.flat_names
    for name in (along, other):
        if name not in names:
            raise ValueError(f"straightened: expected one of {', '.join(names)}; got {name!r}")
    i, j = names.index(along), names.index(other)
    layer: Any = coordinates
    while not (isinstance(layer, NestedLaplace) and layer.along == i):
        if not isinstance(layer, AbstractLayer):
            raise ValueError(f"straightened: expected coordinates that are nested along {along!r}")
        layer = layer.base
    theta = np.asarray(theta)
    down = eqx.filter_jit(layer.to_base_and_log_det)
    z, u = (np.asarray(eqx.filter_jit(c.to_normalized)(theta)) for c in (layer.base, coordinates))
    center, factor = z.mean(0), np.linalg.cholesky(np.cov(z.T))
    linear = np.linalg.solve(factor, (z - center).T).T

    figure = Figure(figsize=(13, 3.4), layout="constrained") if figure is None else figure
    marginal, *axes = figure.subplots(1, 4)
    # The curve of the coordinates: the others' mean is where u is 0 but along it.
    at = np.zeros((201, len(names)))
    at[:, i] = np.linspace(-4, 4, 201)
    spine = np.asarray(down(at)[0])
    density = stats.norm.pdf(at[:, i]) / np.gradient(spine[:, i], at[:, i])
    marginal.hist(z[:, i], bins=60, density=True, color=PRIOR, label="draws")
    marginal.plot(spine[:, i], density, color=POSTERIOR, label="Laplace marginal")
    marginal.set_xlabel(f"z of {along}")
    marginal.set_yticks([])
    marginal.legend(frameon=False, fontsize=8, loc="upper left")
    # The others enter linearly: the width of one is the length of its row.
    unit = np.delete(np.eye(len(names)), i, axis=0)
    rows = np.asarray(down(at[:, None] + unit)[0])[..., j] - spine[:, None, j]
    width = np.sqrt((rows**2).sum(1))
    panels = {
        f"z: {along} and {other}": z,
        "whitened: the best linear map": linear,
        "nested coordinates": u,
    }
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        axis.plot(points[:, i], points[:, j], ".", color=POSTERIOR, markersize=2, alpha=0.3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(along)
        axis.set_ylabel(other)
        low, high = np.quantile(points[:, [i, j]], [0.002, 0.998], axis=0)
        room = 0.1 * (high - low)
        axis.set_xlim(low[0] - room[0], high[0] + room[0])
        axis.set_ylim(low[1] - room[1], high[1] + room[1])
    axes[0].plot(spine[:, i], spine[:, j], color=TRUTH)
    for sign in (-2, 2):
        axes[0].plot(spine[:, i], spine[:, j] + sign * width, "--", color=TRUTH, linewidth=1)
    return figure
