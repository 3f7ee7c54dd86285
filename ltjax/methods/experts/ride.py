r"""RIDE: experts that classify on their own and are paid for disagreeing.

.. math:: \sum_e \Big( \ell(z_e, y) + \lambda \bar T^2\, \mathrm{KL}\big(
          \mathrm{softmax}(\bar z / T) \,\big\|\, \mathrm{softmax}(z_e / T) \big) \Big),
          \qquad \lambda < 0

with the loss of the config on the logits of each expert, its class weights, and the
mean logits without gradient. From `weights.start` on the temperatures depend on the
class, before they are 1. `ride_router` then learns how many experts an example needs.

References:
    Wang et al., "Long-Tailed Recognition by Routing Diverse Distribution-Aware
    Experts", ICLR 2021, eq. 2-4. At lambda = 0 the released code trains the mean logits
    instead of the experts; here lambda is only a weight.
"""

import dataclasses

import jax.numpy as jnp

from ltjax.losses import ride_diversity, ride_temperatures
from ltjax.methods import labelled
from ltjax.methods.experts import heads
from ltjax.methods.method import Method, Part, Setting, batch_pass, evaluated, even_part
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class RIDEOptions:
    """Of RIDE."""

    diversity: float = option(
        -0.45, "lambda, weight of the distance to the mean expert", sweep=True
    )
    strength: float = option(
        0.05, "how far the late temperatures follow the class counts", low=0, high=1
    )


def ride(options: RIDEOptions, setting: Setting) -> Method:
    """RIDE on the network's experts.

    Args:
        options: see `RIDEOptions`.
        setting: the network "main" with the head "experts", loss, weights and rule.

    Returns:
        A `Method`.
    """
    rule, own_scale = setting.rule, setting.loss.confidence
    late = ride_temperatures(setting.class_counts, strength=options.strength)

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        z, labels = outputs["expert_logits"], batch["label"]
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        each = [
            labelled.label_loss(setting, state, {"logits": z[:, e]}, labels, context)
            for e in range(z.shape[1])
        ]
        temperatures = jnp.where(labelled.phase_of(setting, state) > 0, late, 1.0)
        apart = jnp.sum(ride_diversity(z, temperatures=temperatures), axis=1)
        total, mask = jnp.sum(apart * batch["mask"]), jnp.sum(batch["mask"])
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {
                "accuracy": labelled.accuracy(outputs, batch),
                "diversity": (total, mask),
            },
        }
        return {"label": sum(each), "diversity": apart}, aux

    def terms(state, batch, aux, *, program):
        weight = live("method", options, state.hyper).diversity
        classes, base = even_part(batch, batch["label"])
        parts = {
            "label": labelled.labelled_part(setting, state, batch),
            "diversity": Part(classes, weight * base),
        }
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        if own_scale is None:
            return outputs
        scale = own_scale(labelled.loss_options(setting, state))
        scaled = {name: scale * outputs[name] for name in ("logits", "expert_logits")}
        return {**outputs, **scaled}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        evaluators=("test_priors", "classification"),
        class_part="label",
    )


def _needs(options: RIDEOptions, config) -> list[str]:
    faults = []
    if config.loss.facts.head == "etf":
        faults.append(
            f"config.loss.name is {config.loss.name!r}, which needs features and a"
            " fixed frame, but method 'ride' has logits of several experts; expected"
            " a loss of logits"
        )
    scale = getattr(config.head.options, "scale", 1.0)
    if config.loss.facts.head == "cosine" and scale != 1:
        faults.append(
            f"config.head.scale is {scale}, but loss {config.loss.name!r} scales the"
            " cosines itself, expected 1"
        )
    kind = getattr(config.head.options, "classifier", "cosine")
    if config.loss.facts.head == "cosine" and kind != "cosine":
        faults.append(
            f"config.head.classifier is {kind!r}, but loss {config.loss.name!r} is of"
            " cosines, expected 'cosine'"
        )
    return faults


RIDE = Component(
    "RIDE: diverse experts (Wang 2021)",
    RIDEOptions,
    ride,
    _needs,
    lambda options: heads.FACTS._replace(reads_loss=True, reads_weights=True),
)
