r"""KCL: every anchor has its own key and at most k positives of its class.

.. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
          \frac{e^{q_i \cdot k_p / T}}
          {\sum_{a \in P(i) \cup N(i)} e^{q_i \cdot k_a / T}}

As many positives for the tail as for the head balance the feature space. Queue and key
network are MoCo's; the queue keeps the labels of its keys.

References:
    Kang, Li, Xie, Yuan, Feng, "Exploring Balanced Feature Spaces for Representation
    Learning", ICLR 2021: k = 6, T = 0.07, and a class-balanced linear classifier on the
    frozen features, which is a stage of its own. Further entries of the class are left
    out; the first version of the code keeps them as negatives (`unchosen`).
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs, queues
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class KCLOptions(queues.QueueOptions, pairs.TemperatureOptions):
    """Of k-positive contrastive learning."""

    temperature: float = option(
        0.07,
        "of the similarities; with a schedule its lowest value",
        above=0,
        sweep=True,
    )
    k: int = option(6, "most positives from the queue", low=0)
    unchosen: str = option(
        "masked",
        "what further entries of the anchor's class are",
        choices=("masked", "negatives"),
    )


def kcl(options: KCLOptions, setting: Setting) -> Method:
    """k-positive contrastive learning, queries of "view1" and keys of "view2".

    Args:
        options: see `KCLOptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose state is MoCo's and "queue_labels".
    """
    queue = queues.queue_of(options, setting, labelled=True)
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        outputs, model_state = queue.queries(params, state, batch, key)
        temperature, kept = temperature_at(state), state.method_state
        values = losses.kcl(
            outputs["projection"],
            batch["key"],
            batch["label"],
            queue=kept["queue"],
            queue_labels=kept["queue_labels"],
            k=options.k,
            temperature=temperature,
            unchosen=options.unchosen,
            where=batch["mask"],
            queue_where=kept["queue_labels"] >= 0,
            block=options.block or None,
        )
        keys = {"projection": batch["key"]}
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, outputs, keys, model_state, batch["mask"], **more
        )

    return pairs.pair_method(
        setting,
        loss,
        labelled=True,
        init=queue.init,
        prepare=queue.prepare,
        update=queue.update,
    )


KCL = Component(
    "KCL: as many positives for every class (Kang 2021)",
    KCLOptions,
    kcl,
    queues.queue_needs,
    lambda options: pairs.pair_facts(labelled=True),
)
