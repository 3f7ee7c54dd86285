"""Mixup: convex combinations of the examples of a batch."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range, dtype_of, shape_of
from ltjax._numerics import as_key


class Mixed(NamedTuple):
    """A mixed batch.

    Attributes:
        inputs: [B, ...] float32, lam * inputs + (1 - lam) * inputs[partner].
        partner: int32 [B], the example that each one is mixed with.
        lam: float32 scalar, the weight of the example itself.
    """

    inputs: jax.Array
    partner: jax.Array
    lam: jax.Array


def mixup(
    key: jax.Array,
    inputs: ArrayLike,
    *,
    alpha: float | ArrayLike,
    dominant: bool = False,
) -> Mixed:
    r"""Convex combinations of the examples of a batch with those of a shuffled copy.

    .. math:: \lambda \sim \mathrm{Beta}(\alpha, \alpha), \qquad
        \tilde x_i = \lambda x_i + (1 - \lambda) x_{\pi(i)}

    The loss is :math:`\lambda \ell(\tilde x_i, y_i) + (1 - \lambda)
    \ell(\tilde x_i, y_{\pi(i)})`.

    Args:
        key: of the batch.
        inputs: [B, ...] floating, after augmentation; or a dict of such arrays.
        alpha: > 0; may be traced.
        dominant: whether lam is the larger of lam and 1 - lam, so that every example
            stays the larger part of its own mixture (MixMatch, RECORDS, SoLar).

    Returns:
        Mixed (inputs, partner, lam); one lam for the batch.

    Example:
        >>> mixed = mixup(jax.random.key(0), jnp.ones((4, 2)), alpha=1.0)
        >>> mixed.inputs.shape, sorted(mixed.partner.tolist())
        ((4, 2), [0, 1, 2, 3])

    References:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; one lam
        per batch, as in the released code.
    """
    check_range("mixup", "alpha", alpha, low=0.0, open_low=True)
    for x in inputs.values() if isinstance(inputs, Mapping) else [inputs]:
        dtype_of("mixup", "inputs", x)
        if not shape_of(x):
            raise ValueError("mixup: inputs is a scalar, expected [B, ...]")
    inputs = jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.float32), inputs)
    lam_key, order_key = jax.random.split(as_key("mixup", key))
    lam = jax.random.beta(lam_key, alpha, alpha, dtype=jnp.float32)
    if dominant:
        lam = jnp.maximum(lam, 1 - lam)
    size = jax.tree.leaves(inputs)[0].shape[0]
    order = jax.random.permutation(order_key, size).astype(jnp.int32)
    mixed = jax.tree.map(lambda x: lam * x + (1 - lam) * x[order], inputs)
    return Mixed(mixed, order, lam)
