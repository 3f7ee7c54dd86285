"""Areas under the ROC curve, exact, from the scores of every example."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics import auc, average_precision, group_auc, ovo_auc_matrix, ovr_auc
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class AUCOptions:
    """Of the areas."""

    scores: str = option(
        "softmax",
        "what is ranked: the logits themselves, or made comparable between columns",
        choices=("softmax", "sigmoid", "logits"),
    )


_OF_CLASS = "classes/AUC against the other classes"  # [R, K], charted by the report
_CURVE = "profiles/true positive rate by false positive rate, mean of classes (%)"
RATES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of false positives
_MAP = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "logits": lambda logits: logits,
}


def true_positive_rates(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The ROC curve at `RATES`, its mean over the classes that can be told apart.

    Args:
        scores: [N, K]; of two classes the margin of class 1 is ranked.
        labels: [N] int.

    Returns:
        [len(RATES)], the share of a class's examples above the negatives but for that
        share of them; NaN if there is one class.
    """
    if scores.shape[1] == 2:
        columns = [(scores[:, 1] - scores[:, 0], labels == 1)]
    else:
        columns = [(column, labels == k) for k, column in enumerate(scores.T)]
    found = []
    for column, own in columns:
        up, down = np.sort(column[own]), np.sort(column[~own])
        if up.size and down.size:
            # The floor of a product that rounding may have made a little smaller.
            let_in = np.floor(np.asarray(RATES) * down.size + 1e-9).astype(int)
            first_out = down[down.size - 1 - let_in]
            found.append(1 - np.searchsorted(up, first_out, side="right") / up.size)
    return np.mean(found, axis=0) if found else np.full(len(RATES), np.nan)


def make(options: AUCOptions, setting: EvaluatorSetting) -> Evaluator:
    """One-vs-one and one-vs-rest areas, and by group of classes; for K = 2 the area.

    Metrics: "auc_ovo" (mean over ordered pairs of classes), "auc_ovr" (mean over
    classes), "auc_<group>" (mean area of the group's classes against all others),
    "auc_worst" (smallest pair area) and for two classes "auc" and "average_precision"
    of class 1.

    Args:
        options: see `AUCOptions`.
        setting: the method's prediction, with "logits" [B, K].

    Returns:
        `Evaluator`.
    """
    num_classes, groups = len(setting.class_counts), setting.groups

    def judge(state, batch, extra):
        logits = setting.predict(state, batch["inputs"])["logits"]
        return _MAP[options.scores](logits), batch["label"]

    def arrays(found, extra, about):
        scores, labels = (np.asarray(part) for part in found)
        each = [_areas(s, y) for s, y in zip(scores, labels, strict=True)]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def _areas(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        known = np.isfinite(scores).all()
        nan = np.full((num_classes, num_classes), np.nan)
        nan_curve = np.full(len(RATES), np.nan)
        found = {
            "auc_matrix": ovo_auc_matrix(scores, labels) if known else nan,
            _OF_CLASS: np.asarray(ovr_auc(scores, labels, average="none"))
            if known
            else nan[0],
        }
        curve = true_positive_rates(scores, labels) if known else nan_curve
        found |= {
            f"{_CURVE}/{rate:.0%}": np.asarray(100 * value)
            for rate, value in zip(RATES, curve, strict=True)
        }
        if num_classes == 2 and known:
            margin = scores[:, 1] - scores[:, 0]
            found["auc_binary"] = np.asarray(auc(margin, labels))
            found["auc_precision"] = np.asarray(average_precision(margin, labels))
        return found

    def summarize(arrays):
        matrix = arrays["auc_matrix"]
        values = {
            "auc_ovo": _mean(matrix),
            "auc_ovr": _mean(arrays[_OF_CLASS][:, None]),
            "auc_worst": np.array([np.nanmin(m, initial=np.inf) for m in matrix]),
        }
        everyone = {"all": np.ones(num_classes, bool)}
        for name, members in groups.items():
            values[f"auc_{name}"] = np.array(
                [group_auc(m, {name: members, **everyone})[name, "all"] for m in matrix]
            )
        if "auc_binary" in arrays:
            values["auc"] = arrays["auc_binary"]
            values["average_precision"] = arrays["auc_precision"]
        return values

    return Evaluator(
        judge=Sweep(judge),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column("auc_ovo", "AUC", "max", "mean area over ordered pairs of classes"),
            Column("auc_few", "AUC few", "max", "mean area of the few-shot classes"),
            Column("auc_worst", "AUC worst", "max", "smallest area of a pair"),
        ),
        judged="auc_ovo",
    )


def _mean(matrix: np.ndarray) -> np.ndarray:
    """Mean of the numbers that are defined, of each replica; NaN if there is none."""
    known = np.isfinite(matrix)
    count = known.sum(axis=(1, 2))
    total = np.where(known, matrix, 0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


AUC = Component("areas under the ROC curve, exact", AUCOptions, make)
