r"""CORR: views that agree with the confidences and exclude what cannot be.

.. math:: \ell_i = \sum_v \Big[ \lambda\, \mathrm{KL}(T_i \,\|\, p_{iv})
          - \mu_v \sum_{k \notin S_i} \log(1 - p_{ivk}) \Big], \qquad
          T_i \propto S_i \prod_v p_{iv}^{1/V}

References:
    Wu, Wang and Zhang, "Revisiting Consistency Regularization for Deep Partial Label
    Learning", ICML 2022: a plain and two augmented views (`form="three_views"`), the
    plain one alone excluding (mu = 1), lambda rising over 100 epochs (`ramp`). Hong et
    al., "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR 2023: a weak
    and a strong view that both exclude, no ramp, in one pass (the default). The codes
    read the labels that cannot be off T == 0, and guard the logarithm by 1e-7 and 1e-9;
    here the candidates are stored and the logarithm is exact.
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

# Views, and the weight of the exclusion on each of them.
FORMS = {
    "two_views": {"weak": 1.0, "strong": 1.0},
    "three_views": {"weak": 1.0, "strong": 0.0, "strong2": 0.0},
}


@dataclasses.dataclass(frozen=True)
class CORROptions(TableOptions):
    """Of CORR."""

    consistency: float = option(1.0, "lambda", low=0, sweep=True)
    ramp: str = option("0 steps", "lambda rises from 0 until here", duration=True)
    form: str = option(
        "two_views", "as in RECORDS, or as first published", choices=tuple(FORMS)
    )


def corr(options: CORROptions, setting: Setting) -> Method:
    """CORR on the column "candidates" [N, K] and the views of its form.

    Args:
        options: see `CORROptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` with the table "confidence".
    """
    weights, ramp = FORMS[options.form], setting.steps(options.ramp)

    def cost(logits, rows, candidates, state):
        share = jnp.minimum(state.step / ramp, 1.0) if ramp else 1.0
        rate = share * live("method", options, state.hyper).consistency
        per_view = [
            losses.corr(
                logits[:, v],
                rows,
                candidates,
                consistency_weight=rate,
                exclusion_weight=weight,
            )
            for v, weight in enumerate(weights.values())
        ]
        return sum(per_view[1:], per_view[0])

    return table_method(options, setting, Table("corr", cost, tuple(weights)))


CORR = Component(
    "CORR: views consistent with the confidences (Wu 2022)",
    CORROptions,
    corr,
    table_needs,
    lambda options: table_facts(options, tuple(FORMS[options.form])),
)
