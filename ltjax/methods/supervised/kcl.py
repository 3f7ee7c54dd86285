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
class KCLOptions(queues.QueueOptions):
    """Of k-positive contrastive learning."""

    temperature: float = pairs.temperature_option(0.07)
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

    def contrast(outputs, state, batch, **how):
        kept = state.method_state
        return losses.kcl(
            outputs["projection"],
            batch["key"],
            batch["label"],
            queue=kept["queue"],
            queue_labels=kept["queue_labels"],
            queue_where=kept["queue_labels"] >= 0,
            k=options.k,
            unchosen=options.unchosen,
            **how,
        )

    return queues.queue_method(options, setting, contrast, labelled=True)


KCL = Component(
    "KCL: as many positives for every class (Kang 2021)",
    KCLOptions,
    kcl,
    queues.queue_needs,
    lambda options: pairs.pair_facts(labelled=True),
)
