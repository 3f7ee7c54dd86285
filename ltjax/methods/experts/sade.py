r"""SADE: three experts, for a long-tailed, a uniform and a reversed test set.

.. math:: \ell = \mathrm{CE}(z_1) + \mathrm{CE}(z_2 + \log \pi)
          + \mathrm{CE}(z_3 + \log \pi - \tau \log \bar\pi)

The mean of the experts predicts for a uniform test set. For another one they are
weighed by how stable their predictions are (`ltjax.classifiers.stable_expert_weights`),
which the evaluator "test_priors" does for every prior.

References:
    Zhang et al., "Self-Supervised Aggregation of Diverse Experts for Test-Agnostic
    Long-Tailed Recognition", NeurIPS 2022, eq. 2-5. The reversed prior gives classes of
    equal counts equal shares, where the released code leaves ties to the sort.
"""

import dataclasses

from ltjax import losses
from ltjax.methods import labelled
from ltjax.methods.experts import heads
from ltjax.methods.method import Method, Setting, batch_pass, even_part
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class SADEOptions:
    """Of SADE."""

    tau: float = option(
        2.0, "strength of the inverse prior of the third expert", low=0, sweep=True
    )


def sade(options: SADEOptions, setting: Setting) -> Method:
    """SADE on the network's three experts.

    Args:
        options: see `SADEOptions`.
        setting: the network "main" with the head "experts", the rule, class counts.

    Returns:
        A `Method`.
    """
    rule, counts = setting.rule, setting.class_counts

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        values = losses.sade(
            outputs["expert_logits"],
            batch["label"],
            counts,
            tau=live("method", options, state.hyper).tau,
        )
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"accuracy": labelled.accuracy(outputs, batch)},
        }
        return {"label": values}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=heads.mean_of_experts(setting),
        evaluators=("test_priors", "classification"),
        class_part="label",
    )


SADE = Component(
    "SADE: experts for three test priors (Zhang 2022)",
    SADEOptions,
    sade,
    heads.three_experts,
    lambda options: heads.FACTS,
)
