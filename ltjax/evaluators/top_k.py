r"""Top-k accuracy: whether the true class is among the k largest logits, and how high.

The area under the top-k curve counts rank r with :math:`(k + 1 - r)_+ / k`: the mean of
the accuracies at 1, ..., k (Wang et al., TPAMI 2023).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics.classification import group_means
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class TopKOptions:
    """Of top-k accuracy and the area under its curve."""

    k: int = option(5, "classes that may be named", low=1)


def make(options: TopKOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "top_k_balanced" (mean over classes), "top_k_<group>" and "top_k".

    "autkc_balanced", "autkc_<group>" and "autkc" likewise: the areas under the curve.

    Among equal logits the lowest class comes first. A k of K or more is 1 for every
    example.

    Args:
        options: see `TopKOptions`.
        setting: the method's prediction, with "logits" [B, K].

    Returns:
        `Evaluator`.
    """
    num_classes = len(setting.class_counts)
    k = min(options.k, num_classes)
    zeros = jnp.zeros(num_classes, jnp.int32)

    def judge(state, sums, batch, extra):
        hits, points, support = sums
        logits, labels = (
            setting.predict(state, batch["inputs"])["logits"],
            batch["label"],
        )
        _, named = jax.lax.top_k(logits, k)
        found = named == labels[:, None]
        point = jnp.sum(found * (k - jnp.arange(k))[None, :], axis=-1)
        row = jnp.where(batch["mask"], labels, num_classes)
        return (
            hits.at[row].add(jnp.any(found, axis=-1).astype(jnp.int32), mode="drop"),
            points.at[row].add(point, mode="drop"),
            support.at[row].add(1, mode="drop"),
        )

    def arrays(found, extra, about):
        hits, points, support = (np.asarray(part, np.int64) for part in found)
        named = {"top_k_hits": hits, "top_k_points": points}
        return {**named, "top_k_support": support}

    def summarize(arrays):
        support, values = arrays["top_k_support"], {}
        groups = {**setting.groups, "balanced": np.ones(num_classes, bool)}
        sums = {"top_k": arrays["top_k_hits"]}
        if "top_k_points" in arrays:  # older runs have not counted them
            sums["autkc"] = arrays["top_k_points"] / k
        for name, total in sums.items():
            recall = np.where(support > 0, total / np.maximum(support, 1), np.nan)
            for group, mean in group_means(name, recall, groups).items():
                values[f"{name}_{group}"] = mean.accuracy
            values[name] = total.sum(-1) / np.maximum(support.sum(-1), 1)
        return values

    meaning = f"mean recall when {options.k} classes may be named"
    area = f"mean over classes of the mean top-k accuracy for k up to {options.k}"
    return Evaluator(
        judge=Sweep(judge, (zeros, zeros, zeros)),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column("top_k_balanced", f"Top-{options.k}", "max", meaning),
            Column("autkc_balanced", f"AUTKC@{options.k}", "max", area),
        ),
    )


TOP_K = Component(
    "top-k accuracy and the area under its curve, by class group", TopKOptions, make
)
