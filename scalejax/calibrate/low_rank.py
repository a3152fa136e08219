"""A diagonal and a few directions, by Hessian-vector products, for very many parameters."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from scalejax.calibrate.problem import no_mode, nowhere_finite
from scalejax.calibrate.report import CoordinatesKind, Report
from scalejax.whitened import WhitenedLowRank


def low_rank_fit(problem, searches, starts, key, rank):
    """A diagonal and the softest and stiffest directions beside it, by Hessian-vector products."""
    from jax.experimental.sparse.linalg import lobpcg_standard

    ends, costs = zip(*itertools.islice(searches, starts), strict=True)
    zs, spent = jnp.stack(ends), sum(costs)
    potentials = np.asarray(problem.potentials(zs))
    if not np.isfinite(potentials).any():
        return nowhere_finite(problem, spent, starts)
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
    for kind in (CoordinatesKind.LOW_RANK, CoordinatesKind.DIAGONAL):
        kept = (directions, stretch) if kind is CoordinatesKind.LOW_RANK else (None, None)
        coordinates = WhitenedLowRank(problem.base, z, 1 / root[:, 0], *kept)
        length, trouble = _descend(problem, coordinates, check_key)
        spent += 3 * _LINES
        if trouble is None:
            return coordinates, Report(kind, spent, newton_decrement=length, reasons=tuple(reasons))
        reasons.append(f"{kind}: {trouble}")
    return problem.base, Report(
        CoordinatesKind.NONE, spent, newton_decrement=length, reasons=tuple(reasons)
    )


_LINES = 32


def _descend(problem, coordinates, key) -> tuple[float, str | None]:
    """The gradient at the mode, and what is wrong with the fit, if anything is.

    Importance weights say nothing of a fit in thousands of dimensions that is not next to exact.
    Instead, at draws of the fit the density must have fallen as its curvature at the mode says.
    """
    size = problem.base.size

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
        return length, no_mode(length)
    ratio = rise / expected
    if not ((ratio > 0.5) & (ratio < 2)).all():
        worst = ratio[np.argmax(np.abs(np.log(np.where(ratio > 0, ratio, np.inf))))]
        return length, (
            "the posterior is no Gaussian there: to a draw of the fit its log-density falls "
            f"{worst:.2g} times as far as its curvature says"
        )
    return length, None
