"""Parametric contrastive learning: class centers among the contrasted samples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_counts,
    check_logits_labels,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    class_rows,
    mask_rows,
    mask_values,
)
from ltjax._similarity_blocks import (
    Side,
    check_block,
    cross_log_sum_exp,
    everywhere,
    self_log_sum_exp,
)
from ltjax.losses._affine import check_positive_counts
from ltjax.losses._features import (
    check_labels,
    check_queue,
    check_same_rows,
    key_bias,
    unit_rows,
)


def paco(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    queries: ArrayLike,
    keys: ArrayLike,
    queue: ArrayLike,
    queue_labels: ArrayLike,
    alpha: float | ArrayLike = 0.05,
    beta: float | ArrayLike = 1.0,
    gamma: float | ArrayLike = 1.0,
    temperature: float | ArrayLike = 0.2,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""Balanced softmax and supervised contrastive loss in one softmax (PaCo).

    An anchor's entries are the K center logits :math:`a_k = z_k + \log \pi_k` and its
    similarities s to all samples: the other queries, the keys and the queue. With the
    normalizer

    .. math:: Z_i = \log \Big[ \sum_k e^{a_{ik}} + \gamma \sum_j e^{s_{ij}} \Big], \quad
              \ell_i = - \frac{\beta (a_{i y_i} - Z_i) + \alpha \sum_{p \in P(i)}
              (s_{ip} - Z_i)}{\beta + \alpha |P(i)|}

    and the samples P(i) of the anchor's class. Classes predict by `logits` alone.

    Args:
        logits: [B, K] float, of the linear classifier, without temperature.
        labels: [B] int class indices.
        class_counts: [K] positive, number of training examples per class.
        queries: [B, D] float, projections by the trained network, any norm.
        keys: [B, D] float, of the momentum network on the other view, any norm.
        queue: [Q, D] float, unit rows; no gradient flows into keys and queue.
        queue_labels: [Q] int class indices; -1 for entries of no class yet.
        alpha: weight of a positive sample; 0.05, or 0.01 on CIFAR-100-LT.
        beta: weight of the own center.
        gamma: weight of the samples in the normalizer.
        temperature: T > 0 of the similarities; 0.2, or 0.05 on CIFAR-100-LT.
        where: optional [B] bool; False examples cost 0 and are nobody's samples.
        block: samples whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, a readable count is not positive or a
            hyper-parameter is out of range.
        TypeError: if features are not floating point or labels not integer.

    Example:
        >>> x, y = jnp.eye(2), jnp.array([0, 1])
        >>> samples = dict(queries=x, keys=x, queue=x, queue_labels=y)
        >>> loss = jax.jit(paco)(jnp.zeros((2, 2)), y, jnp.array([9, 1]), **samples,
        ...                      alpha=0.0, gamma=0.0)
        >>> print(loss.round(4))
        [0.1054 2.3026]

    Limits: alpha = gamma = 0 is `balanced_softmax`; at the optimum a center has
    probability `beta / (beta + alpha |P|)`.

    References:
        Cui, Zhong, Liu, Yu, Jia, "Parametric Contrastive Learning", ICCV 2021, eq. 6
        and 7, and its code (the prior, and gamma in the normalizer only). The code
        starts the queue with random labels; -1 is for not doing so.
    """
    name = "paco"
    check_logits_labels(name, logits, labels)
    num_classes = shape_of(logits)[-1]
    check_counts(name, class_counts, num_classes)
    check_positive_counts(name, class_counts, num_classes)
    check_same_rows(name, queries=queries, keys=keys)
    size, dim = shape_of(queries)
    if shape_of(logits) != (size, num_classes):
        raise ValueError(
            f"{name}: logits has shape {shape_of(logits)}, expected [{size}, K] as"
            " queries"
        )
    check_queue(name, queue, dim)
    check_labels(name, "queue_labels", queue_labels, shape_of(queue)[0])
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    for argument, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        check_range(name, argument, value, low=0.0)
    check_where(name, where, (size,))
    check_block(name, block)
    queries, keys = unit_rows(where, queries, keys)
    dtype = queries.dtype
    z, y = mask_rows(where, at_least_float32(logits), class_indices(labels))
    samples = everywhere(keys), everywhere(jnp.asarray(queue).astype(dtype))
    samples = jax.lax.stop_gradient(jnp.concatenate(samples))
    scale = 1 / jnp.asarray(temperature).astype(dtype)

    valid = (y >= 0) & (y < num_classes)
    keep = valid if where is None else valid & jnp.asarray(where)
    bias = key_bias(keep, queries)
    mine = Side(bias=bias, ids=jnp.arange(size, dtype=jnp.int32))
    all_filled = jnp.ones(shape_of(queue)[:1], bool)
    counted = jnp.concatenate([everywhere(keep), all_filled])
    theirs = Side(bias=key_bias(counted, queries))
    total = jnp.logaddexp(
        self_log_sum_exp(queries * jnp.sqrt(scale), mine, block=block),
        cross_log_sum_exp(queries * scale, samples, Side(), theirs, block=block),
    )
    prior = jnp.log(jnp.asarray(class_counts).astype(z.dtype))
    prior -= jax.nn.logsumexp(prior)
    centers = z + prior[None, :]
    gamma = jnp.asarray(gamma).astype(dtype)
    normalizer = jnp.logaddexp(
        jax.nn.logsumexp(centers, axis=1), total + jnp.log(gamma)
    )

    own = jnp.where(keep, y, num_classes)
    rows = jnp.concatenate([everywhere(queries), samples])
    rows = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)
    known = class_indices(queue_labels)
    known = jnp.where(known < 0, num_classes, known)
    place = jnp.concatenate([everywhere(own)] * 2 + [everywhere(known)])
    sums = jnp.zeros((num_classes, dim + 1), dtype).at[place].add(rows, mode="drop")
    positives = class_lookup(sums[:, -1], y) - 1
    same = class_rows(sums[:, :-1], y, like=queries) - queries
    near = jnp.sum(queries * same, axis=1) * scale
    alpha, beta = (jnp.asarray(w).astype(dtype) for w in (alpha, beta))
    weight = beta + alpha * positives
    gain = beta * class_lookup(centers, y) + alpha * near
    return mask_values(normalizer - gain / weight, where)
