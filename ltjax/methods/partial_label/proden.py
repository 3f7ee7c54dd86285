r"""PRODEN: cross-entropy to confidences that the network refines after every step.

.. math:: \ell_i = -\sum_k T_{ik} \log p_{ik}, \qquad
          T_i \leftarrow \mathrm{softmax}(z_i) \text{ restricted to the candidates}

The confidences T [N, K] are a table with one row per training example.

References:
    Lv et al., "Progressive Identification of True Labels for Partial-Label Learning",
    ICML 2020, Algorithm 1: T starts uniform on the candidates and is replaced by the
    distribution at the logits of the pass that it was used in. The released code reads
    the candidates off T, so that a label whose confidence underflows is lost; here the
    candidates are stored.
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
class PRODENOptions(TableOptions):
    """Of PRODEN."""


def proden(options: PRODENOptions, setting: Setting) -> Method:
    """PRODEN on the column "candidates" [N, K].

    Args:
        options: see `PRODENOptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` with the table "confidence".
    """

    def cost(logits, rows, candidates, state):
        return losses.proden(logits[:, 0], rows)

    return table_method(options, setting, Table("proden", cost))


PRODEN = Component(
    "PRODEN: labels identified among candidates as training goes on (Lv 2020)",
    PRODENOptions,
    proden,
    table_needs,
    table_facts,
)
