"""What takes predictions or class counts names the argument that it cannot use."""

import numpy as np
import pytest

from ltjax import class_stats, classifiers, metrics, resampling
from ltjax.metrics import ClassificationState
from ltjax.sharpness import weights

LOGITS = np.array([[1.0, 0.5, -0.2], [0.0, 1.0, 0.5]], np.float32)
LABELS = np.array([0, 2])
COUNTS = np.array([100, 20, 5])
COST = 1 - np.eye(3)

PREDICTIONS = {
    "adjust_logits": lambda z: classifiers.adjust_logits(z, COUNTS),
    "select_tau": lambda z: classifiers.select_tau(z, LABELS, COUNTS),
    "plug_in_predict": lambda z: classifiers.plug_in_predict(z, COUNTS),
    "move_threshold": lambda z: classifiers.move_threshold(z, COST),
    "move_threshold_logits": lambda z: classifiers.move_threshold_logits(z, COST),
    "expected_cost": lambda z: classifiers.expected_cost(z, COST),
    "prior_correction": lambda z: classifiers.prior_correction(z, COUNTS, COUNTS),
    "update_min_scores": lambda z: metrics.update_min_scores(
        metrics.init_min_scores(3), z, LABELS
    ),
    "ClassificationState.update": lambda z: ClassificationState.empty(3).update(
        z, LABELS
    ),
    "max_rule": lambda z: resampling.max_rule(z, [0, 0, 1]),
    "sum_rule": lambda z: resampling.sum_rule(z, [0, 0, 1], 2),
    "top_confidence": metrics.top_confidence,
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions(name):
    call = PREDICTIONS[name]
    for wrong in (None, "logits", [[1.0, 2.0], [1.0]]):
        with pytest.raises(TypeError, match=f"{name}: (logits|prob|scores)"):
            call(wrong)
    with pytest.raises(ValueError, match=f"{name}: (logits|prob|scores)"):
        call(np.float32(1.0))
    for found in (call(LOGITS.tolist()), call(LOGITS)):
        assert found is not None


STATISTICS = {
    "prior": class_stats.prior,
    "log_prior": class_stats.log_prior,
    "effective_number": lambda n: class_stats.effective_number(n, beta=0.9),
    "class_balanced_weights": lambda n: class_stats.class_balanced_weights(n, beta=0.9),
    "inverse_power_weights": lambda n: class_stats.inverse_power_weights(n, power=1),
    "shot_groups": class_stats.shot_groups,
    "imbalance_factor": class_stats.imbalance_factor,
    "plug_in_threshold": classifiers.plug_in_threshold,
    "balanced_risk_weights": classifiers.balanced_risk_weights,
    "adjust_logits": lambda n: classifiers.adjust_logits(LOGITS, n),
    "cost_sampling_targets": lambda n: classifiers.cost_sampling_targets(n, COST),
    "tail_classes": lambda n: weights.tail_classes(n, eta=20),
    "bound_terms": lambda n: metrics.bound_terms(np.ones(3, np.float32), n),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_counts(name):
    call = STATISTICS[name]
    for wrong in (np.inf, np.nan, -1):
        with pytest.raises(ValueError, match="class_counts must be finite and >= 0"):
            call(np.array([100, wrong, 5]))
    for wrong in (None, ["100", "20", "5"]):
        with pytest.raises(TypeError, match=f"{name}: class_counts is"):
            call(wrong)
    assert call(COUNTS.tolist()) is not None


def test_a_threshold_is_a_number():
    with pytest.raises(ValueError, match="tail_classes: eta is nan"):
        weights.tail_classes(COUNTS, eta=np.nan)
    assert weights.tail_classes(COUNTS, eta=20).tolist() == [False, False, True]
