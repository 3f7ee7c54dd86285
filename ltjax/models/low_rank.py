"""Low-rank updates of a network that a pass asks for, or leaves out.

Where an adapter (`ltjax.models.lora`) is part of the network, here one network has two
functions, with and without the updates, which can be compared.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax

from ltjax.models.lora import first_updates, with_updates
from ltjax.models.part_of import part_of, without

LOW_RANK = "low_rank"  # their name among the parameters


def is_updated(path: tuple[str, ...], kernel: Any) -> bool:
    """Whether a kernel gets an update: those of attention and 1 x 1 convolutions.

    Args:
        path: names of the modules that it lies in.
        kernel: an array or its shape.
    """
    return kernel.shape[:-2] == (1, 1) or ("attention" in path and kernel.ndim == 2)


def with_low_rank(model: Any, *, rank: int, scale: float = 0.5) -> Any:
    r"""A model whose `forward` takes `low_rank=True` for :math:`W + s A B`.

    B starts at zero, so that nothing changes at first. Without the option the weights
    are those below.

    Args:
        model: an `ltjax.models.Model` of a backbone.
        rank: columns of A.
        scale: s, :math:`\alpha / r`; 32 / 64 in the code of Meng et al.

    Returns:
        A `Model`; the updates lie at the top level of the parameters under "low_rank".

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def below(params: Mapping[str, Any]) -> dict[str, Any]:
        return without(params, LOW_RANK)

    def updated(params: Mapping[str, Any]) -> dict[str, Any]:
        backbone = with_updates(params["backbone"], params[LOW_RANK], scale)
        return {**below(params), "backbone": backbone}

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        key = jax.random.fold_in(key, zlib.crc32(LOW_RANK.encode()))
        found = first_updates(key, params["backbone"], rank, is_updated)
        return {**params, LOW_RANK: found}, model_state

    plain, changed = part_of(model, below), part_of(model, updated)

    def forward(params, model_state, inputs, *, low_rank: bool = False, **options):
        chosen = changed if low_rank else plain
        return chosen.forward(params, model_state, inputs, **options)

    def adopt(params, fresh):
        return {**params, **model.adopt(below(params), fresh)}

    return plain._replace(
        init=init,
        forward=forward,
        adopt=adopt,
        describe=f"{model.describe}, updates of rank {rank}",
    )
