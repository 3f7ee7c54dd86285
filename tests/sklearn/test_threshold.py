"""The threshold tuned on folds, against every threshold tried by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from ltjax.classifiers import crossfit_folds
from ltjax.sklearn import TunedThreshold
from ltjax.sklearn.threshold import METRICS, best_threshold


def g_mean(y, guess, **options):
    recalls = [recall_score(y, guess, pos_label=k, **options) for k in (0, 1)]
    return np.sqrt(np.prod(recalls))


PEERS = {
    "balanced_accuracy": balanced_accuracy_score,
    "g_mean": g_mean,
    "f1": f1_score,
}


def sample(counts, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], counts)
    return rng.normal(size=(len(y), 2)) + 1.5 * y[:, None], y


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_does_better(metric, seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(40), 1)  # with ties
    y = (rng.random(40) < p**2).astype(int)
    weight = rng.integers(1, 4, 40).astype(float)
    threshold, score = best_threshold(p, y == 1, weight, metric)
    options = {"sample_weight": weight}
    tried = [PEERS[metric](y, (p >= t).astype(int), **options) for t in np.unique(p)]
    assert score == pytest.approx(max(tried))
    assert PEERS[metric](y, (p >= threshold).astype(int), **options) == pytest.approx(
        score
    )


def test_by_hand():
    # Positive from 0.6 on is right everywhere: half way between 0.4 and 0.6.
    p, positive = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, False, True, True])
    assert best_threshold(p, positive, np.ones(4), "f1") == (0.5, 1.0)
    # All equal: everything is positive, F1 = 2 * 2 / (2 + 4).
    found = best_threshold(np.full(4, 0.3), positive, np.ones(4), "f1")
    assert found == (0.0, pytest.approx(2 / 3))


def test_the_threshold_is_that_of_the_pooled_folds():
    x, y = sample([90, 20])
    model = TunedThreshold(metric="f1", num_folds=4).fit(x, y)
    folds = crossfit_folds(y, 2, num_folds=4)
    p = np.zeros(110)
    for fold in range(4):
        fitted = LogisticRegression(max_iter=1000).fit(
            x[folds != fold], y[folds != fold]
        )
        p[folds == fold] = fitted.predict_proba(x[folds == fold])[:, 1]
    expected = best_threshold(p, y == 1, np.ones(110), "f1")
    assert (model.threshold_, model.score_) == expected
    on_all = LogisticRegression(max_iter=1000).fit(x, y).predict_proba(x)[:, 1]
    np.testing.assert_array_equal(model.predict(x), (on_all >= expected[0]).astype(int))
    moved = model.predict_proba(x)
    np.testing.assert_allclose(moved.sum(axis=1), 1)
    np.testing.assert_array_equal(moved.argmax(axis=1), model.predict(x))
    odds = on_all * (1 - expected[0]) / ((1 - on_all) * expected[0])
    np.testing.assert_allclose(moved[:, 1] / moved[:, 0], odds, rtol=1e-6)


def test_it_gains_balanced_accuracy_on_a_rare_class():
    (x, y), (x_test, y_test) = sample([2000, 60]), sample([1000, 1000], seed=1)
    plain = LogisticRegression().fit(x, y).predict(x_test)
    tuned = TunedThreshold().fit(x, y).predict(x_test)
    scores = [balanced_accuracy_score(y_test, guess) for guess in (plain, tuned)]
    assert scores[1] - scores[0] > 0.1


def test_the_rarer_class_is_positive_and_labels_are_anything():
    x, y = sample([20, 90])
    names = np.array(["sick", "well"])[y]
    model = TunedThreshold(metric="f1").fit(x, names)
    assert model.positive_ == "sick"
    assert set(model.predict(x)) == {"sick", "well"}
    assert TunedThreshold(positive="well").fit(x, names).positive_ == "well"
    np.testing.assert_array_equal(
        model.classes_[model.predict_proba(x).argmax(axis=1)], model.predict(x)
    )


def test_a_class_without_weight_is_named():
    with pytest.raises(ValueError, match="class 1 has total sample_weight 0"):
        TunedThreshold().fit(np.eye(4), [0, 0, 1, 1], sample_weight=[1, 1, 0, 0])


@pytest.mark.parametrize(
    ("change", "labels", "message"),
    [
        (
            {"metric": "auc"},
            [0, 0, 1, 1],
            "metric is 'auc', expected one",
        ),
        ({}, [0, 1, 2, 2], "Only binary classification is supported"),
        (
            {"positive": 7},
            [0, 0, 1, 1],
            r"positive is 7, but y has the classes",
        ),
        ({}, [0, 0, 0, 1], r"needs two classes of at least 2, but .* have \[3, 1\]"),
    ],
)
def test_bad_input_is_named(change, labels, message):
    with pytest.raises(ValueError, match=message):
        TunedThreshold(**change).fit(np.arange(4.0)[:, None], labels)
