r"""Which losses are Fisher-consistent for the balanced error: theory as a table.

A loss (with its decision rule) is consistent if every population minimizer decides like
:math:`\arg\max_k p(y=k|x)/\pi_k`. Three reasons cover all positive cases below:

- *posterior, then divide*: a proper loss recovers p(y|x), the rule divides by pi;
- *pairwise family* (Menon et al. 2021, Theorem 1): :math:`\alpha_y = \delta_y/\pi_y`
  and :math:`\Delta_{yk} = \log(\delta_k/\delta_y)` for some positive delta;
- *balanced weights*: a loss that treats all classes alike and is consistent for the 0-1
  error sees equally frequent classes once example y weighs :math:`1/\pi_y`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax._numerics import class_lookup
from ltjax.class_stats import inverse_power_weights, log_prior, prior
from ltjax.classifiers import adjust_logits, plug_in_threshold
from ltjax.consistency.population import Loss


def _as_they_are(scores, class_counts):
    return scores


def _divide_by_prior(logits, class_counts):
    """Post-hoc adjustment with tau = 1."""
    return adjust_logits(logits, class_counts, tau=1.0)


def _plug_in(log_probability):
    """Estimated probabilities over empirical thresholds, in logarithms."""

    def decide(logits, class_counts):
        thresholds = jnp.asarray(plug_in_threshold(class_counts))
        return log_probability(jnp.asarray(logits)) - jnp.log(thresholds)[None, :]

    return decide


def _frame(num_classes: int) -> jax.Array:
    """The simplex ETF with U = I."""
    centering = jnp.eye(num_classes) - 1 / num_classes
    return jnp.sqrt(num_classes / (num_classes - 1)) * centering


def _unit(features):
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


def _frame_scores(features, class_counts):
    return _unit(features) @ _frame(features.shape[-1])


class Case(NamedTuple):
    """A loss with its decision rule, and what theory says about the two.

    Attributes:
        loss: (scores [B, K], labels [B], class_counts [K]) -> [B].
        consistent: whether the rule is Fisher-consistent for the balanced error.
        why: the reason, one line.
        decide: (minimizer [M, K], class_counts [K]) -> scores for the argmax.
        solver: how its population minimizer is found, see `minimize_rows`.
        starts: where from.
        linear: whether a linear model can be fitted with it (smooth, takes logits).
    """

    loss: Loss
    consistent: bool
    why: str
    decide: Callable = _as_they_are
    solver: str = "newton"
    starts: str = "origin"
    linear: bool = True


def _weighted(loss, power=1.0):
    """A loss times class weights proportional to pi^-power."""

    def weighted(logits, labels, class_counts):
        weights = inverse_power_weights(class_counts, power=power)
        return class_lookup(weights, labels) * loss(logits, labels, class_counts)

    return weighted


def _truncated_adjustment(tau, nu):
    """Second phase of TLA + ADRW."""

    def loss(logits, labels, class_counts):
        return losses.affine_softmax(
            logits,
            labels,
            weight=inverse_power_weights(class_counts, power=nu),
            shift=tau * log_prior(class_counts),
        )

    return loss


def _pairwise(delta):
    def loss(logits, labels, class_counts):
        chosen = delta(prior(class_counts))
        return losses.pairwise_consistent(logits, labels, class_counts, chosen)

    return loss


def _row_margins(logits, labels, class_counts):
    """LDAM-type margins: Delta_yk = m_y off the diagonal, all weights 1."""
    num_classes = logits.shape[-1]
    margins = jnp.linspace(0.2, 0.5, num_classes)
    shift = margins[:, None] * (1 - jnp.eye(num_classes))
    return losses.pairwise_margin(logits, labels, jnp.ones(num_classes), shift)


def _dot_regression(balance):
    def loss(features, labels, class_counts):
        counts = class_counts if balance == "global" else None
        return losses.dot_regression(
            _unit(features),
            labels,
            _frame(features.shape[-1]),
            class_balance=balance,
            class_counts=counts,
        )

    return loss


def _cross_entropy(logits, labels, class_counts):
    return losses.softmax_cross_entropy(logits, labels)


def _sigmoid_cross_entropy(logits, labels, class_counts):
    return losses.sigmoid_cross_entropy(logits, labels)


def _focal(logits, labels, class_counts):
    return losses.focal(logits, labels, gamma=2.0)


def _skewed(priors):
    """A delta that has nothing to do with the prior: (3, 1, .2) for three classes."""
    num_classes = priors.shape[0]
    return jnp.exp(jnp.linspace(np.log(3.0), np.log(0.2), num_classes))


CASES: dict[str, Case] = {
    "cross_entropy": Case(
        _cross_entropy,
        False,
        "recovers p(y|x), whose argmax minimizes the 0-1 error",
    ),
    "cross_entropy + post-hoc tau=1": Case(
        _cross_entropy,
        True,
        "posterior, then divide",
        decide=_divide_by_prior,
    ),
    "cross_entropy + plug-in": Case(
        _cross_entropy,
        True,
        "posterior, then divide",
        decide=_plug_in(jax.nn.log_softmax),
    ),
    "cross_entropy + post-hoc tau=0.5": Case(
        _cross_entropy,
        False,
        "divides by the root of the prior only",
        decide=lambda z, n: adjust_logits(z, n, tau=0.5),
    ),
    "sigmoid_cross_entropy": Case(
        _sigmoid_cross_entropy,
        False,
        "recovers p(y|x) one-vs-rest, 0-1 error",
    ),
    "sigmoid_cross_entropy + plug-in": Case(
        _sigmoid_cross_entropy,
        True,
        "posterior, then divide",
        decide=_plug_in(jax.nn.log_sigmoid),
    ),
    "logit_adjusted tau=1": Case(
        losses.logit_adjusted, True, "pairwise family, delta = pi"
    ),
    "logit_adjusted tau=1.5": Case(
        lambda z, y, n: losses.logit_adjusted(z, y, n, tau=1.5),
        False,
        "alpha = 1 needs delta = pi, but Delta belongs to pi^1.5",
    ),
    "logit_adjusted tau=0.5": Case(
        lambda z, y, n: losses.logit_adjusted(z, y, n, tau=0.5),
        False,
        "alpha = 1 needs delta = pi, but Delta belongs to pi^.5",
    ),
    "balanced_softmax": Case(
        losses.balanced_softmax, True, "logit_adjusted tau=1 up to a constant"
    ),
    "pairwise_consistent delta=sqrt(pi)": Case(
        _pairwise(jnp.sqrt), True, "pairwise family, delta = pi^.5"
    ),
    "pairwise_consistent delta skewed": Case(
        _pairwise(_skewed), True, "pairwise family, any delta"
    ),
    "weighted cross_entropy 1/pi": Case(
        _weighted(_cross_entropy), True, "pairwise family, delta = 1"
    ),
    "weighted cross_entropy pi^-0.5": Case(
        _weighted(_cross_entropy, power=0.5),
        False,
        "alpha = pi^-.5 needs Delta of pi^.5, but has none",
    ),
    "class_balanced beta=0.999": Case(
        lambda z, y, n: losses.class_balanced(z, y, n, beta=0.999),
        False,
        "effective numbers saturate: weights are not 1/pi",
    ),
    "tla_adrw tau=0.75 nu=0.25": Case(
        _truncated_adjustment(0.75, 0.25), True, "pairwise family: tau + nu = 1"
    ),
    "tla_adrw tau=1 nu=0.15": Case(
        _truncated_adjustment(1.0, 0.15), False, "tau + nu > 1: over-corrects"
    ),
    "ldam": Case(
        losses.ldam,
        False,
        "Delta_yk = m_y belongs to no delta; scores are not posteriors",
    ),
    "ldam_hinge": Case(
        losses.ldam_hinge,
        False,
        "Crammer-Singer hinge, blind without a majority class; margins as ldam",
        solver="cutting_plane",
        linear=False,
    ),
    "pairwise_margin m=(.2...5)": Case(
        _row_margins, False, "Delta_yk = m_y belongs to no delta"
    ),
    "focal gamma=2": Case(_focal, False, "0-1 error; flattened posterior"),
    "focal gamma=2 + post-hoc tau=1": Case(
        _focal,
        False,
        "not proper: divides a flattened posterior by the prior",
        decide=_divide_by_prior,
    ),
    "weighted focal 1/pi": Case(
        _weighted(_focal), True, "balanced weights on a symmetric consistent loss"
    ),
    "sigmoid_focal gamma=2": Case(
        lambda z, y, n: losses.sigmoid_focal(z, y), False, "0-1 error"
    ),
    "class_dependent_temperature gamma=0.2": Case(
        lambda z, y, n: losses.class_dependent_temperature(z, y, n, gamma=0.2),
        False,
        "z_k is log p(k|x) over beta_k, up to a constant over beta_k",
    ),
    "vector_scaling gamma=0.2 tau=1": Case(
        lambda z, y, n: losses.vector_scaling(z, y, n, gamma=0.2, tau=1.0),
        False,
        "beta is not constant: the argmax hangs on an arbitrary constant",
    ),
    "dot_regression": Case(
        _dot_regression("none"),
        False,
        "symmetric: 0-1 error",
        decide=_frame_scores,
        starts="vertices",
        linear=False,
    ),
    "dot_regression global balance": Case(
        _dot_regression("global"),
        True,
        "balanced weights on a symmetric consistent loss",
        decide=_frame_scores,
        starts="vertices",
        linear=False,
    ),
}
