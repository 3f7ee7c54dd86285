"""Accuracy by class and group of a run, recounted from its own predictions."""

import jax
import numpy as np
import pytest

from ltjax.train.restore import restore_run

MANY, FEW = 3, 3  # of ten classes, by `tiny_config`


def test_metrics_are_those_of_the_predictions(watched):
    workdir, result = watched
    run, state, _ = restore_run(workdir)
    arrays = run.eval_sets[0].feed.arrays
    labels = np.asarray(arrays["label"])
    for r in range(2):
        one = jax.tree.map(lambda x, r=r: x[r], state)
        predicted = np.argmax(run.predict(one, arrays["inputs"])["logits"], axis=-1)
        recall = np.array([(predicted[labels == k] == k).mean() for k in range(10)])
        expected = {
            "balanced_accuracy": recall.mean(),
            "many": recall[:MANY].mean(),
            "medium": recall[MANY:-FEW].mean(),
            "few": recall[-FEW:].mean(),
        }
        for name, value in expected.items():
            found = result.metrics[f"eval/test/{name}"][r]
            assert found == pytest.approx(value, abs=1e-6), name
        confusion = result.evaluation["test"]["confusion"][r]
        assert confusion.sum() == len(labels)
        np.testing.assert_array_equal(np.diag(confusion), recall * 10)
