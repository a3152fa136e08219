"""Sums over blocks of data: value, gradient and JᵀJ in the memory of one block, on any devices.

It knows no model, no coordinates and no sampler: a function of θ and a block says what is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree


class Normal(NamedTuple):
    """What Gauss and Newton's method needs of residuals r(θ) with the Jacobian J."""

    square: Float[Array, ""]
    """Σ r²."""
    pull: Float[Array, " P"]
    """Jᵀr."""
    gram: Float[Array, "P P"]
    """JᵀJ."""


class Blocks(eqx.Module):
    """Data cut along one axis into blocks of a size, over which sums are taken one after another.

    `data` is the pytree of arrays given to `split`, each with one more axis in front, that of the
    blocks, and the axis that was cut moved to the end. The last block is filled up with copies of
    the last item, which `counts` leaves out.

    With a `mesh` the blocks are laid over its axis `axis`: each device sums its own, and one
    all-reduce adds them up. Sums over blocks have twice the digits of a float, on one device and
    over several: they do not depend on how many there are, but for a last digit in rare cases.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from scalejax.blocks import Blocks
        >>> x = jnp.arange(1000.0)
        >>> blocks = Blocks.split({"x": x, "y": 2 * x}, size=128)
        >>> def squares(slope, block):
        ...     return (block["y"] - slope * block["x"]) ** 2
        >>> print(jax.grad(lambda slope: blocks.sum(squares, slope))(2.0) == 0)
        True
    """

    data: PyTree
    counts: Int[Array, " blocks"]
    items: int = eqx.field(static=True)
    """How many there are in all."""
    mesh: Mesh | None = eqx.field(static=True)
    axis: str = eqx.field(static=True)

    @classmethod
    def split(
        cls, data: PyTree, size: int, *, mesh: Mesh | None = None, axis: str = "data"
    ) -> Blocks:
        """Cut arrays along their last axis, which they have in common, into blocks of `size`.

        A block's arrays should fit the cache of a processor: some ten thousand numbers. With a mesh
        of several processes each gives the same data, and keeps its own part.

        **Raises** `ValueError` for no arrays, no items, last axes that differ, a size below 1, and
        an axis that the mesh does not have.
        """
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(data)]
        lengths = {array.shape[-1] for array in arrays if array.ndim}
        if len(lengths) != 1 or not all(array.ndim for array in arrays):
            raise ValueError(
                "data: expected arrays with one last axis in common; got shapes "
                + ", ".join(str(array.shape) for array in arrays)
            )
        (length,) = lengths
        if length < 1 or size < 1:
            raise ValueError(
                f"expected at least one item, in blocks of at least one; got {length}, in blocks "
                f"of {size}"
            )
        if mesh is not None and axis not in mesh.axis_names:
            raise ValueError(f"axis: expected one of {', '.join(mesh.axis_names)}; got {axis!r}")
        size = min(size, length)
        devices = 1 if mesh is None else mesh.shape[axis]
        count = -(-length // (size * devices)) * devices
        places = np.minimum(np.arange(count * size), length - 1).reshape(count, size)
        counts = np.clip(length - size * np.arange(count), 0, size).astype(np.int32)
        sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(axis))

        def cut(leaf: Any) -> Array:
            leaf = np.asarray(leaf)
            # Block by block, to where JAX takes it over: there is never a second copy.
            blocks = _aligned((count, *leaf.shape[:-1], size), leaf.dtype)
            for block, place in zip(blocks, places, strict=True):
                block[...] = leaf[..., place]
            return _placed(blocks, sharding)

        return cls(jax.tree.map(cut, data), _placed(counts, sharding), length, mesh, axis)

    @property
    def size(self) -> int:
        """How many items a block has."""
        return jax.tree.leaves(self.data)[0].shape[-1]

    def block(self, index: Int[Array, ""] | int) -> PyTree:
        """One of the blocks."""
        return jax.tree.map(lambda leaf: leaf[index], self.data)

    def shape(self, f: Callable[..., Any], theta: Any) -> tuple[int, ...]:
        """That of f(θ, block). **Raises** `ValueError` unless its last axis is the items'."""
        block = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.data)
        shape = eqx.filter_eval_shape(f, theta, block).shape
        if not shape or shape[-1] != self.size:
            raise ValueError(
                f"expected a function of θ and a block of {self.size} items that has a value for "
                f"each, of shape (…, {self.size}); got {shape}"
            )
        return shape

    def take(self, items: Int[Array, " n"]) -> Blocks:
        """One block of the items at these places, in the order in which they were given."""
        block, place = jnp.divmod(items, self.size)

        def gathered(leaf: Array) -> Array:
            return jnp.moveaxis(leaf[block, ..., place], 0, -1)[None]

        count = jnp.full(1, len(items), jnp.int32)
        return Blocks(jax.tree.map(gathered, self.data), count, len(items), None, self.axis)

    def sum(self, f: Callable[[Any, PyTree], Float[Array, "..."]], theta: Any) -> Float[Array, ""]:
        """Σ of f(θ, block), of shape (…, items), over all items of all blocks.

        The gradient is worked out with the value, in one pass over the data, and the memory of one
        block, as are a Hessian's columns. θ is any pytree. f is a plain function, or a pytree; what
        is differentiated is θ, so f must not close over what depends on it.

        Examples:
            >>> import jax.numpy as jnp
            >>> from scalejax.blocks import Blocks
            >>> blocks = Blocks.split(jnp.arange(10.0), size=4)
            >>> print(blocks.sum(lambda theta, x: theta * x, 2.0))
            90.0
        """
        theta = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, float) else x, theta)
        self.shape(f, theta)
        return _sum(theta, f, self)

    def normal(
        self,
        f: Callable[..., Float[Array, "..."]],
        theta: Float[Array, " P"],
        *,
        rowwise: Sequence[Sequence[int]] = (),
    ) -> Normal:
        """Σ r², Jᵀr and JᵀJ of residuals r = f(θ, block), of shape (…, items), by blocks.

        `rowwise` has groups of places in θ, of which the k-th enters the k-th row of the residuals
        alone, the rows being their first axis. One derivative does for each such group (Curtis,
        Powell and Reid 1974).

        Examples:
            >>> import jax.numpy as jnp
            >>> from scalejax.blocks import Blocks
            >>> blocks = Blocks.split(jnp.arange(10.0), size=4)
            >>> found = blocks.normal(lambda theta, x: theta[0] * x - 1, jnp.ones(1))
            >>> print(found.gram, found.pull)
            [[285.]] [240.]
        """
        shape = self.shape(f, theta)
        size, grouped = theta.shape[-1], {place for group in rowwise for place in group}
        rows = int(shape[0]) if rowwise and len(shape) > 1 else 1
        if any(len(group) != rows for group in rowwise):
            raise ValueError(
                f"rowwise: expected a place for each row of residuals of shape {shape}; got "
                f"{', '.join(str(len(group)) for group in rowwise)}"
            )
        single = [[place] * rows for place in range(size) if place not in grouped]
        places = np.array([*single, *rowwise], int).reshape(-1, rows)
        seeds = np.zeros((len(places), size))
        np.put_along_axis(seeds, places, 1.0, axis=1)

        def of_block(theta, block, count):
            def moved(along):
                value = self._counted(f(theta + along @ seeds.astype(theta.dtype), block), count)
                return value, value

            zero = jnp.zeros(len(places), theta.dtype)
            slopes, residual = jax.jacfwd(moved, has_aux=True)(zero)
            slopes = slopes.reshape(rows, -1, len(places))
            residual = residual.reshape(rows, -1)
            highest = jax.lax.Precision.HIGHEST
            gram = jnp.einsum("ank,anl->akl", slopes, slopes, precision=highest)
            pull = jnp.einsum("ank,an->ak", slopes, residual, precision=highest)
            return (residual**2).sum(), pull, gram

        square, pull, gram = self._over_blocks(of_block, theta)
        row = places.T
        return Normal(
            square,
            jnp.zeros(size, pull.dtype).at[row].add(pull),
            jnp.zeros((size, size), gram.dtype).at[row[:, :, None], row[:, None, :]].add(gram),
        )

    def _counted(self, terms: Array, count: Array) -> Array:
        """Terms without those of what fills up a block."""
        return jnp.where(jnp.arange(self.size) < count, terms, 0)

    def _over_blocks(self, of_block: Callable[..., PyTree], theta: Any) -> PyTree:
        """Σ of of_block(θ, block, count), over all blocks, in the widest of JAX's floats."""

        def local(theta, data, counts):
            accurate = jnp.result_type(float)
            first = jax.tree.map(lambda leaf: leaf[0], (data, counts))
            shapes = jax.eval_shape(of_block, theta, *first)
            zero = jax.tree.map(lambda x: jnp.zeros(x.shape, accurate), shapes)

            def step(carry, block):
                more = of_block(theta, *block)
                return jax.tree.map(_add, carry, more, is_leaf=_is_pair), None

            pairs = jax.tree.map(lambda x: (x, x), zero)
            # Or a second derivative backwards keeps what it needs of all blocks.
            frugal: Any = jax.checkpoint(step, prevent_cse=False)
            return jax.lax.scan(frugal, pairs, (data, counts))[0]

        if self.mesh is None:
            pairs = local(theta, self.data, self.counts)
            return jax.tree.map(lambda pair: pair[0] + pair[1], pairs, is_leaf=_is_pair)

        devices = self.mesh.shape[self.axis]

        def added(theta, data, counts):
            return _over_devices(local(theta, data, counts), self.axis, devices)

        if self.axis in jax.sharding.get_abstract_mesh().manual_axes:
            return added(theta, self.data, self.counts)
        along, everywhere = PartitionSpec(self.axis), PartitionSpec()
        return jax.shard_map(
            added,
            mesh=self.mesh,
            in_specs=(everywhere, along, along),
            out_specs=everywhere,
            check_vma=False,
        )(theta, self.data, self.counts)


@eqx.filter_custom_jvp
def _sum(theta, f, blocks):
    def of_block(theta, block, count):
        return blocks._counted(f(theta, block), count).sum()

    return blocks._over_blocks(of_block, theta)


@_sum.def_jvp
def _sum_and_slope(primals, tangents):
    """The value with the gradient, in one pass, and the gradient times the tangent.

    A scan that is differentiated backwards would evaluate each block once more, and forwards once
    for each direction.
    """
    (theta, f, blocks), (directions, *others) = primals, tangents
    if jax.tree.leaves(others):
        raise NotImplementedError("sums over blocks are differentiated by θ alone")
    # What is not differentiated has None for a direction.
    varied, fixed = eqx.partition(
        theta, jax.tree.map(eqx.is_array, directions, is_leaf=lambda x: x is None)
    )

    def of_block(varied, block, count):
        def value(varied):
            return blocks._counted(f(eqx.combine(varied, fixed), block), count).sum()

        return jax.value_and_grad(value)(varied)

    found, gradient = blocks._over_blocks(of_block, varied)
    along = jax.tree.map(lambda slope, direction: (slope * direction).sum(), gradient, directions)
    return found, jnp.asarray(sum(jax.tree.leaves(along)), found.dtype)


def scattered(key: Array, count: int, total: int) -> np.ndarray:
    """Places of `count` of `total` items, in order: one from each of so many equal stretches."""
    if count >= total:
        return np.arange(total)
    edges = np.linspace(0, total, count + 1)
    places = edges[:-1] + np.asarray(jax.random.uniform(key, (count,))) * np.diff(edges)
    return np.minimum(places.astype(int), total - 1)


def _add(pair: tuple[Array, Array], more: Array) -> tuple[Array, Array]:
    """A sum as two numbers, the second what the first has lost, and one number more.

    By Knuth's exact sum of two numbers, and Dekker's (1971) of a pair: it has twice the digits.
    """
    total, lost = pair
    more = more.astype(total.dtype)
    found = total + more
    part = found - total
    lost = lost + ((total - (found - part)) + (more - part))
    result = found + lost
    return result, lost - (result - found)


def _over_devices(pairs: PyTree, axis: str, devices: int) -> PyTree:
    """Sums of the devices, added up: one all-reduce, of a table with a row for each."""
    leaves, structure = jax.tree.flatten(pairs, is_leaf=_is_pair)
    flat = jnp.stack([jnp.concatenate([jnp.ravel(x) for x in part])
                      for part in zip(*leaves, strict=True)])  # fmt: skip
    table = jnp.zeros((devices, *flat.shape), flat.dtype).at[jax.lax.axis_index(axis)].set(flat)
    table = jax.lax.psum(table, axis)
    zero = jnp.zeros(flat.shape[1], flat.dtype)
    (total, lost), _ = jax.lax.scan(lambda s, x: (_add(s, x), None), (zero, zero), table[:, 0])
    found = total + (lost + table[:, 1].sum(0))
    ends = np.cumsum([np.prod(x.shape, dtype=int) for x, _ in leaves])
    parts = jnp.split(found, ends[:-1])
    shaped = [part.reshape(x.shape) for part, (x, _) in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and all(isinstance(y, jax.Array) for y in x)


def _placed(array: np.ndarray, sharding: NamedSharding | None) -> Array:
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    if sharding is None:
        return jax.device_put(array, may_alias=True)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An empty array where JAX on a CPU can take it over as it is."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)
