r"""Late fusion: each modality learns for itself, and their logits are averaged.

.. math:: \sum_m \ell\big( \phi_m(x_m),\; y \big)

With a head that is not shared nothing of one modality's network reaches another's, so
that this is M runs in one.
"""

import jax.numpy as jnp

from ltjax.methods import labelled
from ltjax.methods.method import Method, Setting, batch_pass, evaluated
from ltjax.methods.multimodal import fusion
from ltjax.options import Component, NoOptions


def late(options: NoOptions, setting: Setting) -> Method:
    """Late fusion.

    Args:
        options: none.
        setting: the network "main" with the head "fusion", loss, weights and rule.

    Returns:
        A `Method` that predicts by the mean of the modalities' logits.
    """

    def averaged(outputs):
        return {**outputs, "logits": jnp.mean(outputs["modality_logits"], axis=1)}

    def loss(params, state, batch, *, key, program):
        outputs, model_state = batch_pass(setting, params, state, batch, key=key)
        logits = outputs["modality_logits"]
        context = labelled.loss_context(
            setting, state, params, model_state, mask=batch["mask"]
        )
        each = [
            labelled.label_loss(
                setting, state, {"logits": logits[:, m]}, batch["label"], context
            )
            for m in range(logits.shape[1])
        ]
        outputs = averaged(outputs)
        aux = {
            "model_state": model_state,
            "outputs": outputs,
            "metrics": {"accuracy": labelled.accuracy(outputs, batch)},
        }
        return {"label": sum(each)}, aux

    def predict(state, inputs):
        return averaged(evaluated(setting, state, inputs))

    return Method(
        loss=loss,
        terms=fusion.terms_of_labels(setting),
        predict=predict,
        evaluators=fusion.EVALUATORS,
        class_part="label",
    )


LATE = Component(
    "late fusion: a loss for each modality by itself",
    NoOptions,
    late,
    fusion.needs,
    lambda options: fusion.FACTS,
)
