"""Random over- and under-sampling as samplers of imbalanced-learn's interface."""

import numpy as np

from ltjax.resampling import random_oversample, random_undersample
from ltjax.sklearn._base import key_from
from ltjax.sklearn._sampler import Sampler, Target, back_to, rows_of


class RowSampler(Sampler):
    """A sampler that selects rows, of features of any kind."""

    _selects_rows = True

    def fit_resample(self, X, y):
        """The selected rows.

        Args:
            X: [N, D] array-like, data frame or sparse matrix; strings and missing
                values are left alone.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            X and y in the containers that they came in; a data frame keeps the index of
            its rows.
        """
        checked, target = self._check(X, y)
        rows = self._rows(target)
        self.sample_indices_ = rows
        y_new = target.array(target.codes[rows])
        if hasattr(y, "iloc"):
            y_new = y.iloc[rows]
        else:
            y_new = back_to(y, y_new)
        return rows_of(X, checked, rows), y_new

    def _rows(self, target: Target) -> np.ndarray:
        raise NotImplementedError


class RandomOverSampler(RowSampler):
    """Repeats random examples of the small classes.

    Args:
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.

    Attributes:
        sampling_strategy_: dict class -> number of repetitions.
        sample_indices_: rows of the result in the data: all of them once, then the
            repetitions class by class.

    Example:
        >>> sampler = RandomOverSampler(random_state=0)
        >>> sampler.fit_resample([["a"], ["b"], ["c"]], [0, 0, 1])
        ([['a'], ['b'], ['c'], ['c']], [0, 0, 1, 1])

    References:
        See `ltjax.resampling.random_oversample`.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state

    def _rows(self, target):
        targets = np.bincount(target.codes) + self._amounts(target)
        key = key_from(self.random_state)
        return random_oversample(key, target.codes, targets=targets)


class RandomUnderSampler(RowSampler):
    """Keeps a random part of the large classes.

    What a model trained on the rest takes for probabilities belongs to the resampled
    prior; `ltjax.classifiers.prior_correction` puts them right.

    Args:
        sampling_strategy: which classes to cut, as in imbalanced-learn: "auto" ("not
            minority"), "all", "majority", "not majority", a float (two classes, ratio
            afterwards), a dict class -> size, or a callable y -> dict.
        random_state: int, RandomState or None.

    Attributes:
        sampling_strategy_: dict class -> number of examples kept.
        sample_indices_: rows that are kept, class by class, each ascending.

    Example:
        >>> sampler = RandomUnderSampler(random_state=0)
        >>> sampler.fit_resample([["a"], ["b"], ["c"], ["d"]], [0, 1, 0, 0])[1]
        [0, 1]

    References:
        See `ltjax.resampling.random_undersample`.
    """

    _sampling_type = "under-sampling"

    def __init__(self, *, sampling_strategy="auto", random_state=None):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state

    def _rows(self, target):
        sizes = zip(target.classes.tolist(), np.bincount(target.codes), strict=True)
        kept = [self.sampling_strategy_.get(label, size) for label, size in sizes]
        key = key_from(self.random_state)
        return random_undersample(key, target.codes, targets=np.array(kept))
