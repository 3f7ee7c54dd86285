"""Corrections of low rank of a network's weights (LoRA), learned beside frozen ones."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

LOW_RANK = "low_rank"  # their name among the parameters


def is_corrected(path: tuple, leaf: Any) -> bool:
    """Whether a weight gets a correction: kernels of attention and 1 x 1 convolutions.

    Args:
        path: of the leaf, from `jax.tree_util`.
        leaf: an array or its shape.
    """
    names = [getattr(part, "key", "") for part in path]
    if names[-1:] != ["kernel"] or names[:1] != ["backbone"]:
        return False
    return leaf.shape[:-2] == (1, 1) or ("attention" in names and leaf.ndim == 2)


def with_low_rank(model: Any, *, rank: int, scale: float = 0.5) -> Any:
    r"""A model whose `forward` takes `low_rank=True` for :math:`W + s A B`.

    A is random and B zero, so that nothing changes at first. Without the option the
    weights are those below.

    Args:
        model: an `ltjax.models.Model` of a backbone.
        rank: columns of A.
        scale: s, :math:`\alpha / r`; 32 / 64 in the code of Meng et al.

    Returns:
        A `Model`; the corrections lie at the top level of the parameters under
        "low_rank", by the path of what they correct.

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def below(params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if name != LOW_RANK}

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        found = {}
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
            if is_corrected(path, leaf):
                *_, rows, columns = leaf.shape
                key, draw = jax.random.split(key)
                a = jax.random.normal(draw, (rows, rank)) / rows**0.5
                found[_name(path)] = {"a": a, "b": jnp.zeros((rank, columns))}
        return {**params, LOW_RANK: found}, model_state

    def corrected(params: Mapping[str, Any]) -> dict[str, Any]:
        found = params[LOW_RANK]

        def leaf(path, weight):
            pair = found.get(_name(path))
            if pair is None:
                return weight
            return weight + scale * (pair["a"] @ pair["b"]).reshape(weight.shape)

        return jax.tree_util.tree_map_with_path(leaf, below(params))

    def forward(params, model_state, inputs, *, low_rank: bool = False, **options):
        own = corrected(params) if low_rank else below(params)
        return model.forward(own, model_state, inputs, **options)

    def embed(params, model_state, inputs):
        return model.embed(below(params), model_state, inputs)

    def classify(params, model_state, features, **options):
        return model.classify(below(params), model_state, features, **options)

    def class_vectors(params, model_state):
        return model.class_vectors(below(params), model_state)

    def adopt(params, fresh):
        return {**params, **model.adopt(below(params), fresh)}

    return model._replace(
        init=init,
        forward=forward,
        embed=model.embed and embed,
        classify=model.classify and classify,
        class_vectors=model.class_vectors and class_vectors,
        adopt=adopt,
        describe=f"{model.describe}, corrections of rank {rank}",
    )


def _name(path: tuple) -> str:
    """A name without "/", which would divide it in `optimizer.train`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
