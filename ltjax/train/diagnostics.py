"""What an evaluation can tell about the training set: neural collapse, and a bound.

Features are those of evaluation mode without augmentation. Two passes: class means and
smallest own-class logits first, then the spread around those means.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ltjax.metrics import (
    ClassMeanState,
    CollapseState,
    bound_terms,
    collapse_geometry,
    collapse_metrics,
    init_min_scores,
    update_min_scores,
)
from ltjax.train.build import Run
from ltjax.train.config import ConfigError
from ltjax.train.evaluate import make_pass
from ltjax.train.mesh import Layout
from ltjax.train.state import TrainState, evaluated

Values = dict[str, np.ndarray]


def make_diagnostics(
    run: Run,
    *,
    groups: Mapping[str, np.ndarray],
    count: int,
    layout: Layout,
    mode: str,
    arrays: Any = None,
    on_trace: Callable[[], Any] = lambda: None,
) -> Callable[[TrainState], tuple[Values, Values]]:
    """`diagnose(state) -> (scalars, details)`: what `collapse` and `bound` ask for.

    Args:
        run: its training set, network and method.
        groups: "many", "medium", "few" -> bool [K].
        count: R.
        layout: of the devices.
        mode: see `ltjax.train.step.over_replicas`.
        arrays: those of the training set, if they are on the device already.
        on_trace: called whenever something is traced.

    Returns:
        A function of the state, [R, ...]. Scalars are [R]: "nc1", "nc1_balanced",
        "nc2_...", "nc3", "nc4" and "minority_collapse" (of the few-shot classes; NaN
        for fewer than two of them), "bound" and "bound_<group>", the parts of it that
        the groups' summands make. Details are [R, K] (see `CollapseMetrics`,
        `BoundTerms`).

    Raises:
        ConfigError: if the network does not tell its class vectors.
    """
    config, counts, model = run.config, run.info.class_counts, run.model
    num_classes = len(counts)
    if config.collapse and model.class_vectors is None:
        raise ConfigError(
            ["config.collapse is set, but the network does not tell its class vectors"]
        )
    if arrays is None:
        arrays = layout.put(run.train_set.feed.arrays, layout.replicated)
    over_train_set = functools.partial(
        make_pass,
        split=run.train_set,
        count=count,
        layout=layout,
        mode=mode,
        batch_size=config.eval_batch_size,
        arrays=arrays,
        on_trace=on_trace,
    )

    def outputs_of(state, batch):
        params, model_state = evaluated(state, ema=config.evaluate_ema)
        return model.forward(params, model_state, batch["inputs"], train=False)[0]

    def first(state, sums, batch, _):
        outputs, labels = outputs_of(state, batch), batch["label"]
        means, lowest = sums
        return (
            means.update(outputs["features"], labels, batch["mask"]),
            update_min_scores(lowest, outputs["logits"], labels, where=batch["mask"]),
        )

    def second(state, sums, batch, geometry):
        out = outputs_of(state, batch)
        features, logits = out["features"], out["logits"]
        return sums.update(geometry, features, logits, batch["label"], batch["mask"])

    empty = ClassMeanState.empty(num_classes, model.num_features)
    first_pass = over_train_set(first, empty=(empty, init_min_scores(num_classes)))
    second_pass = over_train_set(second, empty=CollapseState.empty(num_classes))

    def vectors(state):
        assert model.class_vectors is not None  # checked above, where it is wanted
        return model.class_vectors(*evaluated(state, ema=config.evaluate_ema))

    def bound(state, lowest):
        adjustment = run.method.adjustment
        assert adjustment is not None  # `validate` refuses `bound` elsewhere
        weight, scale, shift = adjustment(state)
        return bound_terms(lowest, counts, weight=weight, scale=scale, shift=shift)

    class_rows = jax.jit(jax.vmap(vectors), out_shardings=layout.replicated)
    bounds = jax.jit(jax.vmap(bound), out_shardings=layout.replicated)

    def diagnose(state: TrainState) -> tuple[Values, Values]:
        means, lowest = first_pass(state)
        scalars: Values = {}
        details: Values = {}
        if config.collapse:
            geometry = collapse_geometry(means)
            found = collapse_metrics(
                geometry,
                second_pass(state, geometry),
                class_rows(state),
                few=groups["few"],
            )
            for name, value in found._asdict().items():
                (scalars if value.ndim == 1 else details)[name] = value
        if config.bound:
            terms = bounds(state, layout.put(lowest, layout.replicated))
            terms = {
                k: np.asarray(v) for k, v in jax.device_get(terms)._asdict().items()
            }
            scalars["bound"] = terms.pop("total")
            share = terms["summand"] / (num_classes * counts.min() / counts.sum())
            for name, members in groups.items():
                scalars[f"bound_{name}"] = share[:, members].sum(axis=1)
            details |= {f"bound_{name}": value for name, value in terms.items()}
            details["bound_min_score"] = lowest
        return scalars, details

    return diagnose
