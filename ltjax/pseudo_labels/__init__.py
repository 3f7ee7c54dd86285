"""Labels made or mended by a model: pseudo-labels, candidates, wrong labels.

One transport engine refines tables of predictions to class masses (DARP, SoLar), one
set of prior functions serves every method that debiases by an estimate, and the rest
says which label an example carries and whether to believe it.
"""

from ltjax.pseudo_labels.adaptive import (
    adaptive_strengths,
    held_out_errors,
    held_out_half,
)
from ltjax.pseudo_labels.alignment import (
    DistributionBuffer,
    align_distribution,
    blend_semantic,
    init_distribution_buffer,
    running_distribution,
    sharpen,
    update_distribution_buffer,
)
from ltjax.pseudo_labels.cleaning import (
    PrototypeCleaning,
    cdr_gradient,
    forget_rate_schedule,
    prototype_cleaning,
    rolt_targets,
    small_loss,
    upper_component,
)
from ltjax.pseudo_labels.confident import (
    NeighborVotes,
    confident_examples,
    neighbor_votes,
    similarity_limit,
)
from ltjax.pseudo_labels.darp import (
    darp_refine,
    entropy_weights,
    keep_largest,
)
from ltjax.pseudo_labels.disambiguation import (
    disambiguate,
    masked_softmax,
    read_confidences,
    write_confidences,
)
from ltjax.pseudo_labels.gaussians import (
    ClassGaussians,
    calibrate_tail,
    class_gaussians,
)
from ltjax.pseudo_labels.noise_rates import (
    NoiseRates,
    noise_rates,
)
from ltjax.pseudo_labels.outliers import (
    inliers_by_class,
    local_outlier_factor,
)
from ltjax.pseudo_labels.priors import (
    class_evidence,
    debias,
    dynamic_prior,
    moving_mean,
    prior_posterior,
    update_prior,
)
from ltjax.pseudo_labels.shift import (
    ShiftEstimate,
    em_prior,
    shift_estimate,
    soft_confusion,
)
from ltjax.pseudo_labels.sinkhorn import (
    sinkhorn,
)
from ltjax.pseudo_labels.tempering import (
    acr_divergences,
    acr_strength,
    crest_power,
    temper,
)
from ltjax.pseudo_labels.thresholds import (
    crest_rates,
    crest_sizes,
    keep_best_of_class,
    keep_confident,
    solar_sizes,
)
from ltjax.pseudo_labels.transport import (
    TransportPlan,
    transport,
)
from ltjax.pseudo_labels.virtual_features import (
    virtual_cross_entropy,
)

__all__ = [
    "ClassGaussians",
    "DistributionBuffer",
    "NeighborVotes",
    "NoiseRates",
    "PrototypeCleaning",
    "ShiftEstimate",
    "TransportPlan",
    "acr_divergences",
    "acr_strength",
    "adaptive_strengths",
    "align_distribution",
    "blend_semantic",
    "calibrate_tail",
    "cdr_gradient",
    "class_evidence",
    "class_gaussians",
    "confident_examples",
    "crest_power",
    "crest_rates",
    "crest_sizes",
    "darp_refine",
    "debias",
    "disambiguate",
    "dynamic_prior",
    "em_prior",
    "entropy_weights",
    "forget_rate_schedule",
    "init_distribution_buffer",
    "held_out_errors",
    "held_out_half",
    "inliers_by_class",
    "keep_best_of_class",
    "keep_confident",
    "keep_largest",
    "local_outlier_factor",
    "masked_softmax",
    "moving_mean",
    "neighbor_votes",
    "noise_rates",
    "prior_posterior",
    "prototype_cleaning",
    "read_confidences",
    "rolt_targets",
    "running_distribution",
    "sharpen",
    "shift_estimate",
    "similarity_limit",
    "sinkhorn",
    "small_loss",
    "soft_confusion",
    "solar_sizes",
    "temper",
    "transport",
    "update_distribution_buffer",
    "update_prior",
    "upper_component",
    "virtual_cross_entropy",
    "write_confidences",
]
