"""Other representations of an argument, and arguments that are wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

FLOATS = ("float16", "bfloat16", "float64")
INTEGERS = ("int8", "int16", "int64", "uint8", "uint16", "uint32", "uint64")
NARROW = ("float16", "bfloat16")
# Numbers that no valid call here holds.
ENTRIES: Mapping[str, float | int] = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1e38": 1e38,
    "-1e38": -1e38,
    "denormal": 1e-45,
    "-1": -1,
    "2^31 - 1": 2**31 - 1,
    "2^31": 2**31,
    "2^32 + 1": 2**32 + 1,
}
THINGS: Mapping[str, Any] = {
    "None": None,
    "a word": "a word",
    "ragged": [[1.0], [1.0, 2.0]],
    "complex": np.array([1 + 2j]),
    "words": np.array(["a", "b"]),
    "a time": np.array(["2026-01-01"], "datetime64[D]"),
}
NUMBERS: Mapping[str, Any] = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "-1e38": -1e38,
}


def is_array(value: Any) -> bool:
    """Whether this is an array of numbers that can be damaged."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def is_number(value: Any) -> bool:
    """Whether this is an option that is a number."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def represented(value: Any, form: str) -> Any:
    """The same numbers as another type; the value itself where there is no such."""
    if not is_array(value):
        return value
    if form == "list":
        return value.tolist() if value.size else value
    if form == "jax":
        return jnp.asarray(value)
    if form in FLOATS and value.dtype.kind == "f":
        return value.astype(jnp.dtype(form))
    if form in INTEGERS and value.dtype.kind in "iu":
        fits = value.size == 0 or (
            value.min() >= np.iinfo(form).min and value.max() <= np.iinfo(form).max
        )
        return value.astype(form) if fits else value
    return value


FORMS = ("list", "jax", *FLOATS, *INTEGERS)


def _entry(value: np.ndarray, number: float | int, place: int) -> np.ndarray:
    if isinstance(number, int) and value.dtype.kind in "iu":
        value = value.astype(np.int64)
    elif value.dtype.kind != "f":
        value = value.astype(np.float32)
    value = value.copy()
    if value.size:
        value.flat[place % value.size] = number
    return value


SHAPES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "one row less": lambda x: x[:-1] if x.ndim else np.array([x, x]),
    "a column more": lambda x: (
        np.concatenate([x, x[..., :1]], -1) if x.ndim else x[None]
    ),
    "an axis more": lambda x: x[None],
    "an axis at the end": lambda x: x[..., None],
    "no axis": lambda x: x.ravel()[0] if x.size else x.ravel(),
    "flat": np.ravel,
    "nothing": lambda x: x[..., :0] if x.ndim else np.zeros((0,), x.dtype),
}
KINDS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "as bool": lambda x: x.astype(bool),
    "as words": lambda x: x.astype(str),
    "as complex": lambda x: x.astype(np.complex64),
    "as objects": lambda x: x.astype(object),
    "as int": lambda x: x.astype(np.int32),
    "as float": lambda x: x.astype(np.float32),
}


def damages(value: Any) -> tuple[str, ...]:
    """Names of what can be wrong with an argument; () for a structure of ours."""
    if is_array(value):
        return (*ENTRIES, *SHAPES, *KINDS, *THINGS)
    if isinstance(value, str):
        return ("a word",)
    return tuple(NUMBERS) if is_number(value) else ()


def damaged(value: Any, damage: str, place: int) -> Any:
    """An argument with that wrong.

    Args:
        value: the valid one.
        damage: of `damages(value)`.
        place: which entry.
    """
    if isinstance(value, str):
        return THINGS[damage]
    if not is_array(value):
        return NUMBERS[damage]
    if damage in ENTRIES:
        return _entry(value, ENTRIES[damage], place)
    if damage in THINGS:
        return THINGS[damage]
    return (SHAPES.get(damage) or KINDS[damage])(value)
