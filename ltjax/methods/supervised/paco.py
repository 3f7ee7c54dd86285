r"""PaCo: class centers among the contrasted samples, balanced by the class prior.

.. math:: Z_i = \log \Big[ \sum_k e^{a_{ik}} + \gamma \sum_j e^{s_{ij}} \Big], \quad
          \ell_i = - \frac{\beta (a_{i y_i} - Z_i) + \alpha \sum_{p \in P(i)}
          (s_{ip} - Z_i)}{\beta + \alpha |P(i)|}, \quad a_k = z_k + \log \pi_k

The samples are the other queries, the keys and MoCo's queue with labels. Classifier and
features are trained together, and the classifier's logits z predict.

References:
    Cui, Zhong, Liu, Yu, Jia, "Parametric Contrastive Learning", ICCV 2021: alpha 0.05
    and T = 0.2, on CIFAR-100-LT 0.01 and 0.05. The released code starts the queue with
    random labels; here a place that no batch has filled yet has no class.
"""

import dataclasses

from ltjax import losses
from ltjax.methods import labelled
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs, queues
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class PaCoOptions(queues.QueueOptions):
    """Of parametric contrastive learning."""

    alpha: float = option(0.05, "weight of a positive sample", low=0, sweep=True)
    beta: float = option(1.0, "weight of the own center", above=0, sweep=True)
    gamma: float = option(
        1.0, "weight of the samples in the normalizer", above=0, sweep=True
    )


def paco(options: PaCoOptions, setting: Setting) -> Method:
    """Parametric contrastive learning, queries of "view1" and keys of "view2".

    Args:
        options: see `PaCoOptions`.
        setting: the network "main" has a classifying head.

    Returns:
        A `Method` whose state is MoCo's and "queue_labels".
    """

    def contrast(outputs, state, batch, **how):
        kept, now = state.method_state, live("method", options, state.hyper)
        return losses.paco(
            outputs["logits"],
            batch["label"],
            setting.class_counts,
            queries=outputs["projection"],
            keys=batch["key"],
            queue=kept["queue"],
            queue_labels=kept["queue_labels"],
            alpha=now.alpha,
            beta=now.beta,
            gamma=now.gamma,
            **how,
        )

    return queues.queue_method(
        options,
        setting,
        contrast,
        labelled=True,
        metrics=lambda outputs, batch: {"accuracy": labelled.accuracy(outputs, batch)},
        evaluators=("classification",),
    )


PACO = Component(
    "PaCo: contrast with samples and class centers at once (Cui 2021)",
    PaCoOptions,
    paco,
    queues.queue_needs,
    lambda options: pairs.pair_facts(
        head="classifying", labelled=True, couples_batch=True
    ),
)
