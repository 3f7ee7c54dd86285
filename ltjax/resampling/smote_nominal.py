r"""SMOTE for nominal features, given as integer codes.

SMOTE-NC has continuous and nominal features, SMOTE-N nominal ones only. Both take a
majority vote among neighbors where SMOTE interpolates. Mismatches are counted from the
codes: no one-hot encoding is made, memory is O(N F).
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_integers,
    check_range,
    check_rank,
    dtype_of,
    is_concrete,
)
from ltjax.class_stats import infer_num_classes
from ltjax.resampling._neighbor_index import sort_by_class
from ltjax.resampling._pairwise_search import mixed, same_class_by, value_difference
from ltjax.resampling._random import host_generator
from ltjax.resampling._smote_plan import (
    SmotePlan,
    choose_bases,
    classes_to_enlarge,
    new_points,
    pair_with_neighbors,
)
from ltjax.resampling.neighbors import check_features, check_labels
from ltjax.resampling.smote import synthesize


class SyntheticMixed(NamedTuple):
    """New points with continuous and nominal features.

    Attributes:
        continuous: [M, C] in the floating dtype of the originals ([M, 0] for SMOTE-N).
        nominal: [M, F] int32 codes.
        labels: [M] int32.
        plan: how they were made.
    """

    continuous: jax.Array | np.ndarray
    nominal: np.ndarray
    labels: np.ndarray
    plan: SmotePlan


def smote_nc(
    key: jax.Array,
    continuous: ArrayLike,
    nominal: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    bases: str = "stratified",
    block_size: int = 1024,
) -> SyntheticMixed:
    r"""SMOTE for continuous and nominal features.

    .. math::
        d^2(a, b) = \lVert a_c - b_c \rVert^2
        + \mathrm{Med}_y^2 \cdot \#\{f : a_f \ne b_f\}

    where Med of a class is the median over continuous features of their standard
    deviation in the class. The continuous part of a new point is interpolated, a
    nominal value is the most frequent one among the k neighbors of the base.

    Args:
        key: see `smote.smote`.
        continuous: [N, C] real, C >= 1.
        nominal: [N, F] int codes, F >= 1.
        labels: [N] int.
        num_new: [K] int; default balances the classes.
        k: neighbors.
        bases: see `smote.smote`.
        block_size: points compared at a time.

    Returns:
        The new points, class by class.

    Raises:
        TypeError: for traced arrays, or codes that are not integers.
        ValueError: for wrong shapes, NaN, or if one of the parts has no feature.

    Example:
        >>> x, codes = [[1.0, 2.0], [3.0, 2.0], [9.0, 9.0]], [[7], [7], [8]]
        >>> new = smote_nc(jax.random.key(0), x, codes, [1, 1, 0], num_new=[0, 2])
        >>> new.nominal.tolist()
        [[7], [7]]

    Limits: ties of a vote go to the lowest code. If Med is 0 (most features are
    constant in the class), nominal features do not count in its distances.

    References:
        Chawla et al., "SMOTE", JAIR 2002, sec. 6.1. imbalanced-learn breaks ties at
        random.
    """
    caller = "smote_nc"
    continuous = check_features(caller, "continuous", continuous)
    nominal = _check_codes(caller, nominal)
    if not continuous.shape[1] or not nominal.shape[1]:
        raise ValueError(
            f"{caller}: continuous have shape {continuous.shape} and nominal"
            f" {nominal.shape}, expected at least one feature each (smote is for"
            " continuous features only, smote_n for nominal ones)"
        )
    if len(nominal) != len(continuous):
        raise ValueError(
            f"{caller}: {len(continuous)} continuous but {len(nominal)} nominal rows"
        )
    labels = check_labels(caller, labels, len(nominal))
    centered, medians = _center_by_class(continuous, labels)
    weight = np.square(medians)[labels].astype(np.float32)

    def search(rows):
        points = (centered, nominal)
        return same_class_by(
            mixed, (*points, weight), points, (), labels, rows, k, block_size
        )

    plan, table, at = _plan(caller, key, labels, num_new, bases, search)
    votes = _majority(nominal, table)[at]
    alone = plan.neighbor == plan.base
    votes = np.where(alone[:, None], nominal[plan.base], votes)
    return SyntheticMixed(synthesize(continuous, plan), votes, plan.labels, plan)


def smote_n(
    key: jax.Array,
    nominal: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    power: float = 1.0,
    bases: str = "stratified",
    block_size: int = 1024,
) -> SyntheticMixed:
    r"""SMOTE for nominal features only.

    Neighbors are nearest in the value-difference metric,
    :math:`d(a, b) = \sum_f \delta_f(a_f, b_f)^2` (see `value_difference_table`). Each
    value of a new point is the most frequent one among the base *and* its k neighbors.

    Args:
        key: see `smote.smote`.
        nominal: [N, F] int codes >= 0, F >= 1.
        labels: [N] int.
        num_new: [K] int; default balances the classes.
        k: neighbors.
        power: r' of the value difference.
        bases: see `smote.smote`.
        block_size: points compared at a time.

    Returns:
        The new points, class by class; `continuous` is empty.

    Raises:
        TypeError: for traced arrays, or codes that are not integers.
        ValueError: for wrong shapes or negative codes.

    Example:
        >>> codes = [[0, 4], [0, 4], [1, 4], [2, 2]]
        >>> new = smote_n(jax.random.key(0), codes, [1, 1, 1, 0], num_new=[0, 1], k=2)
        >>> new.nominal.tolist()
        [[0, 4]]

    Limits: a base always gets the same vote, so few bases make many equal points.

    References:
        Chawla et al., JAIR 2002, sec. 6.2. imbalanced-learn leaves the base out of the
        vote; ties go to the lowest code here.
    """
    caller = "smote_n"
    nominal = _check_codes(caller, nominal)
    if not nominal.shape[1] or nominal.min(initial=0) < 0:
        raise ValueError(
            f"{caller}: nominal has shape {nominal.shape} and minimum"
            f" {nominal.min(initial=0)}, expected codes >= 0 of at least one feature"
        )
    labels = check_labels(caller, labels, len(nominal))
    size = max(infer_num_classes(caller, nominal.ravel(), name="nominal"), 1)
    tables = np.stack(
        [
            value_difference_table(codes, labels, num_values=size, power=power)
            for codes in nominal.T
        ]
    )
    tables = np.square(tables).astype(np.float32)

    def search(rows):
        return same_class_by(
            value_difference,
            (nominal,),
            (nominal,),
            (tables,),
            labels,
            rows,
            k,
            block_size,
        )

    plan, table, at = _plan(caller, key, labels, num_new, bases, search)
    rows = np.unique(plan.base)
    votes = _majority(nominal, np.concatenate([rows[:, None], table], axis=1))[at]
    empty = np.zeros((len(votes), 0), np.float32)
    return SyntheticMixed(empty, votes, plan.labels, plan)


def value_difference_table(
    codes: ArrayLike,
    labels: ArrayLike,
    *,
    num_values: int | None = None,
    power: float = 1.0,
) -> np.ndarray:
    r"""Value differences of one nominal feature.

    .. math:: \delta(a, b) = \sum_k |P(y = k \mid a) - P(y = k \mid b)|^{r'}

    Args:
        codes: [N] int >= 0.
        labels: [N] int.
        num_values: V; default the largest code + 1. A value that does not occur has
            conditional probabilities 0.
        power: r' > 0.

    Returns:
        [V, V] float64, symmetric, zero diagonal.

    Raises:
        ValueError: if power is not positive, or lengths differ.
        TypeError: if codes or labels are not integers.

    Example:
        >>> codes, labels = [0] * 10 + [1] * 6, [0] * 8 + [1] * 2 + [0] * 3 + [1] * 3
        >>> round(float(value_difference_table(codes, labels)[0, 1]), 6)
        0.6

    References:
        Stanfill, Waltz, "Toward memory-based reasoning", CACM 1986; Chawla et al., JAIR
        2002, sec. 6.2.
    """
    check_range("value_difference_table", "power", power, low=0.0, open_low=True)
    caller = "value_difference_table"
    check_integers(caller, "codes", codes)
    check_rank(caller, "codes", codes, 1, "[N]")
    codes = np.asarray(codes).astype(np.int64)
    labels = check_labels(caller, labels, len(codes))
    if num_values is None:
        num_values = max(infer_num_classes(caller, codes, name="codes"), 1)
    outside = codes[(codes < 0) | (codes >= num_values)]
    if outside.size:
        raise ValueError(
            f"{caller}: codes hold {outside[0]}, expected values in [0, {num_values})"
        )
    counts = np.zeros((num_values, int(labels.max(initial=0)) + 1))
    np.add.at(counts, (codes, labels), 1)
    conditional = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    table = np.zeros((num_values, num_values))
    for column in conditional.T:
        table += np.abs(column[:, None] - column[None, :]) ** power
    return table


def _plan(caller, key, labels, num_new, bases, search):
    """The plan, the neighbors of its unique bases, and which of them each point has."""
    check_choice(caller, "bases", bases, ("stratified", "uniform"))
    amounts = new_points(caller, labels, num_new)
    base = [np.zeros(0, np.int32)]
    for label, rows, amount in classes_to_enlarge(labels, amounts):
        generator = host_generator(caller, key, label, 0)
        base.append(choose_bases(generator, rows, amount, bases))
    base = np.concatenate(base)
    rows, at = np.unique(base, return_inverse=True)
    table = search(rows)
    classes = np.repeat(np.arange(len(amounts), dtype=np.int32), amounts)
    return pair_with_neighbors(caller, key, base, classes, lambda _: table), table, at


def _majority(nominal: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Most frequent code [U, F] among rows `table` [U, k]; -1 does not vote."""
    votes = np.empty((len(table), nominal.shape[1]), np.int32)
    valid = table >= 0
    for feature in range(nominal.shape[1]):
        codes = nominal[table, feature]
        equal = (codes[:, :, None] == codes[:, None, :]) & valid[:, None, :]
        count = np.where(valid, equal.sum(axis=2), 0)
        best = (count == count.max(axis=1, keepdims=True)) & valid
        lowest = np.where(best, codes, np.iinfo(codes.dtype).max).min(axis=1)
        votes[:, feature] = np.where(valid.any(axis=1), lowest, 0)
    return votes


def _center_by_class(continuous: np.ndarray, labels: np.ndarray):
    """Features centered per class, float32 [N, C], and the median spread [K]."""
    order, bounds = sort_by_class(labels)
    centered = np.zeros(continuous.shape, np.float32)
    medians = np.zeros(len(bounds) - 1)
    for label in np.flatnonzero(np.diff(bounds)):
        rows = order[bounds[label] : bounds[label + 1]]
        members = continuous[rows].astype(np.float64)
        centered[rows] = members - members.mean(axis=0)
        medians[label] = np.median(members.std(axis=0))
    return centered, medians


def _check_codes(caller: str, nominal: ArrayLike) -> np.ndarray:
    if not is_concrete(nominal):
        raise TypeError(f"{caller}: nominal is traced, expected concrete codes")
    dtype_of(caller, "nominal", nominal)
    codes = np.asarray(nominal)
    if codes.dtype.kind not in "iub":
        raise TypeError(
            f"{caller}: nominal has dtype {codes.dtype}, expected integer codes"
        )
    if codes.ndim != 2:
        raise ValueError(f"{caller}: nominal has shape {codes.shape}, expected [N, F]")
    wide = codes[(codes < -(2**31)) | (codes >= 2**31)]
    if wide.size:
        raise ValueError(
            f"{caller}: nominal holds {wide[0]}, expected codes that int32 holds"
        )
    return codes.astype(np.int32)
