"""Losses for a fixed classifier: features are drawn to a given frame."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_classes_last,
    check_floating,
    check_integers,
    check_range,
    check_rank,
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
    safe_norm,
)
from ltjax.class_stats import batch_balanced_weights, prior
from ltjax.losses._affine import check_positive_counts

CLASS_BALANCE = ("none", "batch", "sqrt_batch", "global")


def dot_regression(
    features: ArrayLike,
    labels: ArrayLike,
    frame: ArrayLike,
    *,
    class_balance: str = "none",
    class_counts: ArrayLike | None = None,
    norm_penalty: float | ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Dot-regression loss: pulls a feature to its own class vector, pushes from none.

    .. math:: \ell = \frac{w_y}{2\,\bar h}
              \big(m_y^\top h - \|m_y\|\,\bar h\big)^2 + p\,\|h\|,
              \qquad \bar h = \|h\|

    with no gradient through the two lengths in the first term. For unit features and
    class vectors and p = 0 this is :math:`\frac{w_y}{2}(1 - \cos)^2`. The released code
    rescales the class vectors by the class frequencies in the batch, which is a class
    weight w; it is explicit here, with c the counts in the batch, b their sum and U the
    classes present:

    - "none": w = 1, the formula of the paper;
    - "batch": :math:`w_k = b / (U c_k)`, the released code (its default);
    - "sqrt_batch": the square root of that, the code with the paper's normalization;
    - "global": :math:`w_k = N / (K n_k)` from the training counts.

    Args:
        features: [B, D] float, normalized to unit length in the paper.
        labels: [B] int class indices.
        frame: [D, K] float, one column per class, such as a simplex ETF.
        class_balance: see above. The "batch" forms couple the examples of a batch;
            under jit with a sharded batch the counts are global.
        class_counts: [K] positive training counts, for "global" only.
        norm_penalty: p >= 0; the released code has 0.01 on ImageNet, where features are
            not normalized, and 0 elsewhere. The class weight does not touch it.
        where: optional [B] bool; False entries cost 0 and are not counted.

    Returns:
        [B] float32 loss, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, `class_balance` is unknown, `class_counts` is
            missing for "global" or given without it, or a readable `norm_penalty` is
            negative.

    Example:
        >>> frame = jnp.sqrt(1.5) * (jnp.eye(3) - 1 / 3)
        >>> features, labels = jnp.array([[0.6, 0.0, 0.8]]), jnp.array([2])
        >>> print(f"{dot_regression(features, labels, frame)[0]:.4f}")
        0.1751

    Limits: without a penalty 0 iff the feature lies along its class vector; in a batch
    of one class every balance but "global" is "none".

    References:
        Yang et al., "Inducing Neural Collapse in Imbalanced Learning: Do We Really Need
        a Learnable Classifier at the End of Deep Neural Network?", NeurIPS 2022, eq.
        12-13 and released code (the stopped lengths, the weight and the penalty, which
        the paper does not have).
    """
    caller = "dot_regression"
    check_choice(caller, "class_balance", class_balance, CLASS_BALANCE)
    features, labels, frame = _prepare(caller, features, labels, frame, where)
    own = class_rows(frame.T, labels, like=features)
    length = jax.lax.stop_gradient(safe_norm(features, floor=1e-8))
    goal = jax.lax.stop_gradient(safe_norm(own)) * length
    loss = 0.5 * jnp.square(jnp.sum(own * features, axis=-1) - goal) / length
    check_range(caller, "norm_penalty", norm_penalty, low=0.0)
    price = jnp.asarray(norm_penalty).astype(loss.dtype) * safe_norm(features)
    if (class_counts is not None) != (class_balance == "global"):
        raise ValueError(
            f"{caller}: class_counts go with class_balance='global', but class_balance"
            f" is {class_balance!r} and class_counts is"
            f" {'None' if class_counts is None else 'given'}"
        )
    num_classes = frame.shape[1]
    if class_counts is not None:  # "global"
        check_positive_counts(caller, class_counts, num_classes)
        weights = 1 / (num_classes * prior(class_counts))
    elif class_balance == "none":
        return mask_values(loss + price, where)
    else:
        weights = batch_balanced_weights(
            labels, num_classes, where=where, dtype=loss.dtype
        )
        if class_balance == "sqrt_batch":
            weights = jnp.sqrt(weights)
    weights = jnp.asarray(weights).astype(loss.dtype)
    return mask_values(class_lookup(weights, labels) * loss + price, where)


def _prepare(caller, features, labels, frame, where):
    check_floating(caller, "features", features)
    check_classes_last(caller, "frame", frame)
    check_rank(caller, "features", features, 2, "[B, D]")
    check_rank(caller, "frame", frame, 2, "[D, K]")
    if shape_of(features)[1] != shape_of(frame)[0]:
        raise ValueError(
            f"{caller}: features have {shape_of(features)[1]} dimensions, but frame has"
            f" shape {shape_of(frame)}, expected [D, K]"
        )
    check_integers(caller, "labels", labels)
    if shape_of(labels) != shape_of(features)[:1]:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(features)[:1]}"
        )
    check_where(caller, where, shape_of(labels))
    features = at_least_float32(features)
    features, labels = mask_rows(where, features, class_indices(labels))
    return features, labels, jnp.asarray(frame).astype(features.dtype)
