r"""What methods on the min-max form of the AUC share: scores, loss, variables.

For two classes the scores are the probabilities of class 1. For K classes every class
against the rest has scores :math:`\sigma(z_k)` and variables of its own, and the losses
are averaged over the classes that have a pair in the batch.
"""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.losses.aucm import SaddleDuals, SaddleLoss
from ltjax.losses.pesg import PESGState, SaddleVariables
from ltjax.methods.method import Setting
from ltjax.options import option


@dataclasses.dataclass(frozen=True)
class SaddleOptions:
    """Shared by the methods on the min-max form."""

    margin: float = option(1.0, "m, in units of the scores", above=0, sweep=True)
    version: str = option(
        "v2", "v1 weighs by the batch's class shares", choices=("v2", "v1")
    )
    dual_lr: float = option(0.1, "rate of a, b and alpha", low=0, sweep=True)
    dual_decay: float = option(
        0.0, "pull of a and b to where they started; 2e-3 in PESG", low=0
    )
    alpha_step: str = option(
        "gradient",
        "alpha ascends by its gradient, or as the released code has it",
        choices=("gradient", "published"),
    )
    warmup: str = option(
        "10%",
        "the loss of the config before this step; a, b and alpha are then optimal for"
        " each batch",
        duration=True,
    )


def scores_of(logits: jax.Array) -> jax.Array:
    """[B, L] in [0, 1]: one column for two classes, otherwise one for each class."""
    if logits.shape[-1] == 2:
        return jax.nn.sigmoid(logits[:, 1:] - logits[:, :1])
    return jax.nn.sigmoid(logits)


def targets_of(labels: jax.Array, num_classes: int) -> jax.Array:
    """[B, L] bool, the positives of every column of `scores_of`."""
    classes = jnp.arange(1 if num_classes == 2 else 0, num_classes)
    return labels[:, None] == classes[None, :]


def saddle_loss(
    setting: Setting, options: SaddleOptions, logits, labels, duals: SaddleDuals, mask
) -> SaddleLoss:
    """`aucm` on the logits of a batch; options are live ones."""
    return losses.aucm(
        scores_of(logits),
        targets_of(labels, setting.num_classes),
        duals,
        margin=options.margin,
        version=options.version,
        where=mask,
    )


def init_state(setting: Setting) -> dict[str, Any]:
    """{"duals", "pesg"} at zero."""
    count = 1 if setting.num_classes == 2 else setting.num_classes
    duals = losses.init_saddle_duals(count)
    return {"duals": duals._asdict(), "pesg": _no_momentum(duals)}


def duals_of(state: Any) -> SaddleDuals:
    """The auxiliary variables of a train state."""
    return SaddleDuals(**state.method_state["duals"])


def move_duals(
    setting: Setting,
    options: SaddleOptions,
    old: dict,
    logits,
    labels,
    mask,
    *,
    warm: Any,
) -> dict[str, Any]:
    """{"duals", "pesg"} after a step.

    Args:
        setting: of the method.
        options: live ones.
        old: {"duals", "pesg"} before the step.
        logits: of the pass that the loss was taken from.
        labels: [B] int.
        mask: [B] bool.
        warm: bool, whether the step belonged to the warm-up.
    """
    duals = SaddleDuals(**old["duals"])
    targets = targets_of(labels, setting.num_classes)

    def objective(duals):
        found = saddle_loss(setting, options, logits, labels, duals, mask)
        return jnp.sum(found.values * mask) / jnp.maximum(jnp.sum(mask), 1)

    slope = jax.grad(objective)(duals)
    rule = losses.pesg(
        options.dual_lr,
        margin=options.margin,
        epoch_decay=options.dual_decay,
        alpha_step=options.alpha_step,
    )
    # Optax knows trees of arrays only, here they have names.
    transform = cast(Any, rule)
    variables = SaddleVariables((), duals)
    state = PESGState(*old["pesg"])
    step, state = transform.update(SaddleVariables((), slope), state, variables)
    moved = jax.tree.map(jnp.add, duals, step.duals)
    best = losses.best_saddle_duals(
        scores_of(logits), targets, margin=options.margin, where=mask
    )
    # A class without a pair in the batch says nothing about its variables.
    up, down = targets & mask[:, None], ~targets & mask[:, None]
    paired = jnp.any(up, axis=0) & jnp.any(down, axis=0)
    best = jax.tree.map(lambda new, now: jnp.where(paired, new, now), best, duals)
    fresh = _no_momentum(best)

    def pick(now, later):
        return jnp.where(warm, now, later)

    chosen = jax.tree.map(pick, best, moved)
    return {
        "duals": chosen._asdict(),
        "pesg": jax.tree.map(pick, fresh, tuple(state)),
    }


def _no_momentum(duals: SaddleDuals) -> tuple:
    """The state of `pesg` that starts from here, as a plain tuple."""
    values = ((), duals.a, duals.b)
    zeros = jax.tree.map(jnp.zeros_like, values)
    start = jax.tree.map(jnp.array, values)
    return (zeros, start, zeros, jnp.zeros((), jnp.int32))
