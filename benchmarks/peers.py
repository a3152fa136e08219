"""The same map by other means: what a user would otherwise write, or compose from a library.

Each is made for one kind of bounds, or is None where the library has no such map. All are the same
function of z; they differ in how it is computed.
"""

from collections.abc import Callable
from typing import NamedTuple

import distrax as dx
import equinox as eqx
import flowjax.bijections as fb
import jax
import jax.numpy as jnp
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import AffineTransform, ComposeTransform
from tensorflow_probability.substrates.jax import bijectors as tfb

from scalejax import bounds


class Map(NamedTuple):
    """Functions of arrays that broadcast: z or θ, center, scale, low, high."""

    forward: Callable
    """θ and log ∂θ/∂z, by element."""
    inverse: Callable


def scalejax(kind):
    return Map(
        lambda z, *factors: bounds.forward_and_log_det(z, *factors, kinds=(bounds.KINDS[kind],)),
        lambda theta, *factors: bounds.inverse(theta, *factors, kinds=(bounds.KINDS[kind],)),
    )


def tanh(kind):
    """mid + half·tanh((center + scale·z − mid)/half), with the log-derivative of TFP's Tanh."""
    if kind != "interval":
        return None

    def forward(z, center, scale, low, high):
        mid, half = (low + high) / 2, (high - low) / 2
        u = (center + scale * z - mid) / half
        log_slope = jnp.log(scale) + 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
        return mid + half * jnp.tanh(u), log_slope

    def inverse(theta, center, scale, low, high):
        mid, half = (low + high) / 2, (high - low) / 2
        return (mid + half * jnp.arctanh((theta - mid) / half) - center) / scale

    return Map(forward, inverse)


def affine(kind, center, scale, low, high):
    """Offset and slope of the argument that a library's bounded transform takes."""
    if kind == "interval":
        width = high - low
        return 4 * (center - (low + width / 2)) / width, 4 * scale / width
    if kind == "lower":
        return jnp.log(center - low), scale / (center - low)
    if kind == "upper":
        return jnp.log(high - center), -scale / (high - center)
    return center, scale


def numpyro(kind):
    support = {
        "interval": constraints.interval,
        "lower": lambda low, high: constraints.greater_than(low),
        "upper": lambda low, high: constraints.less_than(high),
        "unbounded": lambda low, high: constraints.real,
    }.get(kind)
    if support is None:
        return None

    def composed(center, scale, low, high):
        first = AffineTransform(*affine(kind, center, scale, low, high))
        return ComposeTransform([first, biject_to(support(low, high))])

    def forward(z, *factors):
        transform = composed(*factors)
        theta = transform(z)
        return theta, transform.log_abs_det_jacobian(z, theta)

    return Map(forward, lambda theta, *factors: composed(*factors).inv(theta))


def tfp(kind):
    second = {
        "interval": tfb.Sigmoid,
        "lower": lambda low, high: tfb.Chain([tfb.Shift(low), tfb.Exp()]),
        "upper": lambda low, high: tfb.Chain([tfb.Shift(high), tfb.Scale(-1.0), tfb.Exp()]),
        "unbounded": lambda low, high: tfb.Identity(),
    }.get(kind)
    if second is None:
        return None

    def chain(center, scale, low, high):
        offset, slope = affine(kind, center, scale, low, high)
        return tfb.Chain([second(low, high), tfb.Shift(offset), tfb.Scale(slope)])

    def forward(z, *factors):
        bijector = chain(*factors)
        return bijector.forward(z), bijector.forward_log_det_jacobian(z, event_ndims=0)

    return Map(forward, lambda theta, *factors: chain(*factors).inverse(theta))


def flowjax(kind):
    if kind == "pinned":
        return None

    def affine_by(loc, scale):
        # Its constructor passes the scale through a softplus and back, and wants it positive.
        unit = fb.Affine(jnp.zeros_like(loc), jnp.ones_like(scale))
        return eqx.tree_at(lambda a: (a.loc, a.scale), unit, (loc, scale))

    def chain(center, scale, low, high):
        offset, slope = affine(kind, center, scale, low, high)
        one = jnp.ones_like(offset)
        rest = {
            "interval": lambda: [fb.Sigmoid(), affine_by(low, high - low)],
            "lower": lambda: [fb.Exp(), affine_by(low, one)],
            "upper": lambda: [fb.Exp(), affine_by(high, -one)],
            "unbounded": lambda: [],
        }[kind]()
        return fb.Chain([affine_by(offset, slope), *rest])

    def elementwise(method):
        def apply(x, *factors):
            arrays = jnp.broadcast_arrays(x, *factors)
            results = jax.vmap(lambda x, *f: method(chain(*f), x))(*(a.ravel() for a in arrays))
            return jax.tree.map(lambda a: a.reshape(arrays[0].shape), results)

        return apply

    return Map(
        elementwise(lambda bijection, z: bijection.transform_and_log_det(z)),
        elementwise(lambda bijection, theta: bijection.inverse(theta)),
    )


def distrax(kind):
    if kind == "pinned":
        return None
    exp = dx.Lambda(
        jnp.exp, jnp.log, lambda x: x, lambda y: -jnp.log(y), event_ndims_in=0, event_ndims_out=0
    )

    def chain(center, scale, low, high):
        offset, slope = affine(kind, center, scale, low, high)
        one = jnp.ones_like(offset)
        rest = {
            "interval": lambda: [dx.ScalarAffine(low, high - low), dx.Sigmoid()],
            "lower": lambda: [dx.ScalarAffine(low, one), exp],
            "upper": lambda: [dx.ScalarAffine(high, -one), exp],
            "unbounded": lambda: [],
        }[kind]()
        return dx.Chain([*rest, dx.ScalarAffine(offset, slope)])

    return Map(
        lambda z, *factors: chain(*factors).forward_and_log_det(z),
        lambda theta, *factors: chain(*factors).inverse(theta),
    )


PEERS = {
    "scalejax": scalejax,
    "tanh formula": tanh,
    "NumPyro": numpyro,
    "TFP": tfp,
    "flowjax": flowjax,
    "distrax": distrax,
}
