r"""RECORDS as a treatment: guesses without the class prior that the network has.

.. math:: \tilde q_k \propto q_k\, \pi_k^{-\tau}, \qquad
          \pi = \mathrm{softmax}(W^\top F + b), \qquad
          F \leftarrow m F + (1 - m) \bar h

F is the moving mean, from 0, of the features of the unlabelled views that are guessed
from, W and b the head of the moment. The prior sharpens as the features do, so that
guesses of the first steps are hardly changed.

References:
    Hong et al., "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR
    2023, who estimate the prior so for candidate labels. Its place in semi-supervised
    learning, and tau, are ours.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax.methods.affine_head import affine_needs, head_logits
from ltjax.methods.method import Setting
from ltjax.methods.semi_supervised.streams import STREAM, flat
from ltjax.methods.treatment import Treatment
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import debias, moving_mean


@dataclasses.dataclass(frozen=True)
class DynamicPriorOptions:
    """Of guesses without the network's prior."""

    momentum: float = option(
        0.9, "of the mean of the features", low=0, high=1, sweep=True
    )
    tau: float = option(1.0, "how strongly the prior is taken out", low=0, sweep=True)


def dynamic_prior(options: DynamicPriorOptions, setting: Setting) -> Treatment:
    """Guesses divided by the prior that the network has of the stream.

    Args:
        options: see `DynamicPriorOptions`.
        setting: the network "main" has an affine head.

    Returns:
        A `Treatment` whose state are the mean "seen_features" [D] and "seen_prior" [K].
    """
    network, classes = setting.networks["main"], setting.num_classes

    def init():
        return {
            "seen_features": jnp.zeros(network.num_features),
            "seen_prior": jnp.full(classes, 1 / classes, jnp.float32),
        }

    def apply(state, guesses, batch, *, features):
        now = live("pseudo_labels", options, state.hyper)
        mean = moving_mean(
            state.method_state["seen_features"],
            flat(features),
            decay=now.momentum,
            where=batch[STREAM]["mask"].ravel(),
        )
        logits = head_logits(network, state.params, state.model_state, mean)
        prior = jax.nn.softmax(logits)
        # A softmax of log-probabilities is one of the logits.
        known = jnp.log(jnp.maximum(guesses, jnp.finfo(guesses.dtype).tiny))
        kept = {**state.method_state, "seen_features": mean, "seen_prior": prior}
        return kept, jax.nn.softmax(debias(known, prior, tau=now.tau))

    return Treatment(init, apply, lambda kept: kept["seen_prior"])


def _needs(options: DynamicPriorOptions, config) -> list[str]:
    return affine_needs(config, "config.pseudo_labels.name 'dynamic_prior'")


DYNAMIC_PRIOR = Component(
    "guesses without the network's own class prior (RECORDS, Hong 2023)",
    DynamicPriorOptions,
    dynamic_prior,
    _needs,
)
