r"""CAVL: cross-entropy to the candidate with the largest class activation value.

.. math:: \ell_i = -\sum_k T_{ik} \log p_{ik}, \qquad
          T_i \leftarrow e_{\hat y}, \quad
          \hat y = \arg\max_{k \in S_i} z_{ik}\, |1 - z_{ik}|

Before an example is seen for the first time, T is uniform on its candidates.

References:
    Zhang et al., "Exploiting Class Activation Value for Partial-Label Learning", ICLR
    2022. The released code multiplies the values by the candidate mask and takes the
    largest of all, so that a label outside wins where all candidates are negative, and
    refines by a further pass after the optimizer's step; here the choice is among the
    candidates, by the logits before the step. With `records` the values are those of
    the debiased logits as they are, which is our choice.
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.partial_label.tables import (
    Table,
    TableOptions,
    table_facts,
    table_method,
    table_needs,
)
from ltjax.options import Component


@dataclasses.dataclass(frozen=True)
class CAVLOptions(TableOptions):
    """Of CAVL."""


def cavl(options: CAVLOptions, setting: Setting) -> Method:
    """CAVL on the column "candidates" [N, K].

    Args:
        options: see `CAVLOptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` with the table "confidence".
    """

    def cost(logits, rows, candidates, state):
        return losses.proden(logits[:, 0], rows)

    return table_method(options, setting, Table("cavl", cost))


CAVL = Component(
    "CAVL: candidates chosen by class activation values (Zhang 2022)",
    CAVLOptions,
    cavl,
    table_needs,
    table_facts,
)
