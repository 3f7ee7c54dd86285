"""The plane of most variance of the features: a picture of head and tail classes."""

import dataclasses
from typing import Any

import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting
from ltjax.evaluators.representation import (
    FeatureOptions,
    feature_function,
    gathered,
)
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class PlaneOptions(FeatureOptions):
    """Of the plane of most variance."""

    per_class: int = option(20, "examples of a class that are drawn", low=1)
    most: int = option(1000, "examples that are drawn in all", low=1)


def principal_plane(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Coordinates on the two axes of most variance.

    Args:
        features: [N, D], D >= 2.

    Returns:
        ([N, 2], share of the variance on the plane); of each axis the largest weight is
        positive, so that the picture does not flip between evaluations.

    Example:
        >>> points, share = principal_plane(np.array([[0.0, 3], [0, 5], [0, 7]]))
        >>> points[:, 0].round(6).tolist(), round(share, 6)
        ([-2.0, 0.0, 2.0], 1.0)
    """
    centered = np.asarray(features, np.float64) - np.mean(features, axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    axes = vectors[:, [-1, -2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return centered @ axes, float(values[-2:].sum() / max(values.sum(), 1e-30))


def drawn_rows(labels: np.ndarray, *, per_class: int, most: int) -> np.ndarray:
    """The first rows of each class, as many of all classes as fit.

    Args:
        labels: [N] int.
        per_class: the most rows to take of any class.
        most: the most rows to take in all; beyond it each class gets fewer.

    Returns:
        Rows in ascending order.

    Example:
        >>> drawn_rows(np.array([0, 0, 0, 1, 1]), per_class=2, most=10).tolist()
        [0, 1, 3, 4]
    """
    classes = np.unique(labels)
    share = max(1, min(per_class, most // len(classes)))
    rows = [np.flatnonzero(labels == k)[:share] for k in classes]
    return np.sort(np.concatenate(rows))[:most]


def make(options: PlaneOptions, setting: EvaluatorSetting) -> Evaluator:
    """Points for the report: a few examples of every class on the principal plane.

    The axes are those of the whole split.

    Args:
        options: see `PlaneOptions`.
        setting: the network "main".

    Returns:
        `Evaluator` with the array "points/features" [R, n, 3], two coordinates and the
        class, and the metric "pca_share", the share of the variance on the plane.
    """
    features_of = feature_function("pca", options, setting)

    def arrays(found: Any, extra: Any, about: Any) -> dict[str, np.ndarray]:
        points, shares = [], []
        for features, labels in zip(*map(np.asarray, found), strict=True):
            coordinates, share = principal_plane(features)
            rows = drawn_rows(labels, per_class=options.per_class, most=options.most)
            points.append(np.column_stack([coordinates[rows], labels[rows]]))
            shares.append(share)
        return {
            f"points/{options.features}": np.stack(points).astype(np.float32),
            "pca_share": np.asarray(shares),
        }

    def summarize(arrays):
        return {"pca_share": arrays["pca_share"]}

    return Evaluator(judge=gathered(features_of), arrays=arrays, summarize=summarize)


PCA = Component(
    "a few examples of each class on the plane of most variance, for the report",
    PlaneOptions,
    make,
)
