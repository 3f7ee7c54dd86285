"""What methods of several modalities share: what they need, and the pass of a batch.

The network's head is "fusion": "modality_logits" [B, M, K], their sum times the boost
rate, "logits", and that rate, "boost_rate" [B].
"""

from typing import Any

import jax
import jax.numpy as jnp

from ltjax.methods import labelled
from ltjax.methods.method import MethodFacts, Setting

FACTS = MethodFacts(head="fusion")
EVALUATORS = ("classification", "modalities")


def needs(options: Any, config) -> list[str]:
    """Faults of a config whose loss is not one of plain logits."""
    loss = config.loss
    if loss.facts.head not in ("cosine", "etf"):
        return []
    return [
        f"config.loss.name is {loss.name!r}, which needs the head {loss.facts.head!r},"
        f" but method {config.method.name!r} has logits of several modalities;"
        " expected a loss of logits"
    ]


def fused(outputs: Any, inside: jax.Array) -> jax.Array:
    """Logits [B, K] of the modalities that are `inside` [M] bool."""
    kept = jnp.where(inside[None, :, None], outputs["modality_logits"], 0.0)
    return outputs["boost_rate"][:, None] * jnp.sum(kept, axis=1)


def label_losses(
    setting: Setting, params: Any, state: Any, outputs: Any, model_state: Any, batch
) -> tuple[jax.Array, dict[str, Any]]:
    """(the config's loss of the logits, what a method tells of the pass)."""
    told = labelled.loss_context(
        setting, state, params, model_state, mask=batch["mask"]
    )
    values = labelled.label_loss(setting, state, outputs, batch["label"], told)
    aux = {
        "model_state": model_state,
        "outputs": outputs,
        "metrics": {"accuracy": labelled.accuracy(outputs, batch)},
    }
    return values, aux


def terms_of_labels(setting: Setting):
    """The `terms` of a method whose only part is "label"."""

    def terms(state, batch, aux, *, program):
        parts = {"label": labelled.labelled_part(setting, state, batch)}
        return setting.rule.terms(parts, state, batch, program.rule)

    return terms
