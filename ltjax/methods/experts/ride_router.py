r"""RIDE's second stage: a router learns after which expert an example is decided.

With :math:`m_e` the mean logits of the first e experts and :math:`r_e` the router's
logit after them, the target is whether they are wrong and more experts are right:

.. math:: t_e = [\arg\max m_e \ne y] \cdot \max_{e' > e} [\arg\max m_{e'} = y], \qquad
          \ell = \sum_{e < E} p\, t_e \log(1 + e^{-r_e}) + (1 - t_e) \log(1 + e^{r_e})

At prediction experts are asked until one of the :math:`r_e` is not positive. All of
them are computed here, as an exit that depends on the data has no static shape; the
output "experts_used" tells what an implementation that stops would compute.

References:
    Wang et al., "Long-Tailed Recognition by Routing Diverse Distribution-Aware
    Experts", ICLR 2021, section 3.3, and the released code: positive weight 100, five
    epochs of class-balanced batches of 512, everything else frozen.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.methods.experts import heads
from ltjax.methods.method import Method, Setting, batch_pass, evaluated, even_part
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class RouterOptions:
    """Of the router."""

    positive_weight: float = option(
        100.0, "of 'another expert is needed': accuracy against cost", low=0, sweep=True
    )


class Routed(NamedTuple):
    """Logits [B, K] of the experts that were asked, and their number [B] int32."""

    logits: jax.Array
    used: jax.Array


def running_means(expert_logits: jax.Array) -> jax.Array:
    """[B, E, K], the mean logits of the first 1, ..., E experts."""
    number = jnp.arange(1, expert_logits.shape[1] + 1, dtype=expert_logits.dtype)
    return jnp.cumsum(expert_logits, axis=1) / number[None, :, None]


def routing_targets(expert_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[B, E - 1] bool: wrong so far, and right with more experts."""
    hit = jnp.argmax(running_means(expert_logits), axis=-1) == labels[:, None]
    after = jax.lax.cummax(hit.astype(jnp.int32), axis=1, reverse=True) > 0
    return ~hit[:, :-1] & after[:, 1:]


def route(expert_logits: jax.Array, router: jax.Array) -> Routed:
    """What the experts say that a router [B, E - 1] asks."""
    onwards = jnp.cumprod((router > 0).astype(jnp.int32), axis=1)
    used = 1 + jnp.sum(onwards, axis=1)
    means = running_means(expert_logits)
    chosen = jnp.take_along_axis(means, (used - 1)[:, None, None], axis=1)
    return Routed(chosen[:, 0], used)


def ride_router(options: RouterOptions, setting: Setting) -> Method:
    """Training of "head/router" on a finished RIDE network.

    Args:
        options: see `RouterOptions`.
        setting: the network "main" with the head "experts" and a router.

    Returns:
        A `Method` that predicts with the experts that the router asks.
    """
    rule = setting.rule

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        router, z = outputs["router"], outputs["expert_logits"]
        target = routing_targets(z, batch["label"])
        weight = live("method", options, state.hyper).positive_weight
        each = jnp.where(
            target, weight * jax.nn.softplus(-router), jax.nn.softplus(router)
        )
        routed, mask = route(z, router), batch["mask"]
        right = jnp.argmax(routed.logits, axis=-1) == batch["label"]
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {
                "accuracy": (jnp.sum(right & mask), jnp.sum(mask)),
                "experts_used": (jnp.sum(routed.used * mask), jnp.sum(mask)),
            },
        }
        return {"label": jnp.sum(each, axis=1)}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, batch["label"])}
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        logits, used = route(outputs["expert_logits"], outputs["router"])
        return {**outputs, "logits": logits, "experts_used": used}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        class_part="label",
    )


def _needs(options: RouterOptions, config) -> list[str]:
    faults = []
    if not getattr(config.head.options, "router", True):
        faults.append(
            "config.head.router is False, but method 'ride_router' trains one,"
            " expected True"
        )
    if config.optimizer.train != "head/router":
        faults.append(
            f"config.optimizer.train is {config.optimizer.train!r}, but method"
            " 'ride_router' leaves the experts as they are, expected 'head/router'"
        )
    return faults


RIDE_ROUTER = Component(
    "RIDE's router on trained experts (Wang 2021)",
    RouterOptions,
    ride_router,
    _needs,
    lambda options: heads.FACTS,
)
