r"""Contrastive losses of two views, of labels, and against a queue.

All of them are, for an anchor i with unit vector u_i, temperature T and similarities
:math:`s_{ij} = u_i \cdot u_j / T`,

.. math:: \ell_i = \log \sum_{j \in A(i)} e^{s_{ij}} - s_{i,p(i)}

and differ in the keys A(i) and in the positive p(i) (or the mean of several). With
`block=None` the similarities of all anchors to all keys are in memory at once; with an
integer, those to `block` keys at a time, forward and backward, with the same result up
to rounding. On a mesh the batch stays sharded and only the features are gathered.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_compared,
    check_floating,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import mask_rows, mask_values
from ltjax._similarity_blocks import (
    Side,
    check_block,
    cross_group_sums,
    cross_log_sum_exp,
    self_group_sums,
    self_log_sum_exp,
)
from ltjax.losses._features import (
    check_labels,
    check_queue,
    check_same_rows,
    key_bias,
    label_counts,
    per_view,
    unit_rows,
)

# The least 1 - p of the focal factor, whose slope has no bound at 0 for gamma < 1.
_LEAST_MISS = 1e-7


def view_losses(caller, first, second, temperature, where, block) -> jax.Array:
    """NT-Xent of the rows of both views, [B, 2]."""
    check_same_rows(caller, first=first, second=second)
    check_range(caller, "temperature", temperature, low=0.0, open_low=True)
    check_where(caller, where, shape_of(first)[:1])
    check_block(caller, block)
    first, second = unit_rows(where, first, second)
    size, dim = first.shape
    scale = 1 / jnp.asarray(temperature).astype(first.dtype)
    positive = jnp.sum(first * second, axis=1) * scale
    # The views of an image side by side, so that a sharded batch stays where it is. The
    # root of the scale on both sides keeps the similarities symmetric.
    views = jnp.stack([first, second], axis=1).reshape(2 * size, dim) * jnp.sqrt(scale)
    image = jnp.arange(2 * size, dtype=jnp.int32) // 2
    side = Side(bias=key_bias(per_view(where, 2), views), ids=image)
    negatives = self_log_sum_exp(views, side, block=block)
    # Not log-sum-exp minus positive: that would round away the loss of an easy row.
    losses = jax.nn.softplus(negatives.reshape(size, 2) - positive[:, None])
    return losses if where is None else mask_rows(where, losses)


def nt_xent(
    first: ArrayLike,
    second: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.2,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""Normalized temperature-scaled cross-entropy of two views (SimCLR).

    Each of the 2B views must find the other view of its image among all views of the
    batch. With unit rows u, the other view p(i) of view i, and N(i) the 2B - 2 views of
    *other* images,

    .. math:: \ell_i = -\log \frac{e^{u_i \cdot u_{p(i)} / T}}{e^{u_i \cdot u_{p(i)}/T}
              + \sum_{j \in N(i)} e^{u_i \cdot u_j / T}}

    and an image costs the mean of its two views.

    Args:
        first: [B, D] float, projections of the first views, any norm.
        second: [B, D] float, of the second views.
        temperature: T > 0, may be traced (a schedule): 0.2 on long-tailed data, 0.1 to
            0.5 elsewhere.
        where: optional [B] bool; False images cost 0 and are nobody's negatives.
        block: views whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive or `block` is
            not a positive integer.
        TypeError: if the features are not floating point.

    Example:
        >>> print(f"{nt_xent(jnp.eye(2), jnp.eye(2), temperature=0.2)[0]:.6f}")
        0.013386

    Limits: log(2B - 1) if all embeddings are equal, at any temperature; `sup_con` with
    one label per image is the same.

    References:
        Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive
        Learning of Visual Representations", ICML 2020, eq. 1. The mean over the views,
        as in the code of the long-tailed literature; the original code adds the means
        of the two views, which is twice as much.
    """
    losses = view_losses("nt_xent", first, second, temperature, where, block)
    return jnp.mean(losses, axis=1)


def focus(losses: jax.Array, gamma: float | ArrayLike) -> jax.Array:
    r"""Focal losses :math:`(1 - p)^\gamma \ell` of losses :math:`\ell = -\log p`."""
    miss = jnp.maximum(-jnp.expm1(-losses), _LEAST_MISS)
    return miss ** jnp.asarray(gamma).astype(losses.dtype) * losses


def focal_nt_xent(
    first: ArrayLike,
    second: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.2,
    gamma: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""NT-Xent with the focal factor: views that are found already count less.

    .. math:: \ell'_i = (1 - p_i)^\gamma\, \ell_i, \qquad p_i = e^{-\ell_i}

    for each view, with the loss of `nt_xent`; an image costs the mean of its views. The
    factor is differentiated too.

    Args:
        first: [B, D] float, projections of the first views, any norm.
        second: [B, D] float, of the second views.
        temperature: T > 0, may be traced.
        gamma: >= 0, how fast easy views fade.
        where: optional [B] bool; False images cost 0 and are nobody's negatives.
        block: views whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss, not reduced.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive, gamma is
            negative or `block` is not a positive integer.
        TypeError: if the features are not floating point.

    Example:
        >>> loss = focal_nt_xent(jnp.eye(2), jnp.eye(2), temperature=1.0, gamma=2.0)
        >>> print(f"{loss[0]:.4f}")
        0.0991

    Limits: gamma = 0 is `nt_xent`.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, on contrastive
        learning as in the comparisons of Zhou et al., "Combating Representation
        Learning Disparity with Geometric Harmonization", NeurIPS 2023, and their code.
    """
    check_range("focal_nt_xent", "gamma", gamma, low=0.0)
    losses = view_losses("focal_nt_xent", first, second, temperature, where, block)
    return jnp.mean(focus(losses, gamma), axis=1)


def sup_con(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.1,
    base_temperature: float | ArrayLike | None = None,
    anchors: str = "all",
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""Supervised contrastive loss: everything of an anchor's class is a positive.

    With P(i) the other rows of the anchor's label and A(i) all rows but itself,

    .. math:: \ell_i = -\frac{T}{T_0} \frac{1}{|P(i)|} \sum_{p \in P(i)} \log
              \frac{e^{u_i \cdot u_p / T}}{\sum_{a \in A(i)} e^{u_i \cdot u_a / T}}

    An anchor without positives costs 0, but is a negative of the others.

    Args:
        features: [B, D] or, for V views of each example, [B, V, D] float, any norm.
        labels: [B] int; any integers, they are only compared.
        temperature: T > 0, may be traced.
        base_temperature: :math:`T_0` of the factor T / T_0; None for no factor.
        anchors: "all" rows, an example costing the mean of its views, or the "first"
            view of each example only. All views are keys in both cases.
        where: optional [B] bool; False examples cost 0 and are nobody's keys.
        block: rows whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree, a temperature is not positive, `anchors` is
            unknown or `block` is not a positive integer.
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> features = jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> loss = jax.jit(sup_con)(features, jnp.array([0, 0, 1]), temperature=1.0)
        >>> print(loss.round(4))
        [0.1269 0.1269 0.    ]

    Limits: log(B - 1) for equal features of one class; `nt_xent` for two views with
    all labels distinct.

    References:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2 (the sum
        outside the logarithm). T / T_0 with T_0 = 0.07 is in the code only: it
        rescales the loss, and is left out here unless asked for.
    """
    name = "sup_con"
    if len(shape_of(features)) not in (2, 3) or 0 in shape_of(features)[1:]:
        raise ValueError(
            f"{name}: features has shape {shape_of(features)}, expected [B, D] or"
            " [B, V, D] with D, V >= 1"
        )
    check_floating(name, "features", features)
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    if base_temperature is not None:
        check_range(name, "base_temperature", base_temperature, low=0.0, open_low=True)
    check_choice(name, "anchors", anchors, ("all", "first"))
    check_block(name, block)
    size = shape_of(features)[0]
    check_labels(name, "labels", labels, size)
    check_compared(name, "labels", labels)
    check_where(name, where, (size,))
    (units,) = unit_rows(where, features)
    units = units[:, None] if units.ndim == 2 else units
    views, dim = units.shape[1:]
    flat = units.reshape(size * views, dim)
    groups = per_view(mask_rows(where, jnp.asarray(labels)), views)
    counted = per_view(where, views)
    scale = 1 / jnp.asarray(temperature).astype(units.dtype)

    rows = jnp.arange(size * views, dtype=jnp.int32)
    side = Side(bias=key_bias(counted, flat), ids=rows, groups=groups)
    if anchors == "first":
        own = Side(ids=rows[::views], groups=groups[::views])
        queries = units[:, 0] * scale
        sums = cross_group_sums(queries, flat, own, side, block=block)
    else:
        sums = self_group_sums(flat * jnp.sqrt(scale), side, block=block)
    asked = 1 if anchors == "first" else views
    total, near = (x.reshape(size, asked) for x in sums)
    positives = (label_counts(groups, counted) - 1).reshape(size, views)
    positives = positives[:, :asked].astype(near.dtype)
    # An anchor without any key has a total of -inf, which must not meet a gradient.
    found = positives > 0
    total = jnp.where(found, total, 0.0)
    losses = jnp.where(found, total - near / jnp.where(found, positives, 1), 0.0)
    if base_temperature is not None:
        losses *= jnp.asarray(temperature / base_temperature).astype(losses.dtype)
    return mask_values(jnp.mean(losses, axis=1), where)


def info_nce(
    queries: ArrayLike,
    keys: ArrayLike,
    queue: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.2,
    where: ArrayLike | None = None,
    queue_where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""InfoNCE against a queue of keys of former batches (MoCo).

    .. math:: \ell_i = -\log \frac{e^{q_i \cdot k_i / T}}
              {e^{q_i \cdot k_i / T} + \sum_{m=1}^{Q} e^{q_i \cdot Q_m / T}}

    The keys of the batch are not each other's negatives: enqueue them afterwards. No
    gradient goes into keys and queue, which come from a momentum network.

    Args:
        queries: [B, D] float, of the trained network, any norm.
        keys: [B, D] float, of the momentum network on the other view, any norm.
        queue: [Q, D] float, unit rows.
        temperature: T > 0, may be traced; 0.2, or 0.07 in the first version.
        where: optional [B] bool; False rows cost 0.
        queue_where: optional [Q] bool, the places of the queue that are filled.
        block: queue rows whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive or `block` is
            not a positive integer.
        TypeError: if the features are not floating point.

    Example:
        >>> q, k = jnp.array([[0.6, 0.8]]), jnp.array([[1.0, 0.0]])
        >>> queue = jnp.array([[0.0, 1.0], [-1.0, 0.0], [0.8, 0.6]])
        >>> print(f"{info_nce(q, k, queue, temperature=0.2)[0]:.5f}")
        2.27936

    Limits: log(1 + Q exp(-1 / T)) for equal queries and keys and a queue orthogonal to
    them; 0 for an empty queue.

    References:
        He et al., "Momentum Contrast for Unsupervised Visual Representation Learning",
        CVPR 2020, eq. 1; Chen et al., "Improved Baselines with Momentum Contrastive
        Learning", 2020 (the temperature).
    """
    name = "info_nce"
    check_same_rows(name, queries=queries, keys=keys)
    check_queue(name, queue, shape_of(queries)[1])
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    check_where(name, where, shape_of(queries)[:1])
    check_block(name, block)
    if queue_where is not None:
        check_where(f"{name} (queue)", queue_where, shape_of(queue)[:1])
    queries, keys = unit_rows(where, queries, keys)
    filled = mask_rows(queue_where, jnp.asarray(queue).astype(queries.dtype))
    keys, filled = jax.lax.stop_gradient((keys, filled))
    queries /= jnp.asarray(temperature).astype(queries.dtype)
    positive = jnp.sum(queries * keys, axis=1)
    columns = Side(bias=key_bias(queue_where, filled))
    negatives = cross_log_sum_exp(queries, filled, Side(), columns, block=block)
    return mask_values(jax.nn.softplus(negatives - positive), where)


def moclr(
    first: ArrayLike,
    second: ArrayLike,
    first_target: ArrayLike,
    second_target: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.2,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> jax.Array:
    r"""InfoNCE of each view against the momentum embeddings of the other (MoCLR).

    .. math:: \ell_i = -\log \frac{e^{z_i \cdot z'_i / T}}
              {\sum_{j=1}^{B} e^{z_i \cdot z'_j / T}} \;+\; \text{views swapped}

    The negatives are the B - 1 *momentum* embeddings of the *other* view: no negatives
    within a view, no queue. No gradient goes into the targets.

    Args:
        first: [B, D] float, projections of the first views by the trained network.
        second: [B, D] float, of the second views.
        first_target: [B, D] float, of the first views by the momentum network.
        second_target: [B, D] float, of the second views.
        temperature: T > 0, may be traced; the paper does not state its value.
        where: optional [B] bool; False images cost 0 and are nobody's negatives.
        block: targets whose similarities are in memory at a time; None for all.

    Returns:
        [B] float32 loss in nats, the *sum* of both directions, not reduced.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive or `block` is
            not a positive integer.
        TypeError: if the features are not floating point.

    Example:
        >>> z = jnp.ones((4, 2))
        >>> print(f"{moclr(z, z, z, z)[0]:.6f}")
        2.772589

    Limits: 2 log B if all embeddings are equal.

    References:
        Tian, Henaff and van den Oord, "Divide and Contrast: Self-supervised Learning
        from Uncurated Data", ICCV 2021, eq. 1 and section 3.1.
    """
    name = "moclr"
    check_same_rows(
        name,
        first=first,
        second=second,
        first_target=first_target,
        second_target=second_target,
    )
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    check_where(name, where, shape_of(first)[:1])
    check_block(name, block)
    first, second, *targets = unit_rows(
        where, first, second, first_target, second_target
    )
    first_target, second_target = jax.lax.stop_gradient(targets)
    scale = 1 / jnp.asarray(temperature).astype(first.dtype)
    rows = jnp.arange(first.shape[0], dtype=jnp.int32)
    columns = Side(bias=key_bias(where, first), ids=rows)

    def towards(queries, keys):
        queries = queries * scale
        positive = jnp.sum(queries * keys, axis=1)
        others = cross_log_sum_exp(queries, keys, Side(ids=rows), columns, block=block)
        return jax.nn.softplus(others - positive)

    losses = towards(first, second_target) + towards(second, first_target)
    return mask_values(losses, where)
