"""SMOTE and its relatives as samplers of imbalanced-learn's interface."""

from numbers import Integral

import numpy as np

from ltjax.resampling import adasyn, borderline_smote, smoothed_bootstrap, smote
from ltjax.sklearn._base import key_from
from ltjax.sklearn._sampler import Sampler, appended, back_to, dense_floats


class SyntheticSampler(Sampler):
    """A sampler that appends points made from others of their class."""

    def fit_resample(self, X, y):
        """The data with new points appended, class by class in label order.

        Args:
            X: [N, D] array-like, data frame or sparse matrix of finite numbers.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            X and y in the containers that they came in. float32 and float64 are kept.
            Integers become float64 in an array; a data frame keeps the dtypes of its
            columns, rounded.
        """
        checked, target = self._check(X, y)
        dense = dense_floats(checked)
        new = self._make(dense, target.codes, self._amounts(target))
        self.plan_ = new.plan
        y_new = target.array(np.concatenate([target.codes, new.labels]))
        return appended(X, checked, np.asarray(new.features)), back_to(y, y_new)

    def _make(self, features, codes, amounts):
        """The new points (`ltjax.resampling.Synthetic`)."""
        raise NotImplementedError

    def _check_parameters(self):
        for name in ("k_neighbors", "m_neighbors", "n_neighbors"):
            value = getattr(self, name, 1)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f"{type(self).__name__}: {name} is {value!r}, expected an integer"
                    " >= 1"
                )
        bases = getattr(self, "bases", "uniform")
        if bases not in ("stratified", "uniform"):
            raise ValueError(
                f"{type(self).__name__}: bases is {bases!r}, expected 'stratified'"
                " or 'uniform'"
            )


class SMOTE(SyntheticSampler):
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

    def _make(self, features, codes, amounts):
        return smote(
            key_from(self.random_state),
            features,
            codes,
            num_new=amounts,
            k=int(self.k_neighbors),
            bases=self.bases,
            per_feature=self.per_feature,
        )


class BorderlineSMOTE(SyntheticSampler):
    """SMOTE from the points near the class boundary only.

    Args:
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.
        k_neighbors: neighbors to interpolate to.
        m_neighbors: neighbors in all the data that judge whether a point is in danger.
        kind: "borderline-1" or "borderline-2".
        bases: see `SMOTE`.

    Attributes:
        sampling_strategy_: dict class -> number of new points asked for; a class
            without a point in danger gets none, with a warning.
        plan_: see `SMOTE`.

    Example:
        >>> x = [[0.0], [1.0], [2.0], [2.5], [3.0], [4.0], [9.0]]
        >>> sampler = BorderlineSMOTE(random_state=0, k_neighbors=1, m_neighbors=6)
        >>> sampler.fit_resample(x, [0, 0, 0, 1, 0, 0, 1])[1]
        [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]

    References:
        Han, Wang, Mao, "Borderline-SMOTE", ICIC 2005; see
        `ltjax.resampling.borderline_smote`.
    """

    def __init__(
        self,
        *,
        sampling_strategy="auto",
        random_state=None,
        k_neighbors=5,
        m_neighbors=10,
        kind="borderline-1",
        bases="stratified",
    ):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.k_neighbors = k_neighbors
        self.m_neighbors = m_neighbors
        self.kind = kind
        self.bases = bases

    def _make(self, features, codes, amounts):
        return borderline_smote(
            key_from(self.random_state),
            features,
            codes,
            num_new=amounts,
            k=int(self.k_neighbors),
            m=int(self.m_neighbors),
            kind=self.kind,
            bases=self.bases,
        )


class ADASYN(SyntheticSampler):
    """More new points where other classes are near.

    Args:
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.
        n_neighbors: neighbors in all the data that say how hard a point is, and in the
            class to interpolate to.

    Attributes:
        sampling_strategy_: dict class -> number of new points.
        plan_: see `SMOTE`.

    Example:
        >>> x = [[0.0], [1.0], [2.0], [2.5], [3.0]]
        >>> ADASYN(random_state=0, n_neighbors=2).fit_resample(x, [0, 0, 0, 1, 1])[1]
        [0, 0, 0, 1, 1, 1]

    References:
        He, Bai, Garcia, Li, "ADASYN", IJCNN 2008; see `ltjax.resampling.adasyn`, which
        makes exactly as many points as are asked for.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None, n_neighbors=5):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.n_neighbors = n_neighbors

    def _make(self, features, codes, amounts):
        return adasyn(
            key_from(self.random_state),
            features,
            codes,
            num_new=amounts,
            k=int(self.n_neighbors),
        )


class SmoothedBootstrap(SyntheticSampler):
    """Random over-sampling with Gaussian noise around every repetition (ROSE).

    Args:
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.
        shrinkage: factor of the Gaussian-optimal bandwidth; 0 repeats examples.

    Attributes:
        sampling_strategy_: dict class -> number of new points.
        plan_: see `SMOTE`; each base is its own neighbor.

    Example:
        >>> sampler = SmoothedBootstrap(random_state=0)
        >>> sampler.fit_resample([[1.0], [1.0], [2.0]], [0, 0, 1])
        ([[1.0], [1.0], [2.0], [2.0]], [0, 0, 1, 1])

    References:
        Menardi, Torelli, Data Mining and Knowledge Discovery 2014; see
        `ltjax.resampling.smoothed_bootstrap`. imbalanced-learn has it as the
        `shrinkage` of `RandomOverSampler`.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None, shrinkage=1.0):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.shrinkage = shrinkage

    def _make(self, features, codes, amounts):
        return smoothed_bootstrap(
            key_from(self.random_state),
            features,
            codes,
            num_new=amounts,
            shrinkage=self.shrinkage,
        )
