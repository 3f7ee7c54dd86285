r"""The square AUC loss as a saddle point: a loss over examples instead of pairs.

With positives P, negatives Q and a margin m,

.. math:: F(h; a, b, \alpha) = \mathrm{mean}_P (h-a)^2 + \mathrm{mean}_Q (h-b)^2
          + 2\alpha (m + \mathrm{mean}_Q h - \mathrm{mean}_P h) - \alpha^2

is minimized over the scores, a and b and maximized over :math:`\alpha \ge 0`. At its
optimum a and b are the class means, :math:`\alpha = (m + b - a)_+`, and without the
bound on alpha F is the mean of :math:`(m - h_p + h_q)^2` over pairs. The auxiliary
variables carry what small batches cannot show; `ltjax.losses.pesg` moves them.

F may be negative and rises and falls as alpha moves, so every call also returns that
mean over pairs: it is never negative, and comparable between epochs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_floating,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, mask_rows
from ltjax.losses._pairs import check_binary_labels, reciprocal


class SaddleDuals(NamedTuple):
    """The auxiliary variables of `aucm`: scalars, or one per label, [L]."""

    a: jax.Array
    b: jax.Array
    alpha: jax.Array


class SaddleLoss(NamedTuple):
    """Values [B] whose mean is the saddle objective, and those of the pairwise loss."""

    values: jax.Array
    monitor: jax.Array


def init_saddle_duals(num_labels: int | None = None) -> SaddleDuals:
    """Auxiliary variables at zero.

    Args:
        num_labels: L for a multi-label problem, None for a binary one.

    Returns:
        SaddleDuals of float32 scalars or [L] arrays. From zero the scores of sigmoid
        networks may first collapse at large learning rates: warm up with another loss,
        or start from `best_saddle_duals`.

    Example:
        >>> init_saddle_duals(2).alpha.shape
        (2,)
    """
    shape = () if num_labels is None else (num_labels,)
    return SaddleDuals(*(jnp.zeros(shape, jnp.float32) for _ in range(3)))


def aucm(
    scores: ArrayLike,
    labels: ArrayLike,
    duals: SaddleDuals,
    *,
    margin: float | ArrayLike = 1.0,
    version: str = "v2",
    where: ArrayLike | None = None,
) -> SaddleLoss:
    r"""AUC margin loss in its min-max form, binary or multi-label.

    .. math:: v_i = \frac{N}{N_+} 1[i \in P] \big( (h_i - a)^2 - 2 \alpha h_i \big)
              + \frac{N}{N_-} 1[i \in Q] \big( (h_i - b)^2 + 2 \alpha h_i \big)
              + 2 \alpha m - \alpha^2

    whose mean is F of the module. Version "v1" is :math:`p (1 - p)` times that, with
    the batch's share p of positives. A batch (or label) without a positive or without a
    negative has no pair and costs exactly 0.

    Args:
        scores: [B] float in [0, 1], or [B, L] for L labels, whose losses are averaged
            over the labels that have a pair.
        labels: bool or 0/1 of the shape of scores.
        duals: a, b and alpha, scalars or [L]; gradient flows into them.
        margin: m.
        version: "v2" or "v1".
        where: optional [B] bool; False rows do not count.

    Returns:
        SaddleLoss of [B] float32, not reduced; the monitor carries no gradient. NaN for
        a label out of range.

    Raises:
        ValueError: if shapes disagree, a readable label is neither 0 nor 1, or the
            version is unknown.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([0.9, 0.4, 0.5, 0.1, 0.3]), [1, 1, 0, 0, 0]
        >>> duals = SaddleDuals(a=0.5, b=0.2, alpha=0.3)
        >>> loss = aucm(scores, jnp.array(labels), duals)
        >>> print(f"{loss.values.mean():.6f} {loss.monitor.mean():.6f}")
        0.421667 0.511667

    Limits: at the duals of `best_saddle_duals` with a positive alpha both are equal,
    twice `auc_square`.

    References:
        Yuan et al., "Large-scale Robust Deep AUC Maximization", ICCV 2021. Class means
        are masked sums over class counts: LibAUC 2.0.1 weighs the negatives of v2 twice
        (issue 74), divides by the number of non-zero entries (75), and its multi-label
        loss ignores the margin (35).
    """
    caller = "aucm"
    check_choice(caller, "version", version, ("v2", "v1"))
    h, up, down, bad = _labels(caller, scores, labels, where)
    a, b, alpha = (_per_label(caller, n, x, h) for n, x in duals._asdict().items())
    margin = jnp.asarray(margin).astype(h.dtype)
    total, up_weight, down_weight, scale = _class_weights(h, up, down, bad, version)
    cross = 2 * alpha * (margin + (down_weight - up_weight) * h) - alpha**2
    values = up_weight * (h - a) ** 2 + down_weight * (h - b) ** 2 + cross
    rows = up | down | bad
    values = jnp.sum(jnp.where(rows, scale * values, 0.0), axis=1)
    fixed = jax.lax.stop_gradient(h)
    mean = jnp.sum(down_weight * fixed, axis=0, keepdims=True) / total
    variance = jnp.sum(down_weight * (fixed - mean) ** 2, axis=0, keepdims=True) / total
    pair = (jax.lax.stop_gradient(margin) - fixed + mean) ** 2 + variance
    monitor = jnp.sum(jnp.where(rows, scale * up_weight * pair, 0.0), axis=1)
    invalid = jnp.any(bad, axis=1)
    return SaddleLoss(
        jnp.where(invalid, jnp.nan, values), jnp.where(invalid, jnp.nan, monitor)
    )


def best_saddle_duals(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> SaddleDuals:
    r"""The auxiliary variables that are optimal for given scores.

    .. math:: a = \mathrm{mean}_P h, \quad b = \mathrm{mean}_Q h, \quad
              \alpha = (m + b - a)_+

    Args:
        scores: [B] float, or [B, L].
        labels: bool or 0/1 of the shape of scores.
        margin: m.
        where: optional [B] bool; False rows do not count.

    Returns:
        SaddleDuals of scalars or [L] arrays, without gradient; means of an absent class
        are 0.

    Raises:
        ValueError: if shapes disagree or a readable label is neither 0 nor 1.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> duals = best_saddle_duals(jnp.array([0.75, 0.25]), jnp.array([1, 0]))
        >>> print(duals.a, duals.b, duals.alpha)
        0.75 0.25 0.5
    """
    h, up, down, _ = _labels("best_saddle_duals", scores, labels, where)
    h = jax.lax.stop_gradient(h)

    def mean(members):
        total = jnp.sum(jnp.where(members, h, 0.0), axis=0)
        return total * reciprocal(jnp.sum(members, axis=0), h.dtype)

    a, b = mean(up), mean(down)
    alpha = jnp.maximum(jnp.asarray(margin).astype(h.dtype) + b - a, 0.0)
    return SaddleDuals(*(x[0] if jnp.ndim(scores) == 1 else x for x in (a, b, alpha)))


def drauc_radii(
    positive_share: float | ArrayLike,
    *,
    radius: float | ArrayLike,
    ratio: float | ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    r"""Budgets of the classes in distribution-aware robust AUC optimization.

    .. math:: \epsilon_+ = k \epsilon, \qquad
              \epsilon_- = \frac{1 - k p}{1 - p}\, \epsilon, \qquad
              p\, \epsilon_+ + (1 - p)\, \epsilon_- = \epsilon

    Args:
        positive_share: p in (0, 1).
        radius: epsilon, the mean budget.
        ratio: k; 1 gives both classes the same.

    Returns:
        :math:`(\epsilon_+, \epsilon_-)`, float32.

    Raises:
        ValueError: if a readable share is outside (0, 1), or a number is negative.

    Example:
        >>> up, down = drauc_radii(0.2, radius=0.5, ratio=0.5)
        >>> print(up, down)
        0.25 0.5625

    References:
        Dai et al., "DRAUC: An Instance-wise Distributionally Robust AUC Optimization
        Framework", NeurIPS 2023. The released code multiplies the radius of the
        negatives by epsilon twice.
    """
    check_range(
        "drauc_radii",
        "positive_share",
        positive_share,
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    )
    check_range("drauc_radii", "radius", radius, low=0.0)
    check_range("drauc_radii", "ratio", ratio, low=0.0)
    share, radius, ratio = (
        jnp.asarray(x, float) for x in (positive_share, radius, ratio)
    )
    return ratio * radius, (1 - ratio * share) / (1 - share) * radius


def _labels(caller, scores, labels, where):
    """Scores [B, L], and where the positives, negatives and bad labels are."""
    check_floating(caller, "scores", scores)
    shape = shape_of(scores)
    if len(shape) not in (1, 2):
        raise ValueError(f"{caller}: scores have shape {shape}, expected [B] or [B, L]")
    check_binary_labels(caller, labels, shape, where)
    check_where(caller, where, shape[:1])
    scores, labels = mask_rows(where, at_least_float32(scores), class_indices(labels))
    keep = jnp.ones(shape[:1], bool) if where is None else jnp.asarray(where)
    if len(shape) == 1:
        scores, labels = scores[:, None], labels[:, None]
    up, down = keep[:, None] & (labels == 1), keep[:, None] & (labels == 0)
    return scores, up, down, keep[:, None] & ~up & ~down


def _per_label(caller, name, value, scores) -> jax.Array:
    """A dual variable as a row [1, L]."""
    shape = shape_of(value)
    if shape not in ((), scores.shape[1:]):
        raise ValueError(
            f"{caller}: {name} has shape {shape}, expected a scalar or"
            f" {scores.shape[1:]}"
        )
    row = jnp.asarray(value).astype(scores.dtype)
    return jnp.broadcast_to(row, scores.shape[1:])[None, :]


def _class_weights(h, up, down, bad, version):
    """N; N / N_+ and N / N_- at the members [B, L]; and each label's weight [1, L]."""
    num_up, num_down = (jnp.sum(x, axis=0, keepdims=True) for x in (up, down))
    total = jnp.sum(jnp.any(up | down | bad, axis=1)).astype(h.dtype)
    total = jnp.maximum(total, 1)
    up_weight = jnp.where(up, total * reciprocal(num_up, h.dtype), 0.0)
    down_weight = jnp.where(down, total * reciprocal(num_down, h.dtype), 0.0)
    paired = (num_up > 0) & (num_down > 0)
    scale = jnp.where(paired, reciprocal(jnp.sum(paired), h.dtype), 0.0)
    if version == "v1":
        scale = scale * (num_up / total) * (num_down / total)
    return total, up_weight, down_weight, scale
