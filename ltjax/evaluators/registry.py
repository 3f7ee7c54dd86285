"""Every evaluator by name."""

from ltjax.evaluators import bound, classification, collapse
from ltjax.options import Component

EVALUATORS: dict[str, Component] = {
    "classification": classification.CLASSIFICATION,
    "collapse": collapse.COLLAPSE,
    "bound": bound.BOUND,
}
