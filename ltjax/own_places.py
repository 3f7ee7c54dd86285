"""Where data of your own lie: what `config.data` is for a path."""

import difflib
import pathlib
from typing import Any

from ltjax.data.class_folders import label_tables
from ltjax.data.components import DATA
from ltjax.data.readers import MissingDataError, beside
from ltjax.data.source import Source
from ltjax.data.table_files import TABLE_SUFFIXES
from ltjax.options import Chosen, ConfigError, read

KINDS = ("DIR", "FILE.csv", "FILE.parquet", "FILE.npz", "tfds:NAME")


def data_name(data: str) -> str:
    """What `config.data.name` is for a path.

    Raises:
        MissingDataError: if there is nothing at the path, with what lies beside it.
        ConfigError: if it is none of `KINDS`.

    Example:
        >>> data_name("tfds:tf_flowers")
        'tfds:tf_flowers'
    """
    kind, given, rest = data.partition(":")
    if given and any(form.startswith(f"{kind}:") for form in DATA.forms):
        if not rest:
            raise ConfigError([f"data is {data!r}, expected a name after the colon"])
        return data
    path = pathlib.Path(data).expanduser()
    if not data:
        raise ConfigError([f"data is '', expected {', '.join(KINDS)}"])
    if path.is_dir():
        return f"folder:{data}"
    suffix = path.suffix.lower()
    if suffix in (".npz", *TABLE_SUFFIXES):
        if not path.is_file() and "{split}" not in data:
            raise MissingDataError(f"data: there is no file {data}{beside(path)}")
        return f"{'npz' if suffix == '.npz' else 'table'}:{data}"
    if path.is_file():
        raise ConfigError([f"data is {data!r}, a file, expected {', '.join(KINDS)}"])
    if data in DATA:
        raise ConfigError(
            [
                f"data is {data!r}, which is a benchmark; expected --config"
                f" --config.data.name={data}, or 'tfds:{data}' for the whole of it"
            ]
        )
    near = difflib.get_close_matches(f"{kind}:", map(_prefix, DATA.forms), n=1)
    if given and near:
        raise ConfigError([f"data is {data!r}; did you mean {near[0] + rest!r}?"])
    raise MissingDataError(
        f"data: there is no file or folder {data!r}{beside(path)}; expected"
        f" {', '.join(KINDS)}"
    )


def _prefix(form: str) -> str:
    """What a form such as "tfds:NAME" begins with."""
    return form.partition(":")[0] + ":"


def given_tables(data: str, test: str) -> tuple[str, str]:
    """Folders of images with a table of their labels stand for these tables."""

    def tables(path: str) -> dict[str, str]:
        folder = pathlib.Path(path).expanduser()
        if not path or not folder.is_dir():
            return {}
        return {split: str(table) for split, table in label_tables(folder).items()}

    found = tables(data)
    if found and not test:
        test = found.get("test", found.get("val", ""))
    given = tables(test)
    return found.get("train", data), given.get("test", given.get("train", test))


def data_section(name: str, *, test: str, label: str) -> dict[str, str]:
    """The name of the data and what is said of them, if their kind has such options."""
    kind = name.partition(":")[0]
    section, faults = {"name": name}, []
    if test:
        if kind in ("tfds", "memory"):
            faults.append(
                f"test is {test!r}, but {name!r} has splits by name, expected"
                " --config.data.test_split"
            )
        other = data_name(test)
        if other.partition(":")[0] != kind:
            faults.append(
                f"test is {test!r} and data {name.partition(':')[2]!r}, expected two of"
                " a kind: folders, tables or .npz files"
            )
        section["test"] = other.partition(":")[2]
    if label:
        if kind != "table":
            faults.append(
                f"label is {label!r}, the column of a table, but the data are a {kind}"
            )
        section["label"] = label
    if faults:
        raise ConfigError(faults)
    return section


def choose_splits(config: Any) -> None:
    """A TFDS data set without a "test" split is tested on its validation split."""
    from ltjax.data.loading import resolve_data_dir
    from ltjax.data.records import stored_splits

    name = config.data.name.partition(":")[2]
    splits = stored_splits(name, resolve_data_dir(config.data.data_dir or None))
    for split in ("test", "validation", "val"):
        if split in splits:
            config.data.test_split = split
            return


def chosen_data(config: Any) -> Chosen:
    """The data of a config, as its section says."""
    chosen, faults = read("data", dict(config.data.items()), DATA)
    if chosen is None:
        raise ConfigError(faults)
    return chosen


def training_source(config: Any) -> Source:
    """The training examples of a config."""
    return chosen_data(config).make(config.data.train_split)
