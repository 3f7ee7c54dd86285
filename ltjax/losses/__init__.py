"""Losses for long-tailed and imbalanced classification.

All of them return one number per example, [B]; weights and means are separate, named
calls (`ltjax.reduce.weighted_mean`). Needs jax and numpy only.
"""

from ltjax.losses.balanced_contrastive import balanced_contrastive
from ltjax.losses.class_balanced import class_balanced
from ltjax.losses.contrastive import (
    focal_nt_xent,
    info_nce,
    moclr,
    nt_xent,
    sup_con,
)
from ltjax.losses.dot_regression import dot_regression
from ltjax.losses.harmonization import geometric_harmonization
from ltjax.losses.kcl import kcl
from ltjax.losses.logit_adjustment import (
    balanced_softmax,
    logit_adjusted,
    pairwise_consistent,
)
from ltjax.losses.margins import ldam, ldam_hinge, pairwise_margin
from ltjax.losses.paco import paco
from ltjax.losses.siamese import byol, dnc_distillation, simsiam
from ltjax.losses.sigmoid import sigmoid_cross_entropy, sigmoid_focal
from ltjax.losses.softmax import affine_softmax, focal, softmax_cross_entropy
from ltjax.losses.vector_scaling import class_dependent_temperature, vector_scaling

__all__ = [
    "affine_softmax",
    "balanced_contrastive",
    "balanced_softmax",
    "byol",
    "class_balanced",
    "class_dependent_temperature",
    "dnc_distillation",
    "dot_regression",
    "focal",
    "focal_nt_xent",
    "geometric_harmonization",
    "info_nce",
    "kcl",
    "ldam",
    "ldam_hinge",
    "logit_adjusted",
    "moclr",
    "nt_xent",
    "paco",
    "pairwise_consistent",
    "pairwise_margin",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "simsiam",
    "softmax_cross_entropy",
    "sup_con",
    "vector_scaling",
]
