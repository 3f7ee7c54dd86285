"""The splits of a run: the long-tailed training set, what is evaluated, companions."""

from typing import NamedTuple

import numpy as np

from ltjax.classifiers import holdout_indices
from ltjax.data import long_tail
from ltjax.data.components import has_validation
from ltjax.data.source import Source
from ltjax.data.supervision import Remainder, Unlabelled
from ltjax.options import Chosen, ConfigError


class Splits(NamedTuple):
    """What a run reads.

    Attributes:
        train: the training examples, with the labels that the method is given.
        evaluated: "test", untouched, and "val" if there is a validation split or
            examples were held out.
        companions: name -> `Unlabelled`, a stream beside the training batches.
    """

    train: Source
    evaluated: dict[str, Source]
    companions: dict[str, Unlabelled]


def load_splits(data: Chosen, labels: Chosen, unlabelled: Chosen) -> Splits:
    """The sources of a config's sections "data", "labels" and "unlabelled".

    Args:
        data: of `ltjax.data.components.DATA`.
        labels: of `ltjax.data.supervision.LABELS`.
        unlabelled: of `ltjax.data.supervision.COMPANIONS`.

    Returns:
        `Splits`.

    Raises:
        ConfigError: if counts do not fit the data or a class ends up empty.
        ValueError, TypeError, OSError: see `ltjax.data.load_source`.
    """
    options = data.options
    whole = data.make(options.train_split)
    others = {"test": data.make(options.test_split)}
    if has_validation(options):
        others["val"] = data.make(options.val_split or "val")
    classes = whole.num_classes
    for name, other in others.items():
        if other.num_classes != classes:
            raise ConfigError(
                [
                    f"train split has {classes} classes, {name} split"
                    f" {other.num_classes}; where a split lacks the last ones, set"
                    " config.data.num_classes"
                ]
            )
    chosen = _subset(options, whole)
    companions = unlabelled.make(Remainder(whole, chosen))
    train = whole if options.profile == "none" else whole.select(chosen)
    if options.holdout:
        train, others["val"] = _hold_out(train, options)
    train = labels.make(train)
    empty = np.flatnonzero(train.true_counts == 0)
    if empty.size:
        raise ConfigError(
            [
                f"class {empty[0]} has no training example ({empty.size} empty), so its"
                " prior is 0; drop it or choose another subset"
            ]
        )
    return Splits(train, others, companions)


def _subset(options, whole: Source) -> np.ndarray:
    """Positions of the long-tailed subset in the whole training split."""
    if options.profile == "none":
        return np.arange(len(whole))
    classes, available = whole.num_classes, whole.class_counts
    if options.profile == "counts":
        counts = np.asarray(options.counts)
        if counts.shape != (classes,) or (counts > available).any():
            raise ConfigError(
                [
                    f"config.data.counts is {options.counts}, expected {classes}"
                    f" counts no larger than the available {available.tolist()}"
                ]
            )
    else:
        # 0 = the smallest class, so that no class falls short of its profile.
        largest = options.max_count or int(available.min())
        try:
            counts = long_tail.long_tail_counts(
                classes, largest, options.imbalance_factor, options.profile
            )
        except ValueError as error:
            raise ConfigError(
                [f"config.data.max_count and imbalance_factor disagree: {error}"]
            ) from error
    return long_tail.long_tail_indices(whole.labels, counts, seed=options.subset_seed)


def _hold_out(train: Source, options) -> tuple[Source, Source]:
    """(what is left to train on, the share of each class that is set aside)."""
    try:
        held = holdout_indices(
            train.labels,
            train.num_classes,
            fraction=options.holdout,
            seed=options.subset_seed,
        )
    except ValueError as error:
        raise ConfigError([f"config.data.holdout: {error}"]) from None
    kept = np.setdiff1d(np.arange(len(train)), held)
    return train.select(kept), train.select(held)
