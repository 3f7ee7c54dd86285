r"""RoLT: labels near the prototype of their class are believed, others are softened.

Once per epoch, a pass over the training set gives logits, and features whose distances
to the class prototypes part every class in two (`prototype_cleaning`). The loss is
cross-entropy to

.. math:: q = e_{\tilde y} \text{ if believed, else } 0.4\, e_{\hat y} + 0.2\, e_{y'}
          + 0.2\, e_{\tilde y} + 0.2 / K

from `start` on, with the classes that network and nearest prototype predict by logits
and scores averaged over the epochs. With `drw`, from `late` on an example that is not
believed has the target :math:`0.5\, e_{\bar y} + 0.5 / K`, with the surrogate label
(given if believed, else predicted) of that moment, and every term
:math:`q_k \log p_k` the class-balanced weight of k among the surrogate labels.

References:
    Wei et al., "Robust Long-Tailed Learning under Label Noise", 2021. The released code
    corrects the averages for their start at 0 in place and so more every epoch; the
    classes that they predict need no correction.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ltjax._numerics import moving_average
from ltjax.class_stats import class_balanced_weights
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Refresh,
    Setting,
    batch_pass,
    evaluated,
    even_part,
)
from ltjax.methods.noisy_label.kept import believed_aux
from ltjax.options import Component, option
from ltjax.pseudo_labels import prototype_cleaning, rolt_targets

FAR = -8.0  # below any score: unit vectors are at most 4 apart, squared


@dataclasses.dataclass(frozen=True)
class RoLTOptions:
    """Of RoLT."""

    start: str = option("40%", "targets are the given labels before", duration=True)
    momentum: float = option(0.6, "of logits and scores, over epochs", low=0, below=1)
    drw: bool = option(False, "weights classes late in training (RoLT-DRW)")
    late: str = option("80%", "start of that phase", duration=True)
    beta: float = option(0.9999, "of its class-balanced weights", low=0, below=1)


def rolt(options: RoLTOptions, setting: Setting) -> Method:
    """RoLT on the given labels.

    Args:
        options: see `RoLTOptions`.
        setting: the network "main", the rule, the given labels and the lengths.

    Returns:
        A `Method` with the tables "clean", "logits" and "scores", and with `drw` the
        table "surrogate" (-1 before the late phase) and the "weights" [K].
    """
    network, rule, num_classes = (
        setting.networks["main"],
        setting.rule,
        setting.num_classes,
    )
    labels, epoch = np.asarray(setting.labels), setting.steps_per_epoch
    start, late = setting.steps(options.start), setting.steps(options.late)
    tables = ("clean", "logits", "scores", *(("surrogate",) if options.drw else ()))

    def init(key, params, model_state):
        size = setting.table_size
        state = {
            "clean": jnp.ones(size, bool),
            "logits": jnp.zeros((size, num_classes)),
            "scores": jnp.zeros((size, num_classes)),
        }
        if options.drw:
            state["surrogate"] = jnp.full(size, -1, jnp.int32)
            state["weights"] = jnp.ones(num_classes)
        return state

    def gather(state, batch):
        outputs, _ = network.forward(
            state.params, state.model_state, batch["inputs"], train=False
        )
        return outputs["features"], outputs["logits"]

    def clean(kept, gathered, *, step):
        features, logits = gathered
        found = prototype_cleaning(features, labels, num_classes)
        new = {"logits": logits, "scores": np.maximum(found.scores, FAR)}
        new = {
            name: moving_average(kept[name][: len(labels)], rows, options.momentum)
            for name, rows in new.items()
        }
        new["clean"] = found.is_clean
        if options.drw:
            surrogate = kept["surrogate"][: len(labels)]
            if step >= late and surrogate[0] < 0:
                predicted = np.argmax(new["logits"], axis=1)
                surrogate = np.where(found.is_clean, labels, predicted)
                counts = np.bincount(surrogate, minlength=num_classes)
                weights = class_balanced_weights(counts, beta=options.beta)
                new["weights"] = np.asarray(weights)
            new["surrogate"] = surrogate
        return {**kept, **{k: _into(kept[k], rows) for k, rows in new.items()}}

    def prepare(state, batch, *, key, program):
        kept = {name: state.method_state[name][batch["index"]] for name in tables}
        given, believed = batch["label"], kept["clean"]
        believed = believed | (state.step < start)
        target = rolt_targets(
            given,
            believed,
            jnp.argmax(kept["logits"], axis=1),
            jnp.argmax(kept["scores"], axis=1),
            num_classes=num_classes,
        )
        if options.drw:
            own = jax.nn.one_hot(given, num_classes)
            other = jax.nn.one_hot(kept["surrogate"], num_classes)
            rows = jnp.where(believed[:, None], own, 0.5 * other + 0.5 / num_classes)
            weighted = state.method_state["weights"][None] * rows
            fixed = kept["surrogate"] >= 0
            target = jnp.where(fixed[:, None], weighted, target)
        more = {"target": target, "believed": believed}
        return state.method_state, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        log_p = jax.nn.log_softmax(outputs["logits"])
        aux = believed_aux(model_state, outputs, batch)
        return {"label": -jnp.sum(batch["target"] * log_p, axis=1)}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    refresh = Refresh(lambda step: step % epoch == 0, clean, gather)
    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        init=init,
        prepare=prepare,
        refreshes=(refresh,),
        tables=tables,
        class_part="label",
    )


def _into(table, rows) -> np.ndarray:
    """A copy of the table with these rows first; what pads it stays as it is."""
    new = np.array(table)
    new[: len(rows)] = rows
    return new


ROLT = Component(
    "RoLT: labels far from their class prototype are softened (Wei 2021)",
    RoLTOptions,
    rolt,
    facts=lambda options: MethodFacts(
        head="linear", reads_loss=False, reads_weights=False
    ),
)
