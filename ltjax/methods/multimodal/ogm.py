r"""OGM: joint training that slows the encoder of the modality that is ahead.

.. math:: s_m = \sum_i \mathrm{softmax}(\phi_m(x_i))_{y_i}, \qquad
          r_m = \frac{s_m}{\mathrm{mean}_{m' \ne m}\, s_{m'}}, \qquad
          k_m = \begin{cases} 1 - \tanh(\alpha r_m) & r_m > 1 \\ 1 & \text{else}
                \end{cases}

The gradient of encoder m is multiplied by k_m; the head keeps its own. Scores are those
of the batch, at the parameters before the step, so that every pass of a sharp gradient
has the same factors.

References:
    Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation",
    CVPR 2022, without the noise that it adds to the gradients (the E of OGM-GE). For
    two modalities the mean over the others is the other one, as in the paper.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax._numerics import class_lookup
from ltjax.methods.method import Method, Setting, batch_pass
from ltjax.methods.multimodal import fusion
from ltjax.methods.multimodal.joint import joint
from ltjax.options import Component, NoOptions, live, option


@dataclasses.dataclass(frozen=True)
class OGMOptions:
    """Of the modulation."""

    alpha: float = option(0.5, "strength; 0 = joint training", low=0, sweep=True)


def modulation(logits: jax.Array, labels: jax.Array, alpha, *, where=None) -> jax.Array:
    """The factors of the encoders' gradients.

    Args:
        logits: [B, M, K], of each modality.
        labels: [B] int class indices.
        alpha: strength, may be traced.
        where: optional [B] bool; False rows do not count.

    Returns:
        [M] float32 in (0, 1].

    Example:
        >>> ahead = jnp.array([[[5.0, 0.0], [0.0, 0.0]]])
        >>> print(modulation(ahead, jnp.array([0]), 0.5).round(4))
        [0.2412 1.    ]
    """
    weight = jnp.ones(len(labels)) if where is None else jnp.asarray(where, jnp.float32)
    probabilities = jnp.moveaxis(jax.nn.softmax(logits), 1, 0)
    score = jnp.stack(
        [jnp.sum(weight * class_lookup(one, labels)) for one in probabilities]
    )
    others = (jnp.sum(score) - score) / (len(score) - 1)
    ratio = score / jnp.maximum(others, 1e-8)
    return jnp.where(ratio > 1, 1 - jnp.tanh(alpha * ratio), 1.0)


def ogm(options: OGMOptions, setting: Setting) -> Method:
    """Joint training with modulated gradients.

    Args:
        options: see `OGMOptions`.
        setting: as of `joint`; the network's modalities have an encoder each.

    Returns:
        A `Method` whose state holds the factors of the step.
    """
    names = setting.networks["main"].modalities

    def init(key, params, model_state):
        return {"factors": jnp.ones(len(names), jnp.float32)}

    def prepare(state, batch, *, key, program):
        outputs, _ = batch_pass(setting, state.params, state, batch, key=key)
        alpha = live("method", options, state.hyper).alpha
        factors = modulation(
            outputs["modality_logits"], batch["label"], alpha, where=batch["mask"]
        )
        return {"factors": factors}, batch

    def gradient(state, gradients):
        factors = state.method_state["factors"]
        scaled = {
            name: jax.tree.map(lambda g, k=k: g * k, gradients["backbone"][name])
            for name, k in zip(names, factors, strict=True)
        }
        return {**gradients, "backbone": {**gradients["backbone"], **scaled}}

    return joint(NoOptions(), setting)._replace(
        init=init, prepare=prepare, gradient=gradient
    )


OGM = Component(
    "joint training that slows the modality that is ahead (Peng 2022)",
    OGMOptions,
    ogm,
    fusion.needs,
    lambda options: fusion.FACTS,
)
