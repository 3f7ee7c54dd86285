"""Networks from outside with a head: one of this library, or their own last layer."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax._numerics import at_least_float32
from ltjax.models.forward import (
    Classifier,
    Model,
    from_linen,
    real_rows,
    tidy_outputs,
)
from ltjax.models.linen_adapter import Functions


class _Given(nn.Module):
    """Stands for a backbone whose features are there already."""

    num_features: int
    rows_independent: bool

    def __call__(self, features, *, train: bool, mask=None):
        """The features."""
        return features


def by_name(outputs: Any, kind: str) -> dict[str, Any]:
    """What a module returns as a dict: a pair is (logits, features).

    Args:
        outputs: of the module.
        kind: what a bare array is.

    Returns:
        Arrays, or their shapes, by name.
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, tuple) and len(outputs) == 2:
        return {"logits": outputs[0], "features": outputs[1]}
    return {kind: outputs}


def with_head(
    functions: Functions,
    head: nn.Module,
    width: int,
    *,
    independent: bool,
    frozen: bool,
) -> Model:
    """A network of features below a head.

    Args:
        functions: of the network.
        head: see `ltjax.models.Classifier`.
        width: of the features.
        independent: whether train mode couples no two examples.
        frozen: whether the network stays in evaluation mode.

    Returns:
        `Model` with parameters under "backbone" and "head".
    """
    top = from_linen(Classifier(_Given(width, independent or frozen), head))
    classify_by_head = top.classify
    assert classify_by_head is not None  # a Classifier has both halves

    def init(key, sample_inputs):
        below, above = jax.random.split(key)
        params, state = functions.init(below, sample_inputs)
        of_head, head_state = top.init(above, jnp.zeros((1, width)))
        return {"backbone": params, **of_head}, _joined(state, head_state)

    def features_of(made):
        return at_least_float32(by_name(made, "features")["features"])

    def embed(params, model_state, inputs):
        state = _part(model_state, "backbone")
        made, _ = functions.call(params["backbone"], state, inputs, train=False)
        return features_of(made)

    def classify(params, model_state, features, **options):
        above = {name: x for name, x in params.items() if name != "backbone"}
        state = {c: {"head": x} for c, x in _part(model_state, "head").items()}
        outputs, state = classify_by_head(above, state, features, **options)
        return outputs, _joined(_part(model_state, "backbone"), state)

    def forward(params, model_state, inputs, *, train, rngs=None, mask=None, **taps):
        made, state = functions.call(
            params["backbone"],
            _part(model_state, "backbone"),
            real_rows("forward", inputs, mask),
            train=train and not frozen,
            rngs=rngs,
            mask=None if mask is None else jnp.asarray(mask),
            **taps,
        )
        above = {c: {"head": x} for c, x in _part(model_state, "head").items()}
        now = _joined(state, above)
        options = {"train": train, "rngs": rngs, "mask": mask}
        return classify(params, now, features_of(made), **options)

    return Model(
        init,
        forward,
        top.rows_independent,
        width,
        "",
        embed=embed,
        classify=classify,
        class_vectors=top.class_vectors,
        class_centers=top.class_centers,
    )


def with_own_head(
    functions: Functions,
    path: tuple[str, ...] | None,
    width: int,
    *,
    independent: bool,
    frozen: bool,
) -> Model:
    """A network that classifies, its last dense layer as the head.

    Args:
        functions: of the network.
        path: of the dense layer that gives its logits; None if there is none.
        width: of the features that this layer takes, or of those that are returned.
        independent: whether train mode couples no two examples.
        frozen: whether the network stays in evaluation mode.

    Returns:
        `Model` with parameters under "backbone" and, with a `path`, "head".
    """

    def together(params):
        if path is None:
            return params["backbone"]
        return _put(params["backbone"], path, params["head"])

    def init(key, sample_inputs):
        params, state = functions.init(key, sample_inputs)
        if path is None:
            return {"backbone": params}, _joined(state, {})
        backbone, head = _taken(params, path)
        return {"backbone": backbone, "head": head}, _joined(state, {})

    def forward(params, model_state, inputs, *, train, rngs=None, mask=None, **taps):
        found: dict[str, jax.Array] = {}

        def watch(place, taken, given):
            if place == path:
                found["features"] = taken

        made, state = functions.call(
            together(params),
            _part(model_state, "backbone"),
            real_rows("forward", inputs, mask),
            train=train and not frozen,
            rngs=rngs,
            mask=None if mask is None else jnp.asarray(mask),
            watch=watch,
            **taps,
        )
        outputs = {**found, **by_name(made, "logits")}
        return tidy_outputs(outputs), _joined(state, {})

    def class_vectors(params, model_state):
        return params["head"]["kernel"]

    return Model(
        init,
        forward,
        independent or frozen,
        width,
        "",
        class_vectors=None if path is None else class_vectors,
    )


def _part(model_state: Mapping, module: str) -> dict[str, Any]:
    """{collection: tree} of one of the two modules."""
    return {c: tree[module] for c, tree in model_state.items() if module in tree}


def _joined(below: Mapping, above: Mapping) -> dict[str, Any]:
    """{collection: {"backbone": tree, "head": tree}}, each where there is one."""
    joined = {c: {"backbone": tree} for c, tree in below.items()}
    for collection, trees in above.items():
        joined[collection] = {**joined.get(collection, {}), **trees}
    return joined


def _taken(tree: Mapping, path: tuple[str, ...]) -> tuple[dict, Any]:
    """(the tree without what lies at a path, what lies there)."""
    name, *rest = path
    others = {k: v for k, v in tree.items() if k != name}
    if not rest:
        return others, tree[name]
    below, found = _taken(tree[name], tuple(rest))
    return ({**others, name: below} if below else others), found


def _put(tree: Mapping, path: tuple[str, ...], value: Any) -> dict:
    """The tree with a value at a path."""
    name, *rest = path
    new = _put(tree.get(name, {}), tuple(rest), value) if rest else value
    return {**tree, name: new}
