r"""Margins of the training set in the terminal phase, and the bound that they give.

Cross-entropy that has reached zero training error goes on to enlarge the margins
:math:`(w_y - w_c)^\top h`, divided here by the largest norms of w and h. Networks whose
classes have equally good vectors in another order or orientation differ in them.

References:
    Gao et al., "Towards Demystifying the Generalization Behaviors When Neural Collapse
    Emerges", 2023.
"""

import dataclasses
from typing import Any

import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.methods.method import averaged
from ltjax.metrics import margin_bound, margin_summary, pair_margins
from ltjax.metrics.column import Column
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class MarginsOptions:
    """Of margins and their bound."""

    gamma: float = option(0.1, "the normalized margin that the bound asks for", above=0)


def make(options: MarginsOptions, setting: EvaluatorSetting) -> Evaluator:
    r"""Metrics "margin_smallest", "margin_low" (5 % quantile) and "margin_mean".

    Of all training examples and pairs of classes, normalized; "margin_smallest_raw" is
    not. "margin_bound" is `ltjax.metrics.margin_bound` at `gamma` with the complexity
    :math:`1 / \sqrt{n_y}` of unit norms; NaN if a class has no example.

    Args:
        options: see `MarginsOptions`.
        setting: the network "main", which exposes its class vectors.

    Returns:
        `Evaluator`.

    Raises:
        ValueError: if the network does not expose its class vectors.
    """
    network = setting.networks["main"]
    vectors_of = network.class_vectors
    if vectors_of is None:
        raise ValueError(
            "margins: the network does not expose its class vectors, expected a head"
            " with `class_vectors`"
        )

    def judge(state, batch, extra):
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        outputs = network.forward(params, model_state, batch["inputs"], train=False)[0]
        return outputs["features"], batch["label"]

    def class_vectors(state):
        return vectors_of(*averaged(state, ema=setting.evaluate_ema))

    def of_one(features, labels, vectors) -> tuple[float, ...]:
        counts, bound = np.bincount(labels, minlength=vectors.shape[1]), np.nan
        if counts.all():
            bound = margin_bound(
                pair_margins(features, vectors, labels),
                labels,
                gamma=options.gamma,
                complexity=1 / np.sqrt(counts),
            )
        return *margin_summary(features, vectors, labels), bound

    names = ("smallest", "low", "mean", "smallest_raw", "bound")

    def arrays(found: Any, extra: Any, about: Any) -> dict[str, np.ndarray]:
        parts = (*map(np.asarray, found), np.asarray(about))
        values = np.asarray([of_one(*one) for one in zip(*parts, strict=True)])
        return {f"margin_{name}": values[:, i] for i, name in enumerate(names)}

    meaning = "mean over training examples and other classes of the normalized margin"
    return Evaluator(
        judge=Sweep(judge),
        arrays=arrays,
        summarize=dict,
        columns=(Column("margin_mean", "Margin", "max", meaning),),
        about=class_vectors,
        on_train=True,
    )


MARGINS = Component(
    "margins of the training set, and the bound on the error by them (Gao 2023)",
    MarginsOptions,
    make,
)
