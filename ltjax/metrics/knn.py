r"""Nearest-neighbor classification: what labels say about features, without training.

The bank (the training set's features) is visited a block at a time with a running list
of the k nearest, so that no [B, N] matrix of similarities is stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_floating,
    check_integers,
    check_range,
    check_rank,
    check_where,
    check_whole,
    dtype_of,
    shape_of,
)
from ltjax._numerics import class_indices, l2_normalize, mask_rows
from ltjax._similarity_blocks import check_block, everywhere, over_blocks, whole_blocks

_HIGHEST = jax.lax.Precision.HIGHEST


class Neighbors(NamedTuple):
    """The k nearest rows of a bank, nearest first.

    Attributes:
        similarities: [B, k] float32, cosines, or minus half the squared distances;
            -inf where the bank has fewer than k rows.
        indices: [B, k] int32 rows of the bank, -1 where there is none.
    """

    similarities: jax.Array
    indices: jax.Array


def nearest_neighbors(
    queries: ArrayLike,
    bank: ArrayLike,
    *,
    k: int,
    metric: str = "cosine",
    bank_where: ArrayLike | None = None,
    block: int | None = 4096,
) -> Neighbors:
    """The k rows of the bank that are nearest to each query.

    Of rows equally near, the one that comes first in the bank is the nearer. The
    Euclidean distances are taken from products of centered features, which is exact to
    rounding; `ltjax.resampling` has a search with a bound on that rounding.

    Args:
        queries: [B, D] float.
        bank: [N, D] float.
        k: number of neighbors, at most N.
        metric: "cosine" or "euclidean"; they rank alike if all rows have unit norm.
        bank_where: optional [N] bool; False rows (padding) are nobody's neighbors.
        block: rows of the bank at a time; None for all.

    Returns:
        Neighbors.

    Raises:
        ValueError: if shapes disagree, k is not in [1, N] or the metric is unknown.
        TypeError: if the features are not floating point.

    Example:
        >>> bank = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> nearest_neighbors(jnp.array([[0.0, 3.0]]), bank, k=2).indices.tolist()
        [[1, 2]]
    """
    name = "nearest_neighbors"
    for argument, x in (("queries", queries), ("bank", bank)):
        check_rank(name, argument, x, 2, "[rows, D]")
        check_floating(name, argument, x)
    count, dim = shape_of(bank)
    if shape_of(queries)[1] != dim:
        raise ValueError(
            f"{name}: queries have shape {shape_of(queries)} and the bank"
            f" {shape_of(bank)}, expected equally many features"
        )
    check_whole(name, "k", k, low=1)
    if k > count:
        raise ValueError(f"{name}: k is {k}, expected an integer in [1, {count}]")
    check_choice(name, "metric", metric, ("cosine", "euclidean"))
    check_where(f"{name} (bank)", bank_where, (count,))
    check_block(name, block)
    dtype = jnp.result_type(jnp.float32, *map(jnp.asarray, (queries, bank)))
    queries = jnp.asarray(queries).astype(dtype)
    bank = everywhere(mask_rows(bank_where, jnp.asarray(bank).astype(dtype)))
    valid = jnp.ones((count,), bool) if bank_where is None else jnp.asarray(bank_where)
    if metric == "cosine":
        queries, bank = l2_normalize(queries), l2_normalize(bank)
        offset = jnp.zeros((count,), dtype)
    else:
        # Centered, as the expansion rounds in proportion to the norms.
        total = jnp.maximum(jnp.sum(valid), 1).astype(dtype)
        center = (jnp.sum(bank, axis=0) / total)[None, :]
        queries, bank = queries - center, bank - center
        offset = -0.5 * jnp.sum(jnp.square(bank), axis=1)
    offset = jnp.where(valid, offset, -jnp.inf)

    width = min(int(block or count), count)
    keys, offsets = whole_blocks((bank, offset), width)
    rows = jnp.arange(keys.shape[0], dtype=jnp.int32)

    def merge(best, part):
        keys, offsets, rows = part
        products = jnp.matmul(queries, keys.T, precision=_HIGHEST)
        found = products + offsets[None, :]
        places = jnp.broadcast_to(rows[None, :], found.shape)
        # What was found before goes first: of equals, top_k takes the first.
        found = jnp.concatenate([best[0], found], axis=1)
        places = jnp.concatenate([best[1], places], axis=1)
        values, at = jax.lax.top_k(found, int(k))
        return (values, jnp.take_along_axis(places, at, axis=1)), None

    size = queries.shape[0]
    none = jnp.full((size, int(k)), -jnp.inf, dtype)
    start = (none, jnp.full((size, int(k)), -1, jnp.int32))
    parts = (keys, jnp.where(rows < count, offsets, -jnp.inf), rows)
    (values, indices), _ = over_blocks(merge, start, parts, width)
    indices = jnp.where(values > -jnp.inf, indices, -1)
    if metric == "euclidean":
        half = 0.5 * jnp.sum(jnp.square(queries), axis=1, keepdims=True)
        values = jnp.minimum(values - half, 0.0)
    return Neighbors(values, indices)


def neighbor_votes(
    neighbors: Neighbors,
    bank_labels: ArrayLike,
    *,
    num_classes: int,
    temperature: float | ArrayLike | None = None,
) -> jax.Array:
    r"""What the neighbors vote for, :math:`\sum_m w_m [y_m = k]`.

    Args:
        neighbors: of `nearest_neighbors`.
        bank_labels: [N] int class indices of the bank; a label outside [0, K) does not
            vote.
        num_classes: K.
        temperature: T of the weights :math:`w_m = e^{(s_m - s_1) / T}`; None for one
            vote each.

    Returns:
        [B, K] float32.

    Raises:
        ValueError: if the temperature is not positive.

    Example:
        >>> found = Neighbors(jnp.array([[1.0, 0.9]]), jnp.array([[2, 0]]))
        >>> neighbor_votes(found, jnp.array([0, 1, 1]), num_classes=2).tolist()
        [[1.0, 1.0]]
    """
    check_whole("neighbor_votes", "num_classes", num_classes, low=1)
    check_integers("neighbor_votes", "bank_labels", bank_labels)
    check_rank("neighbor_votes", "bank_labels", bank_labels, 1, "[N]")
    if not shape_of(bank_labels)[0]:
        raise ValueError("neighbor_votes: bank_labels are empty, expected [N]")
    similarities, indices = neighbors
    missing = indices < 0
    if temperature is None:
        weights = jnp.ones_like(similarities)
    else:
        check_range("neighbor_votes", "temperature", temperature, low=0, open_low=True)
        # Only the ratios count, and the nearest has the largest weight.
        nearest = jnp.where(missing[:, :1], 0.0, similarities[:, :1])
        weights = jnp.exp((similarities - nearest) / jnp.asarray(temperature))
    labels = jnp.take(class_indices(bank_labels), jnp.maximum(indices, 0))
    labels = jnp.where(missing, -1, labels)
    classes = jax.nn.one_hot(labels, num_classes, dtype=similarities.dtype)
    return jnp.sum(weights[:, :, None] * classes, axis=1)


def knn_predict(
    queries: ArrayLike,
    bank: ArrayLike,
    bank_labels: ArrayLike,
    *,
    num_classes: int,
    k: int = 10,
    temperature: float | ArrayLike | None = None,
    metric: str = "cosine",
    bank_where: ArrayLike | None = None,
    block: int | None = 4096,
) -> jax.Array:
    """Class that most of the k nearest rows of a labeled bank belong to.

    Ties of the vote go to the lowest class. For an imbalanced bank report the mean of
    the per-class accuracies (`balanced_accuracy`), as the published tables do.

    Args:
        queries: [B, D] float, test features.
        bank: [N, D] float, training features.
        bank_labels: [N] int class indices.
        num_classes: K.
        k: number of neighbors; the tables have 1 and 10.
        temperature: None for one vote each; .07 or .1 weighs a neighbor of cosine s by
            exp(s / temperature).
        metric: "cosine" (of normalized features) or "euclidean".
        bank_where: optional [N] bool; False rows (padding) do not vote.
        block: rows of the bank at a time; None for all.

    Returns:
        [B] int32 class indices; -1 if nobody votes.

    Raises:
        ValueError: if shapes disagree, k is not in [1, N] or the temperature is not
            positive.
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> bank = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> labels, queries = jnp.array([4, 4, 2]), jnp.array([[1.0, 0.2], [0.0, 5.0]])
        >>> knn_predict(queries, bank, labels, num_classes=5, k=1).tolist()
        [4, 2]

    References:
        Kukleva et al., "Temperature Schedules for Self-Supervised Contrastive Methods
        on Long-Tail Data", ICLR 2023 (k of 1 and 10, one vote each, ties to the lowest
        class); Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination", CVPR 2018, section 3.4 (weighted votes).
    """
    name = "knn_predict"
    if not jnp.issubdtype(dtype_of(name, "bank_labels", bank_labels), jnp.integer):
        raise TypeError(
            f"{name}: bank_labels have dtype {jnp.result_type(bank_labels)}, expected"
            " integer"
        )
    if shape_of(bank_labels) != shape_of(bank)[:1]:
        raise ValueError(
            f"{name}: bank_labels have shape {shape_of(bank_labels)}, expected"
            f" {shape_of(bank)[:1]}"
        )
    found = nearest_neighbors(
        queries, bank, k=k, metric=metric, bank_where=bank_where, block=block
    )
    votes = neighbor_votes(
        found, bank_labels, num_classes=num_classes, temperature=temperature
    )
    winner = jnp.argmax(votes, axis=1).astype(jnp.int32)
    return jnp.where(jnp.any(votes > 0, axis=1), winner, -1)
