"""The contracts between a method of the literature and the training engine."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.sharpness import reduction_weights

Batch = Mapping[str, Any]


class Program(NamedTuple):
    """What the host decides about the compiled program of a step.

    Attributes:
        stage: of the method, see `Method.program`.
        rule: of the gradient rule, see `GradientRule.program`.
    """

    stage: Hashable = None
    rule: Hashable = None


class Part(NamedTuple):
    """One entry of a method's losses, as a gradient rule sees it.

    Attributes:
        labels: [B] int, the class that decides between head and tail; None for a part
            without classes.
        base: [B] weights of the objective, padding zero, already normalized.
    """

    labels: jax.Array | None
    base: jax.Array


class Refresh(NamedTuple):
    """Work between steps that no batch can do: a pass over a split, then a solver.

    A pure function of state and step, done before step s when due(s), so that a resumed
    run repeats it bit for bit.

    Attributes:
        due: step -> bool, on the host.
        fn: on="host": (method_state, gathered, *, step) -> method_state, numpy arrays
            of one replica. on="device": (state, gathered) -> method_state, traced.
        gather: (state, batch) -> tree of [B, ...], evaluated on every example of `pool`
            in evaluation mode, without augmentation; None for nothing.
        pool: "train", the name of a companion, or an evaluation split.
        on: "host" or "device".
    """

    due: Callable[[int], bool]
    fn: Callable[..., Any]
    gather: Callable[..., Any] | None = None
    pool: str = "train"
    on: str = "host"


def _stateless(key, params, model_state) -> None:
    return None


def _as_it_is(state, batch, *, key, program):
    return state.method_state, batch


def _kept(state, batch, aux) -> Any:
    return state.method_state


class Method(NamedTuple):
    """A method as pure functions of the train state; the engine knows no other face.

    `state` is the engine's train state: `step`, `hyper`, `params`, `model_state` and
    `method_state` are read from it, never from a closure. `program` is a `Program`, a
    static value.

    Attributes:
        loss: (params, state, batch, *, key, program) -> (losses, aux). `losses` is a
            dict part -> [B] float32 in nats. `aux` is a dict of

            - "model_state": the network's, after the pass;
            - "outputs": arrays [B, ...] by name, of the rows of the batch;
            - "rows": a tree of arrays [B, ...], "whole": a tree of arrays that belong
              to the batch as such: what `terms` and `update` need;
            - "metrics": name -> (sum, count), averaged over the interval by the loop.

            Momentum networks read `state.params`: `params` may be perturbed.
        terms: (state, batch, aux, *, program) -> tuple of `ltjax.sharpness.Term`, made
            by the gradient rule: `rule.terms(parts, state, batch, program.rule)`.
        predict: (state, inputs) -> outputs, "logits" adjusted as the method predicts
            (post-hoc corrections included).
        init: (key, params, model_state) -> method_state.
        guide: (state, rows) -> {name: [B]}, hints for the augmentation of each row, or
            None.
        prepare: (state, batch, *, key, program) -> (method_state, batch), once per
            step, before any gradient, not differentiated: targets, masks, pasted
            memories, attacks, mixtures. New leaves are [B, ...]. Every pass of a sharp
            gradient and every micro-batch sees its result.
        gradient: (state, gradients) -> what the optimizer gets in their place; None for
            the gradients themselves. `state` is that of before the step.
        update: (state, batch, aux) -> method_state, after the optimizer; `state.step`
            is that of the next batch.
        program: step -> `Program.stage`; `programs` are all of them.
        trains: stage -> modules that train in it, as `optimizer.train`, or None for
            those of the config.
        restarts: step -> traced bool, whether the optimizer's state starts afresh
            before the step; None for never.
        redraws: step -> traced bool, whether network, averages and optimizer start
            afresh before the step, while the method's state stays; None for never. A
            refresh of that step still sees the former network.
        refreshes: work between steps.
        tables: keys of `method_state` whose leaves have one row per training example
            ([N, ...], N padded to `Setting.table_size`); they are sharded by row.
        evaluators: names of how its runs are judged unless the config says otherwise.
        class_part: the part whose rise under a perturbation is reported by class group.
        adjustment: state -> (weight, scale, shift), scalars or [K], if the loss at this
            step has the form weight_y CE(scale * z + shift, y); None if it has not.
        parts: what the evaluators that are meant for it need besides, by name.
    """

    loss: Callable[..., Any]
    terms: Callable[..., Any]
    predict: Callable[..., Any]
    init: Callable[..., Any] = _stateless
    guide: Callable[..., dict] | None = None
    prepare: Callable[..., Any] = _as_it_is
    gradient: Callable[[Any, Any], Any] | None = None
    update: Callable[..., Any] = _kept
    program: Callable[[int], Hashable] = lambda step: None
    programs: tuple[Hashable, ...] = (None,)
    trains: Callable[[Hashable], str | None] = lambda stage: None
    restarts: Callable[[Any], Any] | None = None
    redraws: Callable[[Any], Any] | None = None
    refreshes: tuple[Refresh, ...] = ()
    tables: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ("classification",)
    class_part: str | None = None
    adjustment: Callable[[Any], tuple[Any, Any, Any]] | None = None
    parts: Mapping[str, Any] = {}


class MethodFacts(NamedTuple):
    """What is known of a method before it is made.

    Attributes:
        head: the head that its network gets when the config says "auto"; "" for what
            the loss is meant for.
        reads_labels: whether it needs the label of each training example.
        reads_loss: whether it trains the loss of the config's `loss` section.
        reads_weights: whether it uses the class weights of the `weights` section.
        couples_batch: whether the losses of a row depend on the other rows, beyond what
            the loss itself says.
        dense: whether it needs a network with a feature for every pixel.
        one_array: whether it changes the inputs, which must be one array then and not a
            dict of modalities.
        multi_label: whether it hands several labels of an example to its loss.
        mixes: whether a row of the batch is not one example (mixup).
        companions: whether it needs an unlabelled stream.
        treats_guesses: whether the config's `pseudo_labels` treat what it guesses.
        columns: columns that it needs of the training source.
        pixel_columns: those of them that have an entry for every pixel of the inputs.
        views: views that it needs of the augmentation.
        norm_sets: sets of batch normalization layers that its network has; with 2,
            `forward` takes `branch=1` for the second.
        takes_features: whether it can train on the features of a frozen backbone.
        takes_auxiliary: whether it adds the second loss of a gradient rule.
        takes_memory: whether the loss may keep something between steps.
        peers: roles of further networks like "main" that train beside it, see
            `ltjax.models.peers`.
        affine: whether it states the form of its loss, if that has one (`adjustment`).
        uncorrected: values of swept options with which it predicts by the network's
            own logits.
    """

    head: str = ""
    reads_labels: bool = True
    reads_loss: bool = True
    reads_weights: bool = True
    couples_batch: bool = False
    dense: bool = False
    one_array: bool = False
    multi_label: bool = False
    mixes: bool = False
    companions: bool = False
    treats_guesses: bool = False
    columns: tuple[str, ...] = ()
    pixel_columns: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    norm_sets: int = 1
    takes_features: bool = False
    takes_auxiliary: bool = False
    takes_memory: bool = False
    peers: tuple[str, ...] = ()
    affine: bool = False
    uncorrected: Mapping[str, float] = {}


class Companion(NamedTuple):
    """A second stream of examples that accompanies the training batches.

    Attributes:
        size: number of its examples.
        ratio: m, rows of it for every row of the batch.
        source: the examples.
    """

    size: int
    ratio: int
    source: Any


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a component may be made from; the engine makes it, never a config.

    Attributes:
        class_counts: [K] of the labels that the method is given.
        labels: int32 [N], the given labels (-1 where there is none).
        num_examples: N.
        batch_size: B.
        steps_per_epoch: steps.
        total_steps: of the run.
        steps: duration text -> steps.
        columns: of the training source, name -> [N, ...].
        companions: name -> `Companion`.
        networks: role -> `ltjax.models.Model`; "main" is the one of `config.model`.
        rule: the `GradientRule`.
        loss: the `Loss`, with `loss_options` as they stand in the config.
        loss_options: see `loss`.
        weights: the `ClassWeights`.
        treatment: the `Treatment` of guessed labels.
        late_step: first step of the late phase (`weights.start`).
        padded: whether batches may hold padding rows.
        evaluate_ema: whether the averaged parameters predict.
        input_shape: of one input as the network sees it; a dict by modality, if there
            are several.
        groups: "many", "medium", "few" -> bool [K], by the true counts; measures only.
        learned_views: (**options) -> policies for strong views that learn beside the
            network, as `ltjax.data.learned_views` has them; None for inputs that are no
            normalized images.
    """

    class_counts: np.ndarray
    labels: np.ndarray
    num_examples: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    steps: Callable[[str], int]
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    companions: Mapping[str, Companion] = dataclasses.field(default_factory=dict)
    networks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rule: Any = None
    loss: Any = None
    loss_options: Any = None
    weights: Any = None
    treatment: Any = None
    late_step: int = 0
    padded: bool = False
    evaluate_ema: bool = False
    input_shape: Any = ()
    groups: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    learned_views: Callable[..., Any] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_counts)

    @property
    def table_size(self) -> int:
        """Rows of a table with one row per example, see `padded_size`."""
        return padded_size(self.num_examples)


TABLE_MULTIPLE = 128


def padded_size(num_examples: int) -> int:
    """N rounded up to a fixed multiple, whatever the mesh.

    Tables are padded to this size, so that a checkpoint of P processes can be restored
    on any P' and the rows be shared by up to 128 devices.

    Example:
        >>> padded_size(159)
        256
    """
    return -(-num_examples // TABLE_MULTIPLE) * TABLE_MULTIPLE


def even_part(batch: Batch, labels: jax.Array | None = None) -> Part:
    """The part in which all real rows of a batch weigh the same; they sum to 1."""
    mask = batch["mask"]
    return Part(labels, reduction_weights(len(mask), where=mask))


def batch_pass(
    setting: Setting, params: Any, state: Any, batch: Batch, *, key: Any
) -> tuple[dict[str, Any], Any]:
    """(outputs, model_state) of the network "main" on a batch, in training mode."""
    return setting.networks["main"].forward(
        params,
        state.model_state,
        batch["inputs"],
        train=True,
        rngs={"dropout": key},
        mask=batch["mask"] if setting.padded else None,
    )


def evaluated(setting: Setting, state: Any, inputs: Any) -> dict[str, Any]:
    """Outputs of the network "main" in evaluation mode, as a run predicts with it."""
    params, model_state = averaged(state, ema=setting.evaluate_ema)
    network = setting.networks["main"]
    return network.forward(params, model_state, inputs, train=False)[0]


def averaged(state: Any, *, ema: bool) -> tuple[Any, Any]:
    """(params, model_state) that a run predicts with."""
    if ema:
        return state.ema["params"], state.ema["model_state"]
    return state.params, state.model_state
