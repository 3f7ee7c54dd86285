"""SMOTE as a sampler of imbalanced-learn's interface (which is not needed)."""

import dataclasses
from numbers import Integral
from typing import Any, cast

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.preprocessing import label_binarize
from sklearn.utils import InputTags, Tags, TargetTags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from ltjax.resampling import smote
from ltjax.sklearn._base import key_from
from ltjax.sklearn._sampling_strategy import new_points_per_class


@dataclasses.dataclass
class _SamplerTags:
    sample_indices: bool = False


@dataclasses.dataclass
class _InputTags(InputTags):
    dataframe: bool = False


@dataclasses.dataclass
class _Tags(Tags):
    sampler_tags: _SamplerTags = dataclasses.field(default_factory=_SamplerTags)


class SMOTE(OneToOneFeatureMixin, BaseEstimator):
    """Over-sampling by interpolation between neighbors of one class.

    Resampling breaks the calibration of what is trained on the result, and rarely
    improves its ranking; `ltjax.classifiers.prior_correction` repairs the former, and
    `PlugInClassifier` reaches the balanced decision without resampling.

    Args:
        sampling_strategy: which classes to enlarge, as in imbalanced-learn: "auto"
            ("not majority"), "all", "minority", "not minority", a float (two classes,
            ratio afterwards), a dict class -> total size, or a callable y -> dict.
        random_state: int, RandomState or None.
        k_neighbors: neighbors to choose from; a class of n offers min(k, n - 1).
        bases: "stratified" uses every point equally often, "uniform" draws with
            replacement.
        per_feature: a step per feature instead of one per point.

    Attributes:
        sampling_strategy_: dict class -> number of new points.
        plan_: base, neighbor, step and class code of each new point
            (`ltjax.resampling.SmotePlan`), in terms of rows of X.
        n_features_in_: D.
        feature_names_in_: names of a data frame's columns.

    Example:
        >>> x = [[0.0], [1.0], [2.0], [9.0], [8.0]]
        >>> x_new, y_new = SMOTE(random_state=0).fit_resample(x, [0, 0, 0, 1, 1])
        >>> y_new
        [0, 0, 0, 1, 1, 1]

    References:
        Chawla, Bowyer, Hall, Kegelmeyer, "SMOTE", JAIR 2002; see
        `ltjax.resampling.smote` for the differences from imbalanced-learn.
    """

    _sampling_type = "over-sampling"

    def __init__(
        self,
        *,
        sampling_strategy="auto",
        random_state=None,
        k_neighbors=5,
        bases="stratified",
        per_feature=False,
    ):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.k_neighbors = k_neighbors
        self.bases = bases
        self.per_feature = per_feature

    def fit(self, X, y):
        """Checks the data and works out how many points would be made.

        Args:
            X: [N, D] array-like.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            self.
        """
        self._check(X, y)
        return self

    def fit_resample(self, X, y):
        """The data with new points appended, class by class in label order.

        Args:
            X: [N, D] array-like, data frame or sparse matrix of finite numbers.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            X and y in the containers that they came in. float32 and float64 are kept,
            integers become float64.
        """
        like_X, like_y = X, y
        X, y, one_hot = self._check(X, y)
        classes, codes = np.unique(y, return_inverse=True)
        amounts = [self.sampling_strategy_.get(label, 0) for label in classes.tolist()]
        dense = X.toarray() if sparse.issparse(X) else X
        if dense.dtype not in (np.float32, np.float64):
            dense = dense.astype(np.float64)
        new = smote(
            key_from(self.random_state),
            dense,
            codes,
            num_new=np.array(amounts),
            k=int(self.k_neighbors),
            bases=self.bases,
            per_feature=self.per_feature,
        )
        self.plan_ = new.plan
        dense = np.concatenate([dense, np.asarray(new.features)])
        X = type(X)(dense) if sparse.issparse(X) else dense
        y = np.concatenate([y, classes[new.labels].astype(y.dtype, copy=False)])
        if one_hot:
            y = label_binarize(y, classes=classes)
        return _back_to(like_X, X), _back_to(like_y, y)

    def _check(self, X, y) -> tuple[Any, np.ndarray, bool]:
        if not isinstance(self.k_neighbors, Integral) or self.k_neighbors < 1:
            raise ValueError(
                f"SMOTE: k_neighbors is {self.k_neighbors!r}, expected an integer >= 1"
            )
        if self.bases not in ("stratified", "uniform"):
            raise ValueError(
                f"SMOTE: bases is {self.bases!r}, expected 'stratified' or 'uniform'"
            )
        if y is None:
            raise ValueError("SMOTE requires y to be passed, but the target y is None")
        check_classification_targets(y)
        kind = type_of_target(y)
        one_hot = kind == "multilabel-indicator"
        if one_hot:
            y = np.asarray(y)
            if np.any(y.sum(axis=1) != 1):
                raise ValueError(
                    "SMOTE: Multilabel and multioutput targets are not supported."
                )
            y = y.argmax(axis=1)
        elif kind == "multiclass-multioutput":
            raise ValueError(
                "SMOTE: Multilabel and multioutput targets are not supported."
            )
        else:
            y = column_or_1d(y)
        checked = validate_data(self, X, y, accept_sparse=["csr", "csc"])
        X, y = cast(tuple[Any, np.ndarray], checked)
        self.sampling_strategy_ = new_points_per_class(self.sampling_strategy, y)
        return X, y, one_hot

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        return _Tags(
            estimator_type="sampler",
            target_tags=TargetTags(required=True),
            transformer_tags=tags.transformer_tags,
            input_tags=_InputTags(sparse=True, dataframe=True),
        )


def _back_to(like, array):
    """`array` in the container of `like`: a list, a pandas object, or an array."""
    if isinstance(like, list):
        return array.tolist()
    if not hasattr(like, "iloc"):
        return array
    if like.ndim == 1:
        return type(like)(array, dtype=like.dtype, name=like.name)
    if sparse.issparse(array):
        return type(like).sparse.from_spmatrix(array, columns=like.columns)
    return type(like)(array, columns=like.columns)
