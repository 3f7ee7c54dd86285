r"""MoCLR: SimCLR against the momentum embeddings of the other view.

.. math:: \ell_i = -\log \frac{e^{z_i \cdot z'_i / T}}
          {\sum_{j=1}^{B} e^{z_i \cdot z'_j / T}} \;+\; \text{views swapped}

References:
    Tian, Henaff and van den Oord, "Divide and Contrast: Self-supervised Learning from
    Uncurated Data", ICCV 2021, section 3.1; there is no official code. The momentum
    network is BYOL's, with 0.996 at the start of 1000 epochs of ImageNet.
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs, targets
from ltjax.methods.self_supervised.extensions import (
    ExtensionOptions,
    contrast_extension_needs,
    extended,
    extended_facts,
)
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class MoCLROptions(ExtensionOptions, pairs.TemperatureOptions, targets.TargetOptions):
    """Of MoCLR."""

    block: int = option(
        0, "targets whose similarities are in memory at a time; 0 = all", low=0
    )


def moclr(options: MoCLROptions, setting: Setting) -> Method:
    """MoCLR on the views "view1" and "view2".

    Args:
        options: see `MoCLROptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose state is the momentum network ("target").
    """
    prepare, update = targets.targets_of(options, setting)
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        temperature = temperature_at(state)
        values = losses.moclr(
            first["projection"],
            second["projection"],
            *(batch[name] for name in targets.TARGETS),
            temperature=temperature,
            where=batch["mask"],
            block=options.block or None,
        )
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, first, second, model_state, batch["mask"], **more
        )

    method = pairs.pair_method(
        setting, loss, init=targets.start, prepare=prepare, update=update
    )
    return extended(method, options, setting)


MOCLR = Component(
    "MoCLR: contrast with a momentum network's other views (Tian 2021)",
    MoCLROptions,
    moclr,
    contrast_extension_needs,
    lambda options: extended_facts(options, couples_batch=True),
)
