r"""Sel-CL: contrast of the pairs, and classification of the examples, that look right.

Every epoch after the first, near neighbors select examples G (`confident_examples`) and
a cosine c (`similarity_limit`). With mixed queries q, the positives P of a row are the
key of its other view and those keys of the batch and of MoCo's queue that have its
given label and are believed: both in G, or a cosine of at least c. Then

.. math:: L = \lambda\, \ell^P_i(q_i) + (1 - \lambda)\, \ell^P_{\pi(i)}(q_i)
          + \mathrm{CE}_G + w\, \mathrm{BCE}(p_i \cdot p_j, t_{ij})

with :math:`\mathrm{CE}_G` the loss of the config over the selected rows, mixed
likewise, and t the believed pairs of the batch. A row that nothing is believed of has
its own key alone, which is the loss without labels; in the first epoch every row does.

References:
    Li, Xia, Ge, Liu, "Selective-Supervised Contrastive Learning with Noisy Labels",
    CVPR 2022. There the similarity of pairs is looked up from the epoch's pass; here it
    is that of the keys at hand. One pass of mixed queries serves all losses, so that t
    is mixed as the predictions are. `sel_cl_tune` is the second stage, Sel-CL+.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax._numerics import l2_normalize
from ltjax.methods import labelled
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    evaluated,
    even_part,
)
from ltjax.methods.noisy_label.kept import believed_aux
from ltjax.methods.self_supervised import pairs, queues
from ltjax.methods.supervised.supervised import SUPERVISED
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import confident_examples, neighbor_votes, similarity_limit
from ltjax.resampling.mixup import mixup


@dataclasses.dataclass(frozen=True)
class SelectionOptions:
    """Of the selection by neighbors."""

    neighbors: int = option(250, "that vote", low=1)
    quantile: float = option(
        0.5, "alpha, over the classes, of how many each keeps", low=0, high=1
    )


@dataclasses.dataclass(frozen=True)
class SelCLOptions(SelectionOptions, queues.KeyOptions):
    """Of Sel-CL."""

    momentum: float = option(0.999, "of the key network", low=0, high=1, sweep=True)
    temperature: float = option(0.1, "of the similarities", above=0, sweep=True)
    pair_quantile: float = option(
        0.25, "beta, of the cosines of selected pairs", low=0, high=1
    )
    similarity: float = option(0.01, "w, of the loss of pairs", low=0, sweep=True)
    mixup: float = option(1.0, "alpha of Beta(alpha, alpha)", above=0)
    warmup: str = option("1 epochs", "without labels", duration=True)


def selected(options, features, labels, num_classes: int) -> np.ndarray:
    """Bool [N], the examples that near neighbors agree on."""
    votes = neighbor_votes(features, labels, num_classes, k=options.neighbors)
    return confident_examples(votes.shares, labels, quantile=options.quantile)


def sel_cl(options: SelCLOptions, setting: Setting) -> Method:
    """Sel-CL with the queries of "view1" and the keys of "view2".

    Args:
        options: see `SelCLOptions`.
        setting: the network "main" has a classifying head; `loss`, `weights`, the rule
            and the given labels.

    Returns:
        A `Method` whose state is MoCo's, the "queue_index" (-1 for a place that is not
        filled), the table "selected" and the cosine "limit".
    """
    queue, rule = queues.queue_of(options, setting), setting.rule
    labels, num_classes = np.asarray(setting.labels), setting.num_classes
    epoch = setting.steps_per_epoch
    start = max(setting.steps(options.warmup), 1)

    def init(key, params, model_state):
        return {
            **queue.init(key, params, model_state),
            "queue_index": jnp.full(options.queue, -1, jnp.int32),
            "selected": jnp.zeros(setting.table_size, bool),
            "limit": jnp.asarray(jnp.inf, jnp.float32),
        }

    def gather(state, batch):
        return evaluated(setting, state, batch["inputs"])["projection"]

    def select(kept, features, *, step):
        table = np.array(kept["selected"])
        chosen = selected(options, features, labels, num_classes)
        table[: len(labels)] = chosen
        limit = similarity_limit(
            features, labels, chosen, quantile=options.pair_quantile
        )
        return {**kept, "selected": table, "limit": np.float32(limit)}

    def prepare(state, batch, *, key, program):
        mix_key, key = jax.random.split(key)
        kept, batch = queue.prepare(state, batch, key=key, program=program)
        mixed = mixup(mix_key, batch["view1"], alpha=options.mixup)
        more = {
            "view1": mixed.inputs,
            "believed": kept["selected"][batch["index"]],
            "partner": batch["label"][mixed.partner],
            "partner_row": mixed.partner,
            "lam": jnp.broadcast_to(mixed.lam, batch["label"].shape),
        }
        return kept, {**batch, **more}

    def believed_pairs(state, batch):
        """Keys [B + Q, P] of batch and queue, whether each counts, and pairs [B, B + Q]
        that are believed to be of one class.
        """
        kept = state.method_state
        index = kept["queue_index"]
        filled = index >= 0
        given = jnp.asarray(labels, jnp.int32)[jnp.maximum(index, 0)]
        chosen = kept["selected"][jnp.maximum(index, 0)]
        own = l2_normalize(batch["key"])
        bank = jnp.concatenate([own, kept["queue"]])
        counts = jnp.concatenate([batch["mask"], filled])
        given = jnp.concatenate([batch["label"], given])
        chosen = jnp.concatenate([batch["believed"], chosen])
        equal = batch["label"][:, None] == given[None, :]
        sure = batch["believed"][:, None] & chosen[None, :]
        alike = own @ bank.T >= kept["limit"]
        pairs = equal & (sure | alike) & counts[None, :]
        return bank, counts, pairs & batch["mask"][:, None]

    def loss(params, state, batch, *, key, program):
        outputs, model_state = queue.queries(params, state, batch, key)
        bank, counts, found = believed_pairs(state, batch)
        size, partner, lam = len(found), batch["partner_row"], batch["lam"]
        positive = found | jnp.eye(size, len(bank), dtype=bool)
        contrast = [
            losses.selected_contrast(
                outputs["projection"],
                bank,
                rows,
                temperature=live("method", options, state.hyper).temperature,
                where=batch["mask"],
                bank_where=counts,
            )
            for rows in (positive, positive[partner])
        ]
        same = positive[:, :size].astype(jnp.float32)
        for _ in range(2):  # rows, then columns, are mixed as the predictions are
            same = (lam[:, None] * same + (1 - lam[:, None]) * same[partner]).T
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        made = {
            name: labelled.label_loss(setting, state, outputs, batch[name], context)
            for name in ("label", "partner")
        }
        made["contrast"] = lam * contrast[0] + (1 - lam) * contrast[1]
        made["similarity"] = losses.pair_similarity(
            outputs["logits"], same, where=batch["mask"]
        )
        return made, believed_aux(model_state, outputs, batch)

    def terms(state, batch, aux, *, program):
        parts = mixed_parts(setting, state, batch)
        even = even_part(batch, batch["label"])
        weight = live("method", options, state.hyper).similarity
        parts["contrast"] = even
        parts["similarity"] = Part(even.labels, weight * even.base)
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        old = state.method_state
        new = queue.update(state, batch, aux)
        index = batch["index"].astype(jnp.int32)
        places, _ = queues.enqueue(
            old["queue_index"], old["pointer"], index, batch["mask"]
        )
        return {**new, "queue_index": places}

    def due(step):
        return step >= start and (step - start) % epoch == 0

    return Method(
        loss=loss,
        terms=terms,
        predict=labelled.prediction(setting),
        init=init,
        prepare=prepare,
        update=update,
        refreshes=(Refresh(due, select, gather),),
        tables=("selected",),
        class_part="label",
    )


def mixed_parts(setting: Setting, state, batch) -> dict[str, Part]:
    """The parts "label" and "partner" of a mixed batch, over its selected rows."""
    rows = {**batch, "mask": batch["mask"] & batch["believed"]}
    part = labelled.labelled_part(setting, state, rows)
    lam, partner = batch["lam"], batch["partner_row"]
    return {
        "label": Part(part.labels, lam * part.base),
        "partner": Part(batch["partner"], (1 - lam) * part.base[partner]),
    }


def _needs(options: SelCLOptions, config) -> list[str]:
    return [
        *SUPERVISED.needs(options, config),
        *queues.queue_needs(options, config),
    ]


SEL_CL = Component(
    "Sel-CL: contrast and classification of what neighbors agree on (Li 2022)",
    SelCLOptions,
    sel_cl,
    _needs,
    lambda options: MethodFacts(
        head="classifying", views=pairs.VIEWS, mixes=True, couples_batch=True
    ),
)
