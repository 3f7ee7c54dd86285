"""Losses for long-tailed and imbalanced classification.

All of them return one number per example, [B]; weights and means are separate, named
calls (`ltjax.reduce.weighted_mean`). Losses of pairs give one number per *anchor*,
whose mean is the loss of the batch: they couple its rows. Min-max and moving-average
losses return a named tuple of values and a monitor (and their new averages). Needs jax
and numpy; `pesg` also optax.
"""

from ltjax.losses.aucm import (
    SaddleDuals,
    SaddleLoss,
    aucm,
    best_saddle_duals,
    drauc_radii,
    init_saddle_duals,
)
from ltjax.losses.class_balanced import class_balanced
from ltjax.losses.dirmixe import (
    DirMixELoss,
    SampledPriors,
    dirmixe,
    sample_priors,
    semi_variance,
)
from ltjax.losses.distillation import distillation
from ltjax.losses.dot_regression import dot_regression
from ltjax.losses.experts import (
    expert_losses,
    reversed_prior,
    ride,
    ride_diversity,
    ride_temperatures,
    sade,
)
from ltjax.losses.logit_adjustment import (
    balanced_softmax,
    logit_adjusted,
    pairwise_consistent,
)
from ltjax.losses.margins import ldam, ldam_hinge, pairwise_margin
from ltjax.losses.moving_average import (
    AveragePrecisionMeans,
    MovingAverageLoss,
    soap,
    song,
    sopa_s,
)
from ltjax.losses.pairwise import auc_exp, auc_hinge, auc_logistic, auc_square
from ltjax.losses.partial_auc import (
    partial_auc,
    partial_auc_cvar,
    partial_auc_kl,
    update_cvar_thresholds,
)
from ltjax.losses.pesg import (
    PESGState,
    SaddleVariables,
    pesg,
    projected_descent_ascent,
    refresh_pesg,
)
from ltjax.losses.ranking import autkc, distribution_balanced, tkpr
from ltjax.losses.segmentation import pixel_auc
from ltjax.losses.sigmoid import sigmoid_cross_entropy, sigmoid_focal
from ltjax.losses.softmax import affine_softmax, focal, softmax_cross_entropy
from ltjax.losses.vector_scaling import class_dependent_temperature, vector_scaling

__all__ = [
    "AveragePrecisionMeans",
    "DirMixELoss",
    "MovingAverageLoss",
    "PESGState",
    "SaddleDuals",
    "SaddleLoss",
    "SaddleVariables",
    "SampledPriors",
    "affine_softmax",
    "auc_exp",
    "auc_hinge",
    "auc_logistic",
    "auc_square",
    "aucm",
    "autkc",
    "balanced_softmax",
    "best_saddle_duals",
    "class_balanced",
    "class_dependent_temperature",
    "dirmixe",
    "distillation",
    "distribution_balanced",
    "dot_regression",
    "drauc_radii",
    "expert_losses",
    "focal",
    "init_saddle_duals",
    "ldam",
    "ldam_hinge",
    "logit_adjusted",
    "pairwise_consistent",
    "pairwise_margin",
    "partial_auc",
    "partial_auc_cvar",
    "partial_auc_kl",
    "pesg",
    "pixel_auc",
    "projected_descent_ascent",
    "refresh_pesg",
    "reversed_prior",
    "ride",
    "ride_diversity",
    "ride_temperatures",
    "sade",
    "sample_priors",
    "semi_variance",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "soap",
    "softmax_cross_entropy",
    "song",
    "sopa_s",
    "tkpr",
    "update_cvar_thresholds",
    "vector_scaling",
]
