"""The splits of a run: the long-tailed training set, what is evaluated, companions."""

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltjax.classifiers import holdout_indices
from ltjax.data import long_tail
from ltjax.data.corruptions import corrupted
from ltjax.data.source import UNKNOWN, Source
from ltjax.data.unlabelled_streams import Remainder, Unlabelled
from ltjax.options import Chosen, ConfigError

_LOG = logging.getLogger(__name__)
# Sets that are published as balanced differ by less from class to class (MNIST: 1.24).
_IMBALANCED = 2.0


class Splits(NamedTuple):
    """What a run reads.

    Attributes:
        train: the training examples, with the labels that the method is given.
        evaluated: "test", untouched, "val" if there is a validation split or examples
            were held out, and "corrupted" if test images are to be.
        companions: name -> `Unlabelled`, a stream beside the training batches.
        pool: makes the source of all stored training examples of known class but those
            held out, of which `train` is a subset; None where nothing is stored.
    """

    train: Source
    evaluated: dict[str, Source]
    companions: dict[str, Unlabelled]
    pool: Callable[[], Source] | None = None


def load_splits(data: Chosen, labels: Chosen, unlabelled: Chosen) -> Splits:
    """The sources of a config's sections "data", "labels" and "unlabelled".

    Args:
        data: of `ltjax.data.components.DATA`.
        labels: of `ltjax.data.supervision.LABELS`.
        unlabelled: of `ltjax.data.unlabelled_streams.COMPANIONS`.

    Returns:
        `Splits`.

    Raises:
        ConfigError: if counts do not fit the data or a class ends up empty.
        ValueError, TypeError, OSError: see `ltjax.data.load_source`.
    """
    options = data.options

    def opened(split: str) -> Source:
        source = data.make(split)
        threshold = options.positive_from
        return two_classes(source, threshold) if threshold else source

    whole = opened(options.train_split)
    others = {"test": opened(options.test_split)}
    if options.has_validation:
        others["val"] = opened(options.val_split or "val")
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
    bare = whole.bare
    chosen = _subset(options, whole, bare)
    companions = unlabelled.make(Remainder(whole, chosen, bare))
    everything = options.profile == "none" and not bare.size
    train = whole if everything else whole.select(chosen)
    pooled = whole.known != UNKNOWN
    if options.holdout:
        train, others["val"] = _hold_out(train, options)
        pooled &= ~np.isin(whole.origin, others["val"].origin)
    train = labels.make(train)
    empty = np.flatnonzero(train.true_counts == 0)
    if empty.size:
        raise ConfigError(
            [
                f"class {empty[0]} has no training example ({empty.size} empty), so its"
                " prior is 0; drop it or choose another subset"
            ]
        )
    if options.corruptions:
        others["corrupted"] = _corrupted(options, others["test"])

    def pool() -> Source:
        return whole.select(np.flatnonzero(pooled)).judged()

    return Splits(train, others, companions, pool)


def _corrupted(options, test: Source) -> Source:
    try:
        return corrupted(test, options.corruptions, images=options.corrupted_images)
    except ValueError as error:
        raise ConfigError([f"config.data.corruptions: {error}"]) from None


def two_classes(source: Source, positive_from: int) -> Source:
    """The binary problem of some classes against the others.

    Args:
        source: with K classes.
        positive_from: p in [1, K): classes p, ..., K - 1 become class 1.

    Returns:
        `Source` with two classes.

    Raises:
        ConfigError: if p is not below K, or the source has targets of its K classes.
    """
    of_classes = [name for name in ("targets", "candidates") if name in source.columns]
    if positive_from >= source.num_classes or of_classes:
        raise ConfigError(
            [
                f"config.data.positive_from is {positive_from}, but {source.name} has"
                f" {source.num_classes} classes"
                f"{f' and {of_classes[0]} of them' if of_classes else ''},"
                f" expected 1 to {source.num_classes - 1} on data with one label per"
                " example"
            ]
        )

    def halved(labels: np.ndarray) -> np.ndarray:
        return np.where(labels < 0, labels, labels >= positive_from).astype(np.int32)

    columns = dict(source.columns)
    if "truth" in columns:
        columns["truth"] = halved(source.truth)
    names = (f"0 to {positive_from - 1}", f"from {positive_from}")
    return dataclasses.replace(
        source,
        name=f"{source.name} from {positive_from}",
        labels=halved(source.labels),
        num_classes=2,
        class_names=names,
        columns=columns,
    )


def _subset(options, whole: Source, bare: np.ndarray) -> np.ndarray:
    """Positions of the long-tailed subset in the whole training split.

    Examples `bare` of a label are not part of it.
    """
    labelled = np.setdiff1d(np.arange(len(whole)), bare)
    if options.profile == "none":
        return labelled
    if "candidates" in whole.columns:
        raise ConfigError(
            [
                f"config.data.profile is {options.profile!r}, which goes by classes,"
                f" but {whole.name} has candidate sets; expected 'none'"
            ]
        )
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
            faults = [f"config.data.max_count and imbalance_factor disagree: {error}"]
            if _is_imbalanced(available):
                faults.append(f"{_say(available)}; expected config.data.profile='none'")
            raise ConfigError(faults) from error
    found = long_tail.long_tail_indices(
        whole.labels[labelled], counts, seed=options.subset_seed
    )
    chosen = labelled[found]
    if options.profile != "counts" and _is_imbalanced(available):
        _LOG.warning(
            "%s, and config.data.profile=%r leaves %d of the %d; 'none' uses all",
            _say(available),
            options.profile,
            len(chosen),
            len(labelled),
        )
    return chosen


def _is_imbalanced(counts: np.ndarray) -> bool:
    return counts.max() >= _IMBALANCED * max(int(counts.min()), 1)


def _say(counts: np.ndarray) -> str:
    return (
        f"the data are imbalanced already ({counts.max()} to {counts.min()} training"
        " examples of a class)"
    )


def _hold_out(train: Source, options) -> tuple[Source, Source]:
    """(what is left to train on, the share of each class that is set aside)."""
    known = np.flatnonzero(train.known != UNKNOWN)
    try:
        held = known[
            holdout_indices(
                train.known[known],
                train.num_classes,
                fraction=options.holdout,
                seed=options.subset_seed,
            )
        ]
    except ValueError as error:
        raise ConfigError([f"config.data.holdout: {error}"]) from None
    kept = np.setdiff1d(np.arange(len(train)), held)
    return train.select(kept), train.select(held).judged()
