r"""CC-SAM, stage 1: every class perturbs the classifier in its own way.

The perturbation is larger for rarer classes, and there is no loop over classes. With
:math:`R = \mathrm{softmax}(Z) - T`, :math:`M_{ij} = [y_i = y_j]` and class sizes m in
the batch, the norms of all classes' mean gradients follow from two B x B Gram matrices,

.. math:: \|g_{W,y_i}\|^2 = (M (HH^\top \circ RR^\top) M)_{ii} / m_i^2, \qquad
          \|g_{b,y_i}\|^2 = (M\, RR^\top M)_{ii} / m_i^2

so the cost does not depend on the number of classes. It is a loss function of a linear
head's features and parameters, as is stage 2 (`ltjax.sharpness.cc_sam_rebalance`). The
parameters are Flax's: `kernel` [D, K] and `bias` [K] or None.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax._numerics import class_lookup, host, mask_values
from ltjax.sharpness._head_batch import (
    SMALL,
    HeadBatch,
    head_batch,
    matmul,
    residuals_of,
    targets_of,
)


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
    batch = head_batch(
        "class_radii", features, kernel, bias, labels, class_counts, where
    )
    return _radii(batch, residuals_of(batch, targets), nu, max_rho)


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
    batch = head_batch("cc_sam", features, kernel, bias, labels, class_counts, where)
    residuals = residuals_of(batch, targets)
    radii = _radii(batch, residuals, nu, max_rho)
    perturbed = _perturbed_logits(batch, residuals, radii)
    log_p = jax.nn.log_softmax(batch.logits)
    if targets is None:
        plain = -class_lookup(log_p, batch.labels)
    else:
        plain = -jnp.sum(targets_of(batch, targets) * log_p, axis=-1)
    flat = -class_lookup(jax.nn.log_softmax(perturbed), batch.labels)
    return mask_values((1 - ratio) * plain + ratio * flat, where)


# ---------------------------------------------------------------- building blocks


def _radii(batch: HeadBatch, residuals, nu, max_rho) -> ClassRadii:
    batch = jax.lax.stop_gradient(batch)
    gram = matmul(batch.features, batch.features.T)
    products = matmul(residuals, residuals.T)

    def class_norm(matrix):
        diagonal = jnp.sum(matmul(batch.same, matrix) * batch.same, axis=1)
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
        safe = jnp.maximum(norm, SMALL)
        rho = common / jnp.sqrt(safe)
        if max_rho is not None:
            rho = jnp.minimum(rho, max_rho)
        return jax.lax.stop_gradient(jnp.where(norm < SMALL, 0, rho))

    kernel_norm, bias_norm = class_norm(gram * products), class_norm(products)
    return ClassRadii(radius(kernel_norm), radius(bias_norm), kernel_norm, bias_norm)


def _perturbed_logits(batch: HeadBatch, residuals, radii: ClassRadii) -> jax.Array:
    """Logits under each example's own class's perturbation.

    The left factor of the Gram matrix carries the gradient to the features.
    """

    def step(rho, norm):
        return (rho / (jnp.maximum(norm, SMALL) * batch.sizes))[:, None]

    gram = matmul(batch.features, jax.lax.stop_gradient(batch.features).T)
    moved = matmul(gram * batch.same, residuals)
    logits = batch.logits + step(radii.kernel, radii.kernel_norm) * moved
    if batch.bias is None:
        return logits
    shift = matmul(batch.same, residuals)
    return logits + step(radii.bias, radii.bias_norm) * shift
