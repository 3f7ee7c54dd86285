"""Rankings of several labels per example, by the measures of the literature."""

import dataclasses

import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics import (
    average_precision,
    coverage,
    label_ranking_average_precision,
    ranking_loss,
    top_k_ranking,
)
from ltjax.metrics.column import Column
from ltjax.options import Component, option

_PREFIX = "multilabel_"
_OF_CLASS = "classes/average precision"  # [R, K], charted by the report


@dataclasses.dataclass(frozen=True)
class MultilabelOptions:
    """Of the measures of several labels."""

    k: tuple[int, ...] = option((1, 3, 5), "depths of the top-K measures", low=1)


def make(options: MultilabelOptions, setting: EvaluatorSetting) -> Evaluator:
    """Mean average precision by class group, and measures of each example's ranking.

    Metrics: "map", "map_<group>" (means over classes that occur), and the means over
    examples "precision_at_<k>", "recall_at_<k>", "ap_at_<k>", "ndcg_at_<k>",
    "tkpr_at_<k>", "lrap", "coverage", "ranking_loss".

    Args:
        options: see `MultilabelOptions`.
        setting: the method's prediction, with "logits" [B, K]; batches have "targets"
            [B, K].

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if a depth exceeds the number of labels.
    """
    num_classes, groups = len(setting.class_counts), setting.groups
    if max(options.k) > num_classes:
        raise ValueError(
            f"multilabel: k is {options.k}, expected at most {num_classes}, the number"
            " of labels"
        )

    def judge(state, batch, extra):
        return setting.predict(state, batch["inputs"])["logits"], batch["targets"]

    def measures(scores: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        found = {
            "lrap": label_ranking_average_precision(scores, targets).mean(),
            "coverage": coverage(scores, targets).mean(),
            "ranking_loss": ranking_loss(scores, targets).mean(),
        }
        for k in options.k:
            rows = top_k_ranking(scores, targets, k=k)
            named = {
                "precision": rows.precision,
                "recall": rows.recall,
                "ap": rows.average_precision,
                "ndcg": rows.ndcg,
                "tkpr": rows.tkpr,
            }
            found |= {f"{name}_at_{k}": _mean(x) for name, x in named.items()}
        each = np.asarray(average_precision(scores, targets))
        return {f"{_PREFIX}{k}": x for k, x in found.items()} | {_OF_CLASS: each}

    def arrays(found, extra, about):
        each = []
        for scores, targets in zip(*map(np.asarray, found), strict=True):
            known = np.isfinite(scores).all()
            one = measures(np.where(np.isfinite(scores), scores, 0), targets)
            each.append({k: v if known else v * np.nan for k, v in one.items()})
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def summarize(arrays):
        own = {
            name.removeprefix(_PREFIX): x
            for name, x in arrays.items()
            if name.startswith(_PREFIX)
        }
        each = arrays[_OF_CLASS]
        values = {"map": np.array([_mean(one) for one in each])}
        for name, members in groups.items():
            values[f"map_{name}"] = np.array([_mean(one[members]) for one in each])
        return {**values, **own}

    depth = max(options.k)
    return Evaluator(
        judge=Sweep(judge),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column("map", "mAP", "max", "mean average precision", brief="mAP"),
            Column("map_many", "Many", "max", "mAP of the frequent labels"),
            Column("map_medium", "Medium", "max", "mAP of the labels between"),
            Column("map_few", "Few", "max", "mAP of the rare labels"),
            *(
                Column(f"{name}_at_{depth}", f"{title}@{depth}", "max", meaning)
                for name, title, meaning in (
                    ("precision", "P", "share of relevant labels at the top"),
                    ("recall", "R", "share of the relevant labels that are there"),
                    ("ndcg", "NDCG", "discounted gain of the top"),
                )
            ),
            Column("lrap", "LRAP", "max", "label ranking average precision"),
            Column("coverage", "Coverage", "min", "depth of all labels", percent=False),
            Column("ranking_loss", "Rank loss", "min", "share of pairs the wrong way"),
        ),
        judged="map",
    )


def _mean(values: np.ndarray) -> float:
    """Mean of the numbers that are defined; NaN if there is none."""
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


MULTILABEL = Component(
    "mAP by class group and the measures of rankings of labels", MultilabelOptions, make
)
