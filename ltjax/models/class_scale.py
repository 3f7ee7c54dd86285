"""Learnable weight scaling (LWS): one factor per class on top of any network.

References:
    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
    ICLR 2020.
"""

from typing import Any

import jax.numpy as jnp

from ltjax.classifiers import init_weight_scaling, learnable_weight_scaling
from ltjax.models.part_of import part_of, without

SCALE = "class_scale"  # its name among the parameters


def learnable_scaling(model: Any, num_classes: int, *, power: float = 0.0) -> Any:
    r"""A model whose logits are :math:`f \odot z`, with f [K] a parameter (LWS).

    The head below may be any; its bias is scaled too. f lies at the top level of the
    parameters under "class_scale", so that `optimizer.train="class_scale"` trains it
    alone.

    Args:
        model: an `ltjax.models.Model`.
        num_classes: K.
        power: f starts at :math:`\|w_k\|^{-p}`, from the norms of a linear head's
            columns; 0 starts at ones (published), 0.5 converges sooner.

    Returns:
        A `Model`.

    References:
        Kang et al., ICLR 2020, section 4.4 and published code.
    """

    def start(params):
        if power == 0:
            return jnp.ones(num_classes, jnp.float32)
        return init_weight_scaling(params["head"]["kernel"], tau=power)

    def below(params):
        return without(params, SCALE)

    plain = part_of(model, below)
    vectors: Any = plain.class_vectors

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        return {**params, SCALE: start(params)}, model_state

    def scaled(function):
        def call(params, model_state, inputs, **options):
            outputs, model_state = function(params, model_state, inputs, **options)
            logits = learnable_weight_scaling(outputs["logits"], params[SCALE])
            return {**outputs, "logits": logits}, model_state

        return function and call

    def class_vectors(params, model_state):
        return params[SCALE][None, :] * vectors(params, model_state)

    def adopt(params, fresh):
        adopted = model.adopt(below(params), fresh)
        scale = start(adopted) if SCALE in fresh else params[SCALE]
        return {**adopted, SCALE: scale}

    return plain._replace(
        init=init,
        forward=scaled(plain.forward),
        classify=scaled(plain.classify),
        class_vectors=vectors and class_vectors,
        adopt=adopt,
        describe=f"{model.describe}, learnable class scale",
    )
