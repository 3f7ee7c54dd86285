"""The control branch of a diffusion network, at the top level of its parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models.part_of import part_of, without

CONTROL = "control"  # its name among the parameters, and below the backbone


def with_own_control(model: Any) -> Any:
    """A model whose backbone's module "control" lies at the top level.

    There it can train alone (`optimizer.train="control"`), and start afresh while the
    rest comes from another run (`init_skip=("control",)`): its encoder is then a copy
    of the backbone's.

    Args:
        model: an `ltjax.models.Model`.

    Returns:
        A `Model`.

    References:
        Zhang, Rao, Agrawala, "Adding Conditional Control to Text-to-Image Diffusion
        Models", ICCV 2023.
    """

    def inside(params: Mapping[str, Any]) -> dict[str, Any]:
        rest = without(params, CONTROL)
        return {**rest, "backbone": {**rest["backbone"], CONTROL: params[CONTROL]}}

    def outside(params: Mapping[str, Any]) -> dict[str, Any]:
        backbone = dict(params["backbone"])
        return {CONTROL: backbone.pop(CONTROL), **params, "backbone": backbone}

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        return outside(params), model_state

    def adopt(params, fresh):
        adopted = outside(model.adopt(inside(params), fresh))
        if CONTROL not in fresh:
            return adopted
        copied = jax.tree.map(jnp.copy, adopted["backbone"]["encoder"])
        return {**adopted, CONTROL: {**adopted[CONTROL], "encoder": copied}}

    return part_of(model, inside)._replace(
        init=init,
        adopt=adopt,
        describe=f"{model.describe}, control branch",
    )
