"""What the classifiers of this package share: a wrapped estimator, labels, counts."""

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import (
    _safe_indexing,
    check_random_state,
    column_or_1d,
    get_tags,
    indexable,
)
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    _num_samples,
    has_fit_parameter,
)

from ltjax._numerics import double_precision
from ltjax.classifiers import crossfit_folds


class WrappedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier around another one, by default logistic regression."""

    _needs = ("fit", "predict_proba")
    estimator: Any  # set by the constructor of each classifier
    estimator_: Any  # set by fit

    def _base_estimator(self) -> Any:
        if self.estimator is None:
            return self._default_estimator()
        for method in self._needs:
            if not hasattr(self.estimator, method):
                raise TypeError(
                    f"{type(self).__name__}: estimator {self.estimator!r} has no"
                    f" {method}, expected a scikit-learn classifier with"
                    f" {' and '.join(self._needs)}"
                )
        return clone(self.estimator)

    def _default_estimator(self):
        return LogisticRegression(max_iter=1000)

    def _encode(self, y):
        """Sets `classes_`; returns y as codes [N]."""
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None"
            )
        if _num_samples(y) == 0:
            raise ValueError(f"{name}: y has 0 samples, expected at least two")
        if type_of_target(y).startswith(("multilabel", "multiclass-multioutput")):
            raise ValueError(
                f"{name}: Multilabel and multioutput targets are not supported."
            )
        check_classification_targets(y)
        self.classes_, codes = np.unique(
            column_or_1d(y, warn=True), return_inverse=True
        )
        if len(self.classes_) < 2:
            raise ValueError(
                f"{name}: y has one class only ({self.classes_.tolist()[0]!r}),"
                " expected at least two classes"
            )
        return codes

    def _fit_base(self, estimator, X, y, sample_weight=None):
        """Fits `estimator` and takes over what it learned about the features."""
        if sample_weight is None:
            estimator.fit(X, y)
        elif has_fit_parameter(estimator, "sample_weight"):
            estimator.fit(X, y, sample_weight=sample_weight)
        else:
            raise TypeError(
                f"{type(self).__name__}: sample_weight was given, but"
                f" {type(estimator).__name__} does not take it"
            )
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(estimator, name):
                setattr(self, name, getattr(estimator, name))
        return estimator

    def _check_weights(self, sample_weight, X):
        """Sample weights as an array [N], or None."""
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, X, ensure_non_negative=True)

    def _class_counts(self, codes, sample_weight):
        """Number (or total weight) of training examples of each class, [K]."""
        return np.bincount(codes, sample_weight, minlength=len(self.classes_))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        base = self.estimator
        if base is None:
            base = self._default_estimator()
        tags.input_tags.sparse = get_tags(base).input_tags.sparse
        tags.input_tags.allow_nan = get_tags(base).input_tags.allow_nan
        return tags


def crossfit_probabilities(
    model: WrappedClassifier, base, X, y, codes, sample_weight, num_folds: int
) -> np.ndarray:
    """Probabilities of every example by a classifier trained without its fold, [N, K].

    Rows of a class of one example are NaN: the fold that holds it was trained without
    the class.
    """
    name, counts = type(model).__name__, np.bincount(codes)
    folds = crossfit_folds(codes, len(counts), num_folds=num_folds)
    if np.sum(counts > 1) < 2:
        raise ValueError(
            f"{name}: examples are held out, which needs two classes of at least 2, but"
            f" the classes have {counts.tolist()}"
        )
    X, y = indexable(X, y)
    found = np.zeros((len(codes), len(counts)))
    for fold in np.unique(folds):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        weight = None if sample_weight is None else sample_weight[train]
        fitted = model._fit_base(
            clone(base), _safe_indexing(X, train), _safe_indexing(y, train), weight
        )
        columns = np.searchsorted(model.classes_, fitted.classes_)
        predicted = fitted.predict_proba(_safe_indexing(X, held))
        found[np.ix_(held, columns)] = predicted
    found[counts[codes] < 2] = np.nan
    return found


def in_double(function, predictions, *arrays) -> np.ndarray:
    """`function` of predictions [N, K] and class arrays, row by row, in float64.

    Rows are filled up to a power of two, so that one program serves many sizes.
    """
    count = len(predictions)
    fill = (1 << max(4, (count - 1).bit_length())) - count
    padded = np.pad(predictions, ((0, fill), (0, 0)), mode="edge")
    with double_precision():
        return np.asarray(function(padded, *arrays))[:count]


def key_from(random_state) -> jax.Array:
    """A JAX key from an int, a RandomState or None (then a random key)."""
    return jax.random.key(check_random_state(random_state).randint(2**31))
