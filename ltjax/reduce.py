"""Reductions: the only place where per-example losses become a scalar."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_where, dtype_of, shape_of
from ltjax._numerics import at_least_float32, mask_values


def weighted_mean(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    normalize: str = "examples",
) -> jax.Array:
    r"""Mean of per-example values under one of the two reductions in use.

    .. math:: \text{examples: } \frac1B\sum_i w_i v_i \qquad
              \text{weights: } \frac{\sum_i w_i v_i}{\sum_i w_i}

    The first is that of the class-balanced loss and of logit adjustment, the second is
    PyTorch's weighted cross-entropy, hence LDAM-DRW and VS. Under jit with a sharded
    batch both sums are global.

    Args:
        values: [B] float.
        weights: optional [B] float, one per example.
        where: optional [B] bool; False entries count neither above nor below.
        normalize: "examples" or "weights".

    Returns:
        Scalar float32 (float64 for float64 values); 0 if nothing is left to average.

    Raises:
        ValueError: if shapes disagree or `normalize` is unknown.
        TypeError: if values or weights are not numbers.

    Example:
        >>> print(weighted_mean(jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0])))
        3.0
        >>> print(weighted_mean(jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0]),
        ...                     normalize="weights"))
        1.5

    References:
        Cui et al., CVPR 2019 (examples); Cao et al., NeurIPS 2019, released code
        (weights).
    """
    check_choice("weighted_mean", "normalize", normalize, ("examples", "weights"))
    dtype_of("weighted_mean", "values", values)
    shape = shape_of(values)
    check_where("weighted_mean", where, shape)
    if weights is not None:
        dtype_of("weighted_mean", "weights", weights)
        if shape_of(weights) != shape:
            raise ValueError(
                f"weighted_mean: weights have shape {shape_of(weights)}, expected"
                f" {shape}"
            )
    values = mask_values(at_least_float32(values), where)
    ones = mask_values(jnp.ones(shape, values.dtype), where)
    if weights is None:
        weights = ones
    else:
        weights = mask_values(jnp.asarray(weights).astype(values.dtype), where)
    total = jnp.sum(weights if normalize == "weights" else ones)
    safe_total = jnp.where(total > 0, total, jnp.ones_like(total))
    return jnp.where(
        total > 0, jnp.sum(weights * values) / safe_total, jnp.zeros_like(total)
    )
