"""Calibrated coordinates: a linear map fitted to the posterior, and checked before it is returned.

Drivers that run once, outside of `jit`: the model is evaluated in JAX, and what is known of its
curvature is worked up in NumPy's float64. They need Optimistix and ArviZ (the extra `cli`). Each
returns coordinates and a `Report`. None raises for a hard posterior: where the fit does not pass
its check, the report says why, and the coordinates are the best that do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from scalejax.coordinates import AbstractCoordinates
from scalejax.scaling import Scaling
from scalejax.whitened import Whitened, WhitenedLowRank

# Up to 0.7 importance sampling from the fit would give the posterior; from 1 on its weights have no
# mean, and the fit misses some of the posterior (Vehtari et al. 2024, arXiv:1507.02646). Between
# the two the fit is rough.
K_HAT_GOOD, K_HAT_LIMIT = 0.7, 1.0
# Modes whose densities differ by more than this factor, e^10, do not share a posterior.
MODE_GAP = 10.0
DENSE_LIMIT = 2000


@dataclass(frozen=True)
class Report:
    """What a calibration found, and what it cost.

    `kind` is that of the coordinates it returned: `dense`, `low rank`, `diagonal`, or `none` for
    the Scaling it was given. `reasons` says why they are not better.
    """

    kind: str
    gradients: int
    """Cost, in gradients of the log-density; an evaluation of it alone counts as one."""
    k_hat: float = float("nan")
    """Of importance sampling from the fitted Gaussian: good up to 0.7, rough up to 1."""
    gradient: float = float("nan")
    """Length of the gradient at the mode, in units of the fitted standard deviations."""
    starts: tuple[int, int] = (0, 0)
    """How many starts found the mode, of how many."""
    condition: float = float("nan")
    """Condition number of the curvature at the mode, in the Scaling's z."""
    reasons: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether a sampler can do without adapting to correlations, and with a short warmup."""
        return self.kind in ("dense", "low rank") and not self.k_hat > K_HAT_GOOD

    def __str__(self) -> str:
        """In a few lines, for people."""
        words = {"none": "no calibration: the Scaling as it was"}
        parts = [words.get(self.kind, f"{self.kind} calibration")]
        if np.isfinite(self.k_hat):
            parts.append(f"k̂ = {self.k_hat:.2f}")
        if self.starts[1]:
            parts.append(f"{self.starts[0]} of {self.starts[1]} starts found the mode")
        if np.isfinite(self.condition):
            parts.append(f"condition number {self.condition:.2g} before")
        parts.append(f"{self.gradients} gradients")
        return "; ".join(parts) + "".join(f"\n  {reason}" for reason in self.reasons)


def from_log_density(
    log_density: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    scaling: Scaling,
    *,
    key: Array,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 4,
    draws: int = 4000,
    max_steps: int = 1000,
    rank: int = 20,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from the curvature at the mode of a log-density of θ, of shape (P,).

    The mode in z is sought by BFGS, from `start`, a θ (by default that at z = 0), and from normal
    draws, and by Newton's method from where that ends. There are `starts` searches, and, unless two
    of them end in the best mode, up to three times as many. No direction is taken to be wider than
    the unit of z. For more than 2000 parameters the search is by L-BFGS, of `starts` searches, and
    the curvature a diagonal and `rank` directions, from Hessian-vector products.
    `draws` of the fitted Gaussian are weighed against the density; beyond 2000 parameters, where
    weights say nothing, the density must fall towards such draws as its curvature says.

    **Raises** `ValueError` for starts below 1.

    Examples:
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> def log_density(theta):
        ...     a, b = theta
        ...     return -((a + b) ** 2) / 0.02 - (a - b) ** 2 / 2
        >>> coordinates, report = from_log_density(log_density, scaling, key=jax.random.key(0))
        >>> report.kind
        'dense'
    """
    _check_starts(starts)
    import optimistix as optx

    # A model may compute in another dtype than the Scaling's; the search is in one.
    of_z = scaling.pullback(lambda theta: jnp.asarray(log_density(theta), theta.dtype))
    problem = _Problem(scaling, of_z)
    few = len(scaling) <= DENSE_LIMIT
    solver: Any = (optx.BFGS if few else optx.LBFGS)(rtol=1e-4, atol=1e-4)

    @eqx.filter_jit
    def solve(z):
        solution = optx.minimise(
            lambda z, _: problem.potential(z), solver, z, max_steps=max_steps, throw=False
        )
        return solution.value, solution.stats["num_steps"]

    search_key, check_key = jax.random.split(key)
    searches = _searches(solve, search_key, start, problem)
    if few:
        hessian = jax.jit(jax.hessian(problem.potential))
        return _dense(problem, hessian, searches, starts, check_key, draws)
    return _low_rank(problem, searches, starts, check_key, rank)


def from_residuals(
    residuals: Callable[[Float[Array, " P"]], Float[Array, "..."]],
    scaling: Scaling,
    *,
    log_prior: Callable[[Float[Array, " P"]], Float[ArrayLike, ""]],
    key: Array,
    start: Float[ArrayLike, " P"] | None = None,
    starts: int = 4,
    draws: int = 4000,
    max_steps: int = 1000,
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from a least-squares model: log-density = −½·Σ residuals² + log_prior, of θ.

    Residuals are in units of the noise. Where the noise σ is itself a parameter, `log_prior` is
    more than the prior: it holds the −M·log σ of M residuals as well. The mode in z is sought as by
    `from_log_density`, but by Levenberg–Marquardt, and the curvature of the residuals is that of
    Gauss and Newton, JᵀJ, which is never negative.

    **Raises** `ValueError` for starts below 1.

    Examples:
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> x = jnp.linspace(100.0, 101.0, 20)
        >>> coordinates, report = from_residuals(
        ...     lambda theta: (theta[0] + theta[1] * (x - 100.0) - 2.0) / 0.1, scaling,
        ...     log_prior=lambda theta: -0.5 * (theta**2).sum(), key=jax.random.key(0))
        >>> report.kind
        'dense'
    """
    _check_starts(starts)
    import lineax as lx
    import optimistix as optx

    def of_z(z):
        return jnp.ravel(jnp.asarray(residuals(scaling.to_original(z)), z.dtype))

    rest = scaling.pullback(lambda theta: jnp.asarray(log_prior(theta), theta.dtype))
    problem = _Problem(scaling, lambda z: rest(z) - (of_z(z) ** 2).sum() / 2)
    residual_count = jax.eval_shape(of_z, scaling.center).size

    def rest_of(z):
        """What is neither a sum of squares nor the unit Gaussian, which is one."""
        return problem.idle(z) - rest(z) - (z**2).sum() / 2

    @eqx.filter_jit
    def solve(z):
        # It enters as the square root of its height above a floor that is far below: its gradient
        # is exact, and it stays smooth as long as it does not fall that far.
        floor = rest_of(z) - 20.0 * (residual_count + len(z))

        def everything(z, _):
            return of_z(z), z, jnp.sqrt(2 * jnp.maximum(rest_of(z) - floor, 1.0))

        solver = optx.LevenbergMarquardt(
            rtol=1e-3, atol=1e-3, linear_solver=lx.Normal(lx.Cholesky())
        )
        solution = optx.least_squares(everything, solver, z, max_steps=max_steps, throw=False)
        # A Jacobian is as many forward derivatives as there are parameters.
        return solution.value, solution.stats["num_steps"] * (1 + len(scaling))

    @jax.jit
    def curvature(z):
        slopes = jax.jacfwd(of_z)(z)
        gauss_newton = jnp.matmul(slopes.T, slopes, precision=jax.lax.Precision.HIGHEST)
        return gauss_newton + jax.hessian(lambda z: problem.idle(z) - rest(z))(z)

    search_key, check_key = jax.random.split(key)
    searches = _searches(solve, search_key, start, problem)
    return _dense(problem, curvature, searches, starts, check_key, draws)


def from_draws(
    z: Float[ArrayLike, "*batch P"], scaling: Scaling
) -> tuple[AbstractCoordinates, Report]:
    """Coordinates from pilot draws of z, in the Scaling's coordinates: their covariance, shrunk.

    The correlations are shrunk towards none by as much as Ledoit and Wolf (2004) find best. It is
    checked on the later half of the draws, with coordinates from the earlier half. It costs no
    gradient.

    **Raises** `ValueError` for fewer than 4 draws, and draws that are not finite.

    Examples:
        >>> import numpy as np
        >>> scaling = Scaling(0.0, 1.0, low=-9.0, high=9.0, groups={"a": None, "b": None})
        >>> z = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[0.1, 0.09], [0, 0.01]])
        >>> from_draws(z, scaling)[1].kind
        'dense'
    """
    draws = np.asarray(z, np.float64)
    draws = draws.reshape(-1, draws.shape[-1])
    if draws.shape[-1] != len(scaling) or len(draws) < 4:
        raise ValueError(
            f"z: expected at least 4 draws of shape (…, {len(scaling)}); got {np.shape(z)}"
        )
    if not np.isfinite(draws).all():
        raise ValueError("z: expected finite draws")
    idle = np.asarray(scaling.low == scaling.high)
    early, late = np.array_split(draws, 2)
    condition = _condition(_covariance(draws, idle))
    reasons = []
    plain = _condition(np.cov(late.T[~idle]))
    for kind in ("dense", "diagonal"):
        loc, factor = _moments(early, idle, kind)
        spread = _condition(np.cov(np.linalg.solve(factor, (late - loc).T)[~idle]))
        if spread <= plain:
            loc, factor = _moments(draws, idle, kind)
            return _whitened(scaling, loc, factor, kind), Report(
                kind, 0, condition=condition, reasons=tuple(reasons)
            )
        reasons.append(
            f"{kind}: the later draws have a condition number of {spread:.2g} in coordinates from "
            f"the earlier ones, and of {plain:.2g} without"
        )
    return scaling, Report("none", 0, condition=condition, reasons=tuple(reasons))


# --- the problem ----------------------------------------------------------------------------------


class _Problem:
    """The density in the Scaling's z, with a normal one for z of what is pinned."""

    def __init__(self, scaling: Scaling, log_density_of_z: Callable[[Array], Array]):
        self.scaling, self.log_density = scaling, log_density_of_z
        self.dtype = jnp.result_type(float)  # what optimisers compute in, whatever the Scaling has
        self.pinned = scaling.low == scaling.high
        self.potentials = jax.jit(jax.vmap(self.potential))

    def idle(self, z):
        return jnp.where(self.pinned, z**2 / 2, 0).sum()

    def potential(self, z):
        """−log density, and infinity where that is no number."""
        value = self.idle(z) - self.log_density(z)
        return jnp.where(jnp.isnan(value), jnp.inf, value)


def _check_starts(starts: int) -> None:
    if starts < 1:
        raise ValueError(f"starts: expected at least 1; got {starts}")


def _searches(solve, key, start, problem) -> Iterator[tuple[Array, int]]:
    """Where searches end, in z, and what each has cost, of as many as are asked for.

    The first starts at θ = `start`, or z = 0, the others at normal draws of z. They run one after
    the other: together, all would take as many steps as the slowest.
    """
    size = len(problem.scaling)
    z = jnp.zeros(size) if start is None else problem.scaling.to_normalized(start)
    for i in itertools.count():
        end, cost = solve(z.astype(problem.dtype))
        yield end, int(cost)
        z = jax.random.normal(jax.random.fold_in(key, i), (size,), problem.dtype)


def _nowhere_finite(problem, spent, starts) -> tuple[AbstractCoordinates, Report]:
    reason = "the log-density is not finite where the searches ended"
    return problem.scaling, Report("none", spent, starts=(0, starts), reasons=(reason,))


def _no_mode(length: float) -> str:
    return (
        f"no mode was found: the gradient where the best search ended is {length:.2g} in units of "
        "the fitted standard deviations"
    )


# --- dense ----------------------------------------------------------------------------------------


def _dense(problem, curvature, searches, starts, key, draws):
    """Coordinates from the modes that a search ended in, and the curvature there."""
    size = len(problem.scaling)
    value_and_gradient = jax.jit(jax.value_and_grad(problem.potential))
    best: _End | None = None
    ends: list[_End] = []
    spent, tried, found, reasons = 0, 0, 0, []
    for z, cost in searches:
        tried += 1
        end = _newton(problem, curvature, value_and_gradient, np.asarray(z, np.float64))
        spent += cost
        if end is not None:
            ends.append(end)
            spent += end.steps * (size + 1 + len(_FRACTIONS))
            best = min(ends, key=lambda end: end.potential)
            found, reasons = _compare(best, ends)
        if tried >= starts and (found > 1 or tried >= 3 * starts):
            break
    if best is None:
        return _nowhere_finite(problem, spent, tried)
    factor = _factor(best.covariance, "dense")
    decrement = float(np.linalg.norm(factor.T @ best.gradient))
    if decrement > 0.1:
        reasons.append(_no_mode(decrement))
    k_hat = np.nan

    def report(kind):
        condition = _condition(best.curvature)
        return Report(kind, spent, k_hat, decrement, (found, tried), condition, tuple(reasons))

    if reasons:
        return problem.scaling, report("none")
    for kind in ("dense", "diagonal"):
        coordinates = _whitened(problem.scaling, best.z, _factor(best.covariance, kind), kind)
        k_hat, trouble, remark = _weigh(problem, coordinates, key, draws)
        spent += draws
        reasons += [] if remark is None else [remark]
        if trouble is None:
            return coordinates, report(kind)
        reasons.append(f"{kind}: {trouble}")
    return problem.scaling, report("none")


@dataclass(frozen=True)
class _End:
    """Where Newton's method ended."""

    z: np.ndarray
    potential: float
    gradient: np.ndarray
    curvature: np.ndarray
    covariance: np.ndarray
    steps: int


_FRACTIONS = np.array([1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3])
_SIDESTEPS = np.array([1.0, -1.0, 0.3, -0.3, 0.1, -0.1])


def _newton(problem, curvature, value_and_gradient, z, most=100) -> _End | None:
    """Newton's method with a line search, from next to a mode; None where nothing is finite.

    Of a saddle it makes its way downwards.
    """

    def lowest(tried, than):
        values = np.asarray(problem.potentials(jnp.asarray(tried, problem.dtype)))
        return tried[np.nanargmin(values)] if (values < than).any() else None

    end = None
    for step in range(1, most + 1):
        at = jnp.asarray(z, problem.dtype)
        value, gradient = value_and_gradient(at)
        gradient, matrix = np.asarray(gradient, np.float64), np.asarray(curvature(at), np.float64)
        if not (np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(matrix).all()):
            return end
        covariance = _floored_inverse(matrix)
        end = _End(z, float(value), gradient, matrix, covariance, step)
        direction = -covariance @ gradient
        lower = None
        if gradient @ -direction > 1e-6:
            lower = lowest(z + _FRACTIONS[:, None] * direction, end.potential)
        if lower is None:
            values, vectors = np.linalg.eigh(matrix)
            if values[0] < 0:
                aside = z + _SIDESTEPS[:, None] * vectors[:, 0]
                lower = lowest(aside, end.potential - 1e-3)
        if lower is None:
            return end
        z = lower
    return end


def _floored_inverse(matrix: np.ndarray) -> np.ndarray:
    """The covariance of the Gaussian with this curvature, no direction being wider than 1.

    1 is the unit of z, in which a prior has about that width.
    """
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors / np.maximum(values, 1.0)) @ vectors.T


def _compare(best: _End, ends) -> tuple[int, list[str]]:
    """How many searches ended in the best mode, and what is to be said of others."""
    found, others, reasons = 0, [], []
    for end in ends:
        gap = end.potential - best.potential
        if _apart(end, best) < 1.0:
            found += 1
        elif gap < MODE_GAP and all(_apart(end, other) >= 1.0 for other in others):
            others.append(end)
            reasons.append(
                f"another mode, {_apart(end, best):.2g} standard deviations away, is as much as "
                f"e^-{gap:.1f} as high: no one linear map suits both"
            )
    return found, reasons


def _apart(one: _End, other: _End) -> float:
    """In standard deviations of the other."""
    factor = _factor(other.covariance, "dense")
    return float(np.linalg.norm(np.linalg.solve(factor, one.z - other.z)))


def _weigh(problem, coordinates, key, draws) -> tuple[float, str | None, str | None]:
    """k̂ of draws from the fitted Gaussian; what rules the fit out; and what is to be said of it."""
    import arviz as az

    w = jax.random.normal(key, (draws, len(problem.scaling)), problem.dtype)

    @jax.jit
    @jax.vmap
    def evaluate(w):
        z = coordinates.to_base_and_log_det(w)[0]
        return z, -problem.potential(z) + (w**2).sum() / 2

    w, (z, log_weights) = jax.tree.map(lambda x: np.asarray(x, np.float64), (w, evaluate(w)))
    finite = np.isfinite(log_weights)
    if finite.mean() < 0.9:
        count = int((~finite).sum())
        return np.nan, f"the density is not finite at {count} of {draws} draws of the fit", None
    log_weights = np.where(finite, log_weights, log_weights[finite].min())
    smoothed, k_hat = az.psislw(log_weights)
    k_hat = float(k_hat)
    if k_hat <= K_HAT_GOOD:
        return k_hat, None, None
    if not k_hat <= K_HAT_LIMIT:
        return k_hat, f"the fit misses some of the posterior (k̂ = {k_hat:.2f})", None
    free = ~np.asarray(problem.pinned)
    plain, fitted = (_condition(np.cov(x[:, free].T, aweights=np.exp(smoothed))) for x in (z, w))
    if fitted > plain:
        trouble = (
            f"the posterior's condition number is {fitted:.2g} in these coordinates, and "
            f"{plain:.2g} without"
        )
        return k_hat, trouble, None
    remark = (
        f"the posterior is no Gaussian (k̂ = {k_hat:.2f}): the fit is rough, but better than none"
    )
    return k_hat, None, remark


def _factor(covariance: np.ndarray, kind: str) -> np.ndarray:
    if kind == "diagonal":
        return np.diag(np.sqrt(np.diag(covariance)))
    return np.linalg.cholesky(covariance)


def _whitened(scaling: Scaling, loc, factor, kind: str) -> AbstractCoordinates:
    if kind == "diagonal":
        return WhitenedLowRank(scaling, loc, np.diag(factor))
    return Whitened(scaling, loc, factor)


def _condition(matrix: np.ndarray) -> float:
    values = np.linalg.eigvalsh(np.atleast_2d(matrix))
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")


# --- draws ----------------------------------------------------------------------------------------


def _moments(draws, idle, kind) -> tuple[np.ndarray, np.ndarray]:
    return np.where(idle, 0.0, draws.mean(0)), _factor(_covariance(draws, idle), kind)


def _covariance(draws: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """The covariance with shrunk correlations: Ledoit and Wolf 2004, of standardised draws."""
    n = len(draws)
    sd = np.where(idle, 1.0, draws.std(0))
    sd = np.maximum(sd, 1e-12 * np.maximum(sd.max(), 1.0))
    x = np.where(idle, 0.0, (draws - draws.mean(0)) / sd)
    sample = x.T @ x / n
    identity = np.eye(len(sd))
    distance = ((sample - identity) ** 2).sum()
    # Σ over draws of |x xᵀ − sample|², by the norms of the draws.
    noise = ((x**2).sum(1) ** 2).sum() / n**2 - (sample**2).sum() / n
    shrinkage = min(1.0, max(noise / distance, 0.0)) if distance > 0 else 1.0
    correlation = (1 - shrinkage) * sample + shrinkage * identity
    correlation[idle, idle] = 1.0
    return correlation * np.outer(sd, sd)


# --- low rank -------------------------------------------------------------------------------------


def _low_rank(problem, searches, starts, key, rank):
    """A diagonal and the softest and stiffest directions beside it, by Hessian-vector products."""
    from jax.experimental.sparse.linalg import lobpcg_standard

    ends, costs = zip(*itertools.islice(searches, starts), strict=True)
    zs, spent = jnp.stack(ends), sum(costs)
    potentials = np.asarray(problem.potentials(zs))
    if not np.isfinite(potentials).any():
        return _nowhere_finite(problem, spent, starts)
    z = zs[np.nanargmin(potentials)]
    gradient = jax.grad(problem.potential)

    @jax.jit
    def products(vectors):
        """H·V for the columns of V."""
        return jax.vmap(lambda v: jax.jvp(gradient, (z,), (v,))[1], 1, 1)(vectors)

    half = max(rank // 2, 1)
    start_key, probe_key, check_key = jax.random.split(key, 3)
    start = jax.random.normal(start_key, (len(z), half), z.dtype)
    # The diagonal of H: that of its stiffest directions, which would drown the rest in noise, and
    # of the rest the mean of v·(H·v) over random signs v (Bekas et al. 2007).
    stiff, stiffest, steps = lobpcg_standard(products, start, m=60)
    probes = jax.random.rademacher(probe_key, (len(z), 64), z.dtype)
    rest = products(probes) - stiffest @ (stiff[:, None] * (stiffest.T @ probes))
    diagonal = (stiffest**2 @ stiff) + (probes * rest).mean(1)
    root = jnp.sqrt(jnp.maximum(diagonal, 1.0))[:, None]

    def scaled(v):
        return products(v / root) / root

    stiff, stiffest, more = lobpcg_standard(scaled, start, m=60)
    _, softest, most = lobpcg_standard(lambda v: stiff.max() * v - scaled(v), start, m=60)
    spent += 64 + half * int(steps + more + most)
    directions, _ = jnp.linalg.qr(jnp.concatenate([stiffest, softest], 1))
    inner = directions.T @ scaled(directions)
    values, rotation = jnp.linalg.eigh((inner + inner.T) / 2)
    spent += 2 * half
    directions = directions @ rotation
    # No wider than the unit of z.
    stretch = 1 / jnp.sqrt(jnp.maximum(values, 1 / root.max() ** 2))
    reasons: list[str] = []
    length = np.nan
    for kind in ("low rank", "diagonal"):
        kept = (directions, stretch) if kind == "low rank" else (None, None)
        coordinates = WhitenedLowRank(problem.scaling, z, 1 / root[:, 0], *kept)
        length, trouble = _descend(problem, coordinates, check_key)
        spent += 3 * _LINES
        if trouble is None:
            return coordinates, Report(kind, spent, gradient=length, reasons=tuple(reasons))
        reasons.append(f"{kind}: {trouble}")
    return problem.scaling, Report("none", spent, gradient=length, reasons=tuple(reasons))


_LINES = 32


def _descend(problem, coordinates, key) -> tuple[float, str | None]:
    """The gradient at the mode, and what is wrong with the fit, if anything is.

    Importance weights say nothing of a fit in thousands of dimensions that is not next to exact.
    Instead, at draws of the fit the density must have fallen as its curvature at the mode says.
    """
    size = len(problem.scaling)

    def potential(w):
        return problem.potential(coordinates.to_base_and_log_det(w)[0])

    @jax.jit
    @jax.vmap
    def fall(w):
        """How far the potential rises to w, and how far by its curvature at 0."""
        origin = jnp.zeros_like(w)
        gradient, product = jax.jvp(jax.grad(potential), (origin,), (w,))
        return potential(w) - potential(origin) - gradient @ w, w @ product / 2, gradient

    w = jax.random.normal(key, (_LINES, size), problem.dtype)
    rise, expected, gradients = (np.asarray(x, np.float64) for x in fall(w))
    length = float(np.linalg.norm(gradients[0]))
    if not length <= 0.1 * np.sqrt(size):
        return length, _no_mode(length)
    ratio = rise / expected
    if not ((ratio > 0.5) & (ratio < 2)).all():
        worst = ratio[np.argmax(np.abs(np.log(np.where(ratio > 0, ratio, np.inf))))]
        return length, (
            "the posterior is no Gaussian there: to a draw of the fit its log-density falls "
            f"{worst:.2g} times as far as its curvature says"
        )
    return length, None
