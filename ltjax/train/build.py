"""From a checked config to a `Run`: data, model, method, optimizer, put together."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import class_stats
from ltjax.classifiers import holdout_indices
from ltjax.data import Source, augment, load_source, long_tail
from ltjax.data import feed as feeds
from ltjax.methods import class_conditional, decoupled, gradients, supervised
from ltjax.methods.entries import Timing
from ltjax.methods.method import Method
from ltjax.models.forward import Model
from ltjax.models.registry import build_model
from ltjax.resampling import samplers
from ltjax.train import optim
from ltjax.train import step as steps
from ltjax.train.config import (
    HYPER,
    ConfigError,
    DataConfig,
    TrainConfig,
    duration_steps,
)
from ltjax.train.evaluate import EvalSet
from ltjax.train.planning import StepPlan
from ltjax.train.state import TrainState, init_state
from ltjax.train.validate import head_name, head_options


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Facts about a run that tables and logs show."""

    name: str
    num_classes: int
    class_counts: np.ndarray
    steps_per_epoch: int
    total_steps: int
    replicas: tuple[dict, ...]  # {"seed": int, "hyper": {...}} each
    num_params: int
    subset: str  # fingerprint of the training examples
    num_train: int
    num_test: int


class Run(NamedTuple):
    """A run, ready for the loop, a notebook, or a loop of yours.

    Attributes:
        init: (seed, hyper) -> TrainState of one replica; jit- and vmap-able.
        step: (state, batch, *, program=None) -> (state, metrics) of one replica.
        plan: step -> (indices int32, mask bool), both [R, B]; pure, host only.
        program: step -> static key of the compiled program of that step.
        programs: every such key.
        feed: turns plans into batches.
        predict: (state, inputs) -> outputs of one replica.
        eval_sets: the splits to evaluate on.
        train_set: the training examples, without augmentation.
        model: the network.
        method: the method behind `step`.
        config: what it was built from.
        info: facts.
    """

    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, dict]]
    plan: Callable[[int], tuple[np.ndarray, np.ndarray]]
    program: Callable[[int], Hashable]
    programs: tuple[Hashable, ...]
    feed: feeds.Feed
    predict: Callable[..., dict]
    eval_sets: tuple[EvalSet, ...]
    train_set: EvalSet
    model: Model
    method: Method
    config: TrainConfig
    info: RunInfo


def replica_table(config: TrainConfig) -> tuple[dict, ...]:
    """Seeds x grid: {"seed": int, "hyper": {name: float}} of every replica."""
    base = {
        name: float(getattr(getattr(config, section), field))
        for name, (section, field) in HYPER.items()
    }
    grid = {
        name: np.atleast_1d(values) for name, values in config.replicas.grid.items()
    }
    table = []
    for point in itertools.product(*grid.values()):
        chosen = dict(zip(grid, map(float, point), strict=True))
        for seed in config.replicas.seeds:
            table.append({"seed": config.seed + seed, "hyper": base | chosen})
    return tuple(table)


def load_data(config: TrainConfig) -> tuple[Source, dict[str, Source]]:
    """The long-tailed training source of a config, and the sources to evaluate on.

    Returns:
        (training source, split -> source): "test", untouched, and "val" if there is a
        validation split or examples were held out.

    Raises:
        ConfigError: if counts do not fit the data or a class ends up empty.
        ValueError, TypeError, OSError: see `ltjax.data.load_source`.
    """
    data = config.data

    def load(split: str, list_file: str):
        options: dict[str, Any] = dict(data.options)
        if list_file:
            options["list_file"] = list_file
        return load_source(data.name, split, data_dir=data.data_dir or None, **options)

    train = load(data.train_split, data.train_list)
    others = {"test": load(data.test_split, data.test_list)}
    if data.val_split or data.val_list:
        others["val"] = load(data.val_split or "val", data.val_list)
    classes = train.num_classes
    for name, other in others.items():
        if other.num_classes != classes:
            raise ConfigError(
                [f"train split has {classes} classes, {name} split {other.num_classes}"]
            )
    available = class_stats.count_labels(train.labels, classes)
    if data.profile != "none":
        if data.profile == "counts":
            counts = np.asarray(data.counts)
            if counts.shape != (classes,) or (counts > available).any():
                raise ConfigError(
                    [
                        f"config.data.counts is {data.counts}, expected {classes}"
                        f" counts no larger than the available {available.tolist()}"
                    ]
                )
        else:
            # 0 = the smallest class, so that no class falls short of its profile.
            counts = long_tail.long_tail_counts(
                classes,
                data.max_count or int(available.min()),
                data.imbalance_factor,
                data.profile,
            )
        chosen = long_tail.long_tail_indices(
            train.labels, counts, seed=data.subset_seed
        )
        train = train.select(chosen)
    if data.holdout:
        train, others["val"] = _hold_out(train, data)
    realised = class_stats.count_labels(train.labels, classes)
    empty = np.flatnonzero(realised == 0)
    if empty.size:
        raise ConfigError(
            [
                f"class {empty[0]} has no training example ({empty.size} empty), so its"
                " prior is 0; drop it or choose another subset"
            ]
        )
    return train, others


def _hold_out(train: Source, data: DataConfig) -> tuple[Source, Source]:
    """(what is left to train on, the share of each class that is set aside)."""
    try:
        held = holdout_indices(
            train.labels,
            train.num_classes,
            fraction=data.holdout,
            seed=data.subset_seed,
        )
    except ValueError as error:
        raise ConfigError([f"config.data.holdout: {error}"]) from None
    kept = np.setdiff1d(np.arange(len(train)), held)
    return train.select(kept), train.select(held)


def make_sampler(config: TrainConfig, labels, num_classes: int) -> samplers.Sampler:
    """The sampler of a config; deferred ones are instance sampling until `start`."""
    size = config.batch_size
    instance = samplers.instance(len(labels), size, remainder=config.sampler.remainder)
    timing = dict(steps_per_epoch=instance.steps_per_epoch, batch_size=size)
    total = duration_steps(config.total, **timing)
    counts = class_stats.count_labels(labels, num_classes)
    name = config.sampler.name
    args = (labels, num_classes, size)
    if name == "instance":
        return instance
    if name == "class_balanced":
        chosen = samplers.class_balanced(*args)
    elif name == "square_root":
        chosen = samplers.square_root(*args)
    elif name == "class_power":
        chosen = samplers.class_power(*args, power=config.sampler.power)
    elif name == "class_aware":
        chosen = samplers.class_aware(*args)
    elif name == "progressive":
        epochs = -(-total // instance.steps_per_epoch)
        chosen = samplers.progressive(*args, total_epochs=epochs)
    else:
        weights = class_stats.class_balanced_weights(counts, beta=config.sampler.beta)
        chosen = samplers.class_weighted(*args, weights=weights)
    start = duration_steps(config.sampler.start, total_steps=total, **timing)
    if start:
        chosen = samplers.deferred(instance, chosen, switch_step=start)
    return chosen


def make_model(config: TrainConfig, num_classes: int) -> Model:
    """The network of a config."""
    section, head = config.model, head_name(config)
    options = head_options(head, section.head_options)
    if head == "linear":
        loss = supervised.LOSSES[config.loss.name]
        options.setdefault("init_bias", loss.init_bias)
    frozen = not optim.trains_backbone(config.optimizer)
    model = build_model(
        section.name,
        num_classes=num_classes,
        head=head,
        dtype=section.dtype,
        norm=section.norm or None,
        head_options=options,
        freeze_backbone=frozen and config.optimizer.bn_mode == "frozen",
        **section.kwargs,
    )
    if section.class_scale == "none":
        return model
    power = section.class_scale_power if section.class_scale == "inverse_norm" else 0.0
    return decoupled.learnable_scaling(model, num_classes, power=power)


def build(config: TrainConfig) -> Run:
    """Builds everything a config describes; touches no device.

    Args:
        config: from `validate`.

    Returns:
        The `Run`.

    Raises:
        ConfigError: if data and config disagree.
        ValueError, TypeError, OSError: if the data cannot be read.
    """
    train, others = load_data(config)
    counts = class_stats.count_labels(train.labels, train.num_classes)
    sampler = make_sampler(config, train.labels, train.num_classes)
    timing = dict(steps_per_epoch=sampler.steps_per_epoch, batch_size=config.batch_size)
    total = duration_steps(config.total, **timing)
    timing["total_steps"] = total

    loss = supervised.LOSSES[config.loss.name].configured(config.loss)
    model = make_model(config, train.num_classes)
    in_steps = functools.partial(duration_steps, **timing)
    rule = gradients.build_rule(
        config.gradient, counts, steps=in_steps, batch_size=config.batch_size
    )
    if config.gradient.compaction and not model.rows_independent:
        raise ConfigError(
            [
                "config.gradient.compaction is set, but batch normalization couples the"
                f" rows of {config.model.name}, so a term cannot run on some rows only;"
                " use model.norm='group' (or compaction=False)"
            ]
        )
    if config.model.dtype != "float32":
        dtype = {"compute_dtype": jax.numpy.dtype(config.model.dtype)}
        rule = rule._replace(options={**rule.options, **dtype})
    late_step = in_steps(config.weights.start)
    loss_timing = Timing(sampler.steps_per_epoch, late_step, in_steps)
    method = supervised.supervised(
        model.forward,
        loss,
        counts,
        rule=rule,
        weights=config.weights.name,
        beta=config.weights.beta,
        normalize=config.weights.normalize,
        late_step=late_step,
        mixup=_mixup(config.loss.mixup),
        auxiliary=_auxiliary(config, counts),
        memory=loss.memory and loss.memory(counts, config.loss, loss_timing),
        evaluate_ema=config.evaluate_ema,
        posthoc=config.loss.posthoc_tau > 0 or "posthoc_tau" in config.replicas.grid,
        class_vectors=model.class_vectors,
        classify=model.classify,
        padded=config.sampler.remainder == "pad",  # all others draw full batches
    )
    factor = optim.lr_factor(config.optimizer, **timing)
    make_tx = optim.make_optimizer(config.optimizer, factor)
    groups = class_stats.shot_groups(counts, many=config.many, few=config.few)
    train_step = steps.make_train_step(
        method,
        rule,
        make_tx,
        ema_decay=config.ema_decay,
        accumulate=config.optimizer.accumulate,
        lr_factor=factor,
        hold_fixed=functools.partial(optim.hold_fixed, config.optimizer),
        groups={name: group for name, group in groups.items() if group.any()},
    )

    train_feed = _feed(config, train)
    eval_sets = tuple(
        EvalSet(name, _feed(config, source), len(source))
        for name, source in others.items()
    )
    sample = jax.ShapeDtypeStruct((1, *train.shape), np.float32)
    init = functools.partial(
        init_state,
        init_model=lambda key: model.init(key, np.zeros(sample.shape, sample.dtype)),
        init_method=method.init,
        make_tx=make_tx,
        ema=config.ema_decay > 0,
    )
    replicas = replica_table(config)
    seeds = [replica["seed"] for replica in replicas]
    plan = StepPlan(sampler, seeds, train.labels, rule)
    shapes = jax.eval_shape(init, 0, replicas[0]["hyper"])
    optim.check_modules(config.optimizer, shapes.params)
    info = RunInfo(
        name=config.label or run_name(config),
        num_classes=train.num_classes,
        class_counts=np.asarray(counts),
        steps_per_epoch=sampler.steps_per_epoch,
        total_steps=total,
        replicas=replicas,
        num_params=sum(x.size for x in jax.tree.leaves(shapes.params)),
        subset=train.fingerprint,
        num_train=len(train.labels),
        num_test=len(others["test"]),
    )
    return Run(
        init=init,
        step=train_step,
        plan=plan,
        program=plan.program,
        programs=rule.programs,
        feed=train_feed,
        predict=method.predict,
        eval_sets=eval_sets,
        train_set=EvalSet("train", train_feed, len(train)),
        model=model,
        method=method,
        config=config,
        info=info,
    )


def run_name(config: TrainConfig) -> str:
    """What a run is called in tables when its config gives no label."""
    parts = [config.loss.name.upper()]
    if config.weights.name != "none":
        deferred = not config.weights.start.startswith("0")
        parts.append("DRW" if deferred else config.weights.name)
    if config.sampler.name != "instance":
        parts.append(config.sampler.name)
    if config.gradient.name != "plain":
        parts.append(config.gradient.name)
    return " + ".join(parts)


def _feed(config: TrainConfig, source) -> feeds.Feed:
    data = config.data
    # Files of one's own come without statistics; the options may name them.
    options = {"mean": source.mean, "std": source.std, **data.augment_options}
    pipeline = augment.build(data.augment, **options)
    if data.feed == "resident":
        return feeds.resident(source, pipeline.train, pipeline.eval)
    return feeds.streaming(
        source, pipeline.train, pipeline.eval, num_workers=data.workers
    )


def _auxiliary(config: TrainConfig, counts) -> supervised.Auxiliary | None:
    if config.gradient.name != "cc_sam":
        return None
    return class_conditional.cc_sam(
        counts,
        nu=config.gradient.cc_nu,
        ratio=config.gradient.cc_ratio,
        max_rho=config.gradient.cc_max_rho,
    )


def _mixup(alpha: float):
    if not alpha:
        return None
    return functools.partial(augment.mixup, alpha=alpha)
