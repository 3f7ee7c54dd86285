"""Plug-in, threshold-moving and logit-adjusted classifiers, from their definitions."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from ltjax.sklearn import LogitAdjustedClassifier, PlugInClassifier, ThresholdMover

CLASSIFIERS = [PlugInClassifier, ThresholdMover, LogitAdjustedClassifier]


def sample(counts, seed=0, labels=("c", "a", "b")):
    """Unit Gaussians at distance 2 from one another, labels out of order."""
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.7]])
    which = np.repeat(np.arange(len(counts)), counts)
    x = means[which] + rng.standard_normal((len(which), 2))
    return x, np.array(labels)[which]


@pytest.fixture(scope="module")
def data():
    return sample([3000, 300, 60])


@pytest.fixture(scope="module")
def test_data():
    return sample([2000, 2000, 2000], seed=1)


def test_all_three_decide_alike_by_default(data, test_data):
    # eta / p, probabilities scaled by inverse priors, and tau = 1 are one rule.
    base = LogisticRegression().fit(*data)
    classes, counts = np.unique(data[1], return_counts=True)
    weighted = base.predict_proba(test_data[0]) / (counts / counts.sum())
    expected = weighted / weighted.sum(axis=1, keepdims=True)
    plain = balanced_accuracy_score(test_data[1], base.predict(test_data[0]))
    for classifier in CLASSIFIERS:
        model = classifier().fit(*data)
        assert model.classes_.tolist() == ["a", "b", "c"]
        np.testing.assert_allclose(model.predict_proba(test_data[0]), expected)
        predicted = model.predict(test_data[0])
        assert np.array_equal(predicted, classes[expected.argmax(axis=1)])
        balanced = balanced_accuracy_score(test_data[1], predicted)
        assert balanced > plain + 0.15


def test_plug_in_of_two_classes_includes_the_threshold():
    # GaussianNB on symmetric data: eta = 1/2 exactly between the means.
    x, y = np.array([[-3.0], [-1.0], [1.0], [3.0]]), [0, 0, 1, 1]
    model = PlugInClassifier(GaussianNB()).fit(x, y)
    assert model.threshold_.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(model.estimator_.predict_proba([[0.0]]), [[0.5, 0.5]])
    assert model.predict([[0.0], [-0.1]]).tolist() == [1, 0]


def test_weights_count_as_copies(data, test_data):
    x, y = data
    times = np.where(y == "b", 3, 1)
    for classifier in CLASSIFIERS:
        options = LogisticRegression(tol=1e-10, max_iter=2000)
        weighted = classifier(options).fit(x, y, sample_weight=times)
        copied = classifier(options).fit(
            np.repeat(x, times, axis=0), np.repeat(y, times)
        )
        np.testing.assert_allclose(
            weighted.predict_proba(test_data[0]),
            copied.predict_proba(test_data[0]),
            atol=1e-5,
        )


def test_costs_as_names_matrix_or_dict(data, test_data):
    x, y = data
    p = LogisticRegression().fit(x, y).predict_proba(test_data[0])
    cost = np.array([[0, 1, 9], [3, 0, 3], [3, 3, 0]])
    by_rows = ThresholdMover(cost=cost).fit(x, y)
    expected = p * cost.sum(axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(by_rows.predict_proba(test_data[0]), expected)
    bayes = ThresholdMover(cost=cost, rule="min_expected_cost").fit(x, y)
    np.testing.assert_allclose(bayes.predict_proba(test_data[0]), p)
    decisions = bayes.classes_[(p @ cost).argmin(axis=1)]
    assert np.array_equal(bayes.predict(test_data[0]), decisions)
    assert np.mean(by_rows.predict(test_data[0]) != decisions) > 0.05
    per_class = {"a": 2.0, "b": 8.0, "c": 1.0}
    named = ThresholdMover(cost=per_class).fit(x, y)
    np.testing.assert_allclose(named.cost_.sum(axis=1), [2, 8, 1])
    expected = p * [2, 8, 1]
    np.testing.assert_array_equal(
        named.predict(test_data[0]), named.classes_[expected.argmax(axis=1)]
    )


def test_the_strength_is_chosen_in_cross_fitting(test_data):
    # "d" has one example: the fold that holds it is trained without the class.
    x, y = sample([600, 60, 20])
    x, y = np.append(x, [[9.0, 9.0]], axis=0), np.append(y, "d")
    model = LogitAdjustedClassifier(tau="auto", rule="best").fit(x, y)
    assert 0.3 < model.tau_ < 3.0
    chosen = balanced_accuracy_score(test_data[1], model.predict(test_data[0]))
    without = LogitAdjustedClassifier(tau=0).fit(x, y)
    plain = LogisticRegression().fit(x, y).predict(test_data[0])
    assert np.array_equal(without.predict(test_data[0]), plain)
    assert chosen > balanced_accuracy_score(test_data[1], plain) + 0.1
    cautious = LogitAdjustedClassifier(tau="auto").fit(x, y, sample_weight=np.ones(681))
    assert 0 <= cautious.tau_ <= model.tau_


def test_a_fitted_classifier_can_be_wrapped(data, test_data):
    base = LogisticRegression().fit(*data)
    frozen = PlugInClassifier(FrozenEstimator(base)).fit(*data)
    fresh = PlugInClassifier().fit(*data)
    assert np.array_equal(frozen.predict(test_data[0]), fresh.predict(test_data[0]))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_bad_input_gives_one_readable_error(classifier, data):
    x, y = data
    name = classifier.__name__
    with pytest.raises(TypeError, match=f"{name}: estimator .* has no predict_proba"):
        classifier(LinearSVC()).fit(x, y)
    with pytest.raises(ValueError, match=f"{name}: y has one class only"):
        classifier().fit(x, np.full(len(x), "a"))
    with pytest.raises(ValueError, match=f"{name}: y has 0 samples"):
        classifier().fit(x[:0], y[:0])
    with pytest.raises(ValueError, match=f"{name} requires y to be passed"):
        classifier().fit(x, None)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        classifier().fit(x, x[:, 0])
    with pytest.raises(ValueError, match=f"{name}: Multilabel and multioutput"):
        classifier().fit(x, np.ones((len(x), 2), int))
    with pytest.raises(TypeError, match=f"{name}: sample_weight was given, but KNeigh"):
        classifier(KNeighborsClassifier()).fit(x, y, sample_weight=np.ones(len(x)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(x[:-1], y)
    with pytest.raises(ValueError, match="NaN"):
        classifier().fit(np.where(x > 2, np.nan, x), y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ThresholdMover(rule="max"), "rule is 'max', expected 'row_sum' or"),
        (ThresholdMover(cost="equal"), "cost is 'equal', expected 'balanced', a dict"),
        (ThresholdMover(cost={"a": 1}), r"cost names the classes \['a'\], but y has"),
        (ThresholdMover(cost=np.ones((2, 2))), r"cost has shape \(2, 2\), but there"),
        (ThresholdMover(cost=np.ones((3, 3))), r"expected 0 on the diagonal"),
        (
            LogitAdjustedClassifier(tau=-1),
            "tau is -1, expected a number >= 0 or",
        ),
        (LogitAdjustedClassifier(tau="best"), "tau is 'best', expected a number"),
        (LogitAdjustedClassifier(tau="auto", num_folds=1), "num_folds is 1"),
        (LogitAdjustedClassifier(tau="auto", rule="worst"), "rule is 'worst'"),
    ],
    ids=str,
)
def test_bad_parameters_give_one_readable_error(model, message, data):
    with pytest.raises(ValueError, match=message):
        model.fit(*data)


def test_priors_of_zero_weight_and_of_singletons_are_refused(data):
    x, y = data
    with pytest.raises(ValueError, match="class 'b' has total sample_weight 0"):
        LogitAdjustedClassifier().fit(x, y, sample_weight=(y != "b").astype(float))
    for labels in ([0, 1, 2], [0, 0, 1]):  # a fold would train on one class only
        with pytest.raises(ValueError, match="two classes of at least 2, but"):
            LogitAdjustedClassifier(tau="auto").fit(np.eye(3), labels)
