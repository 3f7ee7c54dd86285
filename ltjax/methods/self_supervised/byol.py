r"""BYOL: each view predicts a momentum network's projection of the other view.

.. math:: \ell = \|\bar p_1 - \bar t_2\|^2 + \|\bar p_2 - \bar t_1\|^2, \qquad
          \theta' \leftarrow m_k \theta' + (1 - m_k) \theta

References:
    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020. The momentum network
    follows the parameters of *after* the step. It starts as a copy, as in the paper;
    the released code draws it anew, and adds the loss of a linear probe, which here is
    a stage of its own.
"""

import dataclasses

from ltjax import losses
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised import pairs, targets
from ltjax.methods.self_supervised.extensions import (
    ExtensionOptions,
    extended,
    extended_facts,
    extension_needs,
)
from ltjax.options import Component


@dataclasses.dataclass(frozen=True)
class BYOLOptions(ExtensionOptions, targets.TargetOptions):
    """Of BYOL."""


def byol(options: BYOLOptions, setting: Setting) -> Method:
    """BYOL on the views "view1" and "view2".

    Args:
        options: see `BYOLOptions`.
        setting: the network "main" has a prediction head.

    Returns:
        A `Method` whose state is the momentum network ("target").
    """
    prepare, update = targets.targets_of(options, setting)

    def loss(params, state, batch, *, key, program):
        first, second, model_state = pairs.view_outputs(
            setting, params, state.model_state, batch, key=key, joint=options.joint
        )
        values = losses.byol(
            first["prediction"],
            second["prediction"],
            *(batch[name] for name in targets.TARGETS),
            where=batch["mask"],
        )
        return pairs.pair_losses(values, first, second, model_state, batch["mask"])

    method = pairs.pair_method(
        setting, loss, init=targets.start, prepare=prepare, update=update
    )
    return extended(method, options, setting)


BYOL = Component(
    "BYOL: predicts a momentum network's view, no negatives (Grill 2020)",
    BYOLOptions,
    byol,
    extension_needs,
    lambda options: extended_facts(options, head="prediction"),
)
