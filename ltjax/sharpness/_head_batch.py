"""A batch at a linear classifier, as the two stages of CC-SAM see it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax._checks import (
    check_class_vector,
    check_floating,
    check_integers,
    check_logits_labels,
    check_where,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices, mask_rows

SMALL = 1e-12  # below this gradient norm a class is not perturbed


class HeadBatch(NamedTuple):
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


def head_batch(
    caller: str, features, kernel, bias, labels, class_counts, where
) -> HeadBatch:
    """Checks the arrays and brings them together."""
    check_floating(caller, "features", features)
    check_floating(caller, "kernel", kernel)
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
    check_integers(caller, "labels", labels)
    features, labels = mask_rows(where, features, class_indices(labels))
    logits = head_logits(features, kernel, bias)
    check_logits_labels(caller, logits, labels)
    same = labels[:, None] == labels[None, :]
    if where is not None:
        same = same & where[:, None] & where[None, :]
    same = same.astype(logits.dtype)
    sizes = jnp.maximum(jnp.sum(same, axis=1), 1)
    counts = jnp.asarray(class_counts, logits.dtype)
    return HeadBatch(features, kernel, bias, labels, counts, where, logits, same, sizes)


def matmul(a, b):
    return jnp.matmul(a, b, precision="highest")


def head_logits(features, kernel, bias):
    logits = matmul(features, kernel)
    return logits if bias is None else logits + bias[None, :]


def targets_of(batch: HeadBatch, targets):
    if targets is None:
        classes = jnp.arange(batch.kernel.shape[1], dtype=jnp.int32)[None, :]
        return (batch.labels[:, None] == classes).astype(batch.logits.dtype)
    if shape_of(targets) != batch.logits.shape:
        raise ValueError(
            f"cc_sam: targets have shape {shape_of(targets)}, expected"
            f" {batch.logits.shape}"
        )
    return mask_rows(batch.where, jnp.asarray(targets, batch.logits.dtype))


def residuals_of(batch: HeadBatch, targets) -> jax.Array:
    """R = softmax(Z) - T, the gradient of the losses by the logits; a constant."""
    residuals = jax.nn.softmax(batch.logits) - targets_of(batch, targets)
    return jax.lax.stop_gradient(mask_rows(batch.where, residuals))
