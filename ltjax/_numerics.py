"""Numerically safe building blocks shared by the floors above."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax._checks import check_seed, is_concrete


def namespace(*values) -> Any:
    """numpy (host, float64) if every value is concrete, else jax.numpy."""
    return np if is_concrete(*values) else jnp


def double_precision() -> Any:
    """The context in which JAX computes in float64."""
    # Under this name from jax 0.8 on.
    if not hasattr(jax, "enable_x64"):
        from jax import experimental

        return experimental.enable_x64(True)  # pyright: ignore
    return jax.enable_x64(True)


def host(x) -> Any:
    """`x` as a numpy array if it can be read, unchanged if it is traced."""
    return np.asarray(jax.device_get(x)) if is_concrete(x) else x


def at_least_float32(x) -> jax.Array:
    """Upcasts half precision, so that exp, log and sums are taken in float32."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def as_key(caller: str, key) -> jax.Array:
    """A typed random key from whatever people have at hand.

    Args:
        caller: function named in messages.
        key: a typed key, the legacy `jax.random.PRNGKey(seed)` (uint32 words), or an
            int seed in [0, 2^32).

    Returns:
        A typed key of shape ().

    Raises:
        TypeError: for anything else, several keys included.
        ValueError: for a seed out of range.
    """
    dtype, shape = getattr(key, "dtype", None), np.shape(key)
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if shape == ():
            return key
    elif dtype == np.uint32 and len(shape) == 1 and shape[0] in (2, 4):
        return jax.random.wrap_key_data(jnp.asarray(key))
    elif isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        check_seed(caller, "key", key)
        return jax.random.key(int(key))
    elif dtype is not None and shape == () and jnp.issubdtype(dtype, jnp.integer):
        if is_concrete(key):
            return as_key(caller, int(key))
        return jax.random.key(key)
    raise TypeError(
        f"{caller}: key is {key!r}, expected one jax.random.key(seed), a PRNGKey or an"
        " integer seed"
    )


def class_indices(labels) -> jax.Array:
    """Class indices as int32; a number beyond int32 becomes -1, which is no class.

    Every comparison of labels with class numbers must come after this. In their own
    dtype it goes wrong without a word: 256 is 0 in uint8, and JAX, which holds 64-bit
    integers in 32 bits by default, would turn 2^32 + 1 into class 1.

    Args:
        labels: [...] int of any width. What jit has been given as 64-bit integers was
            cut to 32 bits before; convert such labels outside.

    Returns:
        [...] int32; labels of another kind than integers come back as they are, except
        an empty list, which has no kind.
    """
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)
    if labels.shape == (0,):
        return jnp.zeros((0,), jnp.int32)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.dtype == jnp.int32:
        return jnp.asarray(labels)
    xp: Any = np if isinstance(labels, np.ndarray) else jnp
    ends, given = jnp.iinfo(jnp.int32), jnp.iinfo(labels.dtype)
    narrow = labels.astype(np.int32)
    if given.max > ends.max:
        fits = labels <= ends.max
        if given.min < ends.min:
            fits &= labels >= ends.min
        narrow = xp.where(fits, narrow, np.int32(-1))
    return jnp.asarray(narrow)


def nan_outside(values, labels, num_classes: int) -> jax.Array:
    """`values` [...], NaN in value and gradient where a label is outside [0, K).

    The factor reaches the gradient as well. `where` would not do: it cuts the gradient
    of what it replaces, and a row with a bad label would train with a finite one.

    Args:
        values: [...] float, one per label.
        labels: [...] int, as of `class_indices`.
        num_classes: K.
    """
    known = (labels >= 0) & (labels < num_classes)
    factor = jnp.where(known, jnp.ones((), values.dtype), jnp.nan)
    return values * factor


def class_lookup(table, labels) -> jax.Array:
    """`table[labels]`, with NaN for labels outside [0, K).

    Plain indexing clamps or wraps such labels in JAX; a NaN cannot be missed.

    Args:
        table: [K] or [..., K] float; leading axes broadcast against `labels`.
        labels: [...] int.

    Returns:
        [...] of the table's dtype.
    """
    table = jnp.asarray(table)
    labels = class_indices(labels)
    # A negative index counts from the end; send it past the end instead.
    index = jnp.where(labels < 0, table.shape[-1], labels)
    if table.ndim == 1:
        # Not by broadcasting: the gradient of that is a [B, K] array. On an Explicit
        # mesh a gather must be told the sharding of its result.
        sharding = jax.typeof(index).sharding
        return table.at[index].get(
            mode="fill", fill_value=jnp.nan, out_sharding=sharding
        )
    picked = jnp.take_along_axis(
        table, index[..., None], axis=-1, mode="fill", fill_value=jnp.nan
    )
    return picked[..., 0]


def class_rows(table, labels, *, like) -> jax.Array:
    """`table[labels]` by rows, with a row of NaN for labels outside [0, K).

    Args:
        table: [K, C] float, one row per class.
        labels: [...] int.
        like: [..., C] array that the result will meet; on an Explicit mesh the rows
            take its sharding, which the gather could not choose by itself.

    Returns:
        [..., C] of the table's dtype.
    """
    table = jnp.asarray(table)
    labels = class_indices(labels)
    index = jnp.where(labels < 0, table.shape[0], labels)
    sharding = jax.typeof(like).sharding
    return table.at[index].get(mode="fill", fill_value=jnp.nan, out_sharding=sharding)


def mask_rows(where, array, *more) -> Any:
    """Replaces masked rows by 0 (or class 0), so that no NaN reaches a gradient.

    Masking the *output* only is not enough: the gradient of `where(m, f(x), 0)` at
    a masked NaN is 0 * NaN = NaN.
    """
    if where is None:
        return (array, *more) if more else array
    where = jnp.asarray(where)
    masked = []
    for x in (array, *more):
        x = jnp.asarray(x)
        keep = where.reshape(where.shape + (1,) * (x.ndim - where.ndim))
        masked.append(jnp.where(keep, x, jnp.zeros((), x.dtype)))
    return tuple(masked) if more else masked[0]


def mask_values(values, where) -> jax.Array:
    """Per-example values with exactly 0 where `where` is False."""
    if where is None:
        return values
    return jnp.where(jnp.asarray(where), values, jnp.zeros((), values.dtype))


def safe_norm(x, axis=-1, *, floor: float = 1e-12, keepdims: bool = False):
    """Euclidean norm, at least `floor`, with a zero gradient at x = 0."""
    squared = jnp.sum(jnp.square(x), axis=axis, keepdims=keepdims)
    return jnp.sqrt(jnp.maximum(squared, floor * floor))


def l2_normalize(x, axis=-1, *, floor: float = 1e-12):
    """`x` scaled to unit norm; finite value and gradient at x = 0.

    The floor sits on the squared sum, inside the root, as 1 / max(norm, floor) does in
    the published code, but without its NaN gradient.
    """
    squared = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, floor * floor))


def moving_average(average, new, decay):
    """`decay * average + (1 - decay) * new`, leaf by leaf of two trees of arrays.

    Leaves that are not floating point, such as counters, are those of `new`.
    """

    def leaf(old, new):
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return (decay * old + (1 - decay) * new).astype(old.dtype)

    return jax.tree.map(leaf, average, new)
