r"""MoCo v2: each query finds its key among a queue of keys of former batches.

.. math:: \theta_k \leftarrow m \theta_k + (1 - m) \theta_q, \qquad
          \ell_i = -\log \frac{e^{q_i \cdot k_i / T}}
                   {e^{q_i \cdot k_i / T} + \sum_m e^{q_i \cdot Q_m / T}}

References:
    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning",
    CVPR 2020; Chen et al., "Improved Baselines with Momentum Contrastive Learning",
    2020. The released code follows the query parameters with those of before the step,
    and a second pass of a sharp gradient would move key network and queue again. Here
    both move once per step, in `prepare` and `update`, by the unperturbed parameters.
    The batch statistics span the whole batch, so that nothing has to be shuffled.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax._numerics import l2_normalize, moving_average
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.methods.self_supervised.boosting import BoostOptions
from ltjax.methods.self_supervised.extensions import (
    extended,
    extended_facts,
    extension_needs,
)
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class MoCoOptions(BoostOptions, pairs.TemperatureOptions):
    """Of MoCo."""

    momentum: float = option(
        0.99, "of the key network: 0.999 on ImageNet", low=0, high=1, sweep=True
    )
    queue: int = option(4096, "keys kept, a multiple of the batch size", low=1)
    block: int = option(
        0, "queue rows whose similarities are in memory at a time; 0 = all", low=0
    )


def enqueue(queue, pointer, keys, mask) -> tuple[jax.Array, jax.Array]:
    """The queue [Q, D] with keys [B, D] from `pointer` on, and where the next go.

    Q is a multiple of B. A row that is padding leaves the older key in its place.
    """
    old = jax.lax.dynamic_slice_in_dim(queue, pointer, len(keys))
    new = jnp.where(mask[:, None], keys, old)
    queue = jax.lax.dynamic_update_slice_in_dim(queue, new, pointer, axis=0)
    return queue, (pointer + len(keys)) % len(queue)


def moco(options: MoCoOptions, setting: Setting) -> Method:
    """MoCo v2 with the queries of "view1" and the keys of "view2".

    Args:
        options: see `MoCoOptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose state is the key network ("target"), "queue" and "pointer".
    """
    network, block = setting.networks["main"], options.block or None
    temperature_at = pairs.temperature_of(options, setting)

    def init(key, params, model_state):
        width = pairs.output_width(network, params, model_state)
        queue = jax.random.normal(key, (options.queue, width))
        return {
            "target": {"params": params, "model_state": model_state},
            "queue": l2_normalize(queue),
            "pointer": jnp.zeros((), jnp.int32),
        }

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

    def loss(params, state, batch, *, key, program):
        outputs, model_state = forward(
            params, state.model_state, batch["view1"], batch["mask"], key
        )
        temperature = temperature_at(state)
        values = losses.info_nce(
            outputs["projection"],
            batch["key"],
            state.method_state["queue"],
            temperature=temperature,
            where=batch["mask"],
            block=block,
        )
        keys = {"projection": batch["key"]}
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, outputs, keys, model_state, batch["mask"], **more
        )

    def update(state, batch, aux):
        kept = state.method_state
        queue, pointer = enqueue(
            kept["queue"], kept["pointer"], l2_normalize(batch["key"]), batch["mask"]
        )
        return {**kept, "queue": queue, "pointer": pointer}

    method = pairs.unlabelled_method(
        setting, loss, init=init, prepare=prepare, update=update
    )
    return extended(method, options, setting)


def _needs(options: MoCoOptions, config) -> list[str]:
    faults = extension_needs(options, config)
    if options.queue % config.batch_size == 0:
        return faults
    return [
        *faults,
        f"config.method.queue is {options.queue}, expected a multiple of"
        f" config.batch_size ({config.batch_size}), whose keys enter together",
    ]


MOCO = Component(
    "MoCo v2: contrast with a queue of momentum keys (He 2020)",
    MoCoOptions,
    moco,
    _needs,
    lambda options: extended_facts(options),
)
