r"""SDCLR: the network against its own pruned copy, which forgets the tail first.

.. math:: \ell = \text{NT-Xent}\big(f(x_1; w, \nu),\; f(x_2; w \odot m, \nu')\big),
          \qquad m = [\,|w| \ge \theta_\rho\,]

The masks m keep the largest of all convolution weights together and are drawn anew
before each epoch from the weights as they are, so that what was pruned may return. Each
branch has batch normalization layers of its own; everything else is shared, and the
gradient goes through both.

References:
    Jiang, Chen, Mortazavi, Wang, "Self-Damaging Contrastive Learning", ICML 2021. The
    released code computes the gradient in two backward passes, whose sum is that of one
    loss, as here; it thereby moves the averages of the pruned branch twice a step, here
    they move once. Its projection head has three layers where that of its baseline has
    two; here they are the same. Fraction 0.9 on CIFAR-LT, 0.3 on ImageNet-100-LT.
"""

import dataclasses

import jax

from ltjax.methods.method import Method, Refresh, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.methods.self_supervised.extensions import (
    ExtensionOptions,
    contrast_extension_needs,
    extended,
    extended_facts,
)
from ltjax.options import Component, option
from ltjax.pruning import apply_masks, magnitude_masks


@dataclasses.dataclass(frozen=True)
class SDCLROptions(ExtensionOptions, pairs.ContrastOptions):
    """Of SDCLR."""

    prune: float = option(
        0.9, "fraction of the convolution weights that are cut", low=0, high=1
    )


def sdclr(options: SDCLROptions, setting: Setting) -> Method:
    """SDCLR with "view1" for the whole network and "view2" for the pruned one.

    Args:
        options: see `SDCLROptions`.
        setting: the network "main" has a projection head and two sets of batch
            normalization.

    Returns:
        A `Method` whose state is the "masks". It predicts by the whole network.
    """
    network, epoch = setting.networks["main"], setting.steps_per_epoch
    temperature_at = pairs.temperature_of(options, setting)

    def masks_of(params):
        return magnitude_masks(params, fraction=options.prune)

    def init(key, params, model_state):
        return {"masks": masks_of(params)}

    def refreshed(state, gathered):
        return {**state.method_state, "masks": masks_of(state.params)}

    def loss(params, state, batch, *, key, program):
        mask, keys = batch["mask"], jax.random.split(key)
        pruned = apply_masks(params, state.method_state["masks"])
        model_state, outputs = state.model_state, []
        for branch, (weights, view) in enumerate(
            zip((params, pruned), pairs.VIEWS, strict=True)
        ):
            found, model_state = network.forward(
                weights,
                model_state,
                batch[view],
                train=True,
                rngs={"dropout": keys[branch]},
                mask=mask if setting.padded else None,
                branch=branch,
            )
            outputs.append(found)
        first, second = outputs
        temperature = temperature_at(state)
        values = pairs.nt_xent(
            options, first, second, temperature=temperature, where=mask
        )
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, first, second, model_state, batch["mask"], **more
        )

    refresh = Refresh(lambda step: step % epoch == 0, refreshed, on="device")
    method = pairs.pair_method(setting, loss, init=init, refreshes=(refresh,))
    return extended(method, options, setting)


SDCLR = Component(
    "SDCLR: contrast with the network's own pruned copy (Jiang 2021)",
    SDCLROptions,
    sdclr,
    contrast_extension_needs,
    lambda options: extended_facts(options, couples_batch=True, norm_sets=2),
)
