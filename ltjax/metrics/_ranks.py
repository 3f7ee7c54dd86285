"""Checks and tie groups shared by the metrics that sort, on the host in float64."""

import numpy as np

from ltjax._checks import check_where, dtype_of


def binary_rows(caller, scores, labels, where, *, names=("scores", "labels")):
    """Scores [N] float64 and positives [N] bool of the rows that count."""
    scores, labels, where = _rows(caller, scores, labels, where, 1, "[N]", names)
    if labels.shape != scores.shape:
        raise ValueError(
            f"{caller}: {names[1]} have shape {labels.shape}, expected {scores.shape}"
            f" as {names[0]}"
        )
    scores, labels = scores[where], labels[where]
    _check_finite_order(caller, scores, names[0])
    said = "a label" if names[1] == "labels" else f"an entry of {names[1]}"
    return scores, _is_one(caller, said, labels)


def class_rows(caller, scores, labels, where):
    """Scores [N, K] float64 and class indices [N] of the rows that count."""
    scores, labels, where = _rows(caller, scores, labels, where, 2, "[N, K]")
    if labels.shape != scores.shape[:1]:
        raise ValueError(
            f"{caller}: labels have shape {labels.shape}, expected {scores.shape[:1]}"
            " (class indices)"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{caller}: labels have dtype {labels.dtype}, expected class indices"
            " (integer)"
        )
    scores, labels = scores[where], labels[where]
    _check_finite_order(caller, scores)
    outside = np.flatnonzero((labels < 0) | (labels >= scores.shape[1]))
    if outside.size:
        raise ValueError(
            f"{caller}: a label is {labels[outside[0]]}, expected an index in"
            f" [0, {scores.shape[1]})"
        )
    return scores, labels


def label_rows(caller, scores, relevant, where=None, *, name="relevant"):
    """Scores [N, K] float64 and relevance [N, K] bool of the rows that count."""
    dtype_of(caller, name, relevant)
    scores, relevant, where = _rows(caller, scores, relevant, where, 2, "[N, K]")
    if relevant.shape != scores.shape:
        raise ValueError(
            f"{caller}: {name} has shape {relevant.shape}, expected {scores.shape}"
            " (multi-hot)"
        )
    scores, relevant = scores[where], relevant[where]
    _check_finite_order(caller, scores)
    return scores, _is_one(caller, f"an entry of {name}", relevant)


def _rows(caller, scores, labels, where, rank, letters, names=("scores", "labels")):
    for name, values in zip(names, (scores, labels), strict=True):
        dtype_of(caller, name, values)
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != rank:
        raise ValueError(
            f"{caller}: {names[0]} have shape {scores.shape}, expected {letters}"
        )
    check_where(caller, where, scores.shape[:1])
    where = np.ones(len(scores), bool) if where is None else np.asarray(where)
    # From bfloat16 too, which numpy itself does not know as a float.
    return scores.astype(np.float64), labels, where


def _check_finite_order(caller, scores, name="scores") -> None:
    unordered = np.isnan(scores)
    bad = np.flatnonzero(unordered if scores.ndim == 1 else unordered.any(axis=1))
    if bad.size:
        raise ValueError(
            f"{caller}: {name} of row {bad[0]} are NaN, which have no place in an order"
        )


def _is_one(caller, what, labels) -> np.ndarray:
    if labels.dtype == bool:
        return labels
    bad = ~((labels == 0) | (labels == 1))
    if bad.any():
        raise ValueError(
            f"{caller}: {what} is {labels[bad][0]}, expected 0 or 1 (two classes)"
        )
    return labels == 1


def tie_bounds(ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last position of the tie group of each entry, along the last axis.

    Args:
        ranked: [..., n] sorted either way.

    Returns:
        Two [..., n] int arrays.
    """
    n = ranked.shape[-1]
    position = np.broadcast_to(np.arange(n), ranked.shape)
    new = np.ones(ranked.shape, bool)
    new[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    first = np.maximum.accumulate(np.where(new, position, 0), axis=-1)
    ends = np.ones(ranked.shape, bool)
    ends[..., :-1] = new[..., 1:]
    last = np.where(ends, position, n)[..., ::-1]
    return first, np.minimum.accumulate(last, axis=-1)[..., ::-1]


def threshold_counts(scores, positive) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives [m] at each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(hits)[ends]
    return true, ends + 1 - true
