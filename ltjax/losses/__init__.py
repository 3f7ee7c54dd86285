"""Losses for long-tailed and imbalanced classification.

All of them return one number per example, [B]; weights and means are separate, named
calls (`ltjax.reduce.weighted_mean`). Needs jax and numpy only.
"""

from ltjax.losses.class_balanced import class_balanced
from ltjax.losses.dot_regression import dot_regression
from ltjax.losses.logit_adjustment import (
    balanced_softmax,
    logit_adjusted,
    pairwise_consistent,
)
from ltjax.losses.margins import ldam, ldam_hinge, ldam_margins, pairwise_margin
from ltjax.losses.sigmoid import sigmoid_cross_entropy, sigmoid_focal
from ltjax.losses.softmax import affine_softmax, focal, softmax_cross_entropy
from ltjax.losses.vector_scaling import class_dependent_temperature, vector_scaling

__all__ = [
    "affine_softmax",
    "balanced_softmax",
    "class_balanced",
    "class_dependent_temperature",
    "dot_regression",
    "focal",
    "ldam",
    "ldam_hinge",
    "ldam_margins",
    "logit_adjusted",
    "pairwise_consistent",
    "pairwise_margin",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "softmax_cross_entropy",
    "vector_scaling",
]
