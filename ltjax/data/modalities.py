"""Inputs of one modality or of several: an array, or a dict of arrays by name.

What one input looks like is an *element*: a `jax.ShapeDtypeStruct`, or a dict of them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ltjax._checks import dtype_of, shape_of

Shape = Any  # a tuple of integers, or a dict of them by modality
DType = Any  # a numpy dtype or its name, or a dict of them by modality


def element_of(shape: Shape, dtype: DType) -> Any:
    """The element of a shape and dtype, or of those of each modality.

    Example:
        >>> element_of({"sound": (40, 1)}, {"sound": np.dtype("float32")})
        {'sound': ShapeDtypeStruct(shape=(40, 1), dtype=float32)}
    """
    if not isinstance(shape, Mapping):
        return jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
    kinds = dtype if isinstance(dtype, Mapping) else dict.fromkeys(shape, dtype)
    return {name: element_of(shape[name], kinds[name]) for name in sorted(shape)}


def each_modality(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function` of arrays, or of the arrays of each modality.

    Args:
        function: of one array of each of the inputs.
        *inputs: arrays, or dicts of arrays with the same names.

    Returns:
        What the function gives, or a dict of it.

    Example:
        >>> each_modality(len, {"image": [1, 2], "sound": [3]})
        {'image': 2, 'sound': 1}
    """
    first = inputs[0]
    if not isinstance(first, Mapping):
        return function(*inputs)
    return {name: function(*(x[name] for x in inputs)) for name in first}


def batch_of(element: Any, size: Any) -> Any:
    """The shapes of a batch of inputs; its size may be symbolic."""
    return each_modality(
        lambda one: jax.ShapeDtypeStruct((size, *one.shape), one.dtype), element
    )


def byte_count(element: Any) -> int:
    """Bytes of one input, over all modalities."""
    return sum(
        math.prod(one.shape) * one.dtype.itemsize for one in jax.tree.leaves(element)
    )


def told(element: Any, *, letter: str = "B") -> str:
    """Shape and dtype of a batch of inputs, as messages have it.

    Args:
        element: see `element_of`.
        letter: for the number of inputs.

    Example:
        >>> told(jax.ShapeDtypeStruct((40, 1), np.dtype("float32")))
        '[B, 40, 1] of float32'
    """
    if isinstance(element, Mapping):
        parts = {name: told(one, letter=letter) for name, one in element.items()}
        return ", ".join(f"{name!r} {part}" for name, part in parts.items())
    axes = ", ".join([letter, *map(str, element.shape)])
    return f"[{axes}] of {element.dtype}"


def check_names(caller: str, inputs: Any, element: Any) -> None:
    """Refuses inputs that lack a modality, or have one that is not known.

    Raises:
        ValueError: naming it, and what is expected.
    """
    if not isinstance(element, Mapping):
        if isinstance(inputs, Mapping):
            raise ValueError(
                f"{caller}: inputs are a dict of {', '.join(map(str, inputs))},"
                f" expected one array, {told(element)}"
            )
        return
    expected = f"expected a dict of {told(element)}"
    if not isinstance(inputs, Mapping):
        raise ValueError(f"{caller}: inputs are one array, {expected}")
    for missing in sorted(element.keys() - inputs.keys()):
        raise ValueError(
            f"{caller}: inputs lack the modality {missing!r}, there is only"
            f" {', '.join(map(repr, inputs))}; {expected}"
        )
    for unknown in sorted(inputs.keys() - element.keys()):
        raise ValueError(
            f"{caller}: inputs have the unknown modality {unknown!r}, {expected}"
        )


def check_batch(caller: str, inputs: Any, element: Any, hint: str = "") -> None:
    """Refuses a batch of inputs that is not made of such elements.

    Args:
        caller: who asks, for messages.
        inputs: array, or dict of arrays.
        element: what one input has to be like.
        hint: the end of the message.

    Raises:
        ValueError: naming what came and what was expected.
    """
    check_names(caller, inputs, element)
    if isinstance(element, Mapping):
        for name, one in element.items():
            check_batch(f"{caller}: modality {name!r}", inputs[name], one, hint)
        return
    shape, dtype = shape_of(inputs), dtype_of(caller, "inputs", inputs)
    if shape[1:] != element.shape or dtype != element.dtype:
        raise ValueError(
            f"{caller}: inputs have shape {shape} and dtype {dtype}, expected"
            f" {told(element)}{hint}"
        )
