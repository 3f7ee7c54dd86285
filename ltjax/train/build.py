"""From a checked config to a `Run`: data, network, method, optimizer, put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ltjax.data.signature import signature_of
from ltjax.data.source import Source
from ltjax.data.splits import Splits, load_splits
from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting
from ltjax.methods.method import Method
from ltjax.models.forward import Model, count_parameters
from ltjax.options import ConfigError, read
from ltjax.train import optim
from ltjax.train import step as steps
from ltjax.train.config import TrainConfig
from ltjax.train.earlier import Said, Told, told_by
from ltjax.train.evaluate import EvalSet, judged_metric
from ltjax.train.feeds import (
    companion_feeds,
    make_feed,
)
from ltjax.train.lanes import replica_table
from ltjax.train.parts import make_parts, make_predict
from ltjax.train.planning import StepPlan
from ltjax.train.run import Run, RunInfo
from ltjax.train.sections import OTHER_KINDS, SECTIONS


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
    setting.rule.check_perturbed(shapes.params)
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
    pool_set = None
    if any(one.on_pool for one in evaluators.values()) and splits.pool:
        pool = splits.pool()
        pool_set = EvalSet("pool", make_feed(config, pool, pipeline), len(pool))
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
        pool_set=pool_set,
    )


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
        parts=method.parts,
    )
    return {name: judge.make(told) for name, judge in judges.items()}


def _shapes(init: Any, replica: dict, config: TrainConfig) -> Any:
    try:
        return jax.eval_shape(init, replica["seed"], replica["hyper"])
    except ConfigError:
        raise
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
