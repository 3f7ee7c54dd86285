"""SMOTE for nominal features as samplers of imbalanced-learn's interface."""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from ltjax.resampling import smote_n, smote_nc
from ltjax.sklearn._base import key_from
from ltjax.sklearn._sampler import Sampler, appended_columns, back_to


class NominalSampler(Sampler):
    """A sampler of tables in which some columns, or all, are nominal."""

    k_neighbors: Any  # set by the constructor of each sampler

    def fit_resample(self, X, y):
        """The table with new rows appended, class by class in label order.

        Args:
            X: [N, D] array-like (of strings, numbers or objects) or data frame.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            X and y in the containers and dtypes that they came in; nominal values are
            some of those that occur.
        """
        table, target = self._check(X, y)
        nominal = self._nominal(X, table.shape[1])
        self.categorical_features_ = np.flatnonzero(nominal)
        values, codes = [], []
        for column in self.categorical_features_:
            try:
                found = np.unique(table[:, column], return_inverse=True)
            except TypeError:
                raise TypeError(
                    f"{type(self).__name__}: column {column} has values that cannot be"
                    " ordered (of several types), expected strings only or numbers only"
                ) from None
            values.append(found[0])
            codes.append(found[1])
        amounts = self._amounts(target)
        new = self._make(
            table[:, ~nominal], np.stack(codes, axis=1), target.codes, amounts
        )
        self.plan_ = new.plan
        columns: list[np.ndarray] = [np.zeros(0)] * table.shape[1]
        for at, column in enumerate(self.categorical_features_):
            columns[column] = values[at][new.nominal[:, at]]
        for at, column in enumerate(np.flatnonzero(~nominal)):
            columns[column] = np.asarray(new.continuous)[:, at]
        y_new = target.array(np.concatenate([target.codes, new.labels]))
        return appended_columns(X, table, columns), back_to(y, y_new)

    def _validated(self, X, y):
        return validate_data(self, X, y, dtype=None, ensure_all_finite=False)

    def _nominal(self, X, width: int) -> np.ndarray:
        """Which columns are nominal, bool [D]."""
        raise NotImplementedError

    def _make(self, continuous, nominal, codes, amounts):
        """The new rows (`ltjax.resampling.SyntheticMixed`)."""
        raise NotImplementedError

    def _check_parameters(self):
        name, k = type(self).__name__, self.k_neighbors
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"{name}: k_neighbors is {k!r}, expected an integer >= 1")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags


class SMOTENC(NominalSampler):
    """SMOTE for tables with continuous and nominal columns.

    Args:
        categorical_features: which columns are nominal: a mask [D], indices, names of
            a data frame's columns, or "auto" for its columns that hold no numbers.
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.
        k_neighbors: see `SMOTE`.

    Attributes:
        sampling_strategy_: dict class -> number of new rows.
        categorical_features_: indices of the nominal columns.
        plan_: see `SMOTE`.

    Example:
        >>> x = np.array([[1.0, "a"], [2.0, "a"], [9.0, "b"], [8.0, "b"]], object)
        >>> sampler = SMOTENC([1], sampling_strategy={1: 3}, random_state=0)
        >>> x_new, y_new = sampler.fit_resample(x, [0, 0, 1, 1])
        >>> x_new[-1, 1], y_new
        ('b', [0, 0, 1, 1, 1])

    References:
        Chawla et al., "SMOTE", JAIR 2002, sec. 6.1; see `ltjax.resampling.smote_nc`.
    """

    def __init__(
        self,
        categorical_features="auto",
        *,
        sampling_strategy="auto",
        random_state=None,
        k_neighbors=5,
    ):
        self.categorical_features = categorical_features
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.k_neighbors = k_neighbors

    def _nominal(self, X, width):
        chosen, names = self.categorical_features, getattr(X, "columns", None)
        if isinstance(chosen, str):
            if chosen != "auto" or names is None:
                raise ValueError(
                    f"SMOTENC: categorical_features is {chosen!r}, expected a mask,"
                    " indices or names ('auto' needs a data frame)"
                )
            return np.array([not _is_number(dtype) for dtype in X.dtypes])
        chosen = np.asarray(chosen)
        if chosen.dtype.kind in "OU" and names is not None:
            unknown = [name for name in chosen.tolist() if name not in list(names)]
            if unknown:
                raise ValueError(
                    f"SMOTENC: categorical_features names {unknown}, but the columns"
                    f" are {list(names)}"
                )
            return np.isin(names, chosen)
        if chosen.dtype == bool and chosen.shape == (width,):
            return chosen
        inside = chosen.dtype.kind in "iu" and np.all((chosen >= 0) & (chosen < width))
        if chosen.ndim != 1 or not inside:
            raise ValueError(
                f"SMOTENC: categorical_features is {self.categorical_features!r},"
                f" expected a mask of {width} or indices in [0, {width})"
            )
        return np.isin(np.arange(width), chosen)

    def _make(self, continuous, nominal, codes, amounts):
        return smote_nc(
            key_from(self.random_state),
            continuous.astype(np.float64),
            nominal,
            codes,
            num_new=amounts,
            k=int(self.k_neighbors),
        )


class SMOTEN(NominalSampler):
    """SMOTE for tables of nominal columns only.

    Args:
        sampling_strategy: see `SMOTE`.
        random_state: int, RandomState or None.
        k_neighbors: see `SMOTE`.

    Attributes:
        sampling_strategy_: dict class -> number of new rows.
        categorical_features_: indices of the columns, all of them.
        plan_: see `SMOTE`.

    Example:
        >>> x = [["a", "u"], ["a", "u"], ["a", "v"], ["b", "w"]]
        >>> sampler = SMOTEN(sampling_strategy={1: 4}, random_state=0, k_neighbors=2)
        >>> sampler.fit_resample(x, [1, 1, 1, 0])[0][-1]
        ['a', 'u']

    References:
        Chawla et al., "SMOTE", JAIR 2002, sec. 6.2; see `ltjax.resampling.smote_n`.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None, k_neighbors=5):
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state
        self.k_neighbors = k_neighbors

    def _nominal(self, X, width):
        return np.ones(width, bool)

    def _make(self, continuous, nominal, codes, amounts):
        return smote_n(
            key_from(self.random_state),
            nominal,
            codes,
            num_new=amounts,
            k=int(self.k_neighbors),
        )


def _is_number(dtype) -> bool:
    import pandas

    is_bool = pandas.api.types.is_bool_dtype(dtype)
    return pandas.api.types.is_numeric_dtype(dtype) and not is_bool
