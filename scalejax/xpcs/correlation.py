"""The two-time correlation of a sheared, diffusing sample, as plain functions of physical values.

Source: He et al., PNAS 2024, doi:10.1073/pnas.2401162121. It knows no bounds, priors or samplers.
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from scalejax.xpcs.sinc import sinc

# Where a rate would fall to 0 or below, it levels off at about these instead (Å²/s and 1/s). Both
# are far below what a measurement resolves.
DIFFUSION_FLOOR = 0.1
SHEAR_FLOOR = 1e-8


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
    floor: float,
) -> Float[Array, " n_t"]:
    """∫ (prefactor·s^exponent + offset) ds from t[0] to each t, by cumulative trapezoids.

    A frame at t = 0 is evaluated half a frame later: the power law diverges there for a negative
    exponent. The integrand levels off smoothly at a small positive value.

    Examples:
        >>> import jax.numpy as jnp
        >>> from scalejax.xpcs.correlation import power_law_integral
        >>> print(power_law_integral(jnp.arange(3.0), 0.0, 0.0, 2.0, 1e-6))
        [0. 2. 4.]
    """
    at = jnp.where(t == 0, (t[1] - t[0]) / 2, t)
    rate = _levelled(prefactor * at**exponent + offset, floor)
    steps = (rate[1:] + rate[:-1]) / 2 * jnp.diff(t)
    return jnp.concatenate([jnp.zeros_like(t[:1]), jnp.cumsum(steps)])


def two_time(
    theta: Mapping[str, Float[ArrayLike, "..."]], experiment: Experiment
) -> Float[Array, "n_phi n_pairs"]:
    """c2 at the pairs of frames t1 < t2 (see `Experiment.pairs`), for each angle.

    c2 = offset + contrast·exp(−q² ∫D dt)·sinc²(½·q·gap·cos(φ − φ0)·∫γ̇ dt), with sinc(x) = sin(x)/x,
    D(t) = D0·t^alpha + D_offset and γ̇(t) = gamma_dot_t0·t^beta + gamma_dot_t_offset.

    `theta` has `contrast` and `offset` of shape (n_phi,), and the scalars D0 (Å²/s), alpha and
    D_offset (Å²/s); for a sample under shear gamma_dot_t0 (1/s), beta, gamma_dot_t_offset (1/s)
    and phi0 (°) too. Without those there is no shear factor.

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
        decay, strain = _decay_and_strain(theta, experiment, q, i, j)
        return offset + contrast * decay * _shear_factor(theta, strain, phi)

    # With one q, what does not depend on the angle is worked out once.
    along = (0, 0 if experiment.q.ndim else None, 0, 0)
    return jax.vmap(at_angle, along)(
        experiment.phi, experiment.q, theta["contrast"], theta["offset"]
    )


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
    i, j = (jnp.asarray(x) for x in experiment.pairs)
    angle, pair = jnp.divmod(jnp.asarray(index), len(i))
    q = experiment.q[angle] if experiment.q.ndim else experiment.q
    decay, strain = _decay_and_strain(theta, experiment, q, i[pair], j[pair])
    shear = _shear_factor(theta, strain, experiment.phi[angle])
    return theta["offset"][angle] + theta["contrast"][angle] * decay * shear


def _decay_and_strain(theta, experiment, q, i, j):
    """exp(−q²∫D dt) and ½·q·gap·∫γ̇ dt between frames i and j; None without shear."""
    t = experiment.t
    diffusion = power_law_integral(
        t, theta["D0"], theta["alpha"], theta["D_offset"], DIFFUSION_FLOOR
    )
    decay = jnp.exp(-(q**2) * (diffusion[j] - diffusion[i]))
    if "gamma_dot_t0" not in theta:
        return decay, None
    shear = power_law_integral(
        t, theta["gamma_dot_t0"], theta["beta"], theta["gamma_dot_t_offset"], SHEAR_FLOOR
    )
    return decay, q * experiment.gap / 2 * (shear[j] - shear[i])


def _shear_factor(theta, strain, phi):
    if strain is None:
        return 1.0
    return sinc(strain * jnp.cos(jnp.deg2rad(phi - theta["phi0"]))) ** 2


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
