"""Flax Linen modules with a signature of their own, as pure functions."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax._checks import shape_of
from ltjax.models.forward import tapping
from ltjax.options import ConfigError

_TRAIN = ("train", "training", "is_training")
_EVALUATE = ("deterministic", "use_running_average")


class Functions(NamedTuple):
    """A module as pure functions.

    Attributes:
        init: (key, sample) -> (params, model_state).
        call: (params, model_state, inputs, *, train, rngs, mask, tap, watch) ->
            (what the module returns, new model_state). `watch` sees (path, input,
            output) of every dense layer, of Linen modules only.
        couples: whether there are batch statistics.
    """

    init: Callable[..., tuple[Any, Any]]
    call: Callable[..., tuple[Any, Any]]
    couples: Callable[[Any], bool]


def linen_functions(module: nn.Module, label: str) -> Functions:
    """A Linen module whose `__call__` has a signature of its own.

    Args:
        module: called with its inputs and, by name, whether it trains and which rows
            are real, if its signature has a name for these.
        label: what messages call it.

    Returns:
        `Functions`.

    Raises:
        ConfigError: if it needs something else.
    """
    modes = _modes(type(module).__call__, label)

    def options(train: bool, mask: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in modes:
            found[name] = mask if name == "mask" else train == (name in _TRAIN)
        return found

    def init(key, sample):
        sample = jax.ShapeDtypeStruct(shape_of(sample), jnp.result_type(sample))
        keys = {"params": key, "dropout": key}
        variables = dict(module.lazy_init(keys, sample, **options(False, None)))
        return variables.pop("params", {}), variables

    def call(
        params,
        model_state,
        inputs,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
        mask: Any = None,
        tap: Callable | None = None,
        watch: Callable | None = None,
    ):
        if mask is not None and train and "mask" not in modes and _coupled(model_state):
            raise ConfigError(
                [
                    f"config.model.name: {label} has batch statistics and the batches"
                    " have padding rows, expected its __call__ to take mask="
                ]
            )
        variables = {"params": params, **model_state}
        # Streams of other names than "dropout" fall back to "params".
        keys = {**rngs, "params": rngs[min(rngs)]} if rngs else None
        with contextlib.ExitStack() as stack:
            if tap is not None:
                stack.enter_context(nn.intercept_methods(tapping(tap)))
            if watch is not None:
                stack.enter_context(nn.intercept_methods(_watching(watch)))
            if not train:
                outputs = module.apply(variables, inputs, **options(False, mask))
                return outputs, model_state
            outputs, changed = module.apply(
                variables,
                inputs,
                rngs=keys,
                mutable=list(model_state),
                **options(True, mask),
            )
        return outputs, {**model_state, **changed}

    return Functions(init, call, _coupled)


def _coupled(model_state: Any) -> bool:
    return bool(model_state.get("batch_stats"))


def _modes(call: Callable, label: str) -> tuple[str, ...]:
    """What a `__call__` takes besides the inputs; refuses what nobody would give."""
    parameters = list(inspect.signature(call).parameters.values())[2:]
    known = (*_TRAIN, *_EVALUATE, "mask")
    for parameter in parameters:
        given = parameter.name in known or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if not given and parameter.default is parameter.empty:
            raise ConfigError(
                [
                    f"config.model.name: {label} takes {parameter.name!r} besides its"
                    f" inputs, expected only {', '.join(known)} or arguments with a"
                    " default"
                ]
            )
    return tuple(p.name for p in parameters if p.name in known)


def _watching(watch: Callable[..., Any]) -> Callable[..., Any]:
    """A Flax interceptor that shows inputs and outputs of dense layers to `watch`."""

    def intercept(call, args, options, context):
        output = call(*args, **options)
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            watch(context.module.path, args[0], output)
        return output

    return intercept
