r"""SimCLR: each view finds the other view of its image among all views of the batch.

References:
    Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", ICML 2020. The loss is `ltjax.losses.nt_xent`. Both views go
    through the network together, so that batch normalization sees them together, as in
    the released code; that of geometric harmonization takes them one after the other
    (`joint=False`).
"""

import dataclasses

from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.methods.self_supervised.extensions import (
    ExtensionOptions,
    contrast_extension_needs,
    extended,
    extended_facts,
)
from ltjax.options import Component


@dataclasses.dataclass(frozen=True)
class SimCLROptions(ExtensionOptions, pairs.ContrastOptions, pairs.ViewOptions):
    """Of SimCLR."""


def simclr(options: SimCLROptions, setting: Setting) -> Method:
    """SimCLR on the views "view1" and "view2".

    Args:
        options: see `SimCLROptions`.
        setting: the network "main" has a projection head.

    Returns:
        A `Method` whose prediction is features and projection, judged by "knn".
    """
    temperature_at = pairs.temperature_of(options, setting)

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        temperature = temperature_at(state)
        values = pairs.nt_xent(
            options, first, second, temperature=temperature, where=batch["mask"]
        )
        more = pairs.told(options, temperature)
        return pairs.pair_losses(
            values, first, second, model_state, batch["mask"], **more
        )

    return extended(pairs.pair_method(setting, loss), options, setting)


SIMCLR = Component(
    "SimCLR, also in its focal form (Chen 2020)",
    SimCLROptions,
    simclr,
    contrast_extension_needs,
    lambda options: extended_facts(options, couples_batch=True),
)
