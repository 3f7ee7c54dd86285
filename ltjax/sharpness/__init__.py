"""Sharpness-aware gradients: lists of terms, executed by one function."""

from ltjax.sharpness.gradient import sharp_value_and_grad, with_weight_decay
from ltjax.sharpness.passes import SharpOutput
from ltjax.sharpness.perturbation import (
    Perturbation,
    perturbation,
    realized_perturbation,
)
from ltjax.sharpness.rules import asam, leaf_paths, normalization_only, only_under
from ltjax.sharpness.terms import (
    IMBSAM_TAIL_SCALE,
    Term,
    ascend_on,
    focal_coefficients,
    focal_sam,
    imbsam,
    leading_rows,
    plain,
    reduction_weights,
    rwsam,
    sam,
    sse_sam,
    sse_switch_epoch,
    tail_classes,
)

__all__ = [
    "IMBSAM_TAIL_SCALE",
    "Perturbation",
    "SharpOutput",
    "Term",
    "asam",
    "ascend_on",
    "focal_coefficients",
    "focal_sam",
    "imbsam",
    "leading_rows",
    "leaf_paths",
    "normalization_only",
    "only_under",
    "perturbation",
    "plain",
    "realized_perturbation",
    "reduction_weights",
    "rwsam",
    "sam",
    "sharp_value_and_grad",
    "sse_sam",
    "sse_switch_epoch",
    "tail_classes",
    "with_weight_decay",
]
