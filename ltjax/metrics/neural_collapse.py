r"""Neural collapse NC1-NC4, streamed over the training set in two passes.

With class means :math:`\mu_k`, their *unweighted* mean :math:`\mu_G`, centered means
:math:`m_k = \mu_k - \mu_G` and the columns :math:`w_k` of the head:

.. math::
    \Sigma_B = \frac1K \sum_k m_k m_k^\top, \qquad
    \Sigma_{W,k} = \frac1{n_k} \sum_{i: y_i = k} (h_i - \mu_k)(h_i - \mu_k)^\top, \qquad
    \mathrm{NC1}_k = \frac1K \mathrm{tr}(\Sigma_{W,k} \Sigma_B^\dagger)

The first pass finds the means (`ClassMeanState`), the host turns them into a whitening
map P with :math:`P^\top P = \Sigma_B^\dagger` (`collapse_geometry`, float64), and the
second pass adds :math:`\|P(h_i - \mu_{y_i})\|^2` (`CollapseState`): K numbers, not a
D x D matrix per class. Features must come from the network in evaluation mode, without
augmentation.

    means = ClassMeanState.empty(num_classes, dim)
    for batch in training_set: means = means.update(features, labels, mask)
    geometry = collapse_geometry(means)
    state = CollapseState.empty(num_classes)
    for batch in training_set:
        state = state.update(geometry, features, logits, labels, mask)
    metrics = collapse_metrics(geometry, state, head_weights)

References:
    Papyan, Han, Donoho, "Prevalence of neural collapse during the terminal phase of
    deep learning training", PNAS 2020. Their notebook leaves out the 1/K of NC1.
    Fang, He, Long, Su, "Exploring deep neural networks via layer-peeled model: minority
    collapse in imbalanced training", PNAS 2021.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_logits_labels,
    check_rank,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices
from ltjax.metrics.class_geometry import (
    equiangle_deviation,
    equinorm_deviation,
    minority_collapse,
)

# Eigenvalues of the between-class covariance below this share of the largest are zero.
_RELATIVE_CUTOFF = 1e-10


class CollapseGeometry(NamedTuple):
    """The class means of a training set, and what the second pass needs of them.

    Attributes:
        center: [..., D], mean of the class means.
        directions: [..., D, K], the centered class means, one column per class.
        whitening: [..., min(K, D), D], P; zero rows beyond the rank.
    """

    center: ArrayLike
    directions: ArrayLike
    whitening: ArrayLike


class CollapseMetrics(NamedTuple):
    """All are 0 under complete collapse, but for the two cosines (then 1; see text).

    Attributes:
        nc1: [...], tr(S_W S_B^+) / K with S_W over all examples: head classes dominate.
        nc1_balanced: [...], the mean of `nc1_per_class`.
        nc1_per_class: [..., K].
        nc2_equinorm_means, nc2_equinorm_weights: [...], coefficient of variation (with
            ddof = 1) of the norms of the centered means, of the head's columns.
        nc2_equiangle_means, nc2_equiangle_weights: [...], mean over pairs of
            abs(cosine + 1 / (K - 1)).
        nc3: [...], squared distance of head and centered means at unit Frobenius norm.
        nc3_cosines: [..., K], cosine of each head column with its centered mean.
        nc4: [...], share of examples where the network and the nearest class mean
            (Euclidean) disagree.
        nc4_per_class: [..., K].
        minority_collapse: [...], mean cosine among the columns of the given classes;
            1 when they have merged, -1 / (K - 1) in a simplex. NaN for fewer than two.
    """

    nc1: np.ndarray
    nc1_balanced: np.ndarray
    nc1_per_class: np.ndarray
    nc2_equinorm_means: np.ndarray
    nc2_equinorm_weights: np.ndarray
    nc2_equiangle_means: np.ndarray
    nc2_equiangle_weights: np.ndarray
    nc3: np.ndarray
    nc3_cosines: np.ndarray
    nc4: np.ndarray
    nc4_per_class: np.ndarray
    minority_collapse: np.ndarray


def _rows(caller, features, labels, mask, num_classes):
    """Checked batch: float features, and labels with K for rows that do not count."""
    check_rank(caller, "features", features, 2, "[B, D]")
    check_logits_labels(caller, features, labels)
    check_where(caller, mask, shape_of(labels))
    features, labels = at_least_float32(features), class_indices(labels)
    keep = jnp.ones(labels.shape, bool) if mask is None else jnp.asarray(mask)
    valid = (labels >= 0) & (labels < num_classes)
    invalid = jnp.sum(keep & ~valid, dtype=jnp.int32)
    row = jnp.where(keep & valid, labels, num_classes)
    return features, row, invalid


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassMeanState:
    """First pass: feature sums per class.

    Attributes:
        count: [K] int32.
        total: [K, D] float.
        invalid: int32 scalar, unmasked rows with a label outside [0, K).
    """

    count: jax.Array
    total: jax.Array
    invalid: jax.Array

    @classmethod
    def empty(
        cls, num_classes: int, dim: int, *, dtype: jax.typing.DTypeLike = jnp.float32
    ) -> "ClassMeanState":
        """The state before the first batch.

        Args:
            num_classes: K.
            dim: D, feature width.
            dtype: of the sums; float64 for more digits.

        Returns:
            A state of zeros.

        Example:
            >>> ClassMeanState.empty(3, 8).total.shape
            (3, 8)
        """
        return cls(
            count=jnp.zeros(num_classes, jnp.int32),
            total=jnp.zeros((num_classes, dim), dtype),
            invalid=jnp.zeros((), jnp.int32),
        )

    def update(
        self, features: ArrayLike, labels: ArrayLike, mask: ArrayLike | None = None
    ) -> "ClassMeanState":
        """Adds one batch.

        Args:
            features: [B, D] float.
            labels: [B] int class indices.
            mask: optional [B] bool; False rows (padding) do not count.

        Returns:
            The new state.

        Raises:
            ValueError: if shapes disagree.
            TypeError: if features are not floating or labels not integer.

        Example:
            >>> state = ClassMeanState.empty(2, 1)
            >>> state = state.update(jnp.array([[1.0], [3.0]]), jnp.array([1, 1]))
            >>> state.total.tolist()
            [[0.0], [4.0]]
        """
        num_classes, dim = self.total.shape
        caller = "ClassMeanState.update"
        features, row, invalid = _rows(caller, features, labels, mask, num_classes)
        if features.shape[1] != dim:
            raise ValueError(
                f"{caller}: features have shape {features.shape}, expected [B, {dim}]"
            )
        features = features.astype(self.total.dtype)
        return ClassMeanState(
            count=self.count.at[row].add(1, mode="drop"),
            total=self.total.at[row].add(features, mode="drop"),
            invalid=self.invalid + invalid,
        )

    def merge(self, other: "ClassMeanState") -> "ClassMeanState":
        """The state after the batches of both.

        Args:
            other: a state of the same shapes.

        Returns:
            Their sum.

        Example:
            >>> state = ClassMeanState.empty(2, 1)
            >>> state.merge(state).count.tolist()
            [0, 0]
        """
        return jax.tree.map(jnp.add, self, other)


def collapse_geometry(means: ClassMeanState) -> CollapseGeometry:
    """Center, directions and whitening of the class means, on the host in float64.

    Args:
        means: the finished first pass; leaves may have leading axes (replicas).

    Returns:
        CollapseGeometry of numpy arrays in the dtype of the sums. Hand it to a jitted
        second pass as an argument; its shapes do not depend on the rank.

    Raises:
        ValueError: if a class has no example or a label was out of range.

    Example:
        >>> state = ClassMeanState.empty(2, 2)
        >>> state = state.update(jnp.array([[0.0, 1.0], [4.0, 1.0]]), jnp.array([0, 1]))
        >>> collapse_geometry(state).center
        array([2., 1.], dtype=float32)
    """
    count, total, invalid = jax.device_get((means.count, means.total, means.invalid))
    if np.any(invalid > 0):
        raise ValueError(
            f"collapse_geometry: {int(np.max(invalid))} label(s) outside"
            f" [0, {count.shape[-1]})"
        )
    empty = np.argwhere(count == 0)
    if empty.size:
        raise ValueError(
            f"collapse_geometry: class {empty[0, -1]} has no example"
            f" ({len(empty)} such class(es)), so it has no mean"
        )
    mean = total.astype(np.float64) / count[..., None]
    center = mean.mean(axis=-2, keepdims=True)
    directions = mean - center
    num_classes = mean.shape[-2]
    # S_B = A^T A with A = directions / sqrt(K) = U s V^T, hence P = s^-1 V^T.
    _, s, vt = np.linalg.svd(directions / np.sqrt(num_classes), full_matrices=False)
    used = s**2 > _RELATIVE_CUTOFF * np.max(s**2, axis=-1, keepdims=True)
    inverse = np.where(used, 1 / np.where(used, s, 1.0), 0.0)
    whitening = inverse[..., None] * vt
    arrays = (center[..., 0, :], np.swapaxes(directions, -1, -2), whitening)
    return CollapseGeometry(*(x.astype(total.dtype) for x in arrays))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CollapseState:
    """Second pass: spread around the class means, and disagreements with them.

    Attributes:
        count: [K] int32.
        spread: [K] float, sum of the squared whitened distances to the class mean.
        disagree: [K] int32, examples whose nearest mean is not the network's class.
    """

    count: jax.Array
    spread: jax.Array
    disagree: jax.Array

    @classmethod
    def empty(
        cls, num_classes: int, *, dtype: jax.typing.DTypeLike = jnp.float32
    ) -> "CollapseState":
        """The state before the first batch.

        Args:
            num_classes: K.
            dtype: of the sums; float64 for more digits.

        Returns:
            A state of zeros.

        Example:
            >>> CollapseState.empty(3).spread.shape
            (3,)
        """
        return cls(
            count=jnp.zeros(num_classes, jnp.int32),
            spread=jnp.zeros(num_classes, dtype),
            disagree=jnp.zeros(num_classes, jnp.int32),
        )

    def update(
        self,
        geometry: CollapseGeometry,
        features: ArrayLike,
        logits: ArrayLike,
        labels: ArrayLike,
        mask: ArrayLike | None = None,
    ) -> "CollapseState":
        """Adds one batch of the same examples that the first pass has seen.

        Args:
            geometry: of `collapse_geometry`.
            features: [B, D] float.
            logits: [B, K] float, what the network predicts from.
            labels: [B] int class indices.
            mask: optional [B] bool; False rows (padding) do not count.

        Returns:
            The new state.

        Raises:
            ValueError: if shapes disagree.
            TypeError: if features or logits are not floating or labels not integer.

        Example:
            >>> x, y = jnp.array([[0.0], [2.0], [9.0], [9.0]]), jnp.array([0, 0, 1, 1])
            >>> geometry = collapse_geometry(ClassMeanState.empty(2, 1).update(x, y))
            >>> logits = jnp.array([[1.0, 0.0]] * 4)
            >>> CollapseState.empty(2).update(geometry, x, logits, y).disagree.tolist()
            [0, 2]
        """
        caller = "CollapseState.update"
        num_classes = self.count.shape[0]
        features, row, _ = _rows(caller, features, labels, mask, num_classes)
        check_logits_labels(caller, logits, labels)
        shapes = (shape_of(logits)[1:], shape_of(geometry.directions))
        if shapes != ((num_classes,), (features.shape[1], num_classes)):
            raise ValueError(
                f"{caller}: logits have shape {shape_of(logits)}, features"
                f" {features.shape} and the means {shapes[1]}, expected [B, K], [B, D]"
                f" and [D, K] with K = {num_classes}"
            )
        center, directions, whitening = (
            jnp.asarray(x, self.spread.dtype) for x in geometry
        )
        # Centered first: the means of ReLU features share a large common part.
        centered = features.astype(self.spread.dtype) - center[None]
        own = jnp.take(directions.T, row, axis=0, mode="clip")
        whitened = jnp.matmul(centered - own, whitening.T, precision="highest")
        spread = jnp.sum(jnp.square(whitened), axis=-1)

        nearness = jnp.matmul(centered, directions, precision="highest")
        nearness -= 0.5 * jnp.sum(jnp.square(directions), axis=0)[None]
        nearest = jnp.argmax(nearness, axis=-1)
        disagree = (nearest != jnp.argmax(logits, axis=-1)).astype(jnp.int32)
        return CollapseState(
            count=self.count.at[row].add(1, mode="drop"),
            spread=self.spread.at[row].add(spread, mode="drop"),
            disagree=self.disagree.at[row].add(disagree, mode="drop"),
        )

    def merge(self, other: "CollapseState") -> "CollapseState":
        """The state after the batches of both.

        Args:
            other: a state of the same shapes.

        Returns:
            Their sum.

        Example:
            >>> CollapseState.empty(2).merge(CollapseState.empty(2)).count.tolist()
            [0, 0]
        """
        return jax.tree.map(jnp.add, self, other)


def collapse_metrics(
    geometry: CollapseGeometry,
    state: CollapseState,
    weights: ArrayLike,
    *,
    few: ArrayLike | None = None,
) -> CollapseMetrics:
    """NC1-NC4 from the two passes and the head.

    Args:
        geometry: of `collapse_geometry`.
        state: the finished second pass.
        weights: [..., D, K], the kernel of the head, one column per class, without
            bias. For K = D a transposed kernel cannot be told from a right one.
        few: optional [K] bool, the classes of `minority_collapse` (default none).

    Returns:
        CollapseMetrics of float64 arrays.

    Raises:
        ValueError: if the shapes disagree, there is one class only, or the second pass
            saw no example of a class.

    Example:
        >>> x, y = jnp.eye(3), jnp.arange(3)
        >>> geometry = collapse_geometry(ClassMeanState.empty(3, 3).update(x, y))
        >>> state = CollapseState.empty(3).update(geometry, x, x, y)
        >>> result = collapse_metrics(geometry, state, 2 * geometry.directions)
        >>> [round(float(v), 9) for v in (result.nc1, result.nc3, result.nc4)]
        [0.0, 0.0, 0.0]
    """
    directions = np.asarray(geometry.directions, np.float64)
    dtype_of("collapse_metrics", "weights", weights)
    weights = np.asarray(jax.device_get(weights), np.float64)
    if weights.shape != directions.shape:
        raise ValueError(
            f"collapse_metrics: weights have shape {weights.shape}, expected"
            f" {directions.shape} [..., D, K] as the class means (one column per class)"
        )
    num_classes = directions.shape[-1]
    if num_classes < 2:
        raise ValueError(
            "collapse_metrics: geometry is of 1 class, expected at least 2, between"
            " which there are angles"
        )
    count, spread, disagree = (
        np.asarray(x, np.float64)
        for x in jax.device_get((state.count, state.spread, state.disagree))
    )
    if np.any(count == 0):
        raise ValueError(
            f"collapse_metrics: the second pass saw no example of class"
            f" {np.argwhere(count == 0)[0, -1]}"
        )
    per_class = spread / count / num_classes
    total = count.sum(axis=-1)
    frobenius = [
        x / np.linalg.norm(x, axis=(-2, -1), keepdims=True)
        for x in (weights, directions)
    ]
    norms = [np.linalg.norm(x, axis=-2) for x in (weights, directions)]
    few = np.zeros(num_classes, bool) if few is None else few
    return CollapseMetrics(
        nc1=spread.sum(axis=-1) / total / num_classes,
        nc1_balanced=per_class.mean(axis=-1),
        nc1_per_class=per_class,
        nc2_equinorm_means=equinorm_deviation(directions),
        nc2_equinorm_weights=equinorm_deviation(weights),
        nc2_equiangle_means=equiangle_deviation(directions),
        nc2_equiangle_weights=equiangle_deviation(weights),
        nc3=np.sum(np.square(frobenius[0] - frobenius[1]), axis=(-2, -1)),
        nc3_cosines=np.sum(weights * directions, axis=-2) / (norms[0] * norms[1]),
        nc4=disagree.sum(axis=-1) / total,
        nc4_per_class=disagree / count,
        minority_collapse=minority_collapse(weights, few),
    )
