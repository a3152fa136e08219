"""The two-time correlation of a sample that diffuses, is sheared, or flows through a reference.

Plain functions of physical values.

Source: He et al., PNAS 2024, doi:10.1073/pnas.2401162121. It knows no bounds, priors or samplers.
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from scalejax.xpcs.angles import at_angles
from scalejax.xpcs.sinc import sinc

# Where a rate would fall to 0 or below, it levels off at about these instead (Å²/s and 1/s). Both
# are far below what a measurement resolves.
DIFFUSION_FLOOR = 0.1
SHEAR_FLOOR = 1e-8
# The exponent of a share that grows: e⁸⁰ is a number in single precision too.
MOST_GROWTH = 80.0


class Experiment(eqx.Module):
    """How a measurement was made: frame times `t` (s), angles `phi` (°), `q` (1/Å), `gap` (Å).

    `q` is one number, or has one for each angle, where several q are measured together.
    """

    t: Float[Array, " n_t"] = eqx.field(converter=jnp.asarray)
    phi: Float[Array, " n_phi"] = eqx.field(converter=jnp.asarray)
    q: Float[Array, "..."] = eqx.field(converter=jnp.asarray)
    gap: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    @property
    def rows(self) -> list[str]:
        """What to call the rows of c2: by their angles, and by their q where these are several."""
        angles = [f"{float(phi):g}°" for phi in self.phi]
        if not self.q.ndim:
            return angles
        return [f"{angle}, {float(q):.4g} 1/Å" for angle, q in zip(angles, self.q, strict=True)]

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices (i, j) of the n_t·(n_t − 1)/2 pairs of frames with t_i < t_j."""
        return np.triu_indices(self.t.shape[0], k=1)


def power_law_integral(
    t: Float[Array, " n_t"],
    prefactor: Float[ArrayLike, ""],
    exponent: Float[ArrayLike, ""],
    offset: Float[ArrayLike, ""],
    floor: float | None,
) -> Float[Array, " n_t"]:
    """∫ (prefactor·s^exponent + offset) ds from t[0] to each t, by cumulative trapezoids.

    A frame at t = 0 is evaluated half a frame later: the power law diverges there for a negative
    exponent. The integrand levels off smoothly at a small positive value, the floor, if any.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs.correlation import power_law_integral
        >>> print(power_law_integral(jnp.arange(3.0), 0.0, 0.0, 2.0, 1e-6))
        [0. 2. 4.]
    """
    at = jnp.where(t == 0, (t[1] - t[0]) / 2, t)
    rate = prefactor * at**exponent + offset
    rate = rate if floor is None else _levelled(rate, floor)
    steps = (rate[1:] + rate[:-1]) / 2 * jnp.diff(t)
    return jnp.concatenate([jnp.zeros_like(t[:1]), jnp.cumsum(steps)])


def two_time(
    theta: Mapping[str, Float[ArrayLike, "..."]], experiment: Experiment
) -> Float[Array, "n_phi n_pairs"]:
    """c2 at the pairs of frames t1 < t2 (see `Experiment.pairs`), for each angle.

    c2 = offset + contrast·exp(−q² ∫D dt)·sinc²(½·q·gap·cos(φ − φ0)·∫γ̇ dt), with sinc(x) = sin(x)/x,
    D(t) = D0·t^alpha + D_offset and γ̇(t) = gamma_dot_t0·t^beta + gamma_dot_t_offset.

    `theta` has `contrast` and `offset`, each one number or one for each angle, with coefficients of
    harmonics if there are any (see `angles.at_angles`), and the scalars D0 (Å²/s), alpha and
    D_offset (Å²/s); for a sample under shear gamma_dot_t0 (1/s), beta, gamma_dot_t_offset (1/s)
    and phi0 (°) too. Without those there is no shear factor. With D0_ref and the others of
    `parameters.TWO_COMPONENTS` it is that of a sample which flows through a reference,

        c2 = offset + contrast·[(r₁r₂)²·e^(−q²∫J_r) + (s₁s₂)²·e^(−q²∫J_s)
             + 2·r₁r₂s₁s₂·e^(−q²∫(J_r + J_s)/2)·cos(q·cos(φ + phi0_het)·∫v dt)]
             / ((r₁² + s₁²)·(r₂² + s₂²)),

    where J = D0·t^alpha + D_offset of each, v(t) = v0·t^v_beta + v_offset, and the sample's share
    at the two frames is s = f0·exp(f1·(t − f2)) + f3, kept within 0 and 1, and r = 1 − s (He et
    al., eq. S-95).

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs import Experiment, two_time
        >>> experiment = Experiment(t=jnp.arange(3.0), phi=jnp.zeros(1), q=0.0, gap=0.0)
        >>> theta = {"contrast": jnp.array([0.2]), "offset": jnp.ones(1),
        ...          "D0": 1.0, "alpha": 0.0, "D_offset": 0.0}
        >>> print(two_time(theta, experiment))
        [[1.2 1.2 1.2]]
    """
    i, j = experiment.pairs
    return two_time_of_pairs(theta, experiment, i, j)


def two_time_of_pairs(
    theta: Mapping[str, Float[ArrayLike, "..."]],
    experiment: Experiment,
    i: Int[ArrayLike, " m"],
    j: Int[ArrayLike, " m"],
) -> Float[Array, "n_phi m"]:
    """`two_time` at some pairs of frames, by their indices i < j.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs import Experiment
        >>> from scalejax.xpcs.correlation import two_time_of_pairs
        >>> experiment = Experiment(t=jnp.arange(3.0), phi=jnp.zeros(1), q=0.0, gap=0.0)
        >>> theta = {"contrast": jnp.array([0.2]), "offset": jnp.ones(1),
        ...          "D0": 1.0, "alpha": 0.0, "D_offset": 0.0}
        >>> print(two_time_of_pairs(theta, experiment, jnp.array([0]), jnp.array([2])))
        [[1.2]]
    """
    theta = {name: jnp.asarray(value) for name, value in theta.items()}
    i, j = jnp.asarray(i), jnp.asarray(j)

    def at_angle(phi, q, contrast, offset):
        return offset + contrast * _decay(theta, experiment, phi, q, i, j)

    # With one q, what does not depend on the angle is worked out once.
    along = (0, 0 if experiment.q.ndim else None, 0, 0)
    contrast, offset = (at_angles(theta, name, experiment.phi) for name in ("contrast", "offset"))
    return jax.vmap(at_angle, along)(experiment.phi, experiment.q, contrast, offset)


def two_time_at(
    theta: Mapping[str, Float[ArrayLike, "..."]],
    experiment: Experiment,
    index: Int[ArrayLike, " m"],
) -> Float[Array, " m"]:
    """Some of the values of `two_time`, by their places in `two_time(…).ravel()`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs import Experiment
        >>> from scalejax.xpcs.correlation import two_time_at
        >>> experiment = Experiment(t=jnp.arange(3.0), phi=jnp.zeros(2), q=0.0, gap=0.0)
        >>> theta = {"contrast": jnp.array([0.2, 0.3]), "offset": jnp.ones(2),
        ...          "D0": 1.0, "alpha": 0.0, "D_offset": 0.0}
        >>> print(two_time_at(theta, experiment, jnp.array([0, 5])))
        [1.2 1.3]
    """
    theta = {name: jnp.asarray(value) for name, value in theta.items()}
    n_t = experiment.t.shape[0]
    angle, pair = jnp.divmod(jnp.asarray(index), n_t * (n_t - 1) // 2)
    # Where each frame's pairs begin: a few numbers, where a table of all pairs would be a constant
    # of megabytes in whatever is compiled.
    first = np.concatenate([[0], np.cumsum(np.arange(n_t - 1, 0, -1))])
    i = jnp.searchsorted(jnp.asarray(first), pair, side="right") - 1
    j = pair - jnp.asarray(first)[i] + i + 1
    q = experiment.q[angle] if experiment.q.ndim else experiment.q
    decay = _decay(theta, experiment, experiment.phi[angle], q, i, j)
    contrast, offset = (at_angles(theta, name, experiment.phi) for name in ("contrast", "offset"))
    return offset[angle] + contrast[angle] * decay


def _decay(theta, experiment, phi, q, i, j):
    """From 1, where frames i and j are one, to 0."""
    if "D0_ref" in theta:
        return _of_two_components(theta, experiment, phi, q, i, j)
    t = experiment.t
    diffusion = power_law_integral(
        t, theta["D0"], theta["alpha"], theta["D_offset"], DIFFUSION_FLOOR
    )
    decay = jnp.exp(-(q**2) * (diffusion[j] - diffusion[i]))
    if "gamma_dot_t0" not in theta:
        return decay
    shear = power_law_integral(
        t, theta["gamma_dot_t0"], theta["beta"], theta["gamma_dot_t_offset"], SHEAR_FLOOR
    )
    strain = q * experiment.gap / 2 * (shear[j] - shear[i])
    return decay * sinc(strain * jnp.cos(jnp.deg2rad(phi - theta["phi0"]))) ** 2


def _of_two_components(theta, experiment, phi, q, i, j):
    t = experiment.t
    reference, sample = (
        power_law_integral(
            t, theta[f"D0_{of}"], theta[f"alpha_{of}"], theta[f"D_offset_{of}"], DIFFUSION_FLOOR
        )
        for of in ("ref", "sample")
    )
    path = power_law_integral(t, theta["v0"], theta["v_beta"], theta["v_offset"], None)
    # Where the exponential is beyond 1 the share is 1, whatever it is.
    growth = jnp.exp(jnp.minimum(theta["f1"] * (t - theta["f2"]), MOST_GROWTH))
    s = jnp.clip(theta["f0"] * growth + theta["f3"], 0.0, 1.0)
    r = 1 - s
    of_reference, of_sample = (jnp.exp(-(q**2) / 2 * (x[j] - x[i])) for x in (reference, sample))
    of_reference, of_sample = r[i] * r[j] * of_reference, s[i] * s[j] * of_sample
    phase = q * jnp.cos(jnp.deg2rad(phi + theta["phi0_het"])) * (path[j] - path[i])
    intensity = r**2 + s**2
    square = of_reference**2 + of_sample**2 + 2 * of_reference * of_sample * jnp.cos(phase)
    return square / (intensity[i] * intensity[j])


def to_matrix(
    pairs: Float[ArrayLike, "n_phi n_pairs"],
    diagonal: Float[ArrayLike, " n_phi"],
    n_t: int,
) -> Float[Array, "n_phi n_t n_t"]:
    """Symmetric matrices from values at the pairs t1 < t2, with one value on each diagonal."""
    pairs = jnp.asarray(pairs)
    i, j = np.triu_indices(n_t, k=1)
    full = jnp.zeros((pairs.shape[0], n_t, n_t), pairs.dtype)
    full = full.at[:, i, j].set(pairs).at[:, j, i].set(pairs)
    k = np.arange(n_t)
    return full.at[:, k, k].set(jnp.asarray(diagonal)[:, None])


def simulate(
    key: Array, theta: Mapping[str, Float[ArrayLike, "..."]], experiment: Experiment
) -> Float[Array, "n_phi n_t n_t"]:
    """A measured c2: the model with independent normal noise of sd `theta["sigma"]`."""
    theta = {name: jnp.asarray(value) for name, value in theta.items()}
    mean = two_time(theta, experiment)
    noisy = mean + theta["sigma"] * jax.random.normal(key, mean.shape, mean.dtype)
    return to_matrix(noisy, theta["offset"] + theta["contrast"], experiment.t.shape[0])


def _levelled(x, floor):
    """A smooth, rising, positive function: x for x ≫ floor and floor²/(4·|x|) for −x ≫ floor.

    Unlike a maximum it has a gradient on both sides, which tells a sampler the way back.
    """
    root = jnp.hypot(x, floor)
    # (x + root)/2 cancels for negative x; the other form divides by almost 0 for positive x.
    below = floor**2 / (2 * (root - jnp.where(x > 0, 0, x)))
    return jnp.where(x > 0, (x + root) / 2, below)
