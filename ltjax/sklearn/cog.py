"""COG as a scikit-learn classifier."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ltjax.resampling import cog, cog_num_clusters, cog_replication, sum_rule
from ltjax.sklearn._base import WrappedClassifier, in_double, key_from


def _base_has_probabilities(self):
    base = getattr(self, "estimator_", self.estimator)
    return base is None or hasattr(base, "predict_proba")


class COG(WrappedClassifier):
    r"""Classification by local decomposition of the large classes.

    The base learner is trained on sub-classes that k-means finds inside the large
    classes; its decision is mapped back. Linear learners gain most, they become
    piecewise linear.

    Args:
        estimator: any scikit-learn classifier, such as a linear or kernel SVM; default
            `LogisticRegression(C=10)`.
        num_clusters: "auto" (see `ltjax.resampling.cog_num_clusters`), a number for
            all classes, a dict class -> number (1 for classes not named), or [K] in the
            order of `classes_`.
        max_clusters: upper limit of "auto".
        oversample: COG-OS, rare classes count r(j) times
            (`ltjax.resampling.cog_replication`), as weights where the learner takes
            them and as copies otherwise.
        rule: of `predict`: "max" is the paper's, the class of the best sub-class; "sum"
            the class of the largest `predict_proba`, which sums over sub-classes. The
            two can differ.
        random_state: int, RandomState or None, for the clustering.

    Attributes:
        estimator_: the base learner, fitted on sub-classes.
        classes_: [K] labels.
        parent_: [S] index in `classes_` of each sub-class.
        cluster_centers_: [S, D] means of the sub-classes.
        replication_: [K] r(j), ones without `oversample`.

    Example:
        >>> x = [[-3.1], [-3.0], [-2.9], [2.9], [3.0], [3.1], [0.0], [0.1]]
        >>> y = ["large"] * 6 + ["rare"] * 2
        >>> model = COG(num_clusters={"large": 2}, random_state=0).fit(x, y)
        >>> model.predict([[-3.0], [0.0], [3.0]]).tolist()
        ['large', 'rare', 'large']

    References:
        Wu, Xiong, Chen, "COG: local decomposition for rare class analysis", Data Mining
        and Knowledge Discovery 2010. Class probabilities are ours.
    """

    _needs = ("fit", "predict")  # predict_proba exists if the base learner has it

    def __init__(
        self,
        estimator=None,
        *,
        num_clusters="auto",
        max_clusters=8,
        oversample=False,
        rule="max",
        random_state=None,
    ):
        self.estimator = estimator
        self.num_clusters = num_clusters
        self.max_clusters = max_clusters
        self.oversample = oversample
        self.rule = rule
        self.random_state = random_state

    def _default_estimator(self):
        return LogisticRegression(C=10, max_iter=1000)

    def fit(self, X, y):
        """Decomposes the classes and fits the base learner on the sub-classes.

        Args:
            X: [N, D] array-like of finite numbers.
            y: [N] labels.

        Returns:
            self.
        """
        if self.rule not in ("max", "sum"):
            raise ValueError(f"COG: rule is {self.rule!r}, expected 'max' or 'sum'")
        estimator = self._base_estimator()
        codes = self._encode(y)
        X = np.asarray(validate_data(self, X))
        if len(X) != len(codes):
            raise ValueError(f"COG: X has {len(X)} rows, but y has {len(codes)}")
        split = cog(
            key_from(self.random_state),
            X,
            codes,
            num_clusters=self._clusters(np.bincount(codes)),
        )
        self.parent_, self.cluster_centers_ = split.parent, split.centers
        self.replication_ = np.ones(len(self.classes_), np.int64)
        if not self.oversample:
            estimator.fit(X, split.labels)
        else:
            self.replication_ = cog_replication(codes, split)
            times = self.replication_[codes]
            if has_fit_parameter(estimator, "sample_weight"):
                estimator.fit(X, split.labels, sample_weight=times.astype(np.float64))
            else:
                rows = np.repeat(np.arange(len(X)), times)
                estimator.fit(X[rows], split.labels[rows])
        self.estimator_ = estimator
        return self

    def _clusters(self, counts):
        if isinstance(self.num_clusters, str):
            if self.num_clusters != "auto":
                raise ValueError(
                    f"COG: num_clusters is {self.num_clusters!r}, expected 'auto', a"
                    " number, a dict or one number per class"
                )
            return cog_num_clusters(counts, max_clusters=self.max_clusters)
        if isinstance(self.num_clusters, dict):
            classes = self.classes_.tolist()
            unknown = set(self.num_clusters) - set(classes)
            if unknown:
                raise ValueError(
                    f"COG: num_clusters names {sorted(unknown)}, but y has {classes}"
                )
            return np.array([self.num_clusters.get(label, 1) for label in classes])
        clusters = np.asarray(self.num_clusters)
        return np.full(len(counts), clusters) if clusters.ndim == 0 else clusters

    def predict(self, X):
        """Labels by the chosen rule.

        Args:
            X: [N, D].

        Returns:
            [N] labels.
        """
        check_is_fitted(self)
        if self.rule == "sum":
            return self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        X = validate_data(self, X, reset=False)
        return self.classes_[self.parent_[self.estimator_.predict(X)]]

    @available_if(_base_has_probabilities)
    def predict_proba(self, X):
        """Class probabilities, summed over sub-classes.

        Args:
            X: [N, D].

        Returns:
            [N, K] float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        probabilities = self.estimator_.predict_proba(X)

        def summed(probabilities, parent):
            return sum_rule(probabilities, parent, len(self.classes_))

        return in_double(summed, probabilities, self.parent_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = False
        return tags
