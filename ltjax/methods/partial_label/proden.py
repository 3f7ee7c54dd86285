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

from ltjax.methods.partial_label.tables import Table, table_component

PRODEN = table_component(
    "PRODEN: labels identified among candidates as training goes on (Lv 2020)",
    Table("proden"),
)
