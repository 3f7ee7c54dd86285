"""Classifiers: what the last layer is, and how it is corrected after training."""

from ltjax.classifiers.expert_weights import (
    prediction_stability,
    stable_expert_weights,
)
from ltjax.classifiers.frames import (
    Frame,
    class_frame,
    grassmannian_frame,
    orthonormal_columns,
    permute_frame,
    rotate_frame,
    simplex_etf,
)
from ltjax.classifiers.holdout import (
    crossfit_folds,
    holdout_indices,
)
from ltjax.classifiers.linear_probe import (
    LinearProbe,
    logistic_probe,
    probe_logits,
    probe_rows,
    svm_probe,
)
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
from ltjax.classifiers.plug_in import (
    balanced_risk_weights,
    plug_in_predict,
    plug_in_threshold,
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
from ltjax.classifiers.tau_path import (
    select_tau_norm,
    tau_norm_path,
)
from ltjax.classifiers.threshold import (
    cost_sampling_targets,
    expected_cost,
    min_expected_cost,
    move_threshold,
    move_threshold_logits,
    prior_correction,
    shift_threshold_for_costs,
    undersampling_correction,
)

__all__ = [
    "AccuracyPath",
    "ClassMeans",
    "ClassSums",
    "Frame",
    "LinearProbe",
    "TauSelection",
    "accuracy_path",
    "adjust_logits",
    "balanced_risk_weights",
    "class_frame",
    "class_mean_scores",
    "class_means",
    "cost_sampling_targets",
    "crossfit_folds",
    "expected_cost",
    "fresh_linear_head",
    "global_mean",
    "grassmannian_frame",
    "holdout_indices",
    "init_class_sums",
    "init_weight_scaling",
    "inverse_norm_scale",
    "learnable_weight_scaling",
    "logistic_probe",
    "min_expected_cost",
    "move_threshold",
    "move_threshold_logits",
    "nearest_class_mean",
    "orthonormal_columns",
    "permute_frame",
    "plug_in_predict",
    "plug_in_threshold",
    "prediction_stability",
    "prior_correction",
    "probe_logits",
    "probe_rows",
    "replace_head",
    "rotate_frame",
    "select_tau",
    "select_tau_norm",
    "shift_threshold_for_costs",
    "simplex_etf",
    "stable_expert_weights",
    "svm_probe",
    "tau_norm_path",
    "tau_normalize",
    "tau_normalize_logits",
    "transform_features",
    "undersampling_correction",
    "update_class_sums",
]
