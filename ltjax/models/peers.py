"""Networks that train side by side: one tree of parameters, a `Model` for each."""

import operator
from collections.abc import Mapping
from typing import Any

import jax

from ltjax.models.forward import Model
from ltjax.models.part_of import part_of, without


def with_peers(model: Model, roles: tuple[str, ...]) -> dict[str, Model]:
    """Further networks of the same kind, whose parameters lie beside the first one's.

    The optimizer, averages, perturbations and checkpoints see one tree.

    Args:
        model: of the role "main".
        roles: names of the others.

    Returns:
        Role -> `Model`. All take and return the whole trees; only `init`, `adopt` and
        `merge` make and change them as a whole.

    Example:
        >>> from ltjax.models import build_model
        >>> networks = with_peers(build_model("mlp", num_classes=3), ("peer",))
        >>> key, inputs = jax.random.key(0), jax.numpy.zeros((1, 5))
        >>> params, _ = networks["main"].init(key, inputs)
        >>> sorted(params), sorted(params["peer"])
        (['backbone', 'head', 'peer'], ['backbone', 'head'])
    """
    if not roles:
        return {"main": model}

    def own(tree: Mapping[str, Any]) -> dict[str, Any]:
        return without(tree, *roles)

    def init(key: jax.Array, sample_inputs: Any):
        params, model_state = map(dict, model.init(key, sample_inputs))
        for number, role in enumerate(roles, 1):
            made = model.init(jax.random.fold_in(key, number), sample_inputs)
            params[role], model_state[role] = made
        return params, model_state

    def adopt(params: Any, fresh: frozenset[str]) -> Any:
        others = {role: model.adopt(params[role], fresh) for role in roles}
        return {**model.adopt(own(params), fresh), **others}

    def merge(params: Any) -> Any:
        others = {role: model.merge(params[role]) for role in roles}
        return {**model.merge(own(params)), **others}

    networks = {"main": part_of(model, own, own, lambda tree, new: {**tree, **new})}
    for role in roles:
        part = operator.itemgetter(role)
        networks[role] = part_of(
            model, part, part, lambda tree, new, role=role: {**tree, role: new}
        )
    whole = {"init": init, "adopt": adopt, "merge": merge}
    return {name: x._replace(**whole) for name, x in networks.items()}
