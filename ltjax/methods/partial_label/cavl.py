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

from ltjax.methods.partial_label.tables import Table, table_component

CAVL = table_component(
    "CAVL: candidates chosen by class activation values (Zhang 2022)",
    Table("cavl"),
)
