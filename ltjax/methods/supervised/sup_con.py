r"""Supervised contrastive learning: all views of a class are positives of each other.

.. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
          \frac{e^{u_i \cdot u_p / T}}{\sum_{a \in A(i)} e^{u_i \cdot u_a / T}}

It trains features; a linear probe on them is a stage of its own, as published.

References:
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2. The released
    code multiplies the loss by T / 0.07 (`base_temperature=0.07`), which only rescales
    it.
"""

import dataclasses

import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class SupConOptions(pairs.ViewOptions, pairs.BatchContrastOptions):
    """Of supervised contrastive learning."""

    temperature: float = pairs.temperature_option(0.1)
    base_temperature: float = option(
        0.0, "T0 of the factor T / T0, 0.07 in the code; 0 = no factor", low=0
    )


def sup_con(options: SupConOptions, setting: Setting) -> Method:
    """Supervised contrastive learning on the views "view1" and "view2".

    Args:
        options: see `SupConOptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose prediction is features and projection, judged by "knn".
    """
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        temperature = temperature_at(state)
        values = losses.sup_con(
            jnp.stack([first["projection"], second["projection"]], axis=1),
            batch["label"],
            temperature=temperature,
            base_temperature=options.base_temperature or None,
            where=batch["mask"],
            block=options.block or None,
        )
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, first, second, model_state, batch["mask"], **more
        )

    return pairs.pair_method(setting, loss, labelled=True)


SUP_CON = Component(
    "supervised contrastive learning (Khosla 2020)",
    SupConOptions,
    sup_con,
    pairs.contrast_needs,
    facts=lambda options: pairs.pair_facts(labelled=True, couples_batch=True),
)
