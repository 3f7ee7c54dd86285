r"""Cross-entropy, its affine generalization, and the softmax focal loss.

Most losses of the field are one formula (see `affine_softmax`); the files beside this
one fill in its parameters the way each paper does.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_matrix,
    check_class_vector,
    check_range,
    shape_of,
)
from ltjax._numerics import class_lookup, class_rows, mask_values
from ltjax.losses._affine import (
    affine_cross_entropy,
    at_label,
    is_index,
    prepare,
    rival_log_odds,
)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Softmax cross-entropy.

    .. math:: \ell(z, y) = \log \sum_k e^{z_k} - z_y, \qquad
              \ell(z, q) = \sum_k q_k\, \ell(z, k)

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions q (mixup).
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree.
        TypeError: if labels are neither integers nor floats.

    Example:
        >>> print(f"{softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0]:.4f}")
        1.3863

    Limits: log K for equal logits.

    References:
        The negative log-likelihood of multinomial logistic regression; see
        `optax.softmax_cross_entropy_with_integer_labels`, which wraps negative labels.
    """
    z, y = prepare("softmax_cross_entropy", logits, labels, where, soft=True)
    return mask_values(affine_cross_entropy(z, y), where)


def affine_softmax(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    temperature: float | ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy after an affine change of the logits: the template of the family.

    .. math:: \ell(z, y) = \alpha_y\,
              \mathrm{CE}\big((\beta \odot z + \Delta_{y,\cdot}) / T,\; y\big)

    With n the class counts and :math:`\pi = n / N`:

    ==================== ====================== ======================= ==========
    loss                 beta (scale)           Delta (shift)           1/T
    ==================== ====================== ======================= ==========
    cross-entropy        1                      0                       1
    LDAM                 1                      -m_y at k = y           s
    logit adjustment     1                      tau log pi_k            1
    balanced softmax     1                      log n_k                 1
    CDT                  (n_k / n_max)^gamma    0                       1
    VS                   (n_k / n_max)^gamma    tau log pi_k            1
    ==================== ====================== ======================= ==========

    TLA + ADRW is VS first and then logit adjustment with the weights
    `inverse_power_weights(class_counts, power=nu)`. All parameters may be traced, so a
    deferred schedule is `scale=scales[phase]` with arrays stacked as [phases, K].

    Args:
        logits: [B, K] float.
        labels: [B] int class indices, or [B, K] distributions (not with a [K, K]
            shift); a distribution q costs :math:`\sum_k q_k\, \ell(z, k)`.
        weight: alpha, [K] >= 0, the cost of each true class; None for 1.
        scale: beta, [K] > 0; None for 1.
        shift: Delta, [K] added to every row, or [K, K] with one row per true class;
            None for 0. An entry -inf takes that class out of the normalizer.
        temperature: T > 0, divides logits and shift; None for 1.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable temperature is not positive.
        TypeError: for distributions together with a [K, K] shift.

    Example:
        >>> logits, labels = jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2])
        >>> shift = jnp.log(jnp.array([100.0, 20.0, 5.0]))
        >>> print(f"{affine_softmax(logits, labels, shift=shift)[0]:.4f}")
        4.3236

    Limits: every parameter None (or alpha = beta = T = 1, Delta = 0) is cross-entropy;
    a constant added to a row of Delta changes nothing.

    References:
        Wang et al., "A Unified Generalization Analysis of Re-Weighting and
        Logit-Adjustment for Imbalanced Learning", NeurIPS 2023 (alpha, beta, Delta);
        the temperature is the inverse of LDAM's scale s.
    """
    caller = "affine_softmax"
    z, y = prepare(caller, logits, labels, where, soft=True)
    num_classes = z.shape[-1]
    for name, vector in (("weight", weight), ("scale", scale)):
        if vector is not None:
            check_class_vector(caller, name, vector, num_classes)
    by_row = shift is not None and len(shape_of(shift)) == 2
    if by_row:
        check_class_matrix(caller, "shift", shift, num_classes)
        if not is_index(y):
            raise TypeError(
                f"{caller}: shift has one row per true class, so labels must be class"
                f" indices [B], but they are distributions of dtype {y.dtype}"
            )
    elif shift is not None:
        check_class_vector(caller, "shift", shift, num_classes)
    if temperature is not None:
        check_range(caller, "temperature", temperature, low=0.0, open_low=True)
        temperature = jnp.asarray(temperature).astype(z.dtype)
        scale = 1 / temperature if scale is None else jnp.asarray(scale) / temperature
        shift = None if shift is None else jnp.asarray(shift) / temperature
    if not by_row:
        loss = affine_cross_entropy(z, y, weight=weight, scale=scale, shift=shift)
        return mask_values(loss, where)
    table = jnp.asarray(shift).astype(z.dtype)
    odds = rival_log_odds(
        z,
        y,
        scale=scale,
        rival_shift=class_rows(table, y, like=z),
        own_shift=class_lookup(jnp.diagonal(table), y),
    )
    loss = jax.nn.softplus(odds)
    if weight is not None:
        loss = loss * at_label(weight, y, z.dtype)
    return mask_values(loss, where)


def focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Focal loss, softmax form: turns down the examples that are already right.

    .. math:: \ell = -(1 - p_y)^\gamma \log p_y, \qquad p = \mathrm{softmax}(z)

    The other form in circulation sums over classes, see `sigmoid_focal`; they are not
    interchangeable.

    Args:
        logits: [B, K] float.
        labels: [B] int class indices.
        gamma: focusing parameter >= 0; values below 1 are safe at p = 1.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree or a readable gamma is negative.

    Example:
        >>> print(f"{focal(jnp.array([[1.0, 0.5, -0.2]]), jnp.array([2]))[0]:.4f}")
        1.3091

    Limits: gamma = 0 is cross-entropy.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4. The
        softmax form is that of the LDAM code (Cao et al., NeurIPS 2019), which however
        lets class weights into p; here a weight multiplies the result from outside.
    """
    check_range("focal", "gamma", gamma, low=0.0)
    z, y = prepare("focal", logits, labels, where)
    odds = rival_log_odds(z, y)
    gamma = jnp.asarray(gamma).astype(z.dtype)
    modulator = jnp.exp(gamma * jax.nn.log_sigmoid(odds))
    return mask_values(modulator * jax.nn.softplus(odds), where)
