r"""SMOTE with other bases: Borderline-SMOTE and ADASYN.

They differ from `smote` only in how often a point serves as a base, judged by its
neighbors of other classes in the whole data. Their plans are carried out in the same
way.
"""

import warnings

import jax
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_integers,
    check_rank,
    check_whole,
)
from ltjax.resampling._random import host_generator
from ltjax.resampling._smote_plan import (
    choose_bases,
    classes_to_enlarge,
    new_points,
    pair_with_neighbors,
)
from ltjax.resampling.neighbors import (
    check_features,
    check_labels,
    nearest_neighbors,
    same_class_neighbors,
)
from ltjax.resampling.smote import Synthetic, synthesize


def borderline_smote(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    m: int = 10,
    kind: str = "borderline-1",
    bases: str = "stratified",
    block_size: int = 2048,
) -> Synthetic:
    r"""SMOTE from the points near the class boundary only.

    Of the m nearest neighbors of a point in the whole data, m' belong to other classes.
    The point is noise if m' = m, in *danger* if :math:`m/2 \le m' < m`, else safe. Only
    points in danger are bases.

    Args:
        key: see `smote.smote`.
        features: [N, D] real.
        labels: [N] int.
        num_new: [K] int; default balances the classes.
        k: neighbors to interpolate to.
        m: neighbors that judge the danger; at most N - 1 are used.
        kind: "borderline-1" interpolates to neighbors in the class. "borderline-2"
            takes the neighbors in the whole data, and towards another class goes less
            than half the way.
        bases: see `smote.smote`.
        block_size: see `neighbors.nearest_neighbors`.

    Returns:
        The new points, class by class. A class without a point in danger gets none, and
        a warning says so.

    Raises:
        TypeError: as `smote.smote`.
        ValueError: as `smote.smote`, or for an unknown kind.

    Example:
        >>> x = [[0.0], [1.0], [2.0], [2.5], [3.0], [4.0], [9.0]]
        >>> y = [0, 0, 0, 1, 0, 0, 1]
        >>> new = borderline_smote(jax.random.key(0), x, y, m=6, k=1)
        >>> new.plan.base.tolist(), new.plan.neighbor.tolist()
        ([3, 6, 3], [6, 3, 6])

    References:
        Han, Wang, Mao, "Borderline-SMOTE: A New Over-Sampling Method in Imbalanced Data
        Sets Learning", ICIC 2005. imbalanced-learn skips a class without danger in
        silence, and its second kind multiplies two random gaps.
    """
    caller = "borderline_smote"
    check_choice(caller, "kind", kind, ("borderline-1", "borderline-2"))
    check_choice(caller, "bases", bases, ("stratified", "uniform"))
    features = check_features(caller, "features", features)
    labels = check_labels(caller, labels, len(features))
    amounts = new_points(caller, labels, num_new)
    base, classes = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    judged = _judge(features, labels, amounts, m, block_size)
    for label, rows, amount, foreign, found in judged:
        danger = rows[(2 * foreign >= found) & (foreign < found)]
        if danger.size == 0:
            warnings.warn(
                f"{caller}: class {label} has no point in danger, so no point is made"
                f" for it ({amount} were asked)",
                stacklevel=2,
            )
            continue
        generator = host_generator(caller, key, label, 0)
        base.append(choose_bases(generator, danger, amount, bases))
        classes.append(np.full(amount, label, np.int32))

    def neighbors(rows):
        if kind == "borderline-1":
            found = same_class_neighbors(
                features, labels, k=k, rows=rows, block_size=block_size
            )
        else:
            found = nearest_neighbors(
                features[rows], features, k=k, itself=rows, block_size=block_size
            )
        return np.asarray(found.indices)

    plan = pair_with_neighbors(
        caller, key, np.concatenate(base), np.concatenate(classes), neighbors
    )
    if kind == "borderline-2":
        towards_others = labels[plan.neighbor] != plan.labels
        plan = plan._replace(step=np.where(towards_others, plan.step / 2, plan.step))
    return Synthetic(synthesize(features, plan), plan.labels, plan)


def adasyn(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    block_size: int = 2048,
) -> Synthetic:
    r"""Adaptive synthetic sampling: more new points where the class is hard to learn.

    .. math::
        g_i \approx G \frac{\rho_i}{\sum_j \rho_j}, \qquad \sum_i g_i = G, \qquad
        \rho_i = \frac{\text{neighbors of } i \text{ in other classes}}{k}

    Args:
        key: see `smote.smote`.
        features: [N, D] real.
        labels: [N] int.
        num_new: [K] int, G of each class; default balances the classes.
        k: neighbors, in the whole data for rho, in the class for interpolation.
        block_size: see `neighbors.nearest_neighbors`.

    Returns:
        The new points, class by class, exactly as many as asked for (see
        `adasyn_amounts`; equal shares are rounded up for points drawn at random).

    Raises:
        TypeError: as `smote.smote`.
        ValueError: as `smote.smote`, or if no neighbor is of another class.

    Example:
        >>> x, y = [[0.0], [1.0], [2.0], [2.5], [3.0]], [0, 0, 0, 1, 1]
        >>> adasyn(jax.random.key(0), x, y, num_new=[0, 4], k=2).plan.base.tolist()
        [3, 3, 4, 4]

    References:
        He, Bai, Garcia, Li, "ADASYN: Adaptive Synthetic Sampling Approach for
        Imbalanced Learning", IJCNN 2008. The paper rounds every share for itself, so
        that few points asked over many bases are none; imbalanced-learn does so too.
    """
    caller = "adasyn"
    features = check_features(caller, "features", features)
    labels = check_labels(caller, labels, len(features))
    amounts = new_points(caller, labels, num_new)
    base, classes = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    judged = _judge(features, labels, amounts, k, block_size)
    for label, rows, amount, foreign, _ in judged:
        if not foreign.any():
            raise ValueError(
                f"{caller}: no point of class {label} has a neighbor of another class"
                f" among its {k}, so there is nothing to adapt to; use smote"
            )
        # Which of equal shares are rounded up must not depend on the order of rows.
        order = host_generator(caller, key, label, 0).permutation(len(rows))
        made = np.empty(len(rows), np.int64)
        made[order] = adasyn_amounts(foreign[order], amount)
        base.append(np.repeat(rows, made))
        classes.append(np.full(len(base[-1]), label, np.int32))

    def neighbors(rows):
        found = same_class_neighbors(
            features, labels, k=k, rows=rows, block_size=block_size
        )
        return np.asarray(found.indices)

    plan = pair_with_neighbors(
        caller, key, np.concatenate(base), np.concatenate(classes), neighbors
    )
    return Synthetic(synthesize(features, plan), plan.labels, plan)


def adasyn_amounts(foreign: ArrayLike, total: int) -> np.ndarray:
    """New points per base in proportion to its number of foreign neighbors.

    Shares are rounded down, and what is missing goes to the largest remainders (of
    equal ones the larger share, then the lower index), so that no point is lost.

    Args:
        foreign: [n] int, neighbors of other classes among each point's k.
        total: G.

    Returns:
        [n] int that sum to G.

    Raises:
        ValueError: if all of `foreign` are zero, or G is negative.

    Example:
        >>> adasyn_amounts([2, 5, 0, 3, 0], 40).tolist()
        [8, 20, 0, 12, 0]

    References:
        He et al., IJCNN 2008, steps 2-4, which round each share by itself; the largest
        remainders are Hamilton's method of apportionment.
    """
    check_whole("adasyn_amounts", "total", total)
    check_integers("adasyn_amounts", "foreign", foreign)
    check_rank("adasyn_amounts", "foreign", foreign, 1, "[n]")
    foreign = np.asarray(foreign, np.int64)
    if foreign.sum() == 0:
        raise ValueError("adasyn_amounts: foreign is all zero, expected a neighbor")
    # In integers: a share must not lose a point to rounding.
    amounts, remainders = np.divmod(foreign * int(total), foreign.sum())
    missing = int(total) - int(amounts.sum())
    first = np.lexsort((-foreign, -remainders))[:missing]
    amounts[first] += 1
    return amounts


def _judge(features, labels, amounts, m: int, block_size: int):
    """Yields (class, rows, amount, foreign, found) of each class to enlarge.

    `foreign` of the `found` nearest neighbors of a row belong to other classes. One
    search in the whole data serves all classes.
    """
    parts = list(classes_to_enlarge(labels, amounts))
    rows = np.concatenate([np.zeros(0, np.int32), *(rows for _, rows, _ in parts)])
    neighbors = nearest_neighbors(
        features[rows], features, k=m, itself=rows, block_size=block_size
    )
    indices = np.asarray(neighbors.indices)
    exists = indices >= 0
    foreign = ((labels[indices] != labels[rows][:, None]) & exists).sum(axis=1)
    found, start = exists.sum(axis=1), 0
    for label, members, amount in parts:
        span = slice(start, start + len(members))
        yield label, members, amount, foreign[span], found[span]
        start = span.stop
