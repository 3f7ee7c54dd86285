"""From a checked config to a `Run`: data, network, method, optimizer, put together."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ltjax._checks import dtype_of, shape_of
from ltjax.data.augment import Pipeline
from ltjax.data.signature import signature_of
from ltjax.data.source import Source
from ltjax.data.splits import Splits, load_splits
from ltjax.durations import duration_steps
from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting
from ltjax.methods.gradient_rule import remembering
from ltjax.methods.method import Companion, Method, Setting
from ltjax.models.forward import Model, count_parameters
from ltjax.models.peers import with_peers
from ltjax.models.registry import assemble, describe_network, published_start
from ltjax.options import ConfigError, read
from ltjax.resampling import samplers
from ltjax.resampling.combined import accompanied
from ltjax.train import optim
from ltjax.train import step as steps
from ltjax.train.config import TrainConfig
from ltjax.train.earlier import Said, Told, told_by
from ltjax.train.evaluate import EvalSet, judged_metric
from ltjax.train.feeds import (
    companion_feeds,
    make_feed,
    make_pipeline,
    sample_input,
)
from ltjax.train.lanes import replica_table
from ltjax.train.planning import StepPlan
from ltjax.train.run import Run, RunInfo
from ltjax.train.sections import OTHER_KINDS, SECTIONS
from ltjax.train.state import TrainState, init_state


def load_data(config: TrainConfig) -> Splits:
    """The training source of a config, what it is evaluated on, and its companions."""
    return load_splits(config.data, config.labels, config.unlabelled)


def build(
    config: TrainConfig, *, said: Mapping[str, Sequence[Said]] | None = None
) -> Run:
    """Builds everything a config describes; touches no device.

    Args:
        config: from `ltjax.train.check.check`.
        said: column -> what earlier runs say of the training examples, for each of
            `config.columns_from`, from `ltjax.train.restore.earlier_columns`.

    Returns:
        The `Run`.

    Raises:
        ConfigError: if data and config disagree.
        ValueError, TypeError, OSError: if the data cannot be read.
    """
    splits = load_data(config)
    train, bare = _told(config, splits.train, said or {})
    splits = splits._replace(train=train)
    parts = make_parts(config, splits)
    setting, method, pipeline = parts.setting, parts.method, parts.pipeline

    # Feeds: training, companions, evaluation.
    main_feed = make_feed(config, train, pipeline)
    companions, train_feed = companion_feeds(config, splits, main_feed)
    eval_sets = tuple(
        EvalSet(name, make_feed(config, source, pipeline), len(source))
        for name, source in splits.evaluated.items()
    )

    # What is known about the run.
    replicas = replica_table(config)
    shapes = _shapes(parts.init, replicas[0], config)
    optim.check_modules(config.optimizer.options, shapes.params)
    info = RunInfo(
        name=config.label or run_name(config),
        num_classes=train.num_classes,
        class_counts=train.true_counts,
        class_names=train.class_names,
        many=config.many,
        few=config.few,
        steps_per_epoch=setting.steps_per_epoch,
        total_steps=setting.total_steps,
        replicas=replicas,
        num_params=count_parameters(shapes.params),
        subset=bare.fingerprint,
        num_train=len(train),
        num_test=len(splits.evaluated["test"]),
        inputs=signature_of(train),
        companions={
            name: {"ratio": stream.ratio, "inputs": signature_of(stream.source)}
            for name, stream in splits.companions.items()
        },
    )
    evaluators = make_evaluators(config, setting.networks, method, info)
    seeds = [replica["seed"] for replica in replicas]
    plan = StepPlan(parts.sampler, seeds, train.truth, setting.rule, method)
    train_step = steps.make_train_step(
        method,
        setting.rule,
        parts.make_tx,
        ema_decay=config.ema_decay,
        accumulate=config.optimizer.accumulate,
        lr_factor=parts.factor,
        trains=config.optimizer.train,
        groups={name: group for name, group in info.groups.items() if group.any()},
        init_model=parts.init_model,
    )
    return Run(
        init=parts.init,
        step=train_step,
        plan=plan,
        program=plan.program,
        programs=plan.programs,
        feed=train_feed,
        deterministic=pipeline.deterministic,
        predict=make_predict(method, pipeline, train),
        eval_sets=eval_sets,
        train_set=EvalSet("train", main_feed, len(train)),
        companions=companions,
        sources={
            "train": bare,
            **splits.evaluated,
            **{name: stream.source for name, stream in splits.companions.items()},
        },
        evaluators=evaluators,
        judged=judged_metric(evaluators, eval_sets, metric=config.judged),
        model=setting.networks["main"],
        method=method,
        rule=setting.rule,
        config=config,
        info=info,
    )


class Parts(NamedTuple):
    """What a run is made of, whether or not its examples can be read.

    Attributes:
        train: the training examples, or what stands in for them.
        setting: everything that the components were made from.
        sampler: of the batches.
        method: the method.
        pipeline: augmentation.
        factor: of the learning rate, step -> scalar.
        make_tx: (hyper, step) -> optimizer.
        init_model: key -> (params, model_state).
        init: see `Run`.
    """

    train: Source
    setting: Setting
    sampler: samplers.Sampler
    method: Method
    pipeline: Pipeline
    factor: Callable[..., Any]
    make_tx: Callable[..., Any]
    init_model: Callable[..., tuple[Any, Any]]
    init: Callable[..., TrainState]


def make_parts(config: TrainConfig, splits: Splits) -> Parts:
    """Makes every component of a config; no example is read.

    Args:
        config: from `ltjax.train.check.check`.
        splits: its data, or what stands in for them.

    Returns:
        `Parts`.

    Raises:
        ConfigError: if data and config disagree.
    """
    # What every component may know of the data.
    train = splits.train
    setting = _setting(config, splits)
    sampler = config.sampler.make(setting)
    setting = _timed(setting, config, sampler.steps_per_epoch)
    sampler = _accompany(sampler, splits, config.batch_size)

    # Components, from those that others are made from upwards.
    networks = with_peers(
        make_model(config, train.num_classes), config.method.facts.peers
    )
    model = networks["main"]
    pipeline = make_pipeline(config.augment, train)
    sample = sample_input(pipeline, train)
    setting = dataclasses.replace(
        setting,
        networks=networks,
        input_shape=sample.shape[1:],
        weights=config.weights.make(setting),
        loss=config.loss.make(setting),
    )
    setting = dataclasses.replace(
        setting,
        rule=_rule(config, setting),
        treatment=config.pseudo_labels.make(setting),
    )
    method = remembering(config.method.make(setting), setting.rule)
    factor = config.schedule.make(setting)
    make_tx = config.optimizer.make(factor)

    def init_model(key):
        return model.init(key, sample)

    init = functools.partial(
        init_state,
        init_model=init_model,
        init_method=method.init,
        make_tx=make_tx,
        ema=config.ema_decay > 0,
    )
    return Parts(
        train, setting, sampler, method, pipeline, factor, make_tx, init_model, init
    )


def make_predict(
    method: Method, pipeline: Pipeline, source: Source
) -> Callable[..., dict]:
    """(state, inputs) -> outputs, of inputs as the source delivers them.

    Args:
        method: whose prediction it is.
        pipeline: whose evaluation transform comes first.
        source: the training examples: what an input has to be like.

    Returns:
        A function of the state of one replica. It raises a ValueError for inputs of
        another shape or dtype, such as those that were transformed already.
    """

    def predict(state, inputs):
        found, shape = dtype_of("predict", "inputs", inputs), shape_of(inputs)
        if shape[1:] != source.shape or found != source.dtype:
            raise ValueError(
                f"predict: inputs have shape {shape} and dtype {found}, expected"
                f" [B, {', '.join(map(str, source.shape))}] of {source.dtype}, as the"
                " data set delivers them: the evaluation transform is part of predict"
            )
        return method.predict(state, pipeline.eval({"inputs": inputs})["inputs"])

    return predict


def _told(
    config: TrainConfig, train: Source, said: Mapping[str, Sequence[Said]]
) -> Told:
    """The training set with the columns that the config takes from earlier runs."""
    missing = config.columns_from.keys() - said.keys()
    if missing:
        raise ConfigError(
            [
                f"config.columns_from has {name!r}, but the runs that it names were not"
                " asked; see ltjax.train.restore.earlier_columns"
                for name in sorted(missing)
            ]
        )
    if not said and not config.only:
        return Told(train, train)
    return told_by(train, said, config.only)


def _setting(config: TrainConfig, splits: Splits) -> Setting:
    """What is known before the first component is made."""
    train = splits.train
    setting = Setting(
        class_counts=train.class_counts,
        labels=train.labels,
        num_examples=len(train),
        batch_size=config.batch_size,
        steps_per_epoch=1,
        total_steps=1,
        steps=lambda text: 0,
        columns=train.columns,
        companions={
            name: Companion(len(stream.source), stream.ratio, stream.source)
            for name, stream in splits.companions.items()
        },
        loss_options=config.loss.options,
        padded=config.sampler.facts.padded,
        evaluate_ema=config.evaluate_ema,
    )
    return _timed(setting, config, max(len(train) // config.batch_size, 1))


def _timed(setting: Setting, config: TrainConfig, steps_per_epoch: int) -> Setting:
    """The setting with the lengths that follow from those of an epoch."""
    timing = {"steps_per_epoch": steps_per_epoch, "batch_size": config.batch_size}
    total = duration_steps(config.total, **timing)
    in_steps = functools.partial(duration_steps, **timing, total_steps=total)
    return dataclasses.replace(
        setting,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        steps=in_steps,
        late_step=in_steps(config.weights.start),
    )


def _accompany(sampler: samplers.Sampler, splits: Splits, batch_size: int):
    """The sampler with that of every companion: instance sampling, an epoch apart."""
    if not splits.companions:
        return sampler
    others = tuple(
        (samplers.instance(len(s.source), batch_size * s.ratio), s.ratio)
        for s in splits.companions.values()
    )
    return accompanied(sampler, others)


def _rule(config: TrainConfig, setting: Setting):
    rule = config.gradient.make(setting)
    if config.model.dtype != "float32":
        dtype = {"compute_dtype": jax.numpy.dtype(config.model.dtype)}
        rule = rule._replace(options={**rule.options, **dtype})
    return rule


def make_model(config: TrainConfig, num_classes: int) -> Model:
    """The network of a config."""
    head, optimizer = config.head.options, config.optimizer.options
    backbone = config.model.make({})
    more = published_start(head, backbone, config.loss.facts.init_bias)
    frozen = not optim.trains_backbone(optimizer)
    return assemble(
        backbone,
        config.head.make({"num_classes": num_classes, **more}),
        freeze_backbone=frozen and optimizer.bn_mode == "frozen",
        class_scale=head.class_scale,
        class_scale_power=head.class_scale_power,
        norm_sets=config.method.facts.norm_sets,
        describe=describe_network(
            config.model.name, config.model.options, config.head.name, num_classes
        ),
    )


def make_evaluators(
    config: TrainConfig, networks: Mapping[str, Model], method: Method, info: RunInfo
) -> Mapping[str, Evaluator]:
    """The evaluators that the config names, or those of the method."""
    table = OTHER_KINDS["evaluators"]
    judges: dict[str, Any] = dict(config.judges)
    if not judges:
        judges = {
            name: read(f"evaluators.{name}", {"name": name}, table).chosen
            for name in method.evaluators
        }
    told = EvaluatorSetting(
        predict=method.predict,
        class_counts=info.class_counts,
        groups=info.groups,
        networks=networks,
        evaluate_ema=config.evaluate_ema,
        adjustment=method.adjustment,
        num_train=info.num_train,
    )
    return {name: judge.make(told) for name, judge in judges.items()}


def _shapes(init: Any, replica: dict, config: TrainConfig) -> Any:
    try:
        return jax.eval_shape(init, replica["seed"], replica["hyper"])
    except ValueError as error:
        raise ConfigError(
            [f"config.model.name {config.model.name!r} does not fit the data: {error}"]
        ) from error


def run_name(config: TrainConfig) -> str:
    """What a run is called in tables when its config gives no label."""
    facts = config.method.facts
    parts = [config.loss.name.upper()] if facts.reads_loss else []
    if config.method.name != SECTIONS["method"].default:
        parts = [config.method.name, *parts]
    if facts.reads_weights and config.weights.name != "none":
        deferred = not config.weights.start.startswith("0")
        parts.append("DRW" if deferred else config.weights.name)
    for section in ("pseudo_labels", "sampler", "gradient"):
        chosen, usual = config.sections[section], SECTIONS[section].default
        if chosen.name != usual:
            parts.append(chosen.name)
    return " + ".join(parts)
