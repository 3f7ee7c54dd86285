"""What each of several modalities knows by itself, from its own logits."""

import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics.column import Column
from ltjax.options import Component, ConfigError, NoOptions

_RIGHT, _SUPPORT = "modalities_right", "modalities_support"


def make(options: NoOptions, setting: EvaluatorSetting) -> Evaluator:
    """Balanced accuracy of each modality alone.

    Metrics: "alone_<name>" for each modality of the network, and "alone_gap", the best
    of them less the worst.

    Args:
        options: none.
        setting: the method's prediction, with "modality_logits" [B, M, K].

    Returns:
        `Evaluator`.

    Raises:
        ConfigError: if the network takes one array.
    """
    names, num_classes = setting.networks["main"].modalities, len(setting.class_counts)
    if not names:
        raise ConfigError(
            [
                "config.evaluators has 'modalities', but the network takes one array;"
                " expected a network of several modalities"
            ]
        )

    def judge(state, sums, batch, extra):
        right, support = sums
        logits = setting.predict(state, batch["inputs"])["modality_logits"]
        hit = jnp.argmax(logits, axis=-1) == batch["label"][:, None]
        row = jnp.where(batch["mask"], batch["label"], num_classes)
        return (
            right.at[row].add(hit.astype(jnp.int32), mode="drop"),
            support.at[row].add(1, mode="drop"),
        )

    def arrays(found, extra, about):
        right, support = (np.asarray(part, np.int64) for part in found)
        recall = np.where(
            support[..., None] > 0, right / np.maximum(support, 1)[..., None], np.nan
        )
        each = {f"classes/{n} alone": recall[..., m] for m, n in enumerate(names)}
        return {_RIGHT: right, _SUPPORT: support, **each}

    def summarize(arrays):
        recalls = [arrays[f"classes/{name} alone"] for name in names]
        alone = np.nanmean(np.stack(recalls, axis=-1), axis=1)  # [R, M]
        each = {f"alone_{name}": alone[:, m] for m, name in enumerate(names)}
        return {**each, "alone_gap": alone.max(axis=1) - alone.min(axis=1)}

    zeros = jnp.zeros((num_classes, len(names)), jnp.int32)
    return Evaluator(
        judge=Sweep(judge, (zeros, zeros[:, 0])),
        arrays=arrays,
        summarize=summarize,
        columns=(
            *(
                Column(f"alone_{name}", f"{name} alone", "max", f"recall by {name}")
                for name in names
            ),
            Column("alone_gap", "Gap", "min", "best modality alone less the worst"),
        ),
    )


MODALITIES = Component(
    "balanced accuracy of each of several modalities by itself", NoOptions, make
)
