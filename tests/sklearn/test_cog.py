"""The COG classifier with linear, kernel and neighbor base learners."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from ltjax.sklearn import COG


def blobs(times=1, seed=0):
    """A rare class in the middle of the four blobs of a large one."""
    rng = np.random.default_rng(seed)
    centers = np.array([[-2, -2], [-2, 2], [2, -2], [2, 2], [0, 0]])
    blob = np.repeat(np.arange(5), np.array([100, 100, 100, 100, 40]) * times)
    x = centers[blob] + 0.5 * rng.standard_normal((len(blob), 2))
    return x, np.where(blob == 4, "rare", "large")


@pytest.fixture(scope="module")
def data():
    return blobs()


@pytest.fixture(scope="module")
def test_data():
    return blobs(times=20, seed=1)


def recalls(model, data):
    return recall_score(data[1], model.predict(data[0]), average=None)


def test_logistic_regression(data, test_data):
    plain = LogisticRegression(C=10).fit(*data)
    assert recalls(plain, test_data).tolist() == [1.0, 0.0]
    model = COG(num_clusters={"large": 4}, random_state=0).fit(*data)
    assert model.parent_.tolist() == [0, 0, 0, 0, 1]
    assert min(recalls(model, test_data)) > 0.95
    proba = model.predict_proba(test_data[0])
    of_sub = model.estimator_.predict_proba(test_data[0])
    np.testing.assert_allclose(proba[:, 0], of_sub[:, :4].sum(axis=1))
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_linear_svm_has_no_probabilities_but_decides(data, test_data):
    # One against the rest, the rare class in the middle has no good half-plane: a
    # balanced accuracy of 0.92-0.95.
    model = COG(LinearSVC(C=1.0), num_clusters=[4, 1], random_state=0).fit(*data)
    assert np.mean(recalls(model, test_data)) > 0.9
    assert not hasattr(model, "predict_proba")
    one_against_one = COG(SVC(kernel="linear"), num_clusters=[4, 1]).fit(*data)
    assert min(recalls(one_against_one, test_data)) > 0.95


def test_a_kernel_svm(data, test_data):
    model = COG(SVC(), num_clusters=[4, 1], random_state=0).fit(*data)
    assert min(recalls(model, test_data)) > 0.9


def test_one_cluster_each_is_the_base_learner(data, test_data):
    model = COG(num_clusters=1).fit(*data)
    base = LogisticRegression(C=10).fit(*data)
    assert np.array_equal(model.predict(test_data[0]), base.predict(test_data[0]))
    np.testing.assert_allclose(
        model.predict_proba(test_data[0]), base.predict_proba(test_data[0]), rtol=1e-6
    )


def test_oversampling_by_weights_or_by_copies(data):
    x, y = data
    base = LogisticRegression(C=10, tol=1e-10, max_iter=2000)
    model = COG(base, num_clusters=[4, 1], oversample=True, random_state=0).fit(x, y)
    assert model.replication_.tolist() == [1, 2]  # sub-classes near 100, rare 40
    clusters = np.argmin(
        np.linalg.norm(x[:, None] - model.cluster_centers_[None, :4], axis=-1), axis=1
    )
    sub = np.where(y == "rare", 4, clusters)
    rows = np.repeat(np.arange(len(x)), np.where(y == "rare", 2, 1))
    copied = base.fit(x[rows], sub[rows])
    np.testing.assert_allclose(model.estimator_.coef_, copied.coef_, atol=1e-3)
    copies = COG(KNeighborsClassifier(3), num_clusters=[4, 1], oversample=True)
    assert len(copies.fit(x, y).estimator_._y) == 400 + 2 * 40


def test_automatic_number_of_clusters(data):
    # One class below the median: target 40, 400 / 40 = 10, at most 8.
    assert len(COG(random_state=0).fit(*data).parent_) == 8 + 1
    assert len(COG(random_state=0, max_clusters=3).fit(*data).parent_) == 3 + 1


def test_both_rules(data, test_data):
    options = {"num_clusters": 4, "random_state": 0}
    by_sum = COG(rule="sum", **options).fit(*data)
    by_max = COG(**options).fit(*data)
    proba = by_sum.predict_proba(test_data[0])
    expected = by_sum.classes_[proba.argmax(axis=1)]
    assert np.array_equal(by_sum.predict(test_data[0]), expected)
    assert np.any(by_max.predict(test_data[0]) != expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_clusters": "many"}, "num_clusters is 'many', expected 'auto', a number"),
        ({"num_clusters": {"big": 2}}, r"num_clusters names \['big'\], but y has"),
        ({"num_clusters": [1, 2, 3, 0]}, "expected integers >= 1"),
        ({"num_clusters": [4]}, "but there are 2 classes"),
        ({"num_clusters": 0}, "expected integers >= 1"),
        ({"max_clusters": 0}, "max_clusters is 0"),
        ({"rule": "mean"}, "rule is 'mean', expected 'max' or 'sum'"),
        ({"estimator": object()}, "has no fit, expected a scikit-learn classifier"),
    ],
)
def test_bad_parameters_give_one_readable_error(change, message, data):
    with pytest.raises((ValueError, TypeError), match=message):
        COG(**change).fit(*data)


def test_bad_data_give_one_readable_error(data):
    x, y = data
    with pytest.raises(ValueError, match="COG: y has one class only"):
        COG().fit(x, np.zeros(len(x)))
    with pytest.raises(ValueError, match="COG: X has 439 rows, but y has 440"):
        COG().fit(x[:-1], y)
    with pytest.raises(ValueError, match="NaN"):
        COG().fit(np.where(x > 2, np.nan, x), y)
    with pytest.raises(ValueError, match="COG: Multilabel and multioutput"):
        COG().fit(x, np.ones((len(x), 2), int))
