r"""SimSiam: a predictor turns each view's projection towards that of the other view.

.. math:: \ell = -\tfrac12 \cos(p_1, \bar z_2) - \tfrac12 \cos(p_2, \bar z_1)

The bar stops the gradient; there are neither negatives nor a momentum network.

References:
    Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021. As in
    the released code, the views go through the network one after the other. Its
    projection head has three layers and a last normalization without scale and offset
    (`head.layers=3`, `head.last_norm`, `head.last_affine=False`); the head here is free
    to be another.
"""

import dataclasses

import jax.numpy as jnp

from ltjax import losses
from ltjax._numerics import l2_normalize
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.methods.self_supervised.extensions import (
    ExtensionOptions,
    extended,
    extended_facts,
    extension_needs,
)
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class SimSiamOptions(ExtensionOptions, pairs.ViewOptions):
    """Of SimSiam."""

    joint: bool = option(
        False, "whether both views go through together and share batch statistics"
    )


def spread(projection, mask):
    r"""Mean deviation of the entries of unit projections, times :math:`\sqrt P`.

    Near 1 for directions all over the sphere, 0 if they have collapsed to one.
    """
    units = l2_normalize(projection)
    count = jnp.maximum(jnp.sum(mask), 1)
    mean = jnp.sum(jnp.where(mask[:, None], units, 0.0), axis=0) / count
    away = jnp.where(mask[:, None], jnp.square(units - mean[None, :]), 0.0)
    deviation = jnp.sqrt(jnp.sum(away, axis=0) / count)
    return jnp.mean(deviation) * units.shape[1] ** 0.5


def simsiam(options: SimSiamOptions, setting: Setting) -> Method:
    """SimSiam on the views "view1" and "view2".

    Args:
        options: see `SimSiamOptions`.
        setting: the network "main" has a prediction head.

    Returns:
        A `Method` that reports "spread", which a collapse would take to 0.
    """

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        values = losses.simsiam(
            first["prediction"],
            second["prediction"],
            first["projection"],
            second["projection"],
            where=batch["mask"],
        )
        wide = spread(first["projection"], batch["mask"])
        return pairs.pair_losses(
            values, first, second, model_state, batch["mask"], spread=wide
        )

    return extended(pairs.pair_method(setting, loss), options, setting)


SIMSIAM = Component(
    "SimSiam: a predictor between two views of one network (Chen 2021)",
    SimSiamOptions,
    simsiam,
    extension_needs,
    lambda options: extended_facts(options, head="prediction"),
)
