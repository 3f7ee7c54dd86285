"""A network that finds its parameters inside a larger tree.

Adapters, second sets of layers and peers keep more beside the parameters of a network
than it knows of. What they share is here; what they add is their own `init`, `adopt`
and `merge`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ltjax.models.forward import Model


def without(tree: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A tree without these entries of its top level.

    Args:
        tree: parameters or model state.
        *names: those that are there are left out.

    Returns:
        A dict.

    Example:
        >>> without({"backbone": 1, "head": 2, "lora": 3}, "lora")
        {'backbone': 1, 'head': 2}
    """
    return {name: value for name, value in tree.items() if name not in names}


def _whole(tree: Any) -> Any:
    return tree


def _new(state: Any, new: Any) -> Any:
    return new


def part_of(
    model: Model,
    params: Callable[[Any], Any],
    state: Callable[[Any], Any] = _whole,
    put: Callable[[Any, Any], Any] = _new,
) -> Model:
    """The network as a function of larger trees.

    Args:
        model: the network.
        params: larger tree of parameters -> the network's own.
        state: larger model state -> the network's own; by default all of it.
        put: (larger model state, the network's own as it is now) -> larger one.

    Returns:
        A `Model` of the same functions. `init`, `adopt` and `merge`, which make and
        change whole trees, are still those of the network alone.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from ltjax.models import build_model
        >>> below = build_model("mlp", num_classes=3)
        >>> model = part_of(below, lambda params: params["mine"])
        >>> params, state = below.init(jax.random.key(0), jnp.zeros((1, 5)))
        >>> outputs, _ = model.forward(
        ...     {"mine": params}, state, jnp.zeros((2, 5)), train=False
        ... )
        >>> outputs["logits"].shape
        (2, 3)
    """

    def moving(function):
        """Of what returns a new state as well."""

        def call(tree, model_state, inputs, **options):
            outputs, new = function(params(tree), state(model_state), inputs, **options)
            return outputs, put(model_state, new)

        return function and call

    def reading(function):
        def call(tree, model_state, *inputs):
            return function(params(tree), state(model_state), *inputs)

        return function and call

    return model._replace(
        forward=moving(model.forward),
        classify=moving(model.classify),
        embed=reading(model.embed),
        class_vectors=reading(model.class_vectors),
        class_centers=reading(model.class_centers),
    )
