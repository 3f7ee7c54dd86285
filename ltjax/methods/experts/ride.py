r"""RIDE: experts that classify on their own and are paid for disagreeing.

.. math:: \sum_e \Big( \ell(z_e, y) + \lambda \bar T^2\, \mathrm{KL}\big(
          \mathrm{softmax}(\bar z / T) \,\big\|\, \mathrm{softmax}(z_e / T) \big) \Big),
          \qquad \lambda < 0

with the loss of the config on the logits of each expert, its class weights, and the
mean logits without gradient. From `weights.start` on the temperatures depend on the
class, before they are 1. `ride_router` then learns how many experts an example needs.

A teacher, usually a run with more experts, adds the divergence of each expert from its
logits t, which are the column "teacher" (`columns_from`):

.. math:: \mu\, T_t^2 \sum_e \mathrm{KL}\big( \mathrm{softmax}(t / T_t) \,\big\|\,
          \mathrm{softmax}(z_e / T_t) \big)

With lambda > 0 the experts are their own teacher: each is drawn to their mean.

References:
    Wang et al., "Long-Tailed Recognition by Routing Diverse Distribution-Aware
    Experts", ICLR 2021, eq. 2-4. At lambda = 0 the released code trains the mean logits
    instead of the experts; here lambda is only a weight. Its distillation adds the
    whole loss once for each expert and distils their mean (`distills="mean"`); there
    the teacher sees the augmented batch, here each example as it is stored.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ltjax.losses import distillation, ride_diversity, ride_temperatures
from ltjax.methods import labelled
from ltjax.methods.experts import heads
from ltjax.methods.method import Method, Part, Setting, batch_pass, evaluated, even_part
from ltjax.options import Component, ConfigError, live, option


@dataclasses.dataclass(frozen=True)
class RIDEOptions:
    """Of RIDE."""

    diversity: float = option(
        -0.45, "lambda, weight of the distance to the mean expert", sweep=True
    )
    strength: float = option(
        0.05, "how far the late temperatures follow the class counts", low=0, high=1
    )
    teacher: float = option(
        0.0, "mu, weight of the column 'teacher'; 1 as published, 0 = none", low=0
    )
    teacher_temperature: float = option(1.5, "T_t", above=0)
    distills: str = option(
        "experts",
        "what follows the teacher; mean = as the released code does, E times the loss",
        choices=("experts", "mean"),
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
    taught, by_mean = options.teacher > 0, options.distills == "mean"
    if taught:
        _check_teacher(setting)

    def follow(state, z, teacher):
        """[B], the divergence from the teacher, summed over the experts."""
        if own_scale is not None:
            z = own_scale(labelled.loss_options(setting, state)) * z
        pupils = jnp.mean(z, axis=1, keepdims=True) if by_mean else z
        teachers = jnp.broadcast_to(teacher[:, None], pupils.shape)
        far = distillation(pupils, teachers, temperature=options.teacher_temperature)
        return jnp.sum(far, axis=1)

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
        found = {"label": sum(each), "diversity": apart}
        if taught:
            found["teacher"] = far = follow(state, z, batch["teacher"])
            aux["metrics"]["teacher"] = (jnp.sum(far * batch["mask"]), mask)
        if taught and by_mean:
            found = {name: z.shape[1] * values for name, values in found.items()}
        return found, aux

    def terms(state, batch, aux, *, program):
        weight = live("method", options, state.hyper).diversity
        classes, base = even_part(batch, batch["label"])
        parts = {
            "label": labelled.labelled_part(setting, state, batch),
            "diversity": Part(classes, weight * base),
        }
        if taught:
            parts["teacher"] = Part(classes, options.teacher * base)
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


def _check_teacher(setting: Setting) -> None:
    shape = np.shape(setting.columns["teacher"])[1:]
    if shape != (setting.num_classes,):
        raise ConfigError(
            [
                f"method 'ride': the column 'teacher' has shape {shape} for an example,"
                f" expected the logits of {setting.num_classes} classes (RUN#logits)"
            ]
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
    lambda options: heads.FACTS._replace(
        reads_loss=True,
        reads_weights=True,
        columns=("teacher",) if options.teacher else (),
    ),
)
