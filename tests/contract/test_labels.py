"""What takes class labels takes them in every integer dtype, and nothing else.

The losses have this in their own table. A label that int32 does not hold must never
come out as another class: on the host it is refused, on the device it is no class.
"""

import jax
import numpy as np
import pytest

from ltjax import class_stats, classifiers, losses, metrics, pseudo_labels, resampling
from ltjax.data.arrays import array_contents
from ltjax.data.long_tail import long_tail_indices
from ltjax.resampling import samplers
from ltjax.sharpness import compaction, diagnostics, weights
from ltjax.sharpness.cc_sam import cc_sam

K = 3
LABELS = np.array([0, 2, 1, 0, 0, 2, 1, 0], np.int32)
FEATURES = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
LOGITS = np.random.default_rng(1).normal(size=(8, K)).astype(np.float32)
COUNTS = np.array([4, 2, 2])
KEY = jax.random.key(0)
DTYPES = ("int8", "int16", "int64", "uint8", "uint16", "uint32", "uint64")


def collapse(labels):
    means = metrics.ClassMeanState.empty(K, 2).update(FEATURES, labels)
    fixed = metrics.ClassMeanState.empty(K, 2).update(FEATURES, LABELS)
    geometry = metrics.collapse_geometry(fixed)
    state = metrics.CollapseState.empty(K)
    return means, state.update(geometry, FEATURES, LOGITS, labels)


# On the device: a label beyond [0, K) is no class there.
DEVICE = {
    "batch_balanced_weights": lambda y: class_stats.batch_balanced_weights(y, K),
    "ClassificationState": lambda y: metrics.ClassificationState.empty(K).update(
        LOGITS, y
    ),
    "collapse states": collapse,
    "update_min_scores": lambda y: metrics.update_min_scores(
        metrics.init_min_scores(K), LOGITS, y
    ),
    "nearest_class_mean": lambda y: (
        classifiers.nearest_class_mean(FEATURES, y, K).means
    ),
    "class_gap": lambda y: diagnostics.class_gap(FEATURES[:, 0], y, K),
    "group_gaps": lambda y: diagnostics.group_gaps(
        FEATURES[:, 0], y, {"few": np.array([False, True, True])}
    ),
    "split_groups": lambda y: weights.split_groups(
        "terms", y, np.array([False, True, True]), None, None
    ),
    "cc_sam": lambda y: cc_sam(
        FEATURES, LOGITS[:2], None, y, COUNTS, nu=0.1, max_rho=1.0
    ),
    "auc_square": lambda y: losses.auc_square(LOGITS, y),
    "auc_logistic": lambda y: losses.auc_logistic(LOGITS, y, pairs="ovr"),
    "autkc": lambda y: losses.autkc(LOGITS, y, k=1),
    "expert_losses": lambda y: losses.expert_losses(
        np.stack([LOGITS, LOGITS], axis=1), y
    ),
    "paco": lambda y: losses.paco(
        *(LOGITS, y, COUNTS),
        **{"queries": FEATURES, "keys": FEATURES},
        **{"queue": FEATURES, "queue_labels": y},
    ),
    "pixel_auc": lambda y: losses.pixel_auc(LOGITS, y),
    "category_uniformity": lambda y: metrics.category_uniformity(
        FEATURES, y, num_classes=K
    ),
    "knn_predict": lambda y: metrics.knn_predict(
        FEATURES, FEATURES, y, num_classes=K, k=3
    ),
    "pixel_confusion": lambda y: metrics.pixel_confusion(y, y, K),
    "keep_best_of_class": lambda labels: pseudo_labels.keep_best_of_class(
        LOGITS[:, 0], labels, [2, 1, 1]
    ),
}
# On the host: refused by name.
HOST = {
    "count_labels": lambda y: class_stats.count_labels(y, K),
    "select_tau": lambda y: classifiers.select_tau(LOGITS, y, COUNTS),
    "holdout_indices": lambda y: classifiers.holdout_indices(y, K, fraction=0.5),
    "crossfit_folds": lambda y: classifiers.crossfit_folds(y, K),
    "array_contents": lambda y: array_contents("arrays", FEATURES, y, K).labels,
    "long_tail_indices": lambda y: long_tail_indices(y, [2, 1, 1]),
    "plan": lambda y: compaction.plan(y, np.array([False, True, True]), (0, 4, 8)),
    "class_power": lambda y: samplers.class_power(y, K, 4, power=0.5)(0, 0),
    "class_aware": lambda y: samplers.class_aware(y, K, 4)(0, 1),
    "random_oversample": lambda y: resampling.random_oversample(KEY, y),
    "random_undersample": lambda y: resampling.random_undersample(KEY, y),
    "smote_n": lambda y: (
        resampling.smote_n(KEY, (10 * FEATURES).astype(int) + 30, y, k=1).nominal
    ),
    "same_class_neighbors": lambda y: (
        resampling.same_class_neighbors(FEATURES, y, k=1).indices
    ),
    "cog": lambda y: (
        resampling.cog(
            KEY, FEATURES, y, num_clusters=[2, 1, 1], restarts=1, iterations=2
        ).labels
    ),
}
BOTH = [pytest.param(call, id=name) for name, call in (DEVICE | HOST).items()]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("call", BOTH)
def test_every_integer_dtype_and_lists(call):
    expected = jax.tree.leaves(call(LABELS))
    for given in [LABELS.tolist(), *(LABELS.astype(dtype) for dtype in DTYPES)]:
        for found, value in zip(jax.tree.leaves(call(given)), expected, strict=True):
            np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("call", BOTH)
def test_other_labels_are_refused_by_name(call):
    for wrong in (LABELS.astype(np.float32), LABELS > 0, LABELS.astype(str), None):
        with pytest.raises(TypeError, match="labels|classes"):
            call(wrong)


WIDE = [2**32 + 1, -(2**32) + 2, 2**40]


@pytest.mark.parametrize("name", DEVICE)
def test_wide_labels_are_no_class_on_the_device(name):
    expected = jax.tree.leaves(DEVICE[name](np.where(np.arange(8) == 2, -1, LABELS)))
    for wide in WIDE:
        labels = np.where(np.arange(8) == 2, wide, LABELS.astype(np.int64))
        found = jax.tree.leaves(DEVICE[name](labels))
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, right)


@pytest.mark.parametrize("name", [name for name in HOST if name != "array_contents"])
def test_wide_labels_are_refused_on_the_host(name):
    for wide in [*WIDE, 2**31 - 1]:
        labels = np.where(np.arange(8) == 2, wide, LABELS.astype(np.int64))
        with pytest.raises(ValueError, match=str(wide)):
            HOST[name](labels)


COMPARED = {
    "sup_con": lambda y: losses.sup_con(FEATURES, y),
    "kcl": lambda y: losses.kcl(
        FEATURES, FEATURES, y, queue=FEATURES, queue_labels=LABELS
    ),
    "kcl, queue": lambda y: losses.kcl(
        FEATURES, FEATURES, LABELS, queue=FEATURES, queue_labels=y
    ),
}


@pytest.mark.parametrize("name", COMPARED)
def test_labels_that_are_only_compared_keep_apart_or_are_refused(name):
    expected = COMPARED[name](LABELS)
    far = np.where(LABELS == 2, 2**31 - 1, LABELS.astype(np.int64))
    np.testing.assert_array_equal(
        losses.sup_con(FEATURES, far), losses.sup_con(FEATURES, LABELS)
    )
    for dtype in DTYPES:
        found = COMPARED[name](LABELS.astype(dtype))
        np.testing.assert_array_equal(found, expected)
    for wide in WIDE:
        labels = np.where(np.arange(8) == 2, wide, LABELS.astype(np.int64))
        with pytest.raises(ValueError, match=f"labels hold {wide}, expected"):
            COMPARED[name](labels)


def test_classes_are_inferred_from_class_numbers_only():
    assert array_contents("arrays", FEATURES, LABELS, None).num_classes == K
    huge = np.where(LABELS == 2, 2**31 - 1, LABELS.astype(np.int64))
    with pytest.raises(
        ValueError, match=r"arrays: labels\[1\] is 2147483647.*pass num"
    ):
        array_contents("arrays", FEATURES, huge, None)
    assert class_stats.infer_num_classes("f", np.arange(2**20 + 5)) == 2**20 + 5
    assert class_stats.infer_num_classes("f", []) == 0
