r"""SMOTE: new points between neighboring points of the same class.

For a point :math:`x_i` of a class, one of its k nearest neighbors :math:`x_j` in that
class, and a step :math:`u \sim U[0, 1)`,

.. math:: x_{\mathrm{new}} = x_i + u\,(x_j - x_i) .

What is drawn, the *plan* (base, neighbor, step), is separate from the synthesis, so
that a plan can be kept, repeated on other features, or carried out on the device inside
a training step. There is one plan for all classes.

Resampling changes the class prior: a model trained on the result is not calibrated for
the original data. `ltjax.classifiers.prior_correction` undoes that; where only the
decision matters, moving the threshold of a model of the original data
(`ltjax.classifiers.move_threshold`) is often as good and costs nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_rank,
    is_concrete,
    shape_of,
)
from ltjax.resampling._random import host_generator
from ltjax.resampling._smote_plan import (
    SmotePlan,
    choose_bases,
    classes_to_enlarge,
    new_points,
    pair_with_neighbors,
)
from ltjax.resampling.neighbors import (
    check_features,
    check_labels,
    same_class_neighbors,
)

# Rows synthesized at a time where that is done on the host.
_ROWS = 65536
# Features of new points that are made on the host, in 0.03 s; compiling takes 0.3 s.
_FEW = 1 << 20


class Synthetic(NamedTuple):
    """New points; append them to the originals.

    Attributes:
        features: [M, D] in the floating dtype of the originals.
        labels: [M] int32.
        plan: how they were made.
    """

    features: jax.Array | np.ndarray
    labels: np.ndarray
    plan: SmotePlan


def smote(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    bases: str = "stratified",
    per_feature: bool = False,
    block_size: int = 2048,
) -> Synthetic:
    r"""Synthetic minority over-sampling: a plan, carried out.

    For tabular features, frozen embeddings and teaching; on images and deep networks it
    is a weak baseline. Standardize the features first: the neighbors depend on their
    scales.

    Args:
        key: random key; the draws of a class depend on it and on the class only.
        features: [N, D] real. Integers give float32 results; rounding is up to you.
        labels: [N] int class indices.
        num_new: [K] int, new points per class; default as many as bring every class to
            the size of the largest (`random_resampling.percent_new` gives amounts in
            percent).
        k: neighbors to choose from; a class of n offers min(k, n - 1).
        bases: "stratified" uses every point of a class equally often (the remainder is
            a random subset), as in the paper; "uniform" draws them with replacement.
        per_feature: a step per feature, so that the new point lies in the box that base
            and neighbor span, instead of on the segment between them.
        block_size: see `neighbors.nearest_neighbors`.

    Returns:
        The new points only, class by class in label order.

    Raises:
        TypeError: for traced arrays, non-integer labels or a wrong key.
        ValueError: for wrong shapes, NaN, or new points asked of an empty class.

    Example:
        >>> x = [[0.0], [1.0], [2.0], [9.0], [8.0]]
        >>> new = smote(jax.random.key(0), x, [0, 0, 0, 1, 1])
        >>> new.labels.tolist(), bool(8 <= new.features[0, 0] <= 9)
        ([1], True)

    Limits: k = 1 in a class of two makes points of one segment; a class of one point is
    replicated, with a warning; step 0 is replication.

    References:
        Chawla, Bowyer, Hall, Kegelmeyer, "SMOTE: Synthetic Minority Over-sampling
        Technique", JAIR 2002, sec. 4.2. The pseudo-code draws a gap per attribute, text
        and example one per point; we follow the text. imbalanced-learn draws bases with
        replacement, and with an integer seed the same numbers for every class.
    """
    plan = smote_plan(
        key,
        features,
        labels,
        num_new=num_new,
        k=k,
        bases=bases,
        per_feature=per_feature,
        block_size=block_size,
    )
    return Synthetic(synthesize(features, plan), plan.labels, plan)


def smote_plan(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_new: ArrayLike | None = None,
    k: int = 5,
    bases: str = "stratified",
    per_feature: bool = False,
    block_size: int = 2048,
) -> SmotePlan:
    """The plan of `smote`, without the new points.

    Args:
        key: see `smote`.
        features: [N, D] real.
        labels: [N] int.
        num_new: [K] int or None.
        k: neighbors to choose from.
        bases: "stratified" or "uniform".
        per_feature: a step per feature.
        block_size: see `neighbors.nearest_neighbors`.

    Returns:
        The plan. Only the points that serve as bases are searched for neighbors.

    Raises:
        TypeError: as `smote`.
        ValueError: as `smote`.

    Example:
        >>> plan = smote_plan(jax.random.key(0), [[0.0], [1.0]], [0, 0], num_new=[4])
        >>> (plan.base + plan.neighbor).tolist(), plan.labels.tolist()
        ([1, 1, 1, 1], [0, 0, 0, 0])

    References:
        Chawla et al., JAIR 2002.
    """
    caller = "smote"
    features = check_features(caller, "features", features)
    labels = check_labels(caller, labels, len(features))
    check_choice(caller, "bases", bases, ("stratified", "uniform"))
    amounts = new_points(caller, labels, num_new)
    base = [
        choose_bases(host_generator(caller, key, label, 0), rows, amount, bases)
        for label, rows, amount in classes_to_enlarge(labels, amounts)
    ]

    def neighbors(rows):
        found = same_class_neighbors(
            features, labels, k=k, rows=rows, block_size=block_size
        )
        return np.asarray(found.indices)

    return pair_with_neighbors(
        caller,
        key,
        np.concatenate([*base, np.zeros(0, np.int32)]),
        np.repeat(np.arange(len(amounts), dtype=np.int32), amounts),
        neighbors,
        num_features=features.shape[1] if per_feature else None,
    )


def synthesize(features: ArrayLike, plan: SmotePlan) -> jax.Array | np.ndarray:
    """Carries out a plan: `base + step * (neighbor - base)`.

    Args:
        features: [N, D] real, the features that the plan's rows refer to, or others of
            the same examples (an embedding, say).
        plan: rows and steps; may be traced.

    Returns:
        [M, D] of the features' floating dtype (float32 for integers). numpy float64
        stays on the host, as the device would round it unless x64 is enabled.

    Raises:
        ValueError: if a step per feature does not fit the features, or the plan names
            rows that they do not have.

    Example:
        >>> base, neighbor, step = np.array([0]), np.array([1]), np.array([0.25])
        >>> plan = SmotePlan(base, neighbor, step, labels=np.array([0]))
        >>> synthesize(np.array([[6.0, 4.0], [4.0, 3.0]]), plan).tolist()
        [[5.5, 3.75]]
    """
    check_rank("synthesize", "features", features, 2, "[N, D]")
    count, width = shape_of(features)
    if is_concrete(plan.base, plan.neighbor) and len(plan.base):
        last = max(int(np.max(plan.base)), int(np.max(plan.neighbor)))
        if last >= count:
            raise ValueError(
                f"synthesize: the plan names row {last}, but features have {count} rows"
            )
    if np.ndim(plan.step) == 2 and np.shape(plan.step)[1] != width:
        raise ValueError(
            f"synthesize: the plan has steps for {np.shape(plan.step)[1]} features,"
            f" but features have {width}"
        )
    if not isinstance(features, jax.Array):
        features = np.asarray(features)
        if features.dtype == np.float64 and _device_rounds():
            return _synthesize_on_host(features, plan)
        if is_concrete(*plan[:3]) and len(plan.base) * width <= _FEW:
            return jnp.asarray(_interpolated(features, *map(np.asarray, plan[:3])))
    return _synthesize(jnp.asarray(features), *plan[:3])


def _interpolated(features, base, neighbor, step):
    if not jnp.issubdtype(features.dtype, jnp.floating):
        features = features.astype(jnp.float32)
    step = step if step.ndim == 2 else step[:, None]
    start = features[base]
    return (start + step * (features[neighbor] - start)).astype(features.dtype)


_synthesize = jax.jit(_interpolated)


def _synthesize_on_host(features, plan):
    new = np.empty((len(plan.base), features.shape[1]), features.dtype)
    for at in range(0, len(new), _ROWS):
        base, neighbor, step = (x[at : at + _ROWS] for x in plan[:3])
        start = features[base]
        move = features[neighbor] - start
        move *= step if step.ndim == 2 else step[:, None]
        np.add(start, move, out=new[at : at + _ROWS])
    return new


def _device_rounds() -> bool:
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float32
