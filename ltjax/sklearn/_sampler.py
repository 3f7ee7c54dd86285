"""What the samplers share: checks of the data, and the containers they came in."""

import dataclasses
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils import InputTags, Tags, TargetTags, _safe_indexing, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from ltjax.sklearn._sampling_strategy import kept_per_class, new_points_per_class


@dataclasses.dataclass
class _SamplerTags:
    sample_indices: bool = False


@dataclasses.dataclass
class _InputTags(InputTags):
    dataframe: bool = False


@dataclasses.dataclass
class _Tags(Tags):
    sampler_tags: _SamplerTags = dataclasses.field(default_factory=_SamplerTags)


class Target(NamedTuple):
    """A target, however it was given.

    Attributes:
        classes: [K] labels in order; columns of a one-hot target.
        codes: [N] index of each example's class.
        dtype: of the target.
        one_hot: number of columns of a one-hot target, or None.
    """

    classes: np.ndarray
    codes: np.ndarray
    dtype: np.dtype
    one_hot: int | None

    def array(self, codes: np.ndarray) -> np.ndarray:
        """The classes `codes` [M] in the form of the target: [M] or one-hot [M, C]."""
        labels = self.classes[codes]
        if self.one_hot is None:
            return labels.astype(self.dtype, copy=False)
        return (labels[:, None] == np.arange(self.one_hot)).astype(self.dtype)


class Sampler(OneToOneFeatureMixin, BaseEstimator):
    """A sampler of imbalanced-learn's interface (which is not needed)."""

    _sampling_type = "over-sampling"
    _selects_rows = False  # and so takes features of any kind
    sampling_strategy: Any  # set by the constructor of each sampler

    def fit(self, X, y):
        """Checks the data and works out the size of every class afterwards.

        Args:
            X: [N, D] array-like.
            y: [N] labels, or [N, K] one-hot.

        Returns:
            self.
        """
        self._check(X, y)
        return self

    def _check_parameters(self) -> None:
        """Refuses bad parameters before any data are looked at."""

    def _validated(self, X, y):
        """X as an array or sparse matrix, and y as it is."""
        if self._selects_rows:
            return validate_data(
                self,
                X,
                y,
                accept_sparse=["csr", "csc"],
                dtype=None,
                ensure_all_finite=False,
            )
        return validate_data(self, X, y, accept_sparse=["csr", "csc"])

    def _check(self, X, y) -> tuple[Any, Target]:
        name = type(self).__name__
        self._check_parameters()
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None"
            )
        check_classification_targets(y)
        kind = type_of_target(y)
        refused = f"{name}: Multilabel and multioutput targets are not supported."
        columns = None
        if kind == "multiclass-multioutput":
            raise ValueError(refused)
        if kind == "multilabel-indicator":
            table = y.toarray() if sparse.issparse(y) else np.asarray(y)
            if np.any(table.sum(axis=1) != 1):
                raise ValueError(refused)
            columns, dtype, y = table.shape[1], table.dtype, table.argmax(axis=1)
        else:
            y = column_or_1d(y)
            dtype = y.dtype
        X, y = cast(tuple[Any, np.ndarray], self._validated(X, y))
        rule = new_points_per_class
        if self._sampling_type == "under-sampling":
            rule = kept_per_class
        self.sampling_strategy_ = rule(self.sampling_strategy, y, name)
        classes, codes = np.unique(y, return_inverse=True)
        return X, Target(classes, codes, dtype, columns)

    def _amounts(self, target: Target) -> np.ndarray:
        """Number in `sampling_strategy_` of each class [K], 0 where there is none."""
        named = [self.sampling_strategy_.get(k, 0) for k in target.classes.tolist()]
        return np.array(named)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        return _Tags(
            estimator_type="sampler",
            target_tags=TargetTags(required=True),
            transformer_tags=tags.transformer_tags,
            input_tags=_InputTags(
                sparse=True,
                dataframe=True,
                string=self._selects_rows,
                allow_nan=self._selects_rows,
            ),
            sampler_tags=_SamplerTags(sample_indices=self._selects_rows),
        )


def dense_floats(X) -> np.ndarray:
    """X as a dense array of float32 or float64."""
    dense = X.toarray() if sparse.issparse(X) else X
    return dense if dense.dtype in (np.float32, np.float64) else dense.astype(float)


def appended(like, X, new: np.ndarray):
    """X with the rows `new` [M, D] appended, in the container and dtypes of `like`.

    Columns of a data frame keep their dtypes, the new values of an integer (or bool)
    column being rounded; an integer array becomes float64.
    """
    if hasattr(like, "iloc") and not sparse.issparse(X):
        return _appended_frame(like, list(new.T))
    dense = np.concatenate([dense_floats(X), new])
    if sparse.issparse(X):
        dense = type(X)(dense)
    return back_to(like, dense)


def appended_columns(like, X: np.ndarray, new: list[np.ndarray]):
    """X [N, D] of any dtype with D columns [M] appended, in the container of `like`."""
    if hasattr(like, "iloc"):
        return _appended_frame(like, new)
    below = np.empty((len(new[0]), len(new)), X.dtype)
    for at, column in enumerate(new):
        below[:, at] = column
    return back_to(like, np.concatenate([X, below]))


def _appended_frame(like, new: list[np.ndarray]):
    import pandas

    columns = {}
    for at, values in enumerate(new):
        dtype = like.dtypes.iloc[at]
        if np.issubdtype(values.dtype, np.floating):
            whole = not pandas.api.types.is_float_dtype(dtype)
            values = np.rint(values).astype(np.int64) if whole else values
        columns[at] = pandas.Series(values).astype(dtype)
    below = pandas.DataFrame(columns)
    below.columns = like.columns
    return pandas.concat([like, below], ignore_index=True)


def back_to(like, array):
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


def rows_of(like, X, rows: np.ndarray):
    """The rows `rows` of the data, in the container of `like`."""
    if hasattr(like, "iloc"):
        return like.iloc[rows]
    if isinstance(like, list):
        return [like[row] for row in rows]
    return _safe_indexing(X, rows)
