"""Argument checks that run at trace time and say what came and what was expected.

Every check costs nothing on the device: it looks at shapes, dtypes and Python
values only, and leaves traced values alone.
"""

import numbers

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def is_concrete(*values) -> bool:
    """True if no leaf of `values` is a tracer, so its numbers may be read."""
    return not any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(values))


def shape_of(x) -> tuple[int, ...]:
    """The shape; of a nested list that is not rectangular its length only."""
    try:
        return tuple(np.shape(x))
    except ValueError:
        return (len(x),)


def dtype_of(caller: str, name: str, x) -> np.dtype:
    """The dtype that JAX gives `x`; lists are read as numpy reads them.

    Raises:
        TypeError: naming the argument, if it is not an array of real numbers.
    """
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)):
        try:
            x = np.asarray(x)
        except ValueError:  # rows of different lengths
            raise TypeError(
                f"{caller}: {name} is a nested {type(x).__name__} that is not"
                " rectangular, expected an array of numbers"
            ) from None
    try:
        dtype = jnp.result_type(x)
    except TypeError:
        what = f"dtype {x.dtype}" if x.shape else repr(x.item())
        raise TypeError(
            f"{caller}: {name} is {what}, expected an array of numbers"
        ) from None
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{caller}: {name} is dtype {dtype}, expected real numbers")
    return dtype


def check_floating(caller: str, name: str, x) -> None:
    dtype = dtype_of(caller, name, x)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{caller}: {name} has dtype {dtype}, expected floating point")


def check_integers(caller: str, name: str, x) -> None:
    """Checks that `x` holds integers; an empty list, which has no dtype, passes."""
    dtype = dtype_of(caller, name, x)
    if not jnp.issubdtype(dtype, jnp.integer) and not shape_of(x) == (0,):
        given = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        raise TypeError(f"{caller}: {name} have dtype {given}, expected integers")


def check_compared(caller: str, name: str, labels) -> None:
    """Checks that integers which are only compared keep their differences in int32.

    JAX would cut 2^32 + 1 to 1 without a word, and make two classes one.
    """
    check_integers(caller, name, labels)
    if not is_concrete(labels):
        return
    known = np.asarray(labels)
    wide = known[(known < -(2**31)) | (known >= 2**31)]
    if wide.size:
        raise ValueError(
            f"{caller}: {name} hold {wide[0]}, expected integers that int32 holds;"
            " number the classes"
        )


def class_axis(caller: str, name: str, x) -> int:
    """K, the length of the last axis of predictions [..., K] of numbers."""
    dtype_of(caller, name, x)
    if not shape_of(x):
        raise ValueError(
            f"{caller}: {name} is a scalar, expected [..., K] (classes last)"
        )
    return shape_of(x)[-1]


def check_classes_last(caller: str, name: str, x) -> int:
    """K of floating predictions [..., K] of at least one class."""
    check_floating(caller, name, x)
    classes = class_axis(caller, name, x)
    if classes < 1:
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(x)}, expected at least one class"
            " (last axis)"
        )
    return classes


def check_rank(caller: str, name: str, x, rank: int, letters: str) -> None:
    dtype_of(caller, name, x)
    if len(shape_of(x)) != rank:
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(x)}, expected {rank} axes {letters}"
        )


def check_logits_labels(
    caller: str, logits, labels, *, soft: bool = False, name: str = "logits"
) -> None:
    """Checks logits [..., K] float and `labels` [...] int (or [..., K] float)."""
    check_floating(caller, name, logits)
    shape = shape_of(logits)
    if len(shape) < 1:
        raise ValueError(
            f"{caller}: {name} has shape {shape}, expected [B, K] (classes last)"
        )
    check_classes_last(caller, name, logits)
    label_dtype = dtype_of(caller, "labels", labels)
    if jnp.issubdtype(label_dtype, jnp.integer):
        if shape_of(labels) != shape[:-1]:
            raise ValueError(
                f"{caller}: labels have shape {shape_of(labels)}, expected {shape[:-1]}"
                f" ({name} {shape} without the class axis)"
            )
    elif jnp.issubdtype(label_dtype, jnp.floating) and soft:
        if shape_of(labels) != shape:
            raise ValueError(
                f"{caller}: labels are distributions of shape {shape_of(labels)},"
                f" expected the shape of {name} {shape}"
            )
    else:
        hint = " or distributions [B, K] (floating)" if soft else ""
        raise TypeError(
            f"{caller}: labels have dtype {label_dtype},"
            f" expected class indices [B] (integer){hint}"
        )


def check_class_vector(
    caller: str, name: str, values, num_classes: int, what: str = "classes"
) -> None:
    """Checks that `values` is one number per class (or per `what`), [K]."""
    dtype_of(caller, name, values)
    if shape_of(values) != (num_classes,):
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(values)},"
            f" but there are {num_classes} {what}, expected ({num_classes},)"
        )


def check_class_matrix(caller: str, name: str, values, num_classes: int) -> None:
    """Checks that `values` is one row of K numbers per class, [K, K]."""
    dtype_of(caller, name, values)
    if shape_of(values) != (num_classes, num_classes):
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(values)}, but there are"
            f" {num_classes} classes, expected ({num_classes}, {num_classes})"
        )


def check_counts(
    caller: str,
    class_counts,
    num_classes: int | None = None,
    *,
    name: str = "class_counts",
) -> None:
    """Checks `class_counts` [K]: the length, and the numbers where readable."""
    if dtype_of(caller, name, class_counts) == jnp.bool_:
        raise TypeError(f"{caller}: {name} has dtype bool, expected counts")
    if num_classes is None:
        check_rank(caller, name, class_counts, 1, "[K]")
    elif shape_of(class_counts) != (num_classes,):
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(class_counts)},"
            f" but logits have {num_classes} classes (last axis)"
        )
    if is_concrete(class_counts):
        counts = np.asarray(jax.device_get(class_counts))
        bad = np.flatnonzero(~((counts >= 0) & np.isfinite(counts)))
        if bad.size:
            raise ValueError(
                f"{caller}: {name} must be finite and >= 0, but class {bad[0]}"
                f" has {counts[bad[0]]}"
            )


def check_where(
    caller: str, where, shape: tuple[int, ...], *, name: str = "where"
) -> None:
    if where is None:
        return
    dtype = dtype_of(caller, name, where)
    if shape_of(where) != shape:
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(where)}, expected {shape}"
        )
    if dtype != jnp.bool_:
        raise TypeError(f"{caller}: {name} has dtype {dtype}, expected bool")


def check_range(
    caller: str,
    name: str,
    value,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Checks a scalar hyper-parameter if it is readable; traced ones pass."""
    if not is_concrete(value):
        return
    if not isinstance(value, numbers.Real):
        dtype_of(caller, name, value)
    if not isinstance(value, numbers.Real) and shape_of(value) != ():
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(value)}, expected a scalar"
        )
    number = float(value)
    below = number <= low if open_low else number < low
    above = number >= high if open_high else number > high
    if below or above or np.isnan(number):
        interval = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
        raise ValueError(
            f"{caller}: {name} is {value}, expected a number in {interval}"
        )


def check_whole(caller: str, name: str, value, *, low: int = 0) -> None:
    """Checks a size, a number of classes or of steps: an integer from `low`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{caller}: {name} is {value!r}, expected an integer")
    if value < low:
        raise ValueError(
            f"{caller}: {name} is {value}, expected an integer of at least {low}"
        )


def check_seed(caller: str, name: str, seed, *, bits: int = 32) -> None:
    """Checks that `seed` is an integer that its generator can hold.

    JAX would cut the seed 2^32 + 5 (a time in milliseconds, say) to 5 without a word.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"{caller}: {name} is {seed!r}, expected an integer")
    if not 0 <= int(seed) < 2**bits:
        raise ValueError(
            f"{caller}: {name} is {seed}, expected an integer in [0, 2^{bits})"
        )


def check_choice(caller: str, name: str, value, choices) -> None:
    if value not in choices:
        raise ValueError(
            f"{caller}: {name} is {value!r}, expected one of {list(choices)}"
        )
