r"""BCL: a classifier beside features in which every class counts once.

.. math:: L = \mathrm{CE}(h(f(x^{(1)})), y) + \lambda\, \ell_{\mathrm{BCL}}, \qquad
          \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \Big[ s_{ip}
          - \log \sum_{j \ne i} \frac{e^{s_{ij}}}{c_j} \Big]

over both views and the K class centers, with c_j the number of keys of j's class. The
centers are made of the classifier's columns by a small network of the head "centering".
The first term is the loss of the config with its class weights: published is logit
adjustment ("la"). No queue, no momentum network.

References:
    Zhu, Wang, Chen, Chen, Jiang, "Balanced Contrastive Learning for Long-Tailed Visual
    Recognition", CVPR 2022, and the released code: on ImageNet-LT T = 0.07 and a weight
    of 0.35. There a third view with other augmentation is classified; here it is the
    first one, so that a step costs two passes instead of three.
"""

import dataclasses

import jax.numpy as jnp

from ltjax import losses
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    even_part,
)
from ltjax.methods.self_supervised import pairs
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class BalancedContrastiveOptions(pairs.ViewOptions, pairs.BatchContrastOptions):
    """Of balanced contrastive learning."""

    temperature: float = pairs.temperature_option(0.1, ", 0.07 on ImageNet-LT")
    contrast: float = option(0.35, "weight of the contrastive loss", low=0, sweep=True)


def balanced_contrastive(
    options: BalancedContrastiveOptions, setting: Setting
) -> Method:
    """Balanced contrastive learning on the views "view1" and "view2".

    Args:
        options: see `BalancedContrastiveOptions`.
        setting: `loss`, `weights`, the rule; the network "main" has a head that makes
            class centers.

    Returns:
        A `Method` that predicts by the classifier.
    """
    network, rule = setting.networks["main"], setting.rule
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        temperature, mask = temperature_at(state), batch["mask"]
        assert network.class_centers is not None  # the head "centering" makes them
        values = losses.balanced_contrastive(
            jnp.stack([first["projection"], second["projection"]], axis=1),
            batch["label"],
            network.class_centers(params, model_state),
            temperature=temperature,
            where=mask,
            block=options.block or None,
        )
        found, aux = pairs.pair_losses(
            values,
            first,
            second,
            model_state,
            mask,
            **pairs.told(options, temperature),
        )
        context = labelled.loss_context(setting, state, params, model_state, mask=mask)
        found["label"] = labelled.label_loss(
            setting, state, first, batch["label"], context
        )
        metrics = {**aux["metrics"], "accuracy": labelled.accuracy(first, batch)}
        metrics["contrast"] = (jnp.sum(values), jnp.sum(mask))
        return found, {**aux, "metrics": metrics}

    def terms(state, batch, aux, *, program):
        part, even = labelled.labelled_part(setting, state, batch), even_part(batch)
        weight = live("method", options, state.hyper).contrast
        parts = {"label": part, "views": Part(part.labels, weight * even.base)}
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss, terms=terms, predict=labelled.prediction(setting), class_part="label"
    )


BALANCED_CONTRASTIVE = Component(
    "BCL: every class counts once among the contrasted samples (Zhu 2022)",
    BalancedContrastiveOptions,
    balanced_contrastive,
    facts=lambda options: MethodFacts(
        head="centering", couples_batch=True, views=pairs.VIEWS
    ),
)
