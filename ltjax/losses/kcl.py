"""k-positive contrastive learning: as many positives for the tail as for the head."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_compared,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import class_indices, mask_rows, mask_values
from ltjax._similarity_blocks import Side, check_block, cross_log_sum_exp, everywhere
from ltjax.losses._features import (
    check_labels,
    check_queue,
    check_same_rows,
    key_bias,
    unit_rows,
)

# What stands in the place of a class: no two of them meet.
_UNLABELLED, _CHOSEN, _NO_CLASS = -1, -2, -3


def kcl(
    queries: ArrayLike,
    keys: ArrayLike,
    labels: ArrayLike,
    *,
    queue: ArrayLike,
    queue_labels: ArrayLike,
    k: int | ArrayLike = 6,
    temperature: float | ArrayLike = 0.07,
    unchosen: str = "masked",
    where: ArrayLike | None = None,
    queue_where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""InfoNCE with the own key and at most k positives of the same class (KCL).

    With the own key and the first k queue entries of the anchor's label as P(i),

    .. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
              \frac{e^{q_i \cdot k_p / T}}
              {\sum_{a \in P(i) \cup N(i)} e^{q_i \cdot k_a / T}}

    and N(i) the entries of other labels. Where `sup_con` has as many positives as the
    class has examples, every class has k here, which balances the feature space.

    Args:
        queries: [B, D] float, of the trained network, any norm.
        keys: [B, D] float, of the momentum network on the other view, any norm.
        labels: [B] int; they are only compared. The own key is the only positive where
            they are negative.
        queue: [Q, D] float, unit rows.
        queue_labels: [Q] int; negative for entries without a label, which are negatives
            of all. In jit, unsigned labels that int32 does not hold count as negative.
        k: most positives from the queue, in queue order; may be traced.
        temperature: T > 0, may be traced.
        unchosen: further entries of the anchor's label are "masked" out, or stay as
            "negatives" as in the first version of the code.
        where: optional [B] bool; False rows cost 0.
        queue_where: optional [Q] bool, the places of the queue that are filled.
        block: queue rows whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive, k is negative
            or `unchosen` is unknown.
        TypeError: if features are not floating point or labels not integer.

    Example:
        >>> q, queue = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.8, 0.6]])
        >>> loss = jax.jit(kcl)(q, q, jnp.array([0]), queue=queue, k=1,
        ...                     queue_labels=jnp.array([0, 1]), temperature=1.0)
        >>> print(f"{loss[0]:.4f}")
        1.1119

    Limits: k = 0 is `info_nce` against the entries of other labels ("masked") or
    against the whole queue ("negatives").

    References:
        Kang, Li, Xie, Yuan, Feng, "Exploring Balanced Feature Spaces for Representation
        Learning", ICLR 2021, eq. 4. The second version of the code sets the logits of
        unchosen entries to 0, which leaves a 1 for each in the sum; masking leaves
        nothing.
    """
    name = "kcl"
    check_same_rows(name, queries=queries, keys=keys)
    size, dim = shape_of(queries)
    check_labels(name, "labels", labels, size)
    check_compared(name, "labels", labels)
    check_queue(name, queue, dim)
    check_labels(name, "queue_labels", queue_labels, shape_of(queue)[0])
    check_compared(name, "queue_labels", queue_labels)
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    check_range(name, "k", k, low=0)
    check_choice(name, "unchosen", unchosen, ("masked", "negatives"))
    check_where(name, where, (size,))
    if queue_where is not None:
        check_where(f"{name} (queue)", queue_where, shape_of(queue)[:1])
    check_block(name, block)
    queries, keys = unit_rows(where, queries, keys)
    filled = mask_rows(queue_where, jnp.asarray(queue).astype(queries.dtype))
    keys, filled = jax.lax.stop_gradient((keys, everywhere(filled)))
    if not shape_of(queue)[0]:  # the own key alone, of probability 1
        return mask_values(0 * jnp.sum(queries, axis=1), where)
    queries /= jnp.asarray(temperature).astype(queries.dtype)
    labels = class_indices(labels)
    labels = jnp.where(labels < 0, _NO_CLASS, labels)
    own = everywhere(class_indices(queue_labels))
    own = jnp.where(own < 0, _UNLABELLED, own)
    if queue_where is not None:
        own = jnp.where(everywhere(queue_where), own, _UNLABELLED)

    # A class is known by the place of its first entry in the sorted queue, so that any
    # labels will do, and an entry's rank in its class by the distance from it.
    order = jnp.argsort(own, stable=True)
    ordered = own[order]
    start = jnp.searchsorted(ordered, own)
    count = own.shape[0]
    place = (
        jnp.zeros((count,), jnp.int32).at[order].set(jnp.arange(count, dtype=jnp.int32))
    )
    chosen = (own >= 0) & (place - start < k)
    rows = jnp.concatenate([filled, jnp.ones((count, 1), filled.dtype)], axis=1)
    rows = jnp.where(chosen[:, None], rows, 0.0)
    sums = jax.ops.segment_sum(rows, start, num_segments=count)
    mine = jnp.minimum(jnp.searchsorted(ordered, everywhere(labels)), count - 1)
    found = ordered[mine] == everywhere(labels)
    sums = jnp.where(found[:, None], sums[mine], 0.0)

    bias = key_bias(queue_where, filled)
    if unchosen == "masked":
        sides = Side(ids=labels), Side(bias=bias, ids=jnp.where(chosen, _CHOSEN, own))
    else:
        sides = Side(), Side(bias=bias)
    positive = jnp.sum(queries * keys, axis=1)
    others = cross_log_sum_exp(queries, filled, *sides, block=block)
    near = positive + jnp.sum(queries * sums[:, :-1], axis=1)
    losses = jnp.logaddexp(positive, others) - near / (1 + sums[:, -1])
    return mask_values(losses, where)
