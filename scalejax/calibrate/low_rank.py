"""A diagonal and a few directions, by Hessian-vector products, for very many parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from scalejax.calibrate.linear import held
from scalejax.calibrate.modes import MODE_GAP
from scalejax.calibrate.problem import refused
from scalejax.calibrate.report import (
    NOWHERE_FINITE,
    CoordinatesKind,
    Report,
    another_mode,
    few_reached,
    no_mode,
)
from scalejax.whitened import WhitenedLowRank


def low_rank_fit(problem, ends, potentials, key, rank):
    """A diagonal and the softest and stiffest directions beside it, by Hessian-vector products.

    `ends`, (n, P), are where searches ended, and `potentials` how high.
    """
    from jax.experimental.sparse.linalg import lobpcg_standard

    if not np.isfinite(potentials).any():
        return refused(problem, NOWHERE_FINITE, (0, len(ends)))
    best = int(np.argmin(potentials))
    z = jnp.asarray(ends[best], problem.dtype)
    gradient = jax.grad(problem.target.potential)

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
    problem.spent += 64 + half * int(steps + more + most)
    directions, _ = jnp.linalg.qr(jnp.concatenate([stiffest, softest], 1))
    inner = directions.T @ scaled(directions)
    values, rotation = jnp.linalg.eigh((inner + inner.T) / 2)
    problem.spent += 2 * half
    directions = directions @ rotation
    # No wider than the unit of z.
    stretch = 1 / jnp.sqrt(jnp.maximum(values, 1 / root.max() ** 2))
    # Each search's end, in the widths of the fit: the ends of one mode lie as far from it as the
    # search was rough, those of others farther.
    found, reasons = 1, []
    fitted = held(WhitenedLowRank, problem.base, z, 1 / root[:, 0], directions, stretch)
    for i, end in enumerate(ends):
        gap = potentials[i] - potentials[best]
        if i == best or not np.isfinite(gap):
            continue
        apart = float(jnp.linalg.norm(fitted.from_base(jnp.asarray(end, problem.dtype))))
        if apart < 3 * np.sqrt(len(z)) and gap < len(z):
            found += 1
        elif gap < MODE_GAP:
            reasons.append(another_mode(apart, gap))
    doubts = few_reached(found, len(ends))
    length = np.nan

    def report(kind):
        return Report(
            kind,
            round(problem.spent),
            newton_decrement=length,
            starts=(found, len(ends)),
            log_density=-float(potentials[best]),
            mode=tuple(ends[best].tolist()),
            reasons=tuple(reasons),
            doubts=tuple(doubts),
        )

    if reasons:
        return problem.base, report(CoordinatesKind.NONE)
    for kind in (CoordinatesKind.LOW_RANK, CoordinatesKind.DIAGONAL):
        kept = (directions, stretch) if kind is CoordinatesKind.LOW_RANK else (None, None)
        coordinates = held(WhitenedLowRank, problem.base, z, 1 / root[:, 0], *kept)
        length, trouble = _descend(problem, coordinates, check_key)
        problem.spent += 3 * _LINES
        if trouble is None:
            return coordinates, report(kind)
        reasons.append(f"{kind}: {trouble}")
    return problem.base, report(CoordinatesKind.NONE)


_LINES = 32


def _descend(problem, coordinates, key) -> tuple[float, str | None]:
    """The gradient at the mode, and what is wrong with the fit, if anything is.

    Importance weights say nothing of a fit in thousands of dimensions that is not next to exact.
    Instead, at draws of the fit the density must have fallen as its curvature at the mode says.
    """
    size = problem.base.size

    def potential(w):
        return problem.target.potential(coordinates.to_base_and_log_det(w)[0])

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
