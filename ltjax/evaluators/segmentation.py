"""Intersection over union of the pixels, by class and group, from exact counts."""

import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics import (
    accuracy,
    balanced_accuracy,
    group_iou,
    mean_iou,
    per_class_iou,
    pixel_confusion,
)
from ltjax.metrics.column import Column
from ltjax.metrics.segmentation import IGNORED
from ltjax.options import Component, NoOptions

_LIMB = 24  # bits of the low part of a count: pixels exceed int32


def make(options: NoOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "mean_iou", "iou_<group>", "pixel_accuracy", "class_accuracy".

    A class that neither occurs nor is predicted does not count in the mean.

    Args:
        options: none.
        setting: the method's prediction, with "logits" [B, H, W, K].

    Returns:
        `Evaluator`.
    """
    num_classes, groups = len(setting.class_counts), setting.groups
    zeros = jnp.zeros((num_classes, num_classes), jnp.int32)

    def judge(state, sums, batch, extra):
        logits = setting.predict(state, batch["inputs"])["logits"]
        targets = batch["targets"].astype(jnp.int32)
        valid = (targets != IGNORED) & batch["mask"][:, None, None]
        low, high = sums
        predicted = jnp.argmax(logits, axis=-1)
        low = low + pixel_confusion(targets, predicted, num_classes, where=valid)
        return low & (2**_LIMB - 1), high + (low >> _LIMB)

    def arrays(found, extra, about):
        low, high = (np.asarray(part, np.int64) for part in found)
        matrix = (high << _LIMB) + low
        return {
            "pixels": matrix,
            "classes/intersection over union": per_class_iou(matrix),
        }

    def summarize(arrays):
        matrix = arrays["pixels"]
        values = {
            "mean_iou": mean_iou(matrix),
            "pixel_accuracy": accuracy(matrix),
            "class_accuracy": balanced_accuracy(matrix),
        }
        for name, found in group_iou(matrix, groups).items():
            values[f"iou_{name}"] = found.accuracy
        return values

    return Evaluator(
        judge=Sweep(judge, (zeros, zeros)),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column("mean_iou", "mIoU", "max", "mean over classes", brief="mIoU"),
            Column("iou_many", "Many", "max", "mIoU of the frequent classes"),
            Column("iou_medium", "Medium", "max", "mIoU of the classes between"),
            Column("iou_few", "Few", "max", "mIoU of the rare classes"),
            Column("class_accuracy", "mAcc", "max", "mean recall of a class's pixels"),
        ),
        judged="mean_iou",
    )


SEGMENTATION = Component("mean intersection over union of pixels", NoOptions, make)
