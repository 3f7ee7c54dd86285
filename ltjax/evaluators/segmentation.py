"""Intersection over union of the pixels, by class and group, from exact counts."""

import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics.column import Column
from ltjax.options import Component, NoOptions

IGNORED = 255
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
        row = jnp.where(valid, targets, num_classes).reshape(-1)
        column = jnp.argmax(logits, axis=-1).astype(jnp.int32).reshape(-1)
        low, high = sums
        low = low + zeros.at[row, column].add(1, mode="drop")
        return low & (2**_LIMB - 1), high + (low >> _LIMB)

    def arrays(found, extra, about):
        low, high = (np.asarray(part, np.int64) for part in found)
        return {"pixels": (high << _LIMB) + low}

    def summarize(arrays):
        matrix = np.asarray(arrays["pixels"], np.float64)
        hits = np.diagonal(matrix, axis1=-2, axis2=-1)
        support, claimed = matrix.sum(axis=-1), matrix.sum(axis=-2)
        union = support + claimed - hits
        values = {
            "mean_iou": _mean(hits, union),
            "pixel_accuracy": hits.sum(-1) / np.maximum(support.sum(-1), 1),
            "class_accuracy": _mean(hits, support),
        }
        for name, members in groups.items():
            values[f"iou_{name}"] = _mean(hits[..., members], union[..., members])
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


def _mean(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean of the ratios over the classes whose total is not zero; NaN for none."""
    present = total > 0
    ratio = np.where(present, hits / np.where(present, total, 1), 0)
    count = present.sum(axis=-1)
    return np.where(count > 0, ratio.sum(-1) / np.maximum(count, 1), np.nan)


SEGMENTATION = Component("mean intersection over union of pixels", NoOptions, make)
