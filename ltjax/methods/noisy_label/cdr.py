r"""CDR: only the weights that the clean examples need follow the gradient.

.. math:: g_j \leftarrow \begin{cases}
          (1 - \rho)\, g_j & |g_j \theta_j| \text{ among the largest } (1 - \rho) P \\
          0 & \text{else} \end{cases}

over the P weights in kernels, so that weight decay alone acts on the others; biases and
normalization follow the plain gradient. All else is supervised learning.

References:
    Xia et al., "Robust Early-Learning: Hindering the Memorization of Noisy Labels",
    ICLR 2021. The rate is constant, as in the released code, which computes a schedule
    and overwrites it. Stopping early on noisy validation data is a matter of `judged`.
"""

import dataclasses

from ltjax.methods.method import Method, Setting
from ltjax.methods.supervised.supervised import (
    SUPERVISED,
    SupervisedOptions,
    supervised,
)
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import cdr_gradient


@dataclasses.dataclass(frozen=True)
class CDROptions(SupervisedOptions):
    """Of CDR."""

    noise_rate: float = option(
        0.4, "rho, share of the labels taken for wrong", low=0, high=1, sweep=True
    )


def cdr(options: CDROptions, setting: Setting) -> Method:
    """Supervised learning, its gradient split.

    Args:
        options: see `CDROptions`.
        setting: as for supervised learning.

    Returns:
        A `Method`.
    """

    def gradient(state, grads):
        rate = live("method", options, state.hyper).noise_rate
        return cdr_gradient(grads, state.params, noise_rate=rate)

    return supervised(options, setting)._replace(gradient=gradient)


CDR = Component(
    "CDR: gradients of the critical weights only (Xia 2021)",
    CDROptions,
    cdr,
    SUPERVISED.needs,
    SUPERVISED.facts,
)
