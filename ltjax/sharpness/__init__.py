"""Sharpness-aware gradients: lists of terms, executed by one function."""

from ltjax.sharpness import compaction
from ltjax.sharpness.accumulate import accumulated_value_and_grad
from ltjax.sharpness.cc_sam import (
    ClassRadii,
    calibrate_nu,
    cc_sam,
    class_radii,
)
from ltjax.sharpness.cc_sam_rebalance import cc_sam_rebalance, rebalance_share
from ltjax.sharpness.density import density_weights, log_density, median_bandwidth
from ltjax.sharpness.diagnostics import class_gap, group_gaps, sharpness_metrics
from ltjax.sharpness.gradient import sharp_value_and_grad, with_weight_decay
from ltjax.sharpness.landscape import filter_normalized_direction, loss_slices
from ltjax.sharpness.passes import SharpOutput
from ltjax.sharpness.perturb import (
    Perturbation,
    perturbation,
    realized_perturbation,
)
from ltjax.sharpness.rules import asam, leaf_paths, normalization_only, only_under
from ltjax.sharpness.slq import (
    Tridiagonal,
    hutchinson_trace,
    lanczos,
    ritz,
    spectral_density,
)
from ltjax.sharpness.spectrum import (
    Spectrum,
    class_spectra,
    hessian_operator,
    hessian_spectrum,
    nonconvexity,
    padded_batches,
)
from ltjax.sharpness.terms import (
    IMBSAM_TAIL_SCALE,
    Term,
    ascend_on,
    focal_sam,
    imbsam,
    plain,
    rwsam,
    sam,
    sse_sam,
)
from ltjax.sharpness.weights import (
    focal_coefficients,
    leading_rows,
    reduction_weights,
    sse_switch_epoch,
    tail_classes,
)

__all__ = [
    "ClassRadii",
    "IMBSAM_TAIL_SCALE",
    "Perturbation",
    "SharpOutput",
    "Spectrum",
    "Term",
    "Tridiagonal",
    "accumulated_value_and_grad",
    "asam",
    "ascend_on",
    "calibrate_nu",
    "cc_sam",
    "cc_sam_rebalance",
    "class_gap",
    "group_gaps",
    "class_radii",
    "class_spectra",
    "compaction",
    "density_weights",
    "filter_normalized_direction",
    "focal_coefficients",
    "focal_sam",
    "hessian_operator",
    "hessian_spectrum",
    "hutchinson_trace",
    "imbsam",
    "lanczos",
    "leading_rows",
    "leaf_paths",
    "log_density",
    "loss_slices",
    "median_bandwidth",
    "nonconvexity",
    "normalization_only",
    "only_under",
    "padded_batches",
    "perturbation",
    "plain",
    "realized_perturbation",
    "rebalance_share",
    "reduction_weights",
    "ritz",
    "rwsam",
    "sam",
    "sharp_value_and_grad",
    "sharpness_metrics",
    "spectral_density",
    "sse_sam",
    "sse_switch_epoch",
    "tail_classes",
    "with_weight_decay",
]
