"""Top-k accuracy: whether the true class is among the k largest logits."""

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
    """Of top-k accuracy."""

    k: int = option(5, "classes that may be named", low=1)


def make(options: TopKOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics "top_k_balanced" (mean over classes), "top_k_<group>" and "top_k".

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
        hits, support = sums
        logits, labels = (
            setting.predict(state, batch["inputs"])["logits"],
            batch["label"],
        )
        _, named = jax.lax.top_k(logits, k)
        hit = jnp.any(named == labels[:, None], axis=-1)
        row = jnp.where(batch["mask"], labels, num_classes)
        return (
            hits.at[row].add(hit.astype(jnp.int32), mode="drop"),
            support.at[row].add(1, mode="drop"),
        )

    def arrays(found, extra, about):
        hits, support = (np.asarray(part, np.int64) for part in found)
        return {"top_k_hits": hits, "top_k_support": support}

    def summarize(arrays):
        hits, support = arrays["top_k_hits"], arrays["top_k_support"]
        recall = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
        groups = {**setting.groups, "balanced": np.ones(num_classes, bool)}
        means = group_means("top_k", recall, groups)
        values = {f"top_k_{name}": mean.accuracy for name, mean in means.items()}
        return {**values, "top_k": hits.sum(-1) / np.maximum(support.sum(-1), 1)}

    meaning = f"mean recall when {options.k} classes may be named"
    return Evaluator(
        judge=Sweep(judge, (zeros, zeros)),
        arrays=arrays,
        summarize=summarize,
        columns=(Column("top_k_balanced", f"Top-{options.k}", "max", meaning),),
    )


TOP_K = Component("top-k accuracy, by class group", TopKOptions, make)
