r"""Joint training of all modalities: one loss on the sum of their logits.

.. math:: \ell\Big( \rho \sum_m \phi_m(x_m),\; y \Big)

with the loss and the class weights of the config.
"""

from ltjax.methods import labelled
from ltjax.methods.method import Method, Setting, batch_pass
from ltjax.methods.multimodal import fusion
from ltjax.options import Component, NoOptions


def joint(options: NoOptions, setting: Setting) -> Method:
    """Joint training.

    Args:
        options: none.
        setting: the network "main" with the head "fusion", loss, weights and rule.

    Returns:
        A `Method`.
    """

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        values, aux = fusion.label_losses(
            setting, params, state, outputs, model_state, batch
        )
        return {"label": values}, aux

    return Method(
        loss=loss,
        terms=fusion.terms_of_labels(setting),
        predict=labelled.prediction(setting),
        evaluators=fusion.EVALUATORS,
        class_part="label",
    )


JOINT = Component(
    "one loss on the sum of all modalities' logits",
    NoOptions,
    joint,
    fusion.needs,
    lambda options: fusion.FACTS,
)
