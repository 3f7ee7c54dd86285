"""Classifiers that fit any probabilistic classifier and then change its decision."""

import numpy as np
from jax.nn import softmax
from sklearn.utils.validation import check_is_fitted

from ltjax.classifiers import (
    adjust_logits,
    min_expected_cost,
    move_threshold,
    plug_in_predict,
    plug_in_threshold,
    prior_correction,
    select_tau,
)
from ltjax.sklearn._base import WrappedClassifier, crossfit_probabilities, in_double

# Probabilities below this are treated as this, so that their logarithm is finite.
_TINY = 1e-300


class PlugInClassifier(WrappedClassifier):
    r"""Consistent for balanced accuracy: estimate P(y|x), threshold at the class prior.

    .. math:: h(x) = \arg\max_k \hat\eta_k(x) / \hat p_k

    For two classes, positive where :math:`\hat\eta_1(x) \ge \hat p_1`.

    Args:
        estimator: probabilistic classifier with a proper loss and *without* class
            weights; default logistic regression. Tune it on the log-loss.

    Attributes:
        estimator_: the fitted classifier.
        classes_: [K] labels.
        class_counts_: [K] examples (or total weights) of each class.
        threshold_: [K] estimated prior, clipped inside (0, 1).

    Example:
        >>> import numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0], [2.5]])
        >>> PlugInClassifier().fit(x, [0, 0, 0, 0, 1]).predict([[0.0], [3.0]]).tolist()
        [0, 1]

    References:
        Menon, Narasimhan, Agarwal, Chawla, "On the Statistical Consistency of
        Algorithms for Binary Classification under Class Imbalance", ICML 2013.
    """

    def __init__(self, estimator=None):
        self.estimator = estimator

    def fit(self, X, y, sample_weight=None):
        """Fits the classifier and estimates the thresholds.

        Args:
            X: [N, D] array-like that `estimator` accepts.
            y: [N] labels.
            sample_weight: optional [N]; weighs the thresholds as well.

        Returns:
            self.
        """
        codes = self._encode(y)
        sample_weight = self._check_weights(sample_weight, X)
        base = self._base_estimator()
        self.estimator_ = self._fit_base(base, X, y, sample_weight)
        self.class_counts_ = self._class_counts(codes, sample_weight)
        self.threshold_ = plug_in_threshold(self.class_counts_)
        return self

    def predict_proba(self, X):
        """Probabilities under a uniform class prior, [N, K].

        Their arg-max is the prediction. For probabilities under the training prior ask
        `estimator_`.

        Args:
            X: [N, D].

        Returns:
            [N, K] float64.
        """
        check_is_fitted(self)
        uniform = np.full(len(self.classes_), 1 / len(self.classes_))
        probabilities = self.estimator_.predict_proba(X)
        return in_double(prior_correction, probabilities, self.threshold_, uniform)

    def predict(self, X):
        """Labels by the plug-in rule.

        Args:
            X: [N, D].

        Returns:
            [N] labels.
        """
        check_is_fitted(self)
        logits = np.log(np.maximum(self.estimator_.predict_proba(X), _TINY))
        return self.classes_[in_double(plug_in_predict, logits, self.class_counts_)]


class ThresholdMover(WrappedClassifier):
    """Cost-sensitive decisions of any probabilistic classifier.

    Args:
        estimator: probabilistic classifier; default logistic regression.
        cost: "balanced" (missing a class costs the inverse of its frequency), a dict
            class -> cost of missing it, or [K, K] with cost[i, j] of predicting class j
            when the truth is class i, in the order of `classes_`.
        rule: "row_sum" scales each probability by the total cost of missing the class;
            "min_expected_cost" is the Bayes decision. They differ for more than two
            classes whose cost depends on the prediction as well.

    Attributes:
        estimator_: the fitted classifier.
        classes_: [K] labels.
        cost_: [K, K] cost matrix.

    Example:
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "no", "yes"]
        >>> mover = ThresholdMover(cost={"no": 1, "yes": 5}).fit(x, y)
        >>> mover.predict([[0.0], [2.0]]).tolist()
        ['no', 'yes']

    References:
        Zhou, Liu, "Training Cost-Sensitive Neural Networks with Methods Addressing the
        Class Imbalance Problem", TKDE 2006; Elkan, IJCAI 2001.
    """

    def __init__(self, estimator=None, *, cost="balanced", rule="row_sum"):
        self.estimator = estimator
        self.cost = cost
        self.rule = rule

    def fit(self, X, y, sample_weight=None):
        """Fits the classifier and sets up the cost matrix.

        Args:
            X: [N, D] array-like that `estimator` accepts.
            y: [N] labels.
            sample_weight: optional [N].

        Returns:
            self.
        """
        if self.rule not in ("row_sum", "min_expected_cost"):
            raise ValueError(
                f"ThresholdMover: rule is {self.rule!r}, expected 'row_sum' or"
                " 'min_expected_cost'"
            )
        codes = self._encode(y)
        sample_weight = self._check_weights(sample_weight, X)
        self.cost_ = self._cost_matrix(self._class_counts(codes, sample_weight))
        # Refuses a bad matrix before anything is trained.
        move_threshold(np.full(len(self.classes_), 1.0), self.cost_)
        base = self._base_estimator()
        self.estimator_ = self._fit_base(base, X, y, sample_weight)
        return self

    def _cost_matrix(self, counts):
        size = len(self.classes_)
        if isinstance(self.cost, str) or self.cost is None:
            if self.cost != "balanced":
                raise ValueError(
                    f"ThresholdMover: cost is {self.cost!r}, expected 'balanced', a"
                    " dict or a matrix"
                )
            of_class = 1 / plug_in_threshold(counts)
        elif isinstance(self.cost, dict):
            classes = self.classes_.tolist()
            if set(self.cost) != set(classes):
                raise ValueError(
                    f"ThresholdMover: cost names the classes {list(self.cost)}, but y"
                    f" has {classes}"
                )
            of_class = np.array([self.cost[label] for label in classes], np.float64)
        else:
            return np.asarray(self.cost, np.float64)
        return of_class[:, None] * (1 - np.eye(size)) / (size - 1)

    def predict_proba(self, X):
        """Probabilities of the rule, [N, K].

        Args:
            X: [N, D].

        Returns:
            [N, K] float64: scaled by the row sums for "row_sum" (the arg-max is the
            prediction), those of `estimator_` for "min_expected_cost".
        """
        check_is_fitted(self)
        probabilities = self.estimator_.predict_proba(X)
        if self.rule == "min_expected_cost":
            return probabilities
        return in_double(move_threshold, probabilities, self.cost_)

    def predict(self, X):
        """Labels of least cost by the rule.

        Args:
            X: [N, D].

        Returns:
            [N] labels.
        """
        probabilities = self.predict_proba(X)
        if self.rule == "min_expected_cost":
            labels = in_double(min_expected_cost, probabilities, self.cost_)
        else:
            labels = np.argmax(probabilities, axis=1)
        return self.classes_[labels]


class LogitAdjustedClassifier(WrappedClassifier):
    r"""Post-hoc logit adjustment of any probabilistic classifier.

    .. math:: h(x) = \arg\max_k \log \hat\eta_k(x) - \tau \log \pi_k

    Args:
        estimator: probabilistic classifier, trained without class weights; default
            logistic regression.
        tau: strength, or "auto" to choose it by class-mean accuracy in cross-fitting.
        num_folds: folds for tau="auto"; each costs a fit.
        rule: "one_standard_error" or "best", see `ltjax.classifiers.select_tau`.

    Attributes:
        estimator_: the classifier, fitted on all data.
        classes_: [K] labels.
        class_counts_: [K] examples (or total weights) of each class.
        tau_: the strength in use.

    Example:
        >>> x, y = [[0.0], [1.0], [2.0], [3.0], [2.5]], [0, 0, 0, 0, 1]
        >>> LogitAdjustedClassifier(tau=1.0).fit(x, y).predict([[0.0], [3.0]]).tolist()
        [0, 1]

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 9.
    """

    def __init__(
        self, estimator=None, *, tau=1.0, num_folds=5, rule="one_standard_error"
    ):
        self.estimator = estimator
        self.tau = tau
        self.num_folds = num_folds
        self.rule = rule

    def fit(self, X, y, sample_weight=None):
        """Fits the classifier, and chooses tau if it is "auto".

        Args:
            X: [N, D] array-like that `estimator` accepts.
            y: [N] labels.
            sample_weight: optional [N].

        Returns:
            self.
        """
        is_number = isinstance(self.tau, (int, float, np.number))
        if not is_number and self.tau != "auto" or is_number and not self.tau >= 0:
            raise ValueError(
                f"LogitAdjustedClassifier: tau is {self.tau!r}, expected a number >= 0"
                " or 'auto'"
            )
        codes = self._encode(y)
        sample_weight = self._check_weights(sample_weight, X)
        self.class_counts_ = self._class_counts(codes, sample_weight)
        empty = np.flatnonzero(self.class_counts_ <= 0)
        if empty.size:
            raise ValueError(
                f"LogitAdjustedClassifier: class {self.classes_.tolist()[empty[0]]!r}"
                " has total sample_weight 0, so its prior is 0"
            )
        base = self._base_estimator()
        self.tau_ = (
            float(self.tau)
            if is_number
            else self._select_tau(base, X, y, codes, sample_weight)
        )
        self.estimator_ = self._fit_base(base, X, y, sample_weight)
        return self

    def _select_tau(self, base, X, y, codes, sample_weight):
        """Tau from the pooled log-probabilities of held-out folds."""
        found = crossfit_probabilities(
            self, base, X, y, codes, sample_weight, self.num_folds
        )
        pooled = np.isfinite(found).all(axis=1)
        logits = np.log(np.maximum(found[pooled], _TINY))
        return select_tau(logits, codes[pooled], self.class_counts_, rule=self.rule).tau

    def predict_proba(self, X):
        """Softmax of the adjusted logits, [N, K]; its arg-max is the prediction.

        Args:
            X: [N, D].

        Returns:
            [N, K] float64.
        """
        check_is_fitted(self)
        logits = np.log(np.maximum(self.estimator_.predict_proba(X), _TINY))

        def adjusted(logits, class_counts):
            return softmax(adjust_logits(logits, class_counts, tau=self.tau_))

        return in_double(adjusted, logits, self.class_counts_)

    def predict(self, X):
        """Labels of the adjusted logits.

        Args:
            X: [N, D].

        Returns:
            [N] labels.
        """
        check_is_fitted(self)
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]
