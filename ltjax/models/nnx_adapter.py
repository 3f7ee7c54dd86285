"""Flax NNX modules as the two pure functions that the rest of the library takes."""

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from ltjax.models.forward import Model, real_rows, tidy_outputs


def from_nnx(module: nnx.Module) -> tuple[dict, dict, Callable[..., tuple[dict, dict]]]:
    """Splits an NNX module into parameters, state and a pure `forward`.

    Parameters (`nnx.Param`) and all other variables (batch statistics) become nested
    dicts with string keys, as Linen has them. The module itself is left alone.

    Random streams (dropout) are not state: in train mode every stream is seeded anew
    from `rngs`, by its name or, if its name is not there, from the first key of `rngs`
    folded with its name.

    Args:
        module: its call `module(inputs)` or `module(inputs, mask=...)` returns a dict
            with "logits" [B, K] and "features" [B, D], or a pair (logits, features).
            Train and evaluation mode are set by `module.train()` and `module.eval()`.

    Returns:
        (params, model_state, forward); `forward` has the signature described in
        `ltjax.models.Model`.

    Raises:
        TypeError: by `forward`, if the module returns something else.
        ValueError: by `forward`, if the module has random streams but train mode gets
            no `rngs`, or if a mask comes but a module with batch statistics does not
            take one.

    Example:
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.head = nnx.Linear(4, 3, rngs=rngs)
        ...
        ...     def __call__(self, x):
        ...         return self.head(x), x
        >>> params, model_state, forward = from_nnx(Net(nnx.Rngs(0)))
        >>> outputs, _ = forward(
        ...     params, model_state, jax.numpy.ones((2, 4)), train=True
        ... )
        >>> outputs["logits"].shape
        (2, 3)
    """
    _, params, _, state = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return _to_dict(params), _to_dict(state), _make_forward(module)


def model_from_nnx(
    make_module: Callable[[nnx.Rngs], nnx.Module],
    *,
    num_features: int,
    rows_independent: bool | None = None,
    describe: str = "",
) -> Model:
    """Makes a `Model` of a function that builds an NNX module.

    Unlike `from_nnx`, it can be initialized again with other keys, under `jit` and
    `vmap` too, so it serves several seeds at once.

    Args:
        make_module: (rngs) -> module, see `from_nnx`.
        num_features: D.
        rows_independent: whether train mode couples no two examples; by default, True
            if the module has no batch statistics.
        describe: one line for logs; by default the module's class.

    Returns:
        A `Model`.
    """
    shapes = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
    if rows_independent is None:
        rows_independent = not _has_batch_statistics(shapes)

    def init(key: jax.Array, sample_inputs: ArrayLike):
        params, model_state, _ = from_nnx(make_module(nnx.Rngs(key)))
        return params, model_state

    return Model(
        init,
        _make_forward(shapes),
        rows_independent,
        num_features,
        describe or type(shapes).__name__,
    )


def nnx_functions(
    module: nnx.Module, make_module: Callable[[nnx.Rngs], Any] | None = None
) -> tuple[Callable, Callable, Callable]:
    """An NNX module as it is, for `ltjax.models.own`.

    Args:
        module: or its shapes.
        make_module: (rngs) -> module, to start anew from other keys. Without it every
            start has the values of the module itself.

    Returns:
        (init, call, couples), see `ltjax.models.own.Functions`; all of its state is one
        collection, "state".
    """
    call_module = _make_forward(module, tidy=lambda outputs: outputs)

    def init(key: jax.Array, sample_inputs: ArrayLike):
        if make_module is None:
            params, state = from_nnx(module)[:2]
        else:
            params, state = from_nnx(make_module(nnx.Rngs(key)))[:2]
        return params, {"state": state} if state else {}

    def call(
        params, model_state, inputs, *, train, rngs=None, mask=None, tap=None, **_
    ):
        if tap is not None:
            raise ValueError("forward: tap is given, but the network is not of Linen")
        state = model_state.get("state", {})
        outputs, state = call_module(
            params, state, inputs, train=train, rngs=rngs, mask=mask
        )
        return outputs, {"state": state} if state else {}

    couples = _has_batch_statistics(module)
    return init, call, lambda model_state: couples


def _named(outputs: Any) -> dict[str, jax.Array]:
    if isinstance(outputs, tuple) and len(outputs) == 2:
        outputs = {"logits": outputs[0], "features": outputs[1]}
    return tidy_outputs(outputs)


def _make_forward(
    module: nnx.Module, tidy: Callable[[Any], Any] = _named
) -> Callable[..., tuple[Any, dict]]:
    name = type(module).__name__
    graphdef, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    # Shapes only: the closure must not keep a second copy of the parameters alive.
    params_shape, streams, state_shape = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), states
    )
    takes_mask = "mask" in inspect.signature(type(module).__call__).parameters
    needs_mask = _has_batch_statistics(module)
    tags = sorted(
        {
            stream.key.tag
            for _, stream in nnx.iter_graph(module)
            if isinstance(stream, nnx.RngStream)
        }
    )

    def forward(
        params: Any,
        model_state: Any,
        inputs: ArrayLike,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        if train and tags and not rngs:
            raise ValueError(
                f"forward: {name} has random streams {tags}, expected rngs= with a key"
                " for them in train mode"
            )
        if mask is not None and train and needs_mask and not takes_mask:
            raise ValueError(
                f"forward: mask is given and {name} has batch statistics, expected its"
                " __call__ to take mask="
            )
        # Without the copy, updating batch statistics under `grad` is refused.
        net = nnx.merge(
            graphdef,
            _filled("params", params_shape, params),
            streams,
            _filled("model_state", state_shape, model_state),
            copy=True,
        )
        if train:
            keys: dict[str, Any] = {tag: _stream_key(tag, rngs or {}) for tag in tags}
            net.train()
            nnx.reseed(net, **keys)
        else:
            net.eval()
        inputs = real_rows("forward", inputs, mask)
        mask = None if mask is None else jnp.asarray(mask)
        options = {"mask": mask} if takes_mask else {}
        outputs: Any = net(inputs, **options)
        if train:
            _, _, _, changed = nnx.split(net, nnx.Param, nnx.RngState, ...)
            model_state = _to_dict(changed)
        return tidy(outputs), model_state

    return forward


def _has_batch_statistics(module: nnx.Module) -> bool:
    return bool(jax.tree.leaves(nnx.state(module, nnx.BatchStat)))


def _stream_key(tag: str, rngs: Mapping[str, jax.Array]) -> jax.Array:
    if tag in rngs:
        return rngs[tag]
    first = rngs[min(rngs)]
    return jax.random.fold_in(first, zlib.crc32(tag.encode()))


def _to_dict(state: nnx.State) -> dict[str, Any]:
    def with_string_keys(tree):
        # Layers in lists have integer keys; mixed with names they cannot be sorted.
        if not isinstance(tree, Mapping):
            return tree
        return {str(key): with_string_keys(value) for key, value in tree.items()}

    return with_string_keys(nnx.to_pure_dict(state))


def _filled(name: str, shapes: nnx.State, values: Any) -> nnx.State:
    """The state `shapes` with the arrays of the dict `values` in it."""
    expected = jax.tree.structure(_to_dict(shapes))
    if jax.tree.structure(values) != expected:
        raise ValueError(
            f"forward: {name} has the structure {jax.tree.structure(values)},"
            f" expected {expected}"
        )
    state = jax.tree.map(lambda x: x, shapes)
    nnx.replace_by_pure_dict(state, values)
    return state
