"""Segmentation metrics against loops over pixels and scikit-learn's Jaccard score."""

import functools

import jax
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from ltjax import metrics as M


def maps(seed, classes=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (3, 8, 9)).astype(np.uint8)
    predictions = np.where(rng.random(labels.shape) < 0.6, labels, 1).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = 255
    return labels, predictions


def counted(labels, predictions, classes=5):
    count = functools.partial(M.pixel_confusion, num_classes=classes, ignore_label=255)
    return np.asarray(jax.jit(count)(labels, predictions))


def test_confusion_matrix_is_a_count_of_pairs():
    labels, predictions = maps(0)
    expected = np.zeros((5, 5), int)
    for y, p in zip(labels.ravel(), predictions.ravel(), strict=True):
        if y != 255:
            expected[y, p] += 1
    np.testing.assert_array_equal(counted(labels, predictions), expected)
    masked = jax.jit(lambda y, p, w: M.pixel_confusion(y, p, 5, where=w))
    np.testing.assert_array_equal(masked(labels, predictions, labels != 255), expected)
    # 255 is a class index like any other that is out of range.
    everything = masked(labels, predictions, np.ones(labels.shape, bool))
    np.testing.assert_array_equal(everything, expected)


def test_iou_is_the_jaccard_score_of_the_pixels():
    labels, predictions = maps(1)
    matrix = counted(labels, predictions)
    keep = labels != 255
    expected = jaccard_score(labels[keep], predictions[keep], average=None)
    np.testing.assert_allclose(M.per_class_iou(matrix), expected, atol=1e-14)
    assert M.mean_iou(matrix) == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(
        M.mean_iou(np.stack([matrix, 3 * matrix])), [np.mean(expected)] * 2
    )


def test_class_that_nobody_has_or_predicts():
    matrix = np.zeros((3, 3))
    matrix[0, 0], matrix[0, 1] = 3, 1  # class 1 is predicted but absent: IoU 0
    np.testing.assert_array_equal(M.per_class_iou(matrix), [0.75, 0.0, np.nan])
    assert M.mean_iou(matrix) == 0.375
    assert M.mean_iou(matrix, absent="zero") == 0.25
    assert np.isnan(M.mean_iou(matrix, absent="nan"))
    assert np.isnan(M.mean_iou(np.zeros((2, 2))))


def test_groups_and_summary():
    labels, predictions = maps(2)
    matrix = counted(labels, predictions)
    groups = M.pixel_groups([90, 7, 40, 300, 5], tail=[1])
    assert groups["head"].tolist() == [True, False, False, True, False]
    assert groups["middle"].tolist() == [False, False, True, False, True]
    by_mask = M.pixel_groups([90, 7, 40, 300, 5], tail=groups["tail"])
    assert all(np.array_equal(groups[name], by_mask[name]) for name in groups)
    out = M.summarize_segmentation(matrix, groups=groups)
    each = M.per_class_iou(matrix)
    assert out["iou_head"] == pytest.approx(each[[0, 3]].mean())
    assert out["iou_tail"] == pytest.approx(each[1])
    keep = labels != 255
    right = labels[keep] == predictions[keep]
    assert out["pixel_accuracy"] == pytest.approx(right.mean())
    recalls = [right[labels[keep] == k].mean() for k in range(5)]
    assert out["class_accuracy"] == pytest.approx(np.mean(recalls))
    assert M.group_iou(matrix, groups)["middle"].size == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda y: M.pixel_confusion(y, y[:2], 3),
            r"predictions have shape \(2,\), expected \(3,\)",
        ),
        (
            lambda y: M.pixel_confusion(y, y, 3, where=np.ones(2, bool)),
            r"pixel_confusion: where has shape \(2,\)",
        ),
        (lambda y: M.mean_iou(np.ones((2, 3))), r"\(2, 3\), expected \[..., K, K\]"),
        (lambda y: M.mean_iou(np.eye(2), absent="drop"), "absent is 'drop'"),
        (lambda y: M.pixel_groups([1, 2], tail=[2]), "tail holds 2, expected an index"),
        (lambda y: M.pixel_groups([1, 2], tail=[True]), r"tail has shape \(1,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([0, 1, 2]))
    with pytest.raises(TypeError, match="predictions have dtype float32"):
        M.pixel_confusion(np.arange(2), np.zeros(2, np.float32), 2)
