"""The contract of an evaluator: how a run is judged on a split.

An evaluation is one pass over a split, preceded by one over the training set where the
evaluator needs a bank (k-nearest neighbours, class means). A pass either sums on the
device or keeps what it computes of every example for metrics that sort.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.metrics.column import Column

Arrays = Mapping[str, np.ndarray]


class Sweep(NamedTuple):
    """A pass over a split, every example once, in evaluation mode.

    Attributes:
        fn: with `empty`: (state, sums, batch, extra) -> sums; without: (state, batch,
            extra) -> tree of [B, ...], kept on the host in the order of the split.
        empty: sums of one replica before the first batch; None to keep every example.
    """

    fn: Callable[..., Any]
    empty: Any = None


class Evaluator(NamedTuple):
    """How a run is judged.

    Everything that leaves the device has a leading axis R of replicas.

    Attributes:
        judge: the pass over each split.
        arrays: (result of `judge`, `extra`, result of `about`) -> name -> [R, ...],
            what an evaluation file keeps. Names are the evaluator's own.
        summarize: arrays -> {metric: [R]}, logged as "eval/<split>/<metric>".
        columns: of result tables; the first is the most important one.
        bank: a pass over the training set that comes first, or None.
        digest: result of `bank` -> `extra` of `judge`, arrays with a leading axis R.
        about: state -> tree, once per evaluation, of one replica; None for nothing.
        judged: the metric that "best" goes by; "" if it should not decide.
        on_train: whether it judges the training set instead of the evaluation splits.
        on_pool: whether `bank` goes over all stored training examples with a label, of
            which the training set is a subset.
    """

    judge: Sweep
    arrays: Callable[[Any, Any, Any], dict[str, np.ndarray]]
    summarize: Callable[[Arrays], dict[str, Any]]
    columns: tuple[Column, ...] = ()
    bank: Sweep | None = None
    digest: Callable[[Any], Any] = lambda found: found
    about: Callable[[Any], Any] | None = None
    judged: str = ""
    on_train: bool = False
    on_pool: bool = False


@dataclasses.dataclass(frozen=True)
class EvaluatorSetting:
    """What an evaluator may be made from.

    Attributes:
        predict: of the method: (state, inputs) -> outputs.
        class_counts: [K] true training counts; they define the groups.
        groups: "many", "medium", "few" -> bool [K].
        networks: role -> `ltjax.models.Model`.
        evaluate_ema: whether the averaged parameters predict.
        adjustment: see `ltjax.methods.method.Method`.
        num_train: N.
        parts: of the method, see `ltjax.methods.method.Method`.
    """

    predict: Callable[..., Any]
    class_counts: np.ndarray
    groups: Mapping[str, np.ndarray]
    networks: Mapping[str, Any]
    evaluate_ema: bool = False
    adjustment: Callable[[Any], Any] | None = None
    num_train: int = 0
    parts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def affine_needs(config: Any, key: str) -> list[str]:
    """Faults of a config where `key` needs a loss w_y CE(scale z + shift, y)."""
    faults = []
    facts = config.method.facts
    if not (facts.affine and facts.reads_loss and config.loss.facts.affine):
        faults.append(
            f"config.{key}, but loss {config.loss.name!r} in method"
            f" {config.method.name!r} is not of the form w_y CE(scale z + shift, y)"
        )
    if config.weights.facts.of_batch or config.gradient.facts.has_auxiliary:
        faults.append(
            f"config.{key}, which needs class weights that do not change with the batch"
            f" and one loss: expected other weights than {config.weights.name!r} or"
            f" another gradient than {config.gradient.name!r}"
        )
    return faults
