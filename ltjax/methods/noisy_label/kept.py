"""What methods that believe some labels and not others report of their choice."""

from typing import Any

import jax.numpy as jnp

from ltjax.methods import labelled


def kept_metrics(kept, batch) -> dict[str, tuple]:
    """Share of the rows whose label is believed; precision and recall of the choice.

    Args:
        kept: [B] bool.
        batch: with "label" and "mask", and the clean labels "truth" if they are known,
            which count here only.

    Returns:
        Step metrics "kept", "kept_precision" (of the kept labels, the right ones) and
        "kept_recall" (of the right labels, the kept ones).
    """
    kept = kept & batch["mask"]
    metrics = {"kept": (jnp.sum(kept), jnp.sum(batch["mask"]))}
    if "truth" in batch:
        right = (batch["label"] == batch["truth"]) & batch["mask"]
        both = jnp.sum(kept & right)
        metrics["kept_precision"] = (both, jnp.sum(kept))
        metrics["kept_recall"] = (both, jnp.sum(right))
    return metrics


def believed_aux(model_state, outputs, batch) -> dict[str, Any]:
    """The `aux` of a pass over rows of which those that are "believed" count.

    Args:
        model_state: after the pass.
        outputs: of the network, with "logits" [B, K].
        batch: as for `kept_metrics`, with "believed" [B] bool.

    Returns:
        The model state, the outputs, and the accuracy beside `kept_metrics`.
    """
    metrics = {
        "accuracy": labelled.accuracy(outputs, batch),
        **kept_metrics(batch["believed"], batch),
    }
    return {"model_state": model_state, "outputs": outputs, "metrics": metrics}
