r"""Magnitude pruning: masks of the largest weights of a tree of parameters.

Self-damaging contrastive learning contrasts a network with its own pruned copy: what
the copy forgets, mostly the tail, gets a large loss. The masks are drawn anew from the
current weights, once per epoch.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp


def kth_smallest_magnitude(leaves: list[jax.Array], k: int) -> jax.Array:
    """The k-th smallest absolute value (0-based) of all entries together.

    Found by bisection on the bit pattern, whose order is that of the non-negative
    floats: as many counts as there are bits, exact, without sorting or gathering the
    entries, so that sharded parameters stay where they are.

    Args:
        leaves: float arrays of one dtype.
        k: 0-based rank, below the number of entries.

    Returns:
        A scalar of their dtype.

    Raises:
        ValueError: if k is out of range.

    Example:
        >>> print(kth_smallest_magnitude([jnp.array([3.0, -1.0]), jnp.array([2.0])], 1))
        2.0
    """
    total = sum(leaf.size for leaf in leaves)
    if not 0 <= k < total:
        raise ValueError(f"kth_smallest_magnitude: k is {k}, expected 0 to {total - 1}")
    dtype = jnp.result_type(*leaves)
    bits = 8 * dtype.itemsize - 1  # the sign is not needed
    word = jnp.dtype(f"uint{bits + 1}")
    keys = [
        jax.lax.bitcast_convert_type(jnp.abs(leaf).astype(dtype), word)
        for leaf in leaves
    ]

    def fix_bit(i, low):
        trial = low | (jnp.ones((), word) << (bits - 1 - i).astype(word))
        below = sum(jnp.sum(key < trial, dtype=jnp.int32) for key in keys)
        return jnp.where(below <= k, trial, low)

    found = jax.lax.fori_loop(0, bits, fix_bit, jnp.zeros((), word))
    return jax.lax.bitcast_convert_type(found, dtype)


def convolution_kernels(path: tuple[Any, ...], leaf: Any) -> bool:
    """True for arrays of more than two axes, which are the convolution kernels."""
    return jnp.ndim(leaf) > 2


def magnitude_masks(
    params: Any,
    *,
    fraction: float | str | Fraction,
    select: Callable[[tuple[Any, ...], Any], bool] = convolution_kernels,
) -> Any:
    r"""Masks that keep the largest weights of all selected arrays together.

    With P selected weights and :math:`n = \lceil \rho P \rceil`, a weight is kept if
    its absolute value is at least the n-th (0-based) of the ascending order: n weights
    are cut, fewer where several equal the threshold, and at least the largest stays.

    Args:
        params: tree of arrays.
        fraction: :math:`\rho` in [0, 1]; read as a decimal number of at most nine
            digits, as the float nearest to 0.9 would cut one weight too many or too few
            in large networks.
        select: (path, leaf) -> whether the leaf is pruned; default the convolution
            kernels.

    Returns:
        A tree like `params` with bool arrays for the selected leaves and None for the
        others. `apply_masks` takes it.

    Raises:
        ValueError: if the fraction is out of range or nothing is selected.

    Example:
        >>> params = {"conv": jnp.array([[[0.5, -0.1, 0.3, 0.0]]]), "bias": jnp.ones(2)}
        >>> masks = magnitude_masks(params, fraction=0.5)
        >>> masks["conv"].ravel().tolist(), masks["bias"]
        ([True, False, True, False], None)

    References:
        Jiang, Chen, Mortazavi, Wang, "Self-Damaging Contrastive Learning", ICML 2021,
        and its code: fraction .9 on CIFAR-LT, .3 on ImageNet-100-LT.
    """
    share = Fraction(fraction).limit_denominator(10**9)
    if not 0 <= share <= 1:
        raise ValueError(
            f"magnitude_masks: fraction is {fraction}, expected a number in [0, 1]"
        )
    chosen = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(leaf) if select(path, leaf) else None, params
    )
    leaves = jax.tree.leaves(chosen)
    if not leaves:
        raise ValueError("magnitude_masks: no array of the parameters is selected")
    total = sum(leaf.size for leaf in leaves)
    cut = -(-share.numerator * total // share.denominator)
    threshold = kth_smallest_magnitude(leaves, min(cut, total - 1))
    return jax.tree.map(lambda leaf: jnp.abs(leaf) >= threshold, chosen)


def apply_masks(params: Any, masks: Any) -> Any:
    """Parameters with 0 where a mask is False.

    The gradient of a pruned weight is 0; those of the others are not changed.

    Args:
        params: tree of arrays.
        masks: tree of `magnitude_masks`; None leaves an array as it is.

    Returns:
        A tree like `params`.

    Example:
        >>> masks = {"a": jnp.array([True, False]), "b": None}
        >>> apply_masks({"a": jnp.ones(2), "b": jnp.ones(1)}, masks)["a"].tolist()
        [1.0, 0.0]
    """

    def masked(mask, leaf):
        return leaf if mask is None else jnp.where(mask, leaf, 0)

    return jax.tree.map(masked, masks, params, is_leaf=lambda x: x is None)
