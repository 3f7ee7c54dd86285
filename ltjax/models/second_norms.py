"""A second set of batch normalization layers, for the other branch of one network.

References:
    Jiang, Chen, Mortazavi, Wang, "Self-Damaging Contrastive Learning", ICML 2021: the
    pruned branch has scales, offsets and running averages of its own.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

SECOND = "second_norms"  # their name among parameters and model state
STATISTICS = "batch_stats"


def with_second_norms(model: Any) -> Any:
    """A model whose `forward` takes `branch=1` for the other normalization layers.

    All other weights are those of both branches. Evaluation, and every other function
    of the model, see the first set only. A network without batch normalization has one
    branch, whatever is asked for.

    Args:
        model: an `ltjax.models.Model`.

    Returns:
        A `Model`; the second scales and offsets lie at the top level of the parameters
        under "second_norms", the averages there in the model state.
    """

    def init(key, sample_inputs):
        params, model_state = model.init(key, sample_inputs)
        statistics = model_state.get(STATISTICS)
        if not statistics:
            return params, model_state
        twin = jax.tree.map(jnp.copy, statistics)
        model_state = {**model_state, SECOND: twin}
        learned = _of_modules(params, statistics)
        if learned:
            params = {**params, SECOND: jax.tree.map(jnp.copy, learned)}
        return params, model_state

    def forward(params, model_state, inputs, *, branch: int = 0, **options):
        own, state = _without(params), _without(model_state)
        if branch == 0 or SECOND not in model_state:
            outputs, state = model.forward(own, state, inputs, **options)
            return outputs, {**model_state, **state}
        own = _replaced(own, params.get(SECOND, {}))
        first = state[STATISTICS]
        state = {**state, STATISTICS: model_state[SECOND]}
        outputs, state = model.forward(own, state, inputs, **options)
        return outputs, {**state, STATISTICS: first, SECOND: state[STATISTICS]}

    def classify(params, model_state, features, **options):
        own, state = _without(params), _without(model_state)
        outputs, state = model.classify(own, state, features, **options)
        return outputs, {**model_state, **state}

    def embed(params, model_state, inputs):
        return model.embed(_without(params), _without(model_state), inputs)

    def class_vectors(params, model_state):
        return model.class_vectors(_without(params), _without(model_state))

    def adopt(params, fresh):
        return {**params, **model.adopt(_without(params), fresh)}

    return model._replace(
        init=init,
        forward=forward,
        classify=model.classify and classify,
        embed=model.embed and embed,
        class_vectors=model.class_vectors and class_vectors,
        adopt=adopt,
        describe=f"{model.describe}, two sets of batch normalization",
    )


def _without(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != SECOND}


def _of_modules(params: Mapping, statistics: Mapping) -> dict[str, Any]:
    """The parameters of the modules that have running averages."""
    found = {}
    for name, below in statistics.items():
        if name not in params:
            continue
        deeper = any(isinstance(value, Mapping) for value in below.values())
        part = _of_modules(params[name], below) if deeper else params[name]
        if part:
            found[name] = part
    return found


def _replaced(params: Mapping, other: Mapping) -> dict[str, Any]:
    """`params` with the leaves of `other` in their places."""
    return {
        name: _replaced(value, other[name])
        if name in other and isinstance(value, Mapping)
        else other.get(name, value)
        for name, value in params.items()
    }
