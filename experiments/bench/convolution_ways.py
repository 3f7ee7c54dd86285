"""Ways to compute a 3x3 convolution and its two gradients with XLA.

All are the same sums: stride 1, padding 1, kernels [3, 3, C, K]. Arrays are in the
layout that the way names, as a network that used it throughout would keep them. This
file needs jax and numpy only, so that it also runs under other versions of jax.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TAPS = [(dy, dx) for dy in range(3) for dx in range(3)]


class Way(NamedTuple):
    """One way to compute them; "C" of a layout stands for input and output channels."""

    layout: str
    forward: Callable  # (x, w) -> y
    input_gradient: Callable  # (w, g) -> the gradient of x, for g that of y
    weight_gradient: Callable  # (x, g) -> the gradient of w


def library(layout: str) -> Way:
    """XLA's own convolution; "NHWC" is what the networks use."""

    def forward(x, w):
        numbers = (layout, "HWIO", layout)
        padding = ((1, 1), (1, 1))
        return lax.conv_general_dilated(
            x, w, (1, 1), padding, dimension_numbers=numbers
        )

    def input_gradient(w, g):
        shape = list(g.shape)
        shape[layout.index("C")] = w.shape[2]
        x = jax.ShapeDtypeStruct(tuple(shape), g.dtype)
        return jax.linear_transpose(lambda x: forward(x, w), x)(g)[0]

    def weight_gradient(x, g):
        channels = layout.index("C")
        shape = (3, 3, x.shape[channels], g.shape[channels])
        w = jax.ShapeDtypeStruct(shape, g.dtype)
        return jax.linear_transpose(lambda w: forward(x, w), w)(g)[0]

    return Way(layout, forward, input_gradient, weight_gradient)


def im2col(layout: str) -> Way:
    """All nine windows side by side in the channels, then one matrix product."""
    data, channels = layout.lower(), layout.index("C")
    result = data.replace("c", "k")

    def columns(x):
        padded = _pad(x, layout)
        return jnp.concatenate([_window(padded, layout, *t) for t in TAPS], channels)

    def forward(x, w):
        matrix = w.reshape(-1, w.shape[3])
        return jnp.einsum(f"{data},ck->{result}", columns(x), matrix)

    def weight_gradient(x, g):
        product = jnp.einsum(f"{data},{result}->ck", columns(x), g)
        return product.reshape(3, 3, -1, product.shape[1])

    return Way(layout, forward, _by_forward(forward), weight_gradient)


def patches(layout: str = "NHWC") -> Way:
    """The windows by `lax.conv_general_dilated_patches`, then one matrix product."""
    data, channels = layout.lower(), layout.index("C")
    result = data.replace("c", "k")

    def columns(x):
        numbers = (layout, "OIHW", layout)
        return lax.conv_general_dilated_patches(
            x, (3, 3), (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers
        )

    def forward(x, w):
        matrix = w.transpose(2, 0, 1, 3).reshape(-1, w.shape[3])
        return jnp.einsum(f"{data},ck->{result}", columns(x), matrix)

    def weight_gradient(x, g):
        product = jnp.einsum(f"{data},{result}->ck", columns(x), g)
        shape = (x.shape[channels], 3, 3, g.shape[channels])
        return product.reshape(shape).transpose(1, 2, 0, 3)

    return Way(layout, forward, _by_forward(forward), weight_gradient)


def shifted(layout: str) -> Way:
    """Nine matrix products of shifted inputs, added up."""
    data = layout.lower()
    result = data.replace("c", "k")

    def forward(x, w):
        padded, equation = _pad(x, layout), f"{data},ck->{result}"
        parts = [jnp.einsum(equation, _window(padded, layout, *t), w[t]) for t in TAPS]
        return sum(parts[1:], parts[0])

    def weight_gradient(x, g):
        padded, equation = _pad(x, layout), f"{data},{result}->ck"
        parts = [jnp.einsum(equation, _window(padded, layout, *t), g) for t in TAPS]
        return jnp.stack(parts).reshape(3, 3, *parts[0].shape)

    return Way(layout, forward, _by_forward(forward), weight_gradient)


def rows(layout: str) -> Way:
    """One product of [3 C, N] and [N, 3 K]: rows shift one factor, columns the other.

    It copies each array three times instead of one of them nine times.
    """
    data, channels = layout.lower(), layout.index("C")
    result = data.replace("c", "k")
    vertical, horizontal = layout.index("H"), layout.index("W")

    def tripled(x, axis, order):
        shifts = [_shift(x, axis, step) for step in order]
        return jnp.concatenate(shifts, channels)

    def forward(x, w):
        inputs, outputs = w.shape[2:]
        matrix = w.transpose(0, 2, 1, 3).reshape(3 * inputs, 3 * outputs)
        high = tripled(x, vertical, (-1, 0, 1))
        wide = jnp.einsum(f"{data},ck->{result}", high, matrix)
        parts = jnp.split(wide, 3, channels)
        moved = [
            _shift(part, horizontal, step)
            for part, step in zip(parts, (-1, 0, 1), strict=True)
        ]
        return sum(moved[1:], moved[0])

    def weight_gradient(x, g):
        inputs, outputs = x.shape[channels], g.shape[channels]
        high = tripled(x, vertical, (-1, 0, 1))
        wide = tripled(g, horizontal, (1, 0, -1))
        product = jnp.einsum(f"{data},{result}->ck", high, wide)
        return product.reshape(3, inputs, 3, outputs).transpose(0, 2, 1, 3)

    return Way(layout, forward, _by_forward(forward), weight_gradient)


# Of F(m, 3): the transforms of outputs (m rows), inputs and kernels.
WINOGRAD = {
    2: (
        ((1, 1, 1, 0), (0, 1, -1, -1)),
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    ),
    4: (
        (
            (1, 1, 1, 1, 1, 0),
            (0, 1, -1, 2, -2, 0),
            (0, 1, 1, 4, 4, 0),
            (0, 1, -1, 8, -8, 1),
        ),
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
    ),
}


def winograd(size: int, layout: str) -> Way:
    """F(size x size, 3x3): tiles of outputs by (size + 2)^2 batched matrix products.

    References:
        A. Lavin, S. Gray, Fast algorithms for convolutional neural networks, CVPR 2016,
        section 4.
    """
    outputs, inputs, kernels = (np.array(m, np.float32) for m in WINOGRAD[size])
    data = layout.lower()
    result = data.replace("c", "k")

    def of_kernel(w):
        return jnp.einsum("pi,qj,ijck->pqck", kernels, kernels, w)

    def of_input(x):
        return _stacked(_tiles(_pad(x, layout), inputs, size, layout))

    def forward(x, w):
        equation = f"pq{data},pqck->pq{result}"
        product = jnp.einsum(equation, of_input(x), of_kernel(w))
        by_column = [_combine(outputs, list(product[:, q])) for q in range(size + 2)]
        pixels = [_combine(outputs, list(row)) for row in zip(*by_column, strict=True)]
        vertical, horizontal = layout.index("H"), layout.index("W")
        lines = [_interleave(row, horizontal) for row in pixels]
        return _interleave(lines, vertical)

    def weight_gradient(x, g):
        of_gradient = _stacked(_tiles(g, outputs.T, size, layout))
        equation = f"pq{data},pq{result}->pqck"
        product = jnp.einsum(equation, of_input(x), of_gradient)
        return jnp.einsum("pi,qj,pqck->ijck", kernels, kernels, product)

    return Way(layout, forward, _by_forward(forward), weight_gradient)


def _by_forward(forward: Callable) -> Callable:
    """The input's gradient: a forward pass with the kernel turned by 180 degrees."""
    return lambda w, g: forward(g, jnp.flip(w, (0, 1)).swapaxes(2, 3))


def _pad(x: jax.Array, layout: str) -> jax.Array:
    return jnp.pad(x, [(1, 1) if axis in "HW" else (0, 0) for axis in layout])


def _window(padded: jax.Array, layout: str, dy: int, dx: int) -> jax.Array:
    for axis, start in (("H", dy), ("W", dx)):
        index = layout.index(axis)
        size = padded.shape[index] - 2
        padded = lax.slice_in_dim(padded, start, start + size, axis=index)
    return padded


def _shift(x: jax.Array, axis: int, step: int) -> jax.Array:
    """x[i + step] along an axis, 0 outside."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (-step, step, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Rows of the matrix times a list of arrays, without the zeros."""
    found = []
    for row in matrix:
        pairs = zip(row.tolist(), arrays, strict=True)
        terms = [array if c == 1 else c * array for c, array in pairs if c]
        found.append(sum(terms[1:], terms[0]))
    return found


def _tiles(x: jax.Array, matrix: np.ndarray, step: int, layout: str):
    """matrix @ tile @ matrix.T of all tiles, as a list of lists of arrays."""

    def along(x: jax.Array, axis: int) -> list[jax.Array]:
        count = matrix.shape[1]
        last = x.shape[axis] - count
        slices = [
            lax.slice_in_dim(x, i, last + i + 1, stride=step, axis=axis)
            for i in range(count)
        ]
        return _combine(matrix, slices)

    vertical, horizontal = layout.index("H"), layout.index("W")
    return [along(row, horizontal) for row in along(x, vertical)]


def _stacked(arrays: list[list[jax.Array]]) -> jax.Array:
    flat = jnp.stack([array for row in arrays for array in row])
    return flat.reshape(len(arrays), -1, *flat.shape[1:])


def _interleave(arrays: Sequence[jax.Array], axis: int) -> jax.Array:
    shape = list(arrays[0].shape)
    shape[axis] *= len(arrays)
    return jnp.stack(arrays, axis + 1).reshape(shape)


WAYS = {
    "library NHWC": library("NHWC"),
    "library NCHW": library("NCHW"),
    "library CHWN": library("CHWN"),
    "patches NHWC": patches("NHWC"),
    "im2col NHWC": im2col("NHWC"),
    "im2col CHWN": im2col("CHWN"),
    "shifted NHWC": shifted("NHWC"),
    "shifted CHWN": shifted("CHWN"),
    "rows NHWC": rows("NHWC"),
    "rows CHWN": rows("CHWN"),
    "winograd 2 CHWN": winograd(2, "CHWN"),
    "winograd 4 CHWN": winograd(4, "CHWN"),
    "winograd 4 NHWC": winograd(4, "NHWC"),
}
