r"""A queue of momentum keys, and the network that makes them (MoCo, KCL, PaCo).

The released code of MoCo follows the query parameters with those of before the step,
and a second pass of a sharp gradient would move key network and queue again. Here both
move once per step, in `prepare` and `update`, by the unperturbed parameters. The batch
statistics span the whole batch, so that nothing has to be shuffled.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax._numerics import l2_normalize, moving_average
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import live, option


@dataclasses.dataclass(frozen=True)
class KeyOptions:
    """Of a queue of momentum keys."""

    momentum: float = option(
        0.99, "of the key network: 0.999 on ImageNet", low=0, high=1, sweep=True
    )
    queue: int = option(4096, "keys kept, a multiple of the batch size", low=1)


@dataclasses.dataclass(frozen=True)
class QueueOptions(KeyOptions, pairs.TemperatureOptions):
    """Of a contrast with a queue of momentum keys."""

    block: int = option(
        0, "queue rows whose similarities are in memory at a time; 0 = all", low=0
    )


class Queue(NamedTuple):
    """The parts of a method that a queue brings.

    Attributes:
        init: see `Method`; the state is the key network ("target"), "queue", "pointer"
            and, with labels, "queue_labels" (-1 where no batch has come yet).
        prepare: likewise; adds "key" [B, P], the projections of "view2".
        update: likewise.
        queries: (params, state, batch, key) -> (outputs of "view1", model state).
    """

    init: Callable[..., Any]
    prepare: Callable[..., Any]
    update: Callable[..., Any]
    queries: Callable[..., Any]


def enqueue(queue, pointer, keys, mask) -> tuple[jax.Array, jax.Array]:
    """The queue [Q, ...] with keys [B, ...] from `pointer` on, and where the next go.

    Q is a multiple of B. A row that is padding leaves the older key in its place.
    """
    old = jax.lax.dynamic_slice_in_dim(queue, pointer, len(keys))
    new = jnp.where(mask.reshape(-1, *(1,) * (keys.ndim - 1)), keys, old)
    queue = jax.lax.dynamic_update_slice_in_dim(queue, new, pointer, axis=0)
    return queue, (pointer + len(keys)) % len(queue)


def queue_of(options: KeyOptions, setting: Setting, *, labelled: bool = False) -> Queue:
    """The queue of a method with the options `KeyOptions`.

    Args:
        options: see `KeyOptions`.
        setting: the network "main" has a projection head.
        labelled: whether the labels of the keys are kept too.

    Returns:
        `Queue`.
    """
    network = setting.networks["main"]

    def init(key, params, model_state):
        width = pairs.output_width(network, params, model_state)
        queue = jax.random.normal(key, (options.queue, width))
        state = {
            "target": {"params": params, "model_state": model_state},
            "queue": l2_normalize(queue),
            "pointer": jnp.zeros((), jnp.int32),
        }
        if labelled:
            state["queue_labels"] = jnp.full(options.queue, -1, jnp.int32)
        return state

    def forward(params, model_state, inputs, mask, key):
        return network.forward(
            params,
            model_state,
            inputs,
            train=True,
            rngs={"dropout": key},
            mask=mask if setting.padded else None,
        )

    def prepare(state, batch, *, key, program):
        kept = state.method_state
        momentum = live("method", options, state.hyper).momentum
        target = kept["target"]
        params = moving_average(target["params"], state.params, momentum)
        outputs, model_state = forward(
            params, target["model_state"], batch["view2"], batch["mask"], key
        )
        target = {"params": params, "model_state": model_state}
        return {**kept, "target": target}, {**batch, "key": outputs["projection"]}

    def update(state, batch, aux):
        kept, mask = state.method_state, batch["mask"]
        units = l2_normalize(batch["key"])
        queue, pointer = enqueue(kept["queue"], kept["pointer"], units, mask)
        new = {**kept, "queue": queue, "pointer": pointer}
        if labelled:
            labels = batch["label"].astype(jnp.int32)
            old = kept["queue_labels"]
            new["queue_labels"], _ = enqueue(old, kept["pointer"], labels, mask)
        return new

    def queries(params, state, batch, key):
        return forward(params, state.model_state, batch["view1"], batch["mask"], key)

    return Queue(init, prepare, update, queries)


def queue_method(
    options: QueueOptions,
    setting: Setting,
    contrast: Callable[..., jax.Array],
    *,
    labelled: bool = False,
    metrics: Callable[[Any, Any], Mapping[str, Any]] = lambda outputs, batch: {},
    **more: Any,
) -> Method:
    """A method that contrasts queries of "view1" with keys of "view2" and a queue.

    Args:
        options: see `QueueOptions`.
        setting: the network "main" has a projection head.
        contrast: (outputs of the queries, state, batch with "key", *, temperature,
            where, block) -> [B].
        labelled: whether the labels of the keys are kept too.
        metrics: (outputs, batch) -> further metrics.
        **more: further fields of `Method`.

    Returns:
        A `Method` whose state is that of `Queue`.
    """
    queue = queue_of(options, setting, labelled=labelled)
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        outputs, model_state = queue.queries(params, state, batch, key)
        temperature = temperature_at(state)
        values = contrast(
            outputs,
            state,
            batch,
            temperature=temperature,
            where=batch["mask"],
            block=options.block or None,
        )
        keys = {"projection": batch["key"]}
        told = pairs.told(options, temperature)
        found, aux = pairs.pair_losses(
            values, outputs, keys, model_state, batch["mask"], **told
        )
        all_metrics = {**aux["metrics"], **metrics(outputs, batch)}
        return found, {**aux, "metrics": all_metrics}

    fields = {"init": queue.init, "prepare": queue.prepare, "update": queue.update}
    return pairs.pair_method(setting, loss, labelled=labelled, **fields, **more)


def queue_needs(options: KeyOptions, config: Any) -> list[str]:
    """Faults of a config whose batches do not fill the queue."""
    if options.queue % config.batch_size == 0:
        return []
    return [
        f"config.method.queue is {options.queue}, expected a multiple of"
        f" config.batch_size ({config.batch_size}), whose keys enter together"
    ]
