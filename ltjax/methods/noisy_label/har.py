r"""HAR: rows that are rare and often wrong get a smoother network around them.

.. math:: L = \frac1B \sum_i \ell_i + \lambda\, \frac1B \sum_i r_{y_i}
          \sum_l \Big\| \frac{\partial}{\partial h_{l,i}}
          \frac1B \sum_j \ell_j \Big\|_2

with h_l what the l-th normalization layer gives, and the strengths r of
`adaptive_strengths`. They need the errors of a network that has not seen the examples
it is tested on: until `first`, the network trains on half of every class, without the
penalty; the other half then tells the errors, and the network starts afresh on
everything. The schedule of the learning rate runs through both. Class weights count for
the first sum only, and deferred ones make it HAR-DRW.

References:
    Cao, Chen, Lu, Arechiga, Gaidon, Ma, "Heteroskedastic and Imbalanced Deep Learning
    with Adaptive Regularization", ICLR 2021. There the two trainings are runs of their
    own. The strength is that of the README, 10; the code's default is 0.1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    even_part,
)
from ltjax.options import Component, ConfigError, live, option
from ltjax.pseudo_labels import adaptive_strengths, held_out_errors, held_out_half


@dataclasses.dataclass(frozen=True)
class HAROptions:
    """Of HAR."""

    strength: float = option(10.0, "lambda, of the penalty", low=0, sweep=True)
    first: str = option("40%", "of the training that finds errors", duration=True)
    error_power: float = option(0.6, "of the errors of a class", low=0)
    count_power: float = option(0.4, "of its size, in the denominator", low=0)
    split: int = option(0, "seed of the halves", low=0, below=2**31)


def har(options: HAROptions, setting: Setting) -> Method:
    """Supervised learning with HAR's penalty.

    Args:
        options: see `HAROptions`.
        setting: the network "main", `loss`, `weights`, the rule and the given labels.

    Returns:
        A `Method` with the table "held" and the "strengths" [K], 0 before they are
        known.

    Raises:
        ConfigError: if the first training has no step, or all of them.
    """
    network, rule = setting.networks["main"], setting.rule
    labels, num_classes = np.asarray(setting.labels), setting.num_classes
    start = setting.steps(options.first)
    if not 0 < start < setting.total_steps:
        raise ConfigError(
            [
                f"config.method.first is {options.first!r} = {start} steps, expected"
                f" more than 0 and fewer than the run's {setting.total_steps}"
            ]
        )

    predict = labelled.prediction(setting)

    def init(key, params, model_state):
        held = np.zeros(setting.table_size, bool)
        held[: len(labels)] = held_out_half(labels, seed=options.split)
        return {"held": jnp.asarray(held), "strengths": jnp.zeros(num_classes)}

    def gather(state, batch):
        return jnp.argmax(predict(state, batch["inputs"])["logits"], axis=1)

    def judge(kept, predicted, *, step):
        held = kept["held"][: len(labels)]
        strengths = adaptive_strengths(
            held_out_errors(predicted, labels, held, num_classes),
            setting.class_counts,
            error_power=options.error_power,
            count_power=options.count_power,
        )
        return {**kept, "strengths": strengths}

    def prepare(state, batch, *, key, program):
        kept = state.method_state
        held = kept["held"][batch["index"]]
        more = {"counts": batch["mask"] & (~held if program.stage == 0 else True)}
        return kept, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        counts = batch["counts"]

        def losses_of(taps):
            def tap(name, output):
                shapes[name] = jax.ShapeDtypeStruct(output.shape, output.dtype)
                return output + taps[name] if taps else output

            outputs, model_state = network.forward(
                params,
                state.model_state,
                batch["inputs"],
                train=True,
                rngs={"dropout": key},
                mask=counts if setting.padded or program.stage == 0 else None,
                tap=tap,
            )
            context = labelled.loss_context(
                setting, state, params, model_state, mask=counts
            )
            losses = labelled.label_loss(
                setting, state, outputs, batch["label"], context
            )
            base = even_part({**batch, "mask": counts}).base
            return jnp.sum(base * losses), (losses, outputs, model_state)

        shapes: dict[str, jax.ShapeDtypeStruct] = {}
        if program.stage == 0:
            _, (label_losses, outputs, model_state) = losses_of(None)
            losses = {"label": label_losses}
        else:
            jax.eval_shape(losses_of, None)
            taps = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
            slopes, (label_losses, outputs, model_state) = jax.grad(
                losses_of, has_aux=True
            )(taps)
            penalty = sum(row_norms(slope) for slope in slopes.values())
            losses = {"label": label_losses, "slope": penalty}
        accuracy = labelled.accuracy(outputs, {**batch, "mask": counts})
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"accuracy": accuracy},
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        part = labelled.labelled_part(
            setting, state, {**batch, "mask": batch["counts"]}
        )
        parts = {"label": part}
        if program.stage:
            strength = live("method", options, state.hyper).strength
            strength = strength * state.method_state["strengths"][batch["label"]]
            parts["slope"] = Part(part.labels, strength * even_part(batch).base)
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        program=lambda step: int(step >= start),
        programs=(0, 1),
        redraws=lambda step: step == start,
        refreshes=(Refresh(lambda step: step == start, judge, gather),),
        tables=("held",),
        class_part="label",
    )


def row_norms(x: jax.Array) -> jax.Array:
    """Euclidean norm of every row of [B, ...]; the slope at 0 is 0."""
    x = x.astype(jnp.float32)
    squares = jnp.sum(x**2, axis=tuple(range(1, x.ndim)))
    apart = squares > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


def _needs(options: HAROptions, config) -> list[str]:
    norm = getattr(config.model.options, "norm", "batch")
    if norm != "none":
        return []
    return [
        "config.model.norm is 'none', but method 'har' smooths what normalization"
        " layers give, expected one of them"
    ]


HAR = Component(
    "HAR: slopes are penalized where a class is rare and often wrong (Cao 2021)",
    HAROptions,
    har,
    _needs,
    lambda options: MethodFacts(couples_batch=True),
)
