"""What methods read off an affine head: its logits of a mean, its kernel and bias."""

from typing import Any

import jax
import jax.numpy as jnp


def head_logits(network: Any, params: Any, model_state: Any, features) -> jax.Array:
    """What the head makes of one vector of features [D], [K]."""
    outputs, _ = network.classify(params, model_state, features[None], train=False)
    return outputs["logits"][0]


def affine_head(
    network: Any, params: Any, model_state: Any
) -> tuple[jax.Array, jax.Array]:
    """Kernel [D, K] and bias [K] of an affine head, whatever its parameters are.

    They are its logits of the unit vectors and of zero, so that a class scale or a
    fixed frame needs no case of its own, and gradients reach the parameters.
    """
    dim = network.num_features
    probes = jnp.concatenate([jnp.zeros((1, dim)), jnp.eye(dim)])
    outputs, _ = network.classify(params, model_state, probes, train=False)
    bias, rows = outputs["logits"][0], outputs["logits"][1:]
    return rows - bias[None], bias


def affine_needs(config: Any, key: str) -> list[str]:
    """Faults of a config where `key` needs an affine head."""
    if config.head.facts.affine:
        return []
    return [
        f"{key} needs logits that are affine in the features, expected head.normalize"
        " = 'none' and head.batch_norm = False, with head.name = 'linear', which is"
        f" {config.head.name!r}"
    ]
