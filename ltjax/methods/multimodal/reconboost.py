r"""ReconBoost: modalities learn one after the other what the others get wrong.

Stage s trains the encoder of modality m = s mod M and the head for `alone` on

.. math:: \ell_{recon}\big(\phi_m, y, \rho \textstyle\sum_{m' \ne m} \phi_{m'}\big)
          + \alpha\, \frac1K \sum_c (p_c - p^{prev}_c)^2

(`losses.reconboost` or `losses.reconboost_kl`, and `losses.memory_consolidation` with
the modality of the stage before, from stage 1 on). The newest learner then takes its
place in the sum, and `together` rectifies it: all encoders, the head and the boost rate
train on the loss of the config. The optimizer starts afresh at every change.

A modality joins the sum when its first stage ends; before that it neither predicts nor
counts among the others, so that q is uniform in stage 0.

References:
    Hua et al., "ReconBoost: Boosting Can Achieve Modality Reconcilement", ICML 2024,
    and the released code. There the frozen learners run in training mode, so that their
    batch statistics go on moving (`frozen="training"`), the consolidation has no
    gradient (`consolidation=0` trains alike), and q_y is 1 in stage 0.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.methods import labelled
from ltjax.methods.method import Method, Part, Setting, batch_pass, evaluated
from ltjax.methods.multimodal import fusion
from ltjax.options import Component, ConfigError, live, option


@dataclasses.dataclass(frozen=True)
class ReconBoostOptions:
    """Of ReconBoost: the published CREMA-D setting."""

    alone: str = option("4 epochs", "a modality trains by itself for", duration=True)
    together: str = option("4 epochs", "then all of them rectify for", duration=True)
    residual: str = option(
        "weighted",
        "what a stage fits: cross-entropy weighted as in the code, or the paper's KL",
        choices=("weighted", "kl"),
    )
    label_weight: float = option(
        5.0, "w1 of the weighted form; 4 for AVE", low=0, sweep=True
    )
    ensemble_weight: float = option(
        1.0, "w2, what the others' probability takes off", low=0, sweep=True
    )
    kl_weight: float = option(0.25, "lambda of the KL form", low=0, sweep=True)
    consolidation: float = option(
        0.5, "alpha; 0 = none, as the code trains", low=0, sweep=True
    )
    frozen: str = option(
        "inference",
        "mode of the others in a stage; training = their statistics move on",
        choices=("inference", "training"),
    )


class Stage(NamedTuple):
    """A static program: which modalities train, and whether one of them by itself."""

    active: tuple[str, ...]
    alone: bool


class Cycle(NamedTuple):
    """When which modality trains; a pure function of the step.

    Attributes:
        names: M modalities, in the order of their stages.
        alone: steps of a modality by itself.
        together: steps of all of them after it.
    """

    names: tuple[str, ...]
    alone: int
    together: int

    @property
    def period(self) -> int:
        """Steps of a stage."""
        return self.alone + self.together

    def stage(self, step: int) -> Stage:
        """The program of a step."""
        number, at = divmod(step, self.period)
        if at < self.alone:
            return Stage((self.names[number % len(self.names)],), True)
        return Stage(self.names[: number + 1], False)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every program."""
        ends = range(1, len(self.names) + 1) if self.together else ()
        return (
            *(Stage((name,), True) for name in self.names),
            *(Stage(self.names[:end], False) for end in ends),
        )

    def starts(self, step) -> jax.Array:
        """Whether a part of a stage begins, traced."""
        at = step % self.period
        return (at == 0) | (at == self.alone)

    def inside(self, step) -> jax.Array:
        """[M] bool, traced: which modalities are part of the sum."""
        number = jnp.arange(len(self.names))
        # The first one predicts from the start: without it there would be nothing.
        return (step >= self.alone + self.period * number) | (number == 0)


def reconboost(options: ReconBoostOptions, setting: Setting) -> Method:
    """ReconBoost on the network's modalities.

    Args:
        options: see `ReconBoostOptions`.
        setting: the network "main" with the head "fusion", loss, weights and rule.

    Returns:
        A `Method` of a static program for each modality and one for each rectification.

    Raises:
        ConfigError: if a modality trains for no step.
    """
    network, rule = setting.networks["main"], setting.rule
    names = network.modalities
    cycle = Cycle(names, setting.steps(options.alone), setting.steps(options.together))
    if not cycle.alone:
        raise ConfigError(
            [f"config.method.alone is {options.alone!r}, expected one step or more"]
        )

    def prepare(state, batch, *, key, program):
        if not program.stage.alone or options.frozen == "training":
            return state.method_state, batch
        outputs, _ = network.forward(
            state.params,
            state.model_state,
            batch["inputs"],
            train=False,
            mask=batch["mask"] if setting.padded else None,
        )
        return state.method_state, {**batch, "frozen": outputs["modality_logits"]}

    def loss(params, state, batch, *, key, program):
        outputs, seen = batch_pass(setting, params, state, batch, key=key)
        if program.stage.alone:
            return stage_losses(state, outputs, seen, batch, program.stage)
        outputs = {**outputs, "logits": fusion.fused(outputs, cycle.inside(state.step))}
        model_state = moved(state.model_state, seen, program.stage.active)
        values, aux = fusion.label_losses(
            setting, params, state, outputs, model_state, batch
        )
        return {"label": values}, aux

    def stage_losses(state, outputs, seen, batch, stage):
        now = live("method", options, state.hyper)
        (name,) = stage.active
        m, labels = names.index(name), batch["label"]
        own = outputs["modality_logits"][:, m]
        trains = options.frozen == "training"
        frozen = outputs["modality_logits"] if trains else batch["frozen"]
        told = {**outputs, "modality_logits": jax.lax.stop_gradient(frozen)}
        inside = cycle.inside(state.step) & (jnp.arange(len(names)) != m)
        others = fusion.fused(told, inside)
        if options.residual == "kl":
            values = losses.reconboost_kl(own, labels, others, weight=now.kl_weight)
        else:
            values = losses.reconboost(
                own,
                labels,
                others,
                label_weight=now.label_weight,
                ensemble_weight=now.ensemble_weight,
            )
        previous = told["modality_logits"][:, m - 1]
        consolidation = losses.memory_consolidation(own, previous)
        rate = outputs["boost_rate"][:, None]
        outputs = {**outputs, "logits": others + rate * own}
        aux = {
            "model_state": seen if trains else moved(state.model_state, seen, (name,)),
            "outputs": outputs,
            "metrics": {"accuracy": labelled.accuracy(outputs, batch)},
        }
        return {"label": values, "consolidation": consolidation}, aux

    def terms(state, batch, aux, *, program):
        part = labelled.labelled_part(setting, state, batch)
        parts = {"label": part}
        if program.stage.alone:
            weight = live("method", options, state.hyper).consolidation
            weight = jnp.where(state.step >= cycle.period, weight, 0.0)
            parts["consolidation"] = Part(part.labels, weight * part.base)
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        return {**outputs, "logits": fusion.fused(outputs, cycle.inside(state.step))}

    def trains(stage):
        encoders = [f"backbone/{name}" for name in stage.active]
        head = ["head/hidden*", "head/classifier*"] if stage.alone else ["head"]
        return ",".join(encoders + head)

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        prepare=prepare,
        program=cycle.stage,
        programs=cycle.stages,
        trains=trains,
        restarts=cycle.starts,
        evaluators=fusion.EVALUATORS,
        class_part="label",
    )


def moved(old, new, active: tuple[str, ...]):
    """The model state `new` of the active encoders, and `old` of the others."""

    def leaf(path, before, after):
        keys = [entry.key for entry in path[1:3]]
        kept = keys[0] == "backbone" and keys[1] not in active
        return before if kept else after

    return jax.tree_util.tree_map_with_path(leaf, old, new)


RECONBOOST = Component(
    "ReconBoost: modalities learn in turns what the others get wrong (Hua 2024)",
    ReconBoostOptions,
    reconboost,
    fusion.needs,
    lambda options: fusion.FACTS,
)
