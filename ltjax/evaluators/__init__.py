"""How runs are judged: evaluators, each with its metrics and table columns."""

from ltjax.evaluators.evaluator import (
    Evaluator,
    EvaluatorSetting,
    Sweep,
)

__all__ = ["Evaluator", "EvaluatorSetting", "Sweep"]
