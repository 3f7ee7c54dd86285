"""Classifiers: what the last layer is, and how it is corrected after training."""

from ltjax.classifiers.frames import (
    Frame,
    grassmannian_frame,
    orthonormal_columns,
    simplex_etf,
)
from ltjax.classifiers.holdout import crossfit_folds, holdout_indices
from ltjax.classifiers.nearest_mean import (
    ClassMeans,
    ClassSums,
    class_mean_scores,
    class_means,
    global_mean,
    init_class_sums,
    nearest_class_mean,
    transform_features,
    update_class_sums,
)
from ltjax.classifiers.posthoc import (
    AccuracyPath,
    TauSelection,
    accuracy_path,
    adjust_logits,
    select_tau,
)
from ltjax.classifiers.rebalance import (
    fresh_linear_head,
    init_weight_scaling,
    inverse_norm_scale,
    learnable_weight_scaling,
    replace_head,
    tau_normalize,
    tau_normalize_logits,
)

__all__ = [
    "AccuracyPath",
    "ClassMeans",
    "ClassSums",
    "Frame",
    "TauSelection",
    "accuracy_path",
    "adjust_logits",
    "class_mean_scores",
    "class_means",
    "crossfit_folds",
    "fresh_linear_head",
    "global_mean",
    "grassmannian_frame",
    "holdout_indices",
    "init_class_sums",
    "init_weight_scaling",
    "inverse_norm_scale",
    "learnable_weight_scaling",
    "nearest_class_mean",
    "orthonormal_columns",
    "replace_head",
    "select_tau",
    "simplex_etf",
    "tau_normalize",
    "tau_normalize_logits",
    "transform_features",
    "update_class_sums",
]
