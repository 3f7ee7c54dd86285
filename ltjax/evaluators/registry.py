"""Every evaluator by name."""

from ltjax.evaluators import (
    auc,
    bound,
    classification,
    collapse,
    corruptions,
    denoising,
    diffusion_probe,
    gate,
    modalities,
    multilabel,
    pictures,
    plane,
    representation,
    segmentation,
    test_priors,
    top_k,
)
from ltjax.options import Component

EVALUATORS: dict[str, Component] = {
    "classification": classification.CLASSIFICATION,
    "collapse": collapse.COLLAPSE,
    "bound": bound.BOUND,
    "knn": representation.KNN,
    "probe": representation.PROBE,
    "balanced_probe": representation.BALANCED_PROBE,
    "few_shot_probe": representation.FEW_SHOT_PROBE,
    "sphere": representation.SPHERE,
    "pca": plane.PCA,
    "auc": auc.AUC,
    "modalities": modalities.MODALITIES,
    "multilabel": multilabel.MULTILABEL,
    "segmentation": segmentation.SEGMENTATION,
    "pictures": pictures.PICTURES,
    "test_priors": test_priors.TEST_PRIORS,
    "top_k": top_k.TOP_K,
    "corruptions": corruptions.CORRUPTED,
    "denoising": denoising.DENOISING,
    "gate": gate.GATE,
    "diffusion_probe": diffusion_probe.DIFFUSION_PROBE,
}
