r"""Supervised learning: any loss x head x class weights x gradient rule.

The objective of a batch is

.. math:: \sum_i b_i\, \ell(f(x_i), y_i), \qquad
          b_i = \frac{w_{y_i}}{B} \ \text{ or } \ \frac{w_{y_i}}{\sum_j w_{y_j}}

(`weights.normalize` "examples" or "weights"; padding has b = 0), where loss and weights
may change once, at `weights.start`: the deferred re-weighting (DRW) of Cao et al. 2019
and the two phases of TLA+ADRW (Wang et al. 2023) are chosen by the phase of the step,
inside one compiled program.
"""

import dataclasses

import jax.numpy as jnp

from ltjax.methods import labelled
from ltjax.methods.method import Method, MethodFacts, Part, Setting
from ltjax.options import Component, live, option
from ltjax.resampling.mixup import mixup


@dataclasses.dataclass(frozen=True)
class SupervisedOptions:
    """Of supervised learning."""

    mixup: float = option(0.0, "alpha of Beta(alpha, alpha); 0 = off", low=0)
    posthoc_tau: float = option(
        0.0, "strength of the logit adjustment at prediction", low=0, sweep=True
    )


def supervised(options: SupervisedOptions, setting: Setting) -> Method:
    """The plain supervised method.

    Args:
        options: see `SupervisedOptions`.
        setting: `loss`, `weights`, `rule` and the network "main" are used.

    Returns:
        A `Method`.
    """
    network, loss, rule = setting.networks["main"], setting.loss, setting.rule
    auxiliary = rule.auxiliary

    def context(state, params, model_state, mask=None):
        memory = (state.method_state or {}).get("loss")
        return labelled.loss_context(
            setting, state, params, model_state, mask=mask, memory=memory
        )

    def init(key, params, model_state):
        state = {}
        if loss.memory is not None:
            state["loss"] = loss.memory.init(key, params, model_state)
        if auxiliary is not None:
            state["auxiliary"] = auxiliary.init(key, params, model_state)
        return state or None

    def prepare(state, batch, *, key, program):
        if not options.mixup:
            return state.method_state, batch
        name = "features" if "features" in batch else "inputs"
        mixed = mixup(key, batch[name], alpha=options.mixup)
        more = {
            name: mixed.inputs,
            "partner_row": mixed.partner,
            "partner": batch["label"][mixed.partner],
            "lam": jnp.broadcast_to(mixed.lam, batch["label"].shape),
        }
        return state.method_state, {**batch, **more}

    def loss_fn(params, state, batch, *, key, program):
        extracted = "features" in batch
        apply = network.classify if extracted else network.forward
        assert apply is not None  # features are extracted only by networks with a seam
        outputs, model_state = apply(
            params,
            state.model_state,
            batch["features" if extracted else "inputs"],
            train=True,
            rngs={"dropout": key},
            mask=batch["mask"] if setting.padded else None,
        )
        told = context(state, params, model_state, batch["mask"])
        losses = {
            name: labelled.label_loss(setting, state, outputs, batch[name], told)
            for name in (("label", "partner") if options.mixup else ("label",))
        }
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"accuracy": labelled.accuracy(outputs, batch)},
        }
        if auxiliary is not None:
            memory = state.method_state["auxiliary"]
            losses["auxiliary"], aux["whole"] = auxiliary.loss(
                params, state, memory, batch, aux
            )
        return losses, aux

    def terms(state, batch, aux, *, program):
        part = labelled.labelled_part(setting, state, batch)
        parts = {"label": part}
        if options.mixup:
            lam, partner = batch["lam"], batch["partner_row"]
            parts = {
                "label": Part(part.labels, lam * part.base),
                "partner": Part(batch["partner"], (1 - lam) * part.base[partner]),
            }
        if auxiliary is not None:
            share = auxiliary.share(state)
            parts = {
                name: Part(one.labels, (1 - share) * one.base)
                for name, one in parts.items()
            }
            parts["auxiliary"] = Part(part.labels, share * part.base)
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        kept = dict(state.method_state or {})
        if loss.memory is not None:
            kept["loss"] = loss.memory.update(kept["loss"], state, batch, aux)
        if auxiliary is not None:
            memory = kept["auxiliary"]
            kept["auxiliary"] = auxiliary.update(memory, state, batch, aux["whole"])
        return kept or None

    def posthoc_tau(state):
        return live("method", options, state.hyper).posthoc_tau

    def adjustment(state):
        told = context(state, state.params, state.model_state)
        affine = loss.affine(labelled.loss_options(setting, state), told)
        return labelled.class_weights(setting, state, None, None), *affine

    stated = (
        loss.affine is not None
        and setting.weights.of_batch is None
        and auxiliary is None
    )
    return Method(
        loss=loss_fn,
        terms=terms,
        predict=labelled.prediction(setting, posthoc_tau),
        init=init,
        prepare=prepare,
        update=update,
        class_part="label",
        adjustment=adjustment if stated else None,
    )


def _needs(options: SupervisedOptions, config) -> list[str]:
    faults: list[str] = []
    if not options.mixup:
        return faults
    if config.loss.facts.remembers:
        faults.append(
            f"config.method.mixup is {options.mixup}, but loss {config.loss.name!r} is"
            " calibrated on predictions of single examples, expected 0"
        )
    if config.sampler.facts.padded:
        faults.append("config.method.mixup would mix examples with padding; use 'drop'")
    return faults


def _facts(options: SupervisedOptions) -> MethodFacts:
    mixes = options.mixup > 0
    return MethodFacts(
        mixes=mixes,
        takes_features=not mixes,
        takes_auxiliary=True,
        takes_memory=True,
        affine=True,
        uncorrected={"method.posthoc_tau": 0.0},
    )


SUPERVISED = Component(
    "any loss x head x class weights x sampler x gradient rule",
    SupervisedOptions,
    supervised,
    _needs,
    _facts,
)
