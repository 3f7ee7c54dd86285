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
from ltjax.losses.balanced_contrastive import balanced_contrastive
from ltjax.losses.class_balanced import class_balanced
from ltjax.losses.consistency import consistency
from ltjax.losses.contrastive import focal_nt_xent, info_nce, moclr, nt_xent, sup_con
from ltjax.losses.denoising import (
    clean_estimate,
    ddim_step,
    denoising,
    noise_schedule,
    noised,
)
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
from ltjax.losses.harmonization import geometric_harmonization
from ltjax.losses.kcl import kcl
from ltjax.losses.label_aware_smoothing import label_aware_smoothing
from ltjax.losses.logit_adjustment import (
    balanced_softmax,
    logit_adjusted,
    pairwise_consistent,
)
from ltjax.losses.margins import ldam, ldam_hinge, ldam_margins, pairwise_margin
from ltjax.losses.moving_average import (
    AveragePrecisionMeans,
    MovingAverageLoss,
    soap,
    song,
    sopa_s,
)
from ltjax.losses.paco import paco
from ltjax.losses.pairwise import auc_exp, auc_hinge, auc_logistic, auc_square
from ltjax.losses.partial_auc import (
    partial_auc,
    partial_auc_cvar,
    partial_auc_kl,
    update_cvar_thresholds,
)
from ltjax.losses.partial_label import cavl, corr, leveraged_weighted, proden
from ltjax.losses.pesg import (
    PESGState,
    SaddleVariables,
    pesg,
    projected_descent_ascent,
    refresh_pesg,
)
from ltjax.losses.ranking import autkc, distribution_balanced, tkpr
from ltjax.losses.reconboost import memory_consolidation, reconboost, reconboost_kl
from ltjax.losses.segmentation import pixel_auc
from ltjax.losses.selected_pairs import pair_similarity, selected_contrast
from ltjax.losses.siamese import byol, dnc_distillation, simsiam
from ltjax.losses.sigmoid import sigmoid_cross_entropy, sigmoid_focal
from ltjax.losses.softmax import affine_softmax, focal, softmax_cross_entropy
from ltjax.losses.sogclr import sogclr
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
    "balanced_contrastive",
    "balanced_softmax",
    "best_saddle_duals",
    "byol",
    "cavl",
    "class_balanced",
    "class_dependent_temperature",
    "clean_estimate",
    "consistency",
    "corr",
    "ddim_step",
    "denoising",
    "dirmixe",
    "distillation",
    "distribution_balanced",
    "dnc_distillation",
    "dot_regression",
    "drauc_radii",
    "expert_losses",
    "focal",
    "focal_nt_xent",
    "geometric_harmonization",
    "info_nce",
    "init_saddle_duals",
    "kcl",
    "label_aware_smoothing",
    "ldam",
    "ldam_hinge",
    "ldam_margins",
    "leveraged_weighted",
    "logit_adjusted",
    "memory_consolidation",
    "moclr",
    "noise_schedule",
    "noised",
    "nt_xent",
    "paco",
    "pair_similarity",
    "pairwise_consistent",
    "pairwise_margin",
    "partial_auc",
    "partial_auc_cvar",
    "partial_auc_kl",
    "pesg",
    "pixel_auc",
    "proden",
    "projected_descent_ascent",
    "reconboost",
    "reconboost_kl",
    "refresh_pesg",
    "reversed_prior",
    "ride",
    "ride_diversity",
    "ride_temperatures",
    "sade",
    "sample_priors",
    "selected_contrast",
    "semi_variance",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "simsiam",
    "soap",
    "softmax_cross_entropy",
    "sogclr",
    "song",
    "sopa_s",
    "sup_con",
    "tkpr",
    "update_cvar_thresholds",
    "vector_scaling",
]
