"""Your own data as components: a path, and a test set that is found or split off.

Each kind of path says which splits are stored there. If there is no test split, a share
of every class is split off the training examples.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import class_folders, tables
from ltjax.data.arrays import npz_class_names, open_npz
from ltjax.data.loading import DATA_DIR_VARIABLE, make_source, resolve_data_dir
from ltjax.data.readers import Contents, DataError, MissingDataError, Sizing
from ltjax.data.records import open_records, stored_splits
from ltjax.data.source import UNKNOWN, Source, known_labels
from ltjax.data.table_files import read_columns
from ltjax.options import Component, option

_LOG = logging.getLogger(__name__)


class Stored(NamedTuple):
    """What lies at a path.

    Attributes:
        splits: names of the splits, "train" among them.
        open: name of a split -> Contents.
        notes: what is left out, or stands for something else.
    """

    splits: tuple[str, ...]
    open: Callable[[str], Contents]
    notes: tuple[str, ...] = ()


def split_off(
    labels: np.ndarray, num_classes: int, *, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A stratified split: every class with two examples or more is on both sides.

    Args:
        labels: [N] int.
        num_classes: K.
        share: of each class that goes to the second part, rounded, at least one
            example. A class with a single one stays in the first part.
        seed: of the choice.

    Returns:
        (positions of the first part, of the second), both sorted.

    Example:
        >>> first, second = split_off(np.array([0] * 10 + [1, 1, 2]), 3, share=0.2,
        ...                           seed=0)
        >>> np.bincount(np.array([0] * 10 + [1, 1, 2])[first]).tolist()
        [8, 1, 1]
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    taken = []
    for members in np.split(by_class, ends[:-1]):
        count = int(np.clip(round(share * members.size), 1, max(members.size - 1, 0)))
        chosen = rng.permutation(members)
        taken.append(chosen[: count if members.size > 1 else 0])
    second = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(labels.size), second), second


def own_component(
    name: str,
    about: str,
    options: type,
    find: Callable[[Any], Stored],
    needs: Callable[[Any, Any], list[str]],
) -> Component:
    """The component of a kind of path.

    Args:
        name: in a config.
        about: one line.
        options: with `train_split`, `test_split`, `test_share` and `subset_seed`.
        find: options -> what lies at the path.
        needs: see `Component`.

    Returns:
        `Component` whose `make` is (options, split) -> Source.
    """

    def make(options: Any, split: str) -> Source:
        stored = find(options)
        if split == options.test_split:  # which a run opens once
            for note in stored.notes:
                _LOG.warning("%s", note)
        if split in stored.splits and split != options.train_split:
            return _source(name, split, stored.open(split)).judged()
        if split not in (options.train_split, options.test_split):
            raise MissingDataError(
                f"{name} has no split {split!r}, expected one of {stored.splits}"
            )
        for key in ("train_split", "test_split"):
            asked = getattr(options, key)
            # Without a "test" one is split off; another name is meant to be there.
            if asked not in stored.splits and asked != "test":
                raise MissingDataError(
                    f"{name} has no split {asked!r} (config.data.{key}), expected one"
                    f" of {stored.splits}"
                )
        whole = _source(name, split, stored.open(options.train_split))
        _check_sets(whole, getattr(options, "candidates", False))
        if options.test_split in stored.splits:
            return whole
        test = _test_positions(whole, options)
        if split == options.train_split:
            return whole.select(np.setdiff1d(np.arange(len(whole)), test))
        if not test.size:
            raise DataError(
                f"{name}: no example can be split off for the test, for no class has"
                " two whose label is known; expected test data, or the true labels as"
                " a column 'truth'"
            )
        _tell(whole, test, options.test_share)
        return whole.select(test).judged()

    return Component(about, options, make, needs)


def _source(name: str, split: str, contents: Contents) -> Source:
    names = contents.class_names
    return make_source(name, split, contents, names, None, None, unlabelled=True)


def _check_sets(whole: Source, wanted: bool) -> None:
    """Candidate sets are read if the config says so, and otherwise there are none."""
    if ("candidates" in whole.columns) == wanted:
        return
    if wanted:
        raise DataError(
            f"{whole.name} has no candidate sets, but config.data.candidates is true;"
            " expected an array or column 'candidates'"
        )
    raise DataError(
        f"{whole.name} has candidate sets, but config.data.candidates is false;"
        " expected true, and a method of partial labels"
    )


def _test_positions(whole: Source, options: Any) -> np.ndarray:
    """Positions of the examples that are split off for the test.

    Only examples whose class is known can be tested on. Those without a label stay in
    training, also where their clean label is known.
    """
    known = np.setdiff1d(np.flatnonzero(whole.known != UNKNOWN), whole.bare)
    _, second = split_off(
        whole.known[known],
        whole.num_classes,
        share=options.test_share,
        seed=options.subset_seed,
    )
    return known[second]


def _tell(whole: Source, test: np.ndarray, share: float) -> None:
    names = whole.class_names or tuple(map(str, range(whole.num_classes)))
    known = known_labels(whole.known)
    single = np.flatnonzero(np.bincount(known, minlength=whole.num_classes) == 1)
    kept = ", ".join(names[k] for k in single[:5]) + (
        ", ..." if single.size > 5 else ""
    )
    _LOG.info(
        "no test data: %g %% of each class (%d of %d examples) are split off for the"
        " test%s",
        100 * share,
        len(test),
        len(whole),
        f"; {single.size} class(es) with one example stay in training: {kept}"
        if single.size
        else "",
    )


@dataclasses.dataclass(frozen=True)
class ShareOptions:
    """Shared by all forms of your own data."""

    test_share: float = option(
        0.2,
        "share of each class that is split off if there is no test",
        above=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class SplitOptions(ShareOptions):
    """Shared by the kinds of paths."""

    test: str = option("", "path of the test data; '' = found, or split off")


@dataclasses.dataclass(frozen=True)
class ClassFolderOptions(SplitOptions):
    """Of image folders by class."""

    resize: int = option(0, "shorter side in pixels; 0 = as stored", low=0)
    crop: int = option(0, "side of the center crop in pixels; 0 = none", low=0)


@dataclasses.dataclass(frozen=True)
class CandidateSetOptions:
    """Of data whose examples may have candidate sets."""

    candidates: bool = option(
        False, "an example has candidates, one of which is its label"
    )


@dataclasses.dataclass(frozen=True)
class LabelSetOptions(CandidateSetOptions):
    """Of data whose examples may have several labels."""

    multi_label: bool = option(
        False, "several labels per example: names between |, or columns of 0 and 1"
    )

    def __post_init__(self):
        if self.multi_label and self.candidates:
            raise ValueError(
                "multi_label and candidates are both true, expected one: either all"
                " labels of a set are true, or one of them"
            )


@dataclasses.dataclass(frozen=True)
class TableOptions(LabelSetOptions, ClassFolderOptions):
    """Of tables; sizes are those of images that a column names."""

    label: str = option(
        "",
        "column of the classes, or those of 0 and 1 as a,b; '' = label, class, target,"
        " y or labels",
    )


def find_folder(path: str, options: Any) -> Stored:
    """Folders of classes; `options.test` names the one of the test images."""
    folder = located(path, options.data_dir)
    folders = dict(class_folders.split_folders(folder))
    bare = class_folders.unlabelled_folder(folder, folders["train"])
    if options.test:
        given = class_folders.split_folders(located(options.test, options.data_dir))
        folders["test"] = given.get("test", given["train"])
    notes = []
    if "test" not in folders and "val" in folders:
        folders["test"] = folders.pop("val")
        notes.append(f"{folders['test']} is the test split, for there is no other")
    listing = class_folders.list_classes(folders["train"])
    left = ", ".join(f"{count} {kind}" for kind, count in listing.other.items())
    if left:
        notes.append(f"{folders['train']}: not used, no images of a class: {left}")

    def opened(split: str) -> Contents:
        return class_folders.open_class_folder(
            folders[split],
            names=() if split == "train" else listing.names,
            unlabelled=bare if split == "train" else None,
            resize=options.resize or None,
            crop=options.crop or None,
        )

    return Stored(tuple(folders), opened, tuple(notes))


def find_table(path: str, options: Any) -> Stored:
    """A table; `options.test` names the one of the test examples."""
    files = {"train": located(path, options.data_dir)}
    if options.test:
        files["test"] = located(options.test, options.data_dir)
    columns = read_columns(files["train"])
    layout = tables.find_layout(
        str(files["train"]),
        columns,
        label=options.label,
        several=options.multi_label,
        candidates=options.candidates,
    )
    note = layout.note(str(files["train"]))

    def opened(split: str) -> Contents:
        file = files[split]
        return tables.table_contents(
            str(file),
            columns if split == "train" else read_columns(file),
            layout,
            root=pathlib.Path(file).parent,
            sizing=Sizing(options.resize or None, options.crop or None),
        )

    return Stored(tuple(files), opened, (note,) if note else ())


def find_npz(path: str, options: Any) -> Stored:
    """A file of arrays, or one for each split where "{split}" is in the path."""
    if "{split}" in path:
        splits = [options.train_split, options.test_split]
        val = options.val_split or "val"
        if os.path.exists(located(path.replace("{split}", val), options.data_dir)):
            splits.append(val)
        files = {split: path.replace("{split}", split) for split in splits}
    else:
        files = {"train": path}
    if options.test:
        files[options.test_split] = options.test
    data_dir = options.data_dir or os.environ.get(DATA_DIR_VARIABLE)

    def opened(split: str) -> Contents:
        train = options.train_split
        return open_npz(
            split,
            path=files[split],
            data_dir=data_dir,
            num_classes=options.num_classes or None,
            names=None if split == train else npz_class_names(files[train], data_dir),
        )

    return Stored(tuple(files), opened)


def located(path: str, data_dir: str) -> str:
    """A path as given if it exists, otherwise below the data directory."""
    given = os.path.expanduser(path)
    base = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if base and not os.path.exists(given) and os.path.exists(os.path.join(base, given)):
        return os.path.join(base, given)
    return given


def find_records(name: str, options: Any) -> Stored:
    """A prepared TFDS data set."""
    data_dir = resolve_data_dir(options.data_dir or None)

    def opened(split: str) -> Contents:
        return open_records(
            split,
            name=name,
            data_dir=data_dir,
            input_key=options.input_key or None,
            label_key=options.label_key or None,
            resize=options.resize or None,
            crop=options.crop or None,
        )

    return Stored(stored_splits(name, data_dir), opened)


# "memory:NAME" -> split -> Contents, of the data that were given in this process.
_IN_MEMORY: dict[str, Mapping[str, Contents]] = {}


def keep_in_memory(name: str, splits: Mapping[str, Contents]) -> None:
    """Makes data of this process known as "memory:NAME".

    Args:
        name: after the colon; a hash of the content, so that no two data share one.
        splits: "train" and perhaps "test" -> Contents.
    """
    _IN_MEMORY[name] = splits


def find_memory(name: str, options: Any) -> Stored:
    """Data that were given to `ltjax.fit` in this process."""
    if name not in _IN_MEMORY:
        raise MissingDataError(
            f"data 'memory:{name}' were given to ltjax.fit in another process and are"
            " not stored; call ltjax.fit with the same data and workdir again"
        )
    splits = _IN_MEMORY[name]
    return Stored(tuple(splits), splits.__getitem__)
