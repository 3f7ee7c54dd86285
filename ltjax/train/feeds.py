"""The feeds of a run: training rows, their companions, and evaluation."""

import functools
from typing import Any

import jax
import numpy as np

from ltjax.data import Source
from ltjax.data import feed as feeds
from ltjax.data.augment import Pipeline, PipelineSetting
from ltjax.data.companions import Stream, accompanied
from ltjax.data.learned_views import learned_views
from ltjax.data.modalities import batch_of
from ltjax.data.splits import Splits
from ltjax.options import ConfigError
from ltjax.train.config import TrainConfig
from ltjax.train.evaluate import EvalSet


def make_pipeline(section: Any, source: Source) -> Pipeline:
    """The augmentation of a section, with the statistics of the training set."""
    try:
        return section.make(PipelineSetting(source.mean, source.std))
    except ValueError as error:
        raise ConfigError([f"config.augment: {error}"]) from None


def make_learned_views(section: Any, source: Source) -> Any:
    """`learned_views` with the statistics that `make_pipeline` normalizes by, or None.

    Inputs that are not normalized images have none.
    """
    mean = getattr(section.options, "mean", ()) or source.mean
    std = getattr(section.options, "std", ()) or source.std
    if mean is None or std is None:
        return None
    return functools.partial(learned_views, np.asarray(mean), np.asarray(std))


def make_feed(config: TrainConfig, source: Source, pipeline: Pipeline) -> feeds.Feed:
    """The feed of a source, resident or streaming as the config says."""
    data = config.data.options
    if data.feed == "resident":
        return feeds.resident(source, pipeline)
    return feeds.streaming(source, pipeline, num_workers=data.workers)


def companion_feeds(config: TrainConfig, splits: Splits, main_feed: feeds.Feed):
    """(the companions as sets to go over, the feed of all streams together)."""
    sets, streams = [], {}
    for name, stream in splits.companions.items():
        pipeline = make_pipeline(config.augment_unlabelled, splits.train)
        feed = make_feed(config, stream.source, pipeline)
        sets.append(EvalSet(name, feed, len(stream.source)))
        streams[name] = Stream(feed, stream.ratio)
    return tuple(sets), accompanied(main_feed, streams) if streams else main_feed


def sample_input(pipeline: Pipeline, source: Source) -> Any:
    """Zeros of the shape that the network sees."""
    batch = {"inputs": batch_of(source.element, 1), **_column_shapes(source)}
    seen = jax.eval_shape(pipeline.eval, batch)["inputs"]
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), seen)


def _column_shapes(source: Source) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct((1, *column.shape[1:]), column.dtype)
        for name, column in source.columns.items()
    }
