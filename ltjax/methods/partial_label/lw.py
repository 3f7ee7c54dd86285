r"""LW: weighted binary losses of candidates and of the other labels.

.. math:: \ell_i = \sum_{k \in S_i} W_{ik}\, \phi(z_{ik})
          + \beta \sum_{k \notin S_i} W_{ik}\, \psi(z_{ik})

with :math:`\phi = \sigma(-z), \psi = \sigma(z)` (LWS) or
:math:`\phi = -\log p, \psi = -\log(1 - p)` (LWC). The weights W [N, K] start at 1/K and
become the softmax of the logits over the candidates, and over the others.

References:
    Wen et al., "Leveraged Weighted Loss for Partial Label Learning", ICML 2021. The
    released code takes the new weights from a further pass after the optimizer's step
    and adds 1e-8 to probabilities and to each term of the normalizers; here they come
    from the logits before the step, in log space.
"""

import dataclasses

import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.partial_label.tables import (
    Table,
    TableOptions,
    table_facts,
    table_method,
    table_needs,
)
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class LWOptions(TableOptions):
    """Of the leveraged weighted loss."""

    beta: float = option(
        1.0, "leverage of the labels that are no candidates", low=0, sweep=True
    )
    base: str = option(
        "sigmoid", "binary losses: LWS or LWC", choices=("sigmoid", "softmax")
    )


def lw(options: LWOptions, setting: Setting) -> Method:
    """The leveraged weighted loss on the column "candidates" [N, K].

    Args:
        options: see `LWOptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` whose table "confidence" holds the weights.
    """

    def cost(logits, rows, candidates, state):
        beta = live("method", options, state.hyper).beta
        return losses.leveraged_weighted(
            logits[:, 0], rows, candidates, beta=beta, base=options.base
        )

    def start(candidates):
        return jnp.full(candidates.shape, 1 / candidates.shape[-1])

    table = Table("leveraged_weighted", cost, start=start)
    return table_method(options, setting, table)


LW = Component(
    "LW: leverage between candidates and the other labels (Wen 2021)",
    LWOptions,
    lw,
    table_needs,
    table_facts,
)
