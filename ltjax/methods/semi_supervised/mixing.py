"""Mixtures of labelled rows and views of the stream (MixMatch, ReMixMatch)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.methods.semi_supervised.streams import STREAM, flat

MIXED, TARGET = "mixed_", "target_"


class Mixture(NamedTuple):
    """Rows, each mixed with another one.

    Attributes:
        inputs: [N, ...] float32.
        targets: [N, K] float32, mixed alike.
        partner: int32 [N].
        share: [N], of the row itself, at least 1/2.
    """

    inputs: jax.Array
    targets: jax.Array
    partner: jax.Array
    share: jax.Array


def mixture(key, inputs, targets, mask, *, alpha, per_row: bool = True) -> Mixture:
    """Mixes every row with another one of the stack, itself weighing more.

    Args:
        key: of the mixture.
        inputs: [N, ...].
        targets: [N, K].
        mask: bool [N]; a row whose partner is padding stays as it is.
        alpha: of Beta(alpha, alpha), of which the larger share is the row's own.
        per_row: whether every row draws a share, or all have the same.

    Returns:
        `Mixture`.
    """
    share_key, order_key = jax.random.split(key)
    size = len(inputs)
    shape = (size,) if per_row else (1,)
    drawn = jax.random.beta(share_key, alpha, alpha, shape, jnp.float32)
    partner = jax.random.permutation(order_key, size).astype(jnp.int32)
    share = jnp.broadcast_to(jnp.maximum(drawn, 1 - drawn), (size,))
    share = jnp.where(mask[partner], share, 1.0)

    def mixed(x):
        own = share.reshape(-1, *[1] * (x.ndim - 1))
        other = jnp.where(mask[partner].reshape(own.shape), x[partner], 0)
        return own * x + (1 - own) * other

    return Mixture(mixed(inputs), mixed(targets), partner, share)


def with_mixtures(
    key: Any,
    batch: Any,
    guess: jax.Array,
    views: Sequence[str],
    *,
    alpha: Any,
    per_row: bool,
) -> dict:
    """The batch with mixtures of its labelled rows and of views of its stream.

    Args:
        key: of the mixture.
        batch: with a stream.
        guess: [B, m, K], the target of every view.
        views: of the stream.
        alpha: see `mixture`.
        per_row: see `mixture`.

    Returns:
        The batch with "mixed_inputs" [B, ...] and "target_inputs" [B, K]; its stream
        with "mixed_<view>" [B, m, ...] and "target_<view>" [B, m, K].
    """
    stream = batch[STREAM]
    rows, ratio = stream["mask"].shape
    own = jax.nn.one_hot(batch["label"], guess.shape[-1])
    made = mixture(
        key,
        jnp.concatenate([batch["inputs"], *(flat(stream[v]) for v in views)]),
        jnp.concatenate([own, *[flat(guess)] * len(views)]),
        jnp.concatenate([batch["mask"], *[flat(stream["mask"])] * len(views)]),
        alpha=alpha,
        per_row=per_row,
    )
    more = {}
    for k, view in enumerate(views):
        first = rows + k * rows * ratio
        for name, x in ((MIXED, made.inputs), (TARGET, made.targets)):
            part = x[first : first + rows * ratio]
            more[name + view] = part.reshape(rows, ratio, *x.shape[1:])
    return {
        **batch,
        MIXED + "inputs": made.inputs[:rows],
        TARGET + "inputs": made.targets[:rows],
        STREAM: {**stream, **more},
    }
