"""Class-balanced loss: weights by the effective number of samples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_counts, class_axis
from ltjax._numerics import class_lookup
from ltjax.class_stats import class_balanced_weights
from ltjax.losses._affine import prepare
from ltjax.losses.sigmoid import sigmoid_cross_entropy, sigmoid_focal
from ltjax.losses.softmax import softmax_cross_entropy


def class_balanced(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    beta: float | ArrayLike,
    base: str = "softmax",
    gamma: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Class-balanced loss: a base loss times the weight of the true class.

    .. math:: \ell = w_y\, \ell_{\text{base}}(z, y), \qquad
              w_k \propto \frac{1 - \beta}{1 - \beta^{n_k}}, \quad \sum_k w_k = K

    In the sigmoid forms the weight of the *true* class multiplies all K terms.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices.
        class_counts: [K] non-negative, number of training examples per class; an empty
            class has weight 0.
        beta: in [0, 1); 0 gives equal weights, 0.9999 on CIFAR nearly inverse
            frequencies. The paper tunes 0.9, 0.99, 0.999, 0.9999.
        base: "softmax", "sigmoid", or "focal" (the sigmoid form, as in the paper).
        gamma: focusing parameter of base="focal"; the paper tunes 0.5, 1, 2.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K). The
        paper's reduction is the mean over examples, that of several ports the mean
        over weights (`ltjax.reduce.weighted_mean`).

    Raises:
        ValueError: if shapes disagree, `base` is unknown, or a readable beta is not in
            [0, 1).

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> counts = jnp.array([100, 20, 5])
        >>> print(f"{class_balanced(logits, labels, counts, beta=0.99)[0]:.4f}")
        4.1128

    Limits: beta = 0 is the base loss; beta to 1 weights by the inverse frequency.

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR
        2019, eq. 6 and 8-13.
    """
    check_choice("class_balanced", "base", base, ("softmax", "sigmoid", "focal"))
    num_classes = class_axis("class_balanced", "logits", logits)
    check_counts("class_balanced", class_counts, num_classes)
    z, y = prepare("class_balanced", logits, labels, where)
    if base == "softmax":
        loss = softmax_cross_entropy(z, y, where=where)
    elif base == "sigmoid":
        loss = sigmoid_cross_entropy(z, y, where=where)
    else:
        loss = sigmoid_focal(z, y, gamma=gamma, where=where)
    weights = jnp.asarray(class_balanced_weights(class_counts, beta=beta))
    return class_lookup(weights.astype(loss.dtype), y) * loss
