"""A feed of features that a frozen backbone gave once, one set for each replica."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank, shape_of
from ltjax.data.feed import Batch, Feed, Rows, index_rows, iterate_resident


def feature_feed(features: ArrayLike, labels: ArrayLike) -> Feed:
    """A resident feed whose batches hold "features" in place of "inputs".

    Args:
        features: [R, N, D] float; replica r draws from features[r]. Like all arrays of
            a feed they are shared by the replicas: the plan tells them apart.
        labels: [N] int.

    Returns:
        Feed that takes the same plans as the feed of the inputs, [..., R, B] (or [B],
        then of replica 0).

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> feed = feature_feed(np.arange(6.0).reshape(2, 3, 1), np.array([0, 1, 0]))
        >>> rows = feed.rows(np.array([[2], [0]]), np.ones((2, 1), bool))
        >>> [float(feed.arrays["features"][r, 0]) for r in rows["row"].ravel()]
        [2.0, 3.0]
    """
    check_rank("feature_feed", "features", features, 3, "[R, N, D]")
    replicas, size, dim = shape_of(features)
    labels = np.asarray(labels, np.int32)
    if labels.shape != (size,):
        raise ValueError(
            f"feature_feed: labels have shape {labels.shape}, expected ({size},) as"
            f" features have shape {shape_of(features)}"
        )
    rows = functools.partial(_rows, replicas, size)
    return Feed(
        arrays={
            "features": np.asarray(features).reshape(replicas * size, dim),
            "label": labels,
        },
        rows=rows,
        batch=_batch,
        iterate=functools.partial(iterate_resident, rows),
        close=lambda: None,
    )


def _rows(replicas: int, size: int, indices: np.ndarray, mask: np.ndarray) -> Rows:
    rows = index_rows(size, indices, mask)
    index = rows["index"]
    if index.ndim > 1:
        if index.shape[-2] != replicas:
            raise ValueError(
                f"feature_feed: the plan has shape {index.shape}, expected"
                f" [..., {replicas}, B] as there are features of {replicas} replicas"
            )
        index = index + size * np.arange(replicas, dtype=np.int32)[:, None]
    return {**rows, "row": index}


def _batch(arrays, rows, key: jax.Array | None, *, train: bool) -> Batch:
    return {
        "features": jnp.asarray(arrays["features"])[rows["row"]],
        "label": jnp.asarray(arrays["label"])[rows["index"]],
        "index": jnp.asarray(rows["index"]),
        "mask": jnp.asarray(rows["mask"]),
    }
