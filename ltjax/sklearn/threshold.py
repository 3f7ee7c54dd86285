"""A decision threshold tuned on held-out folds."""

import numpy as np
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from ltjax.sklearn._base import WrappedClassifier, crossfit_probabilities

METRICS = ("balanced_accuracy", "g_mean", "f1")


class TunedThreshold(WrappedClassifier):
    r"""Two classes: cut P(positive) where a metric of held-out examples is best.

    .. math:: h(x) = 1 \iff \hat\eta(x) \ge t, \qquad
              t = \arg\max_t\, m\big(\{(\hat\eta_{-f(i)}(x_i), y_i)\}_i, t\big)

    Every example is judged by a model that was trained without its fold. All thresholds
    are tried: the metric changes at the probabilities only, and t lies half way between
    two of them. For balanced accuracy `PlugInClassifier` needs no folds; this is for
    estimates that are not calibrated, and for metrics without a known threshold.

    Args:
        estimator: probabilistic classifier; default logistic regression.
        metric: "balanced_accuracy", "g_mean" or "f1" (of the positive class).
        positive: the positive class; default the rarer one.
        num_folds: each costs a fit.

    Attributes:
        estimator_: the classifier, fitted on all data.
        classes_: [2] labels.
        positive_: the positive class.
        threshold_: t.
        score_: the metric at t on the held-out examples, a little optimistic.

    Example:
        >>> x, y = [[v] for v in range(20)], [0] * 16 + [1] * 4
        >>> model = TunedThreshold(num_folds=4).fit(x, y)
        >>> model.predict([[0], [19]]).tolist(), model.score_
        ([0, 1], 1.0)

    References:
        Lipton, Elkan, Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1
        Measure", ECML 2014, for why F1 has its own threshold. scikit-learn has
        `TunedThresholdClassifierCV`, which averages thresholds on a grid.
    """

    def __init__(
        self,
        estimator=None,
        *,
        metric="balanced_accuracy",
        positive=None,
        num_folds=5,
    ):
        self.estimator = estimator
        self.metric = metric
        self.positive = positive
        self.num_folds = num_folds

    def fit(self, X, y, sample_weight=None):
        """Tunes the threshold on folds, then fits the classifier on all data.

        Args:
            X: [N, D] array-like that `estimator` accepts.
            y: [N] labels of two classes.
            sample_weight: optional [N]; weighs the metric as well.

        Returns:
            self.
        """
        if self.metric not in METRICS:
            raise ValueError(
                f"TunedThreshold: metric is {self.metric!r}, expected one of"
                f" {list(METRICS)}"
            )
        codes = self._encode(y)
        if len(self.classes_) != 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is"
                f" {type_of_target(y)}."
            )
        sample_weight = self._check_weights(sample_weight, X)
        counts = self._class_counts(codes, sample_weight)
        empty = np.flatnonzero(counts <= 0)
        if empty.size:
            raise ValueError(
                f"TunedThreshold: class {self.classes_.tolist()[empty[0]]!r} has total"
                " sample_weight 0, expected two classes with a weight"
            )
        self._positive = self._choose_positive(counts)
        self.positive_ = self.classes_[self._positive]
        base = self._base_estimator()
        found = crossfit_probabilities(
            self, base, X, y, codes, sample_weight, self.num_folds
        )
        held = np.isfinite(found).all(axis=1)
        weight = np.ones(len(codes)) if sample_weight is None else sample_weight
        self.threshold_, self.score_ = best_threshold(
            found[held, self._positive],
            codes[held] == self._positive,
            weight[held],
            self.metric,
        )
        self.estimator_ = self._fit_base(base, X, y, sample_weight)
        return self

    def _choose_positive(self, counts) -> int:
        if self.positive is None:
            return int(counts[1] <= counts[0])
        (found,) = np.nonzero(self.classes_ == self.positive)
        if not found.size:
            raise ValueError(
                f"TunedThreshold: positive is {self.positive!r}, but y has the classes"
                f" {self.classes_.tolist()}"
            )
        return int(found[0])

    def predict_proba(self, X):
        """Probabilities whose arg-max is the prediction, [N, 2].

        The odds of `estimator_` over those at the threshold: 1/2 at the threshold.

        Args:
            X: [N, D].

        Returns:
            [N, 2] float64.
        """
        check_is_fitted(self)
        positive = self.estimator_.predict_proba(X)[:, self._positive]
        t = self.threshold_
        kept = positive * (1 - t)
        total = kept + (1 - positive) * t
        moved = np.where(total > 0, kept / np.where(total > 0, total, 1), positive)
        columns = np.stack([1 - moved, moved], axis=1)
        return columns if self._positive else columns[:, ::-1]

    def predict(self, X):
        """Labels: the positive class from the threshold on.

        Args:
            X: [N, D].

        Returns:
            [N] labels.
        """
        check_is_fitted(self)
        positive = self.estimator_.predict_proba(X)[:, self._positive]
        above = positive >= self.threshold_
        return self.classes_[np.where(above, self._positive, 1 - self._positive)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def best_threshold(probabilities, positive, weight, metric) -> tuple[float, float]:
    """The threshold at which `metric` is best, and its value there.

    Args:
        probabilities: [N] P(positive).
        positive: [N] bool.
        weight: [N] >= 0, with a positive total for both classes.
        metric: of `METRICS`.

    Returns:
        (t, score). Of equally good thresholds the one closest to 1/2; t is half way
        between two probabilities, or 0 to take everything for positive.
    """
    order = np.argsort(-probabilities, kind="stable")
    sorted_p = probabilities[order]
    true = np.cumsum((weight * positive)[order])
    false = np.cumsum((weight * ~positive)[order])
    last = np.append(sorted_p[1:] < sorted_p[:-1], True)  # of equal probabilities
    true, false, edge = true[last], false[last], sorted_p[last]
    thresholds = np.append((edge[:-1] + edge[1:]) / 2, 0.0)
    num_positive, num_negative = true[-1], false[-1]
    recall, spared = true / num_positive, 1 - false / num_negative
    scores = {
        "balanced_accuracy": (recall + spared) / 2,
        "g_mean": np.sqrt(np.maximum(recall * spared, 0)),
        "f1": 2 * true / (num_positive + true + false),
    }[metric]
    # A score that differs by rounding only must not decide.
    good = np.flatnonzero(scores >= scores.max() - 1e-12)
    best = good[np.argmin(np.abs(thresholds[good] - 0.5))]
    return float(thresholds[best]), float(scores[best])
