"""A run: what the loop, a notebook, or your own loop trains."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.class_stats import shot_groups
from ltjax.data import Source
from ltjax.data.feed import Feed
from ltjax.data.signature import Signature
from ltjax.evaluators.evaluator import Evaluator
from ltjax.methods.gradient_rule import GradientRule
from ltjax.methods.method import Method
from ltjax.models.forward import Model
from ltjax.train.config import TrainConfig
from ltjax.train.evaluate import EvalSet
from ltjax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Facts about a run that tables and logs show.

    Attributes:
        name: what tables call it.
        num_classes: K.
        class_counts: [K], true training counts; groups go by them.
        class_names: K names, or None.
        many: more training examples make a many-shot class.
        few: fewer make a few-shot class.
        steps_per_epoch: steps.
        total_steps: of the run.
        replicas: {"seed": int, "hyper": {"loss.tau": float, ...}} each.
        num_params: number of scalars that are optimized.
        subset: fingerprint of the training examples.
        num_train: N.
        num_test: examples of the test split.
        inputs: what the network has to know of the training examples.
        companions: name -> {"ratio", "inputs"} of the streams beside them.
    """

    name: str
    num_classes: int
    class_counts: np.ndarray
    class_names: tuple[str, ...] | None
    many: int
    few: int
    steps_per_epoch: int
    total_steps: int
    replicas: tuple[dict, ...]
    num_params: int
    subset: str
    num_train: int
    num_test: int
    inputs: Signature
    companions: Mapping[str, Mapping[str, Any]]

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Shot groups: "many", "medium", "few" -> bool [K]."""
        return shot_groups(self.class_counts, many=self.many, few=self.few)

    @property
    def imbalance_factor(self) -> float:
        """n_max / n_min of the training set, as it is; inf if a class is empty."""
        smallest = self.class_counts.min()
        return float(self.class_counts.max() / smallest) if smallest else math.inf

    @property
    def seeds(self) -> np.ndarray:
        """int32 [R]."""
        return np.asarray([r["seed"] for r in self.replicas], np.int32)

    @property
    def hypers(self) -> dict[str, np.ndarray]:
        """Name -> float32 [R]."""
        return {
            name: np.asarray([r["hyper"][name] for r in self.replicas], np.float32)
            for name in self.replicas[0]["hyper"]
        }


class Run(NamedTuple):
    """A run, ready to be trained.

    Attributes:
        init: (seed, hyper) -> TrainState of one replica; jit- and vmap-able.
        step: `(state, batch, *, program) -> (state, metrics)` of one replica.
        plan: step -> (indices int32, mask bool), both [R, B] (with companions [R, B,
            C]); pure, host only.
        program: step -> `Program`, the static key of the compiled program of that step.
        programs: every such key.
        feed: turns plans into batches.
        deterministic: whether an example's inputs are the same at every step.
        predict: (state, inputs) -> outputs of one replica, for inputs as the data set
            delivers them: the evaluation transform comes first. On the batches of a
            feed, which are transformed already, use `method.predict`.
        eval_sets: the splits to evaluate on.
        train_set: the training examples, without augmentation.
        companions: the examples of the streams beside the training batches.
        sources: what all of these are read from, by name.
        evaluators: name -> `Evaluator`.
        judged: (key, "max" or "min") of the metric that "best" goes by, or None.
        model: the network "main".
        method: the method behind `step`.
        rule: its gradient rule.
        config: what it was built from.
        info: facts.
        pool_set: all stored training examples, if an evaluator wants them.
    """

    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, dict]]
    plan: Callable[[int], tuple[np.ndarray, np.ndarray]]
    program: Callable[[int], Hashable]
    programs: tuple[Hashable, ...]
    feed: Feed
    deterministic: bool
    predict: Callable[..., dict]
    eval_sets: tuple[EvalSet, ...]
    train_set: EvalSet
    companions: tuple[EvalSet, ...]
    sources: Mapping[str, Source]
    evaluators: Mapping[str, Evaluator]
    judged: tuple[str, str] | None
    model: Model
    method: Method
    rule: GradientRule
    config: TrainConfig
    info: RunInfo
    pool_set: EvalSet | None = None

    @property
    def shapes(self) -> Any:
        """Shapes of the state of all replicas, [R, ...]."""
        init = jax.vmap(self.init)
        return jax.eval_shape(init, self.info.seeds, self.info.hypers)
