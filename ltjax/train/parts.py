"""What a run is made of: its setting, networks, method, sampler and optimizer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltjax.class_stats import shot_groups
from ltjax.data.augment import Pipeline
from ltjax.data.modalities import check_batch
from ltjax.data.source import Source
from ltjax.data.splits import Splits
from ltjax.durations import duration_steps
from ltjax.methods.gradient_rule import remembering
from ltjax.methods.method import Companion, Method, Setting
from ltjax.models.forward import Model
from ltjax.models.own import OwnNetwork
from ltjax.models.peers import with_peers
from ltjax.models.registry import assemble, describe_network, published_start
from ltjax.options import ConfigError
from ltjax.resampling import samplers
from ltjax.resampling.combined import accompanied
from ltjax.train import optim
from ltjax.train.config import TrainConfig
from ltjax.train.feeds import make_learned_views, make_pipeline, sample_input
from ltjax.train.state import TrainState, init_state


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
    pipeline = make_pipeline(config.augment, train)
    sample = sample_input(pipeline, train)
    networks = with_peers(
        make_model(config, train.num_classes, sample), config.method.facts.peers
    )
    model = networks["main"]
    setting = dataclasses.replace(
        setting,
        networks=networks,
        input_shape=jax.tree.map(lambda x: x.shape[1:], sample),
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
        check_batch(
            "predict",
            inputs,
            source.element,
            ", as the data set delivers them: the evaluation transform is part of"
            " predict",
        )
        return method.predict(state, pipeline.eval({"inputs": inputs})["inputs"])

    return predict


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
        groups=shot_groups(train.true_counts, many=config.many, few=config.few),
        learned_views=make_learned_views(config.augment, train),
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
    faults = [
        f"the stream {name!r} has {len(s.source)} examples, fewer than the"
        f" {batch_size * s.ratio} of a step (config.batch_size {batch_size} x ratio"
        f" {s.ratio}); expected more examples, or a smaller ratio or batch size"
        for name, s in splits.companions.items()
        if len(s.source) < batch_size * s.ratio
    ]
    if faults:
        raise ConfigError(faults)
    others = tuple(
        (samplers.instance(len(s.source), batch_size * s.ratio), s.ratio)
        for s in splits.companions.values()
    )
    return accompanied(sampler, others)


def _rule(config: TrainConfig, setting: Setting):
    rule = config.gradient.make(setting)
    dtype = getattr(config.model.options, "dtype", "float32")
    if dtype != "float32":
        dtype = {"compute_dtype": jax.numpy.dtype(dtype)}
        rule = rule._replace(options={**rule.options, **dtype})
    return rule


def make_model(config: TrainConfig, num_classes: int, sample: Any = None) -> Model:
    """The network of a config.

    Args:
        config: from `ltjax.train.check.check`.
        num_classes: K.
        sample: inputs [1, ...], which a network from outside has to be tried with.

    Returns:
        `Model`.

    Raises:
        ConfigError: for a network that cannot be used, see `ltjax.models.own`.
    """
    head, optimizer = config.head.options, config.optimizer.options
    backbone = config.model.make({})
    more = published_start(head, backbone, config.loss.facts.init_bias)
    frozen = not optim.trains_backbone(optimizer)
    made = config.head.make({"num_classes": num_classes, **more})
    common = {
        "freeze_backbone": frozen and optimizer.bn_mode == "frozen",
        "describe": describe_network(
            config.model.name, config.model.options, config.head.name, num_classes
        ),
    }
    if isinstance(backbone, OwnNetwork):
        usual = config.head.facts.ordinary
        backbone = backbone.model(sample, num_classes, made, usual_head=usual, **common)
    model = assemble(
        backbone,
        made,
        class_scale=head.class_scale,
        class_scale_power=head.class_scale_power,
        norm_sets=config.method.facts.norm_sets,
        **common,
    )
    return config.adapter.make(model)
