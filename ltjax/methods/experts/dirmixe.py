r"""DirMixE: experts for a mixture of Dirichlets over test priors.

.. math:: \bar l + \lambda V_+, \qquad l_t = \mathrm{mean}_b\, \mathrm{CE}\big(
          z_{b k_t} - \tau \log (w_t / \pi),\; y_b \big), \quad t = 1, \dots, T

Every step draws T test priors w, each from the Dirichlet of one of three experts
(`ltjax.losses.sample_priors`). The semi-variance V_+ of their losses counts from
`spread_from` on.

References:
    Yang et al., "Harnessing Hierarchical Label Distribution Variations in Test Agnostic
    Long-tail Recognition", ICML 2024. The released code shuffles a pool of draws that
    it makes once; here they are made afresh, with the same distribution. The default
    semi-variance divides as that code does.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.losses.dirmixe import SampledPriors
from ltjax.methods import labelled
from ltjax.methods.experts import heads
from ltjax.methods.method import Method, Setting, batch_pass, even_part
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class DirMixEOptions:
    """Of DirMixE: the published CIFAR-100-LT setting."""

    draws: int = option(60, "T, test priors of a step", low=1)
    concentration: float = option(
        1e4, "A of the Dirichlets; 1e5 for iNaturalist", above=0
    )
    tau: float = option(1.3, "strength of the adjustment", low=0, sweep=True)
    spread: float = option(
        5.0, "lambda of the semi-variance; 15 for ten classes", low=0, sweep=True
    )
    spread_from: str = option("80%", "the semi-variance counts from", duration=True)
    ddof: str = option(
        "above",
        "divisor of the semi-variance: draws above the mean less one, or all",
        choices=("above", "population"),
    )


def dirmixe(options: DirMixEOptions, setting: Setting) -> Method:
    """DirMixE on the network's three experts.

    Args:
        options: see `DirMixEOptions`.
        setting: the network "main" with the head "experts", the rule, class counts.

    Returns:
        A `Method` whose state holds the priors of the step.
    """
    rule, counts = setting.rule, setting.class_counts
    start = setting.steps(options.spread_from)

    def draw(key):
        found = losses.sample_priors(
            key,
            counts,
            num_draws=options.draws,
            concentration=options.concentration,
        )
        return found._asdict()

    def init(key, params, model_state):
        shapes = jax.eval_shape(draw, key)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def prepare(state, batch, *, key, program):
        return draw(key), batch

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        now = live("method", options, state.hyper)
        found = losses.dirmixe(
            outputs["expert_logits"],
            batch["label"],
            counts,
            SampledPriors(**state.method_state),
            tau=now.tau,
            spread=jnp.where(state.step >= start, now.spread, 0.0),
            ddof=options.ddof,
            where=batch["mask"],
        )
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {
                "accuracy": labelled.accuracy(outputs, batch),
                "worst_draw": (jnp.max(found.draws), 1.0),
            },
        }
        return {"label": found.values}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    return Method(
        loss=loss,
        terms=terms,
        predict=heads.mean_of_experts(setting),
        init=init,
        prepare=prepare,
        evaluators=("test_priors", "classification"),
        class_part="label",
    )


DIRMIXE = Component(
    "DirMixE: experts for a mixture of Dirichlets over test priors (Yang 2024)",
    DirMixEOptions,
    dirmixe,
    heads.three_experts,
    lambda options: heads.FACTS._replace(couples_batch=True),
)
