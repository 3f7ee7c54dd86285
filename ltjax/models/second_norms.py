"""A second set of batch normalization layers, for the other branch of one network.

References:
    Jiang, Chen, Mortazavi, Wang, "Self-Damaging Contrastive Learning", ICML 2021: the
    pruned branch has scales, offsets and running averages of its own.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models.part_of import part_of, without

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

    def own(tree):
        return without(tree, SECOND)

    first = part_of(model, own, own, lambda state, new: {**state, **new})
    second = part_of(
        model,
        lambda params: _replaced(own(params), params.get(SECOND, {})),
        lambda state: {**own(state), STATISTICS: state[SECOND]},
        lambda state, new: {
            **new,
            STATISTICS: state[STATISTICS],
            SECOND: new[STATISTICS],
        },
    )

    def forward(params, model_state, inputs, *, branch: int = 0, **options):
        chosen = second if branch and SECOND in model_state else first
        return chosen.forward(params, model_state, inputs, **options)

    def adopt(params, fresh):
        return {**params, **model.adopt(own(params), fresh)}

    return first._replace(
        init=init,
        forward=forward,
        adopt=adopt,
        describe=f"{model.describe}, two sets of batch normalization",
    )


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
