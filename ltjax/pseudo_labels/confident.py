r"""Which examples and pairs to believe, by the votes of near neighbors (Sel-CL).

Host functions in numpy: similarities of all pairs, `CHUNK` rows at a time.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_integers,
    check_range,
    check_rank,
    check_where,
    check_whole,
    dtype_of,
    shape_of,
)
from ltjax.class_stats import count_labels

CHUNK = 1024
BINS = 100_000  # of cosines in `similarity_limit`, 2e-5 wide


class NeighborVotes(NamedTuple):
    """What the neighbors say.

    Attributes:
        corrected: int64 [N], the class that most neighbors are given.
        shares: float64 [N, K], of the neighbors by their corrected class.
    """

    corrected: np.ndarray
    shares: np.ndarray


def neighbor_votes(
    features: ArrayLike, labels: ArrayLike, num_classes: int, *, k: int = 250
) -> NeighborVotes:
    """Two votes of the k nearest other examples by cosine, the second on the first.

    Args:
        features: [N, D] float, any norm.
        labels: [N] int, the given labels.
        num_classes: K.
        k: neighbors that vote; at most N - 1 do.

    Returns:
        NeighborVotes. Ties go to the lower class.

    Raises:
        ValueError: if shapes disagree or there are fewer than two examples.

    Example:
        >>> x = [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]]
        >>> neighbor_votes(x, [0, 0, 1, 1, 1], 2, k=2).corrected.tolist()
        [0, 0, 0, 1, 1]

    References:
        Li, Xia, Ge, Liu, "Selective-Supervised Contrastive Learning with Noisy Labels",
        CVPR 2022. The released code removes the wrong column of each chunk, so that an
        example votes for itself; here it does not.
    """
    caller = "neighbor_votes"
    check_rank(caller, "features", features, 2, "[N, D]")
    check_whole(caller, "k", k, low=1)
    count_labels(labels, num_classes)  # refuses what is no class
    units, labels = _units(features), np.asarray(labels)
    if labels.shape != units.shape[:1] or len(labels) < 2:
        raise ValueError(
            f"{caller}: labels have shape {labels.shape} and features {units.shape},"
            " expected [N] and [N, D] with N >= 2"
        )
    k = min(k, len(units) - 1)
    near = np.empty((len(units), k), np.int64)
    for begin in range(0, len(units), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(units)))
        cosines = units[rows] @ units.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        near[rows] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    corrected = _shares(labels[near], num_classes).argmax(axis=1)
    return NeighborVotes(corrected, _shares(corrected[near], num_classes))


def confident_examples(
    shares: ArrayLike, labels: ArrayLike, *, quantile: float = 0.5
) -> np.ndarray:
    r"""As many examples of every class as there are in a middling one, the surest.

    With :math:`m_c` the examples given c of which most neighbors say so, and :math:`n`
    the quantile of :math:`m_c` over the classes, class c keeps the
    :math:`\min(\lfloor n \rfloor, N_c)` examples with the largest share of their own
    label. A class that is smaller than that keeps everything, wrong labels included.

    Args:
        shares: [N, K], see `neighbor_votes`.
        labels: [N] int, the given labels.
        quantile: over the classes: 0.5 for the median, 0 for the least, 1 for the most.

    Returns:
        bool [N].

    Raises:
        ValueError: if shapes disagree or the quantile is out of range.

    Example:
        >>> shares = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]
        >>> confident_examples(shares, [0, 0, 0, 1], quantile=0.0).tolist()
        [True, False, False, True]

    References:
        See `neighbor_votes`. The negative logarithm of the share, clipped to
        [0.01, 0.99] there, ranks as the clipped share does; equal ones go by index.
    """
    caller = "confident_examples"
    check_rank(caller, "shares", shares, 2, "[N, K]")
    check_range(caller, "quantile", quantile, low=0, high=1)
    check_integers(caller, "labels", labels)
    shares, labels = np.asarray(shares), np.asarray(labels)
    if labels.shape != shares.shape[:1]:
        raise ValueError(
            f"{caller}: labels have shape {labels.shape}, expected"
            f" {shape_of(shares)[:1]}"
        )
    num_classes = shares.shape[1]
    count_labels(labels, num_classes)  # refuses what is no class
    labels = labels.astype(np.int64)  # an empty list is of floats
    own = np.clip(shares[np.arange(len(labels)), labels], 0.01, 0.99)
    agree = shares.argmax(axis=1) == labels
    agreeing = np.bincount(labels[agree], minlength=num_classes)
    size = int(np.quantile(agreeing, quantile))
    kept = np.zeros(len(labels), bool)
    for c in range(num_classes):
        members = np.flatnonzero(labels == c)
        order = np.argsort(-own[members], kind="stable")
        kept[members[order[:size]]] = True
    return kept


def similarity_limit(
    features: ArrayLike, labels: ArrayLike, kept: ArrayLike, *, quantile: float = 0.25
) -> float:
    """Cosine from which a pair of equal labels is believed, kept or not.

    Args:
        features: [N, D] float, any norm.
        labels: [N] int, the given labels.
        kept: [N] bool, see `confident_examples`.
        quantile: of the cosines of all pairs of kept examples of the same class.

    Returns:
        The cosine, to within 2e-5; infinity if there is no such pair.

    Raises:
        ValueError: if shapes disagree or the quantile is out of range.
        TypeError: if kept is not bool.

    Example:
        >>> x = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
        >>> round(similarity_limit(x, [0, 0, 1], [True] * 3), 3)
        0.6
    """
    caller = "similarity_limit"
    check_range(caller, "quantile", quantile, low=0, high=1)
    check_rank(caller, "features", features, 2, "[N, D]")
    check_rank(caller, "labels", labels, 1, "[N]")
    if shape_of(labels) != shape_of(features)[:1]:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(features)[:1]}, one per row of features"
        )
    dtype_of(caller, "kept", kept)
    check_where(caller, kept, shape_of(labels), name="kept")
    units, labels = _units(features), np.asarray(labels)
    found = np.zeros(BINS, np.int64)
    for c in np.unique(labels):
        rows = units[np.asarray(kept) & (labels == c)]
        for begin in range(0, len(rows), CHUNK):
            chunk = rows[begin : begin + CHUNK]
            cosines = chunk @ rows[begin:].T
            later = np.triu(np.ones(cosines.shape, bool), 1)
            place = ((cosines[later] + 1) / 2 * BINS).astype(np.int64)
            found += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
    total = found.sum()
    if not total:
        return float("inf")
    place = np.searchsorted(np.cumsum(found), max(quantile * total, 1))
    return float(2 * (place + 0.5) / BINS - 1)


def _units(features: ArrayLike) -> np.ndarray:
    rows = np.asarray(features, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _shares(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """[N, K], the share of each class in the rows of [N, k]."""
    votes = np.zeros((len(classes), num_classes))
    np.add.at(votes, (np.arange(len(classes))[:, None], classes), 1)
    return votes / classes.shape[1]
