"""The class-wise generalization bound of re-weighting and logit adjustment.

References:
    Wang et al., "A Unified Generalization Analysis of Re-Weighting and Logit-Adjustment
    for Imbalanced Learning", NeurIPS 2023.
"""

import jax
import numpy as np

from ltjax.evaluators.evaluator import (
    Evaluator,
    EvaluatorSetting,
    Sweep,
    affine_needs,
)
from ltjax.methods.method import averaged
from ltjax.metrics import bound_terms, init_min_scores, update_min_scores
from ltjax.options import Component, NoOptions


def make(options: NoOptions, setting: EvaluatorSetting) -> Evaluator:
    """The metrics "bound" and, of the groups' summands, "bound_<group>".

    Raises:
        ValueError: if the method's loss has not the form w_y CE(scale z + shift, y).
    """
    network, counts = setting.networks["main"], np.asarray(setting.class_counts)
    adjustment = setting.adjustment
    if adjustment is None:
        raise ValueError(
            "bound: the loss of this method does not have the form"
            " w_y CE(scale z + shift, y) with weights that stay the same"
        )

    def lowest(state, sums, batch, extra):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        outputs, _ = network.forward(params, model_state, batch["inputs"], train=False)
        return update_min_scores(
            sums, outputs["logits"], batch["label"], where=batch["mask"]
        )

    def arrays(found, extra, about):
        weight, scale, shift = about

        def one(lowest, weight, scale, shift):
            return bound_terms(
                lowest, counts, weight=weight, scale=scale, shift=shift
            )._asdict()

        terms = jax.device_get(jax.jit(jax.vmap(one))(found, weight, scale, shift))
        named = {f"bound_{name}": np.asarray(value) for name, value in terms.items()}
        return {**named, "bound_min_score": np.asarray(found)}

    def summarize(arrays):
        share = arrays["bound_summand"] / (len(counts) * counts.min() / counts.sum())
        values = {"bound": arrays["bound_total"]}
        for name, members in setting.groups.items():
            values[f"bound_{name}"] = share[:, members].sum(axis=1)
        return values

    return Evaluator(
        judge=Sweep(lowest, init_min_scores(len(counts))),
        arrays=arrays,
        summarize=summarize,
        about=adjustment,
        on_train=True,
    )


def _needs(options: NoOptions, config) -> list[str]:
    return affine_needs(config, "evaluators has 'bound'")


BOUND = Component(
    "class-wise generalization bound (Wang 2023)", NoOptions, make, _needs
)
