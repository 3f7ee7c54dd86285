r"""MoCo v2: each query finds its key among a queue of keys of former batches.

.. math:: \theta_k \leftarrow m \theta_k + (1 - m) \theta_q, \qquad
          \ell_i = -\log \frac{e^{q_i \cdot k_i / T}}
                   {e^{q_i \cdot k_i / T} + \sum_m e^{q_i \cdot Q_m / T}}

References:
    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning",
    CVPR 2020; Chen et al., "Improved Baselines with Momentum Contrastive Learning",
    2020. For the order of a step see `ltjax.methods.self_supervised.queues`.
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import queues
from ltjax.methods.self_supervised.boosting import BoostOptions
from ltjax.methods.self_supervised.extensions import (
    extended,
    extended_facts,
    extension_needs,
)
from ltjax.options import Component


@dataclasses.dataclass(frozen=True)
class MoCoOptions(BoostOptions, queues.QueueOptions):
    """Of MoCo."""


def moco(options: MoCoOptions, setting: Setting) -> Method:
    """MoCo v2 with the queries of "view1" and the keys of "view2".

    Args:
        options: see `MoCoOptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose state is the key network ("target"), "queue" and "pointer".
    """

    def contrast(outputs, state, batch, **how):
        queue = state.method_state["queue"]
        return losses.info_nce(outputs["projection"], batch["key"], queue, **how)

    return extended(queues.queue_method(options, setting, contrast), options, setting)


def _needs(options: MoCoOptions, config) -> list[str]:
    return [
        *extension_needs(options, config),
        *queues.queue_needs(options, config),
    ]


MOCO = Component(
    "MoCo v2: contrast with a queue of momentum keys (He 2020)",
    MoCoOptions,
    moco,
    _needs,
    extended_facts,
)
