r"""CC-SAM: every class perturbs the classifier in its own way, without a class loop.

The two stages are loss functions of a linear head's features and parameters. Stage 1
perturbs the classifier by class (radii larger for rarer classes), stage 2 shifts the
features adversarially by class. Both follow from two B x B Gram matrices: with
:math:`R = \mathrm{softmax}(Z) - T`, :math:`M_{ij} = [y_i = y_j]` and class sizes m in
the batch, the norms of all classes' mean gradients are

.. math:: \|g_{W,y_i}\|^2 = (M (HH^\top \circ RR^\top) M)_{ii} / m_i^2, \qquad
          \|g_{b,y_i}\|^2 = (M\, RR^\top M)_{ii} / m_i^2

so the cost does not depend on the number of classes.

The parameters here are Flax's: `kernel` [D, K] and `bias` [K] or None.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_logits_labels,
    check_range,
    check_where,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_lookup, host, mask_rows, mask_values

_SMALL = 1e-12  # below this gradient norm a class is not perturbed


class ClassRadii(NamedTuple):
    """Radii of CC-SAM's perturbations, per example (those of its class).

    Attributes:
        kernel: [B] radius of the classifier's kernel; 0 where the class has no
            gradient.
        bias: [B] radius of its bias.
        kernel_norm: [B] norm of the class-mean gradient of the kernel.
        bias_norm: [B] norm of the class-mean gradient of the bias.
    """

    kernel: jax.Array
    bias: jax.Array
    kernel_norm: jax.Array
    bias_norm: jax.Array


def class_radii(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    nu: ArrayLike,
    targets: ArrayLike | None = None,
    max_rho: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> ClassRadii:
    r"""Radii of the class-conditional perturbations, and the norms they come from.

    .. math:: \rho_{c,P} = \nu \frac{\sqrt{\|w\|}}{\sqrt{\|g_{c,P}\|}}
              \frac{k^{1/4}}{\sqrt2\, \max(n_c - 1, 1)^{1/4}}

    for P in {kernel, bias}, k the number of the classifier's scalars, ||w|| their norm.

    Args:
        features: [B, D] float, inputs of the classifier.
        kernel: [D, K].
        bias: [K], or None.
        labels: [B] int, unmixed.
        class_counts: [K], number of *training* examples per class.
        nu: overall size of the radii, see `calibrate_nu`; may be traced.
        targets: optional [B, K] distributions of the training loss (mixup), default
            one-hot labels.
        max_rho: optional upper bound of a radius; the formula explodes as a class's
            gradient vanishes.
        where: optional [B] bool; False rows belong to no class.

    Returns:
        `ClassRadii`, constants.

    Example:
        >>> kernel = jnp.diag(jnp.array([0.6, 0.8]))
        >>> radii = class_radii(jnp.array([[1.0, 0.0]]), kernel, None, jnp.array([0]),
        ...                     [17, 5], nu=0.1)
        >>> print(f"{radii.kernel[0]:.5f}")
        0.07063

    References:
        Zhou et al., "Class-Conditional Sharpness-Aware Minimization for Deep
        Long-Tailed Recognition", CVPR 2023, and the authors' code. Ours: n_c = 1 is
        treated as 2 (theirs divides by zero), and a class whose gradient norm is below
        1e-12 is not perturbed.
    """
    batch = _head("class_radii", features, kernel, bias, labels, class_counts, where)
    return _radii(batch, _residuals(batch, targets), nu, max_rho)


def calibrate_nu(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    target: float = 0.05,
    targets: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> float:
    r"""The nu for which the median of the classes' kernel radii is `target`.

    Meant to be called once, on the first batch. The radii of a class grow as its
    gradient vanishes, so give `cc_sam` a `max_rho` too.

    Args:
        features: [B, D] float, inputs of the classifier.
        kernel: [D, K].
        bias: [K], or None.
        labels: [B] int, concrete.
        class_counts: [K], number of training examples per class.
        target: wanted median radius over the classes present, > 0.
        targets: optional [B, K] distributions of the training loss.
        where: optional [B] bool.

    Returns:
        nu, a Python float.

    Raises:
        ValueError: if every class's gradient vanishes.

    Example:
        >>> kernel = jnp.diag(jnp.array([0.6, 0.8]))
        >>> nu = calibrate_nu(jnp.array([[1.0, 0.0]]), kernel, None, jnp.array([0]),
        ...                   [17, 5])
        >>> round(nu, 5)  # nu = 0.1 gives a radius of 0.07063
        0.07079

    References:
        Our choice. The released nu = 1e-6 gives radii of 4e-6 to 2e-5, far below any
        useful one.
    """
    check_range("calibrate_nu", "target", target, low=0.0, open_low=True)
    radii = class_radii(
        features,
        kernel,
        bias,
        labels,
        class_counts,
        nu=1.0,
        targets=targets,
        where=where,
    )
    classes, per_row = np.asarray(host(labels)), np.asarray(host(radii.kernel))
    real = np.ones(len(classes), bool) if where is None else np.asarray(host(where))
    _, first = np.unique(classes[real], return_index=True)
    found = per_row[real][first]
    found = found[found > 0]
    if not found.size:
        raise ValueError(
            "calibrate_nu: no class of this batch has a gradient, expected at least one"
        )
    return float(target / np.median(found))


def cc_sam(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    nu: ArrayLike,
    ratio: ArrayLike = 0.5,
    targets: ArrayLike | None = None,
    max_rho: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""CC-SAM, stage 1: loss under a class-conditional perturbation of the classifier.

    .. math:: (1 - r)\, \ell_i + r\, \mathrm{CE}\big((W + \epsilon_{y_i,W})^\top h_i
              + b + \epsilon_{y_i,b},\; y_i\big)

    The perturbations are constants; the gradient flows to the classifier, and through
    the perturbed kernel to the features. It is a loss, not a list of terms, because its
    radii depend on every class's own gradient; it composes with those.

    Args:
        features: [B, D] float, inputs of the classifier.
        kernel: [D, K].
        bias: [K], or None.
        labels: [B] int, unmixed.
        class_counts: [K], number of *training* examples per class.
        nu: overall size of the radii, see `calibrate_nu`; may be traced.
        ratio: r in [0, 1], share of the perturbed loss; may be traced.
        targets: optional [B, K] distributions for the plain part (mixup), default
            one-hot labels. The perturbed part always uses the unmixed labels.
        max_rho: optional upper bound of a radius.
        where: optional [B] bool; False rows cost 0 and belong to no class.

    Returns:
        [B] float32 (float64 for float64 features) loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree or ratio is outside [0, 1].
        TypeError: if labels are not integers.

    Example:
        >>> kernel = jnp.diag(jnp.array([0.6, 0.8]))
        >>> loss = cc_sam(jnp.eye(2)[:1], kernel, None, jnp.array([0]), [17, 5],
        ...               nu=0.1, ratio=1.0)
        >>> print(f"{loss[0]:.5f}")
        0.47403

    Limits: ratio=0 is the plain loss; nu=0 without mixup too.

    References:
        Zhou et al., CVPR 2023, and the authors' code, which perturbs the classifier
        only and loops over the classes (same numbers). Published settings: ratio 0.3
        (CIFAR-10) and 0.5 (CIFAR-100).
    """
    check_range("cc_sam", "ratio", ratio, low=0.0, high=1.0)
    batch = _head("cc_sam", features, kernel, bias, labels, class_counts, where)
    residuals = _residuals(batch, targets)
    radii = _radii(batch, residuals, nu, max_rho)
    perturbed = _perturbed_logits(batch, residuals, radii)
    log_p = jax.nn.log_softmax(batch.logits)
    if targets is None:
        plain = -class_lookup(log_p, batch.labels)
    else:
        plain = -jnp.sum(_targets(batch, targets) * log_p, axis=-1)
    flat = -class_lookup(jax.nn.log_softmax(perturbed), batch.labels)
    return mask_values((1 - ratio) * plain + ratio * flat, where)


def cc_sam_rebalance(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    alpha: ArrayLike,
    amplitude: ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""CC-SAM, stage 2: classifier re-training on adversarially shifted features.

    .. math:: \alpha\, v_{y_i} \mathrm{CE}(h_i + A v_{y_i} u_i, y_i)
              + (1 - \alpha)\, \mathrm{CE}(h_i, y_i), \qquad
              v_c = \tfrac12 \log(n_{\max} / n_c + 0.01)

    u is the gradient of the class-mean cross-entropy with respect to the features,
    scaled to unit Frobenius norm per class, a constant. Batches are class-balanced and
    the backbone is frozen; that is the caller's business.

    Args:
        features: [B, D] float, inputs of the classifier.
        kernel: [D, K].
        bias: [K], or None.
        labels: [B] int.
        class_counts: [K] positive, number of *training* examples per class.
        alpha: share of the shifted loss, see `rebalance_share`; may be traced.
        amplitude: A >= 0, length of the shift in units of v; may be traced.
        where: optional [B] bool; False rows cost 0 and belong to no class.

    Returns:
        [B] float32 (float64 for float64 features) loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree or alpha is outside [0, 1].
        TypeError: if labels are not integers.

    Example:
        >>> head = jnp.array([[1.0, 0.0]]), jnp.eye(2), None, jnp.array([0]), [17, 5]
        >>> print(f"{cc_sam_rebalance(*head, alpha=0.0)[0]:.5f}")
        0.31326

    Limits: alpha=0 is cross-entropy.

    References:
        Zhou et al., CVPR 2023, and the authors' code. Theirs leaves the frozen
        backbone's BatchNorm in training mode; use evaluation mode.
    """
    check_range("cc_sam_rebalance", "alpha", alpha, low=0.0, high=1.0)
    check_range("cc_sam_rebalance", "amplitude", amplitude, low=0.0)
    batch = _head(
        "cc_sam_rebalance", features, kernel, bias, labels, class_counts, where
    )
    ratio = jnp.max(batch.counts) / batch.counts
    v = class_lookup(0.5 * jnp.log(ratio + 0.01), batch.labels)

    # Row i of the gradient of its class's mean loss; the class's norm from M.
    rows = _matmul(_residuals(batch, None), batch.kernel.T) / batch.sizes[:, None]
    squares = _matmul(batch.same, jnp.sum(jnp.square(rows), axis=1)[:, None])[:, 0]
    norm = jnp.sqrt(jnp.maximum(squares, 0))
    unit = jnp.where(norm < _SMALL, 0, 1 / jnp.maximum(norm, _SMALL))[:, None] * rows
    shift = jax.lax.stop_gradient(amplitude * v[:, None] * unit)

    shifted = _logits(batch.features + shift, batch.kernel, batch.bias)
    hard = -class_lookup(jax.nn.log_softmax(shifted), batch.labels)
    plain = -class_lookup(jax.nn.log_softmax(batch.logits), batch.labels)
    return mask_values(alpha * v * hard + (1 - alpha) * plain, where)


def rebalance_share(
    epoch: ArrayLike, *, start: int = 200, total: int = 230, maximum: ArrayLike = 1.0
) -> jax.Array:
    r"""Stage 2's share of the shifted loss, :math:`\min((e - S + 1)/(E - S), \alpha)`.

    Args:
        epoch: e, 0-based, counted from the beginning of stage 1; may be traced.
        start: S, first epoch of stage 2.
        total: E, number of epochs of both stages, more than S.
        maximum: largest share; published: 1 (CIFAR-10), 0.3 (CIFAR-100).

    Returns:
        float32 scalar in [0, maximum].

    Raises:
        ValueError: if total does not exceed start.

    Example:
        >>> [round(float(rebalance_share(e, maximum=0.3)), 4) for e in (200, 208, 229)]
        [0.0333, 0.3, 0.3]

    References:
        Zhou et al., CVPR 2023, released code.
    """
    check_range("rebalance_share", "total", total, low=start, open_low=True)
    share = (jnp.asarray(epoch, jnp.float32) - start + 1) / (total - start)
    return jnp.clip(share, 0.0, maximum)


# ---------------------------------------------------------------- building blocks


class _Head(NamedTuple):
    """A batch at the classifier, checked, in at least float32, padding rows zeroed."""

    features: jax.Array
    kernel: jax.Array
    bias: jax.Array | None
    labels: jax.Array
    counts: jax.Array
    where: jax.Array | None
    logits: jax.Array
    same: jax.Array  # M, as numbers
    sizes: jax.Array  # class size in the batch, at least 1


def _head(caller, features, kernel, bias, labels, class_counts, where) -> _Head:
    features, kernel = at_least_float32(features), at_least_float32(kernel)
    if features.ndim != 2 or kernel.ndim != 2 or features.shape[1] != kernel.shape[0]:
        raise ValueError(
            f"{caller}: features {features.shape} and kernel {kernel.shape}, expected"
            " [B, D] and [D, K]"
        )
    num_classes = kernel.shape[1]
    if bias is not None:
        check_class_vector(caller, "bias", bias, num_classes)
        bias = at_least_float32(bias)
    check_class_vector(caller, "class_counts", class_counts, num_classes)
    check_where(caller, where, features.shape[:1])
    features, labels = mask_rows(where, features, jnp.asarray(labels))
    logits = _logits(features, kernel, bias)
    check_logits_labels(caller, logits, labels)
    same = labels[:, None] == labels[None, :]
    if where is not None:
        same = same & where[:, None] & where[None, :]
    same = same.astype(logits.dtype)
    sizes = jnp.maximum(jnp.sum(same, axis=1), 1)
    counts = jnp.asarray(class_counts, logits.dtype)
    return _Head(features, kernel, bias, labels, counts, where, logits, same, sizes)


def _matmul(a, b):
    return jnp.matmul(a, b, precision="highest")


def _logits(features, kernel, bias):
    logits = _matmul(features, kernel)
    return logits if bias is None else logits + bias[None, :]


def _targets(batch: _Head, targets):
    if targets is None:
        classes = jnp.arange(batch.kernel.shape[1])[None, :]
        return (batch.labels[:, None] == classes).astype(batch.logits.dtype)
    if shape_of(targets) != batch.logits.shape:
        raise ValueError(
            f"cc_sam: targets have shape {shape_of(targets)}, expected"
            f" {batch.logits.shape}"
        )
    return mask_rows(batch.where, jnp.asarray(targets, batch.logits.dtype))


def _residuals(batch: _Head, targets) -> jax.Array:
    """R = softmax(Z) - T, the gradient of the losses by the logits; a constant."""
    residuals = jax.nn.softmax(batch.logits) - _targets(batch, targets)
    return jax.lax.stop_gradient(mask_rows(batch.where, residuals))


def _radii(batch: _Head, residuals, nu, max_rho) -> ClassRadii:
    batch = jax.lax.stop_gradient(batch)
    gram = _matmul(batch.features, batch.features.T)
    products = _matmul(residuals, residuals.T)

    def class_norm(matrix):
        diagonal = jnp.sum(_matmul(batch.same, matrix) * batch.same, axis=1)
        return jnp.sqrt(jnp.maximum(diagonal, 0)) / batch.sizes

    squares = jnp.sum(jnp.square(batch.kernel))
    scalars = batch.kernel.size
    if batch.bias is not None:
        squares = squares + jnp.sum(jnp.square(batch.bias))
        scalars = scalars + batch.bias.size
    size = jnp.sqrt(squares) + 1e-12
    counts = jnp.maximum(class_lookup(batch.counts, batch.labels) - 1, 1)
    common = nu * jnp.sqrt(size) * scalars**0.25 / (jnp.sqrt(2.0) * counts**0.25)

    def radius(norm):
        safe = jnp.maximum(norm, _SMALL)
        rho = common / jnp.sqrt(safe)
        if max_rho is not None:
            rho = jnp.minimum(rho, max_rho)
        return jax.lax.stop_gradient(jnp.where(norm < _SMALL, 0, rho))

    kernel_norm, bias_norm = class_norm(gram * products), class_norm(products)
    return ClassRadii(radius(kernel_norm), radius(bias_norm), kernel_norm, bias_norm)


def _perturbed_logits(batch: _Head, residuals, radii: ClassRadii) -> jax.Array:
    """Logits under each example's own class's perturbation.

    The left factor of the Gram matrix carries the gradient to the features.
    """

    def step(rho, norm):
        return (rho / (jnp.maximum(norm, _SMALL) * batch.sizes))[:, None]

    gram = _matmul(batch.features, jax.lax.stop_gradient(batch.features).T)
    moved = _matmul(gram * batch.same, residuals)
    logits = batch.logits + step(radii.kernel, radii.kernel_norm) * moved
    if batch.bias is None:
        return logits
    shift = _matmul(batch.same, residuals)
    return logits + step(radii.bias, radii.bias_norm) * shift
