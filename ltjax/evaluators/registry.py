"""Every evaluator by name."""

from ltjax.evaluators import (
    auc,
    bound,
    classification,
    collapse,
    multilabel,
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
    "auc": auc.AUC,
    "multilabel": multilabel.MULTILABEL,
    "segmentation": segmentation.SEGMENTATION,
    "test_priors": test_priors.TEST_PRIORS,
    "top_k": top_k.TOP_K,
}
