"""`ltjax.fit`: training on data that are already in Python, or on a path, in a call."""

import dataclasses
import logging
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.data import Source
from ltjax.data.image_sizes import joined
from ltjax.data.items import item_contents, pair_contents
from ltjax.data.loading import make_source
from ltjax.data.own import keep_in_memory
from ltjax.data.readers import Contents, DataError, Sizing
from ltjax.data.table_files import frame_columns
from ltjax.data.tables import Layout, find_layout, table_contents
from ltjax.methods.presets import apply_changes
from ltjax.models.table import model_name
from ltjax.options import ConfigError, nearest
from ltjax.own_data import Sides, choose_sides, own_config
from ltjax.own_supervision import AUTO, reading_of

_LOG = logging.getLogger(__name__)

EXPECTED = (
    "a path, (x, y) arrays, a data frame, or a data set with __len__ and __getitem__"
)
_LOOKED_AT = 64  # items whose sizes decide how images are brought to one


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        metrics: of the last evaluation: "eval/test/balanced_accuracy" -> mean over
            replicas.
        workdir: holds config, checkpoints and evaluations; `ltjax report` reads it.
        run: the evaluated run, as `ltjax.report` has it: class names, counts, recalls.
        result: of the engine: the final state, and metrics of each replica.
        table: accuracy by class group and class, as text.
    """

    metrics: dict[str, float]
    workdir: pathlib.Path
    run: Any = dataclasses.field(repr=False)
    result: Any = dataclasses.field(repr=False)
    table: str = dataclasses.field(repr=False)

    @property
    def groups(self) -> dict[str, float]:
        """Class group -> balanced accuracy; groups without a class are left out."""
        found = {name: f"eval/{self.run.split}/{name}" for name in self.run.groups}
        return {
            name: self.metrics[key]
            for name, key in found.items()
            if key in self.metrics and not np.isnan(self.metrics[key])
        }

    def __str__(self) -> str:
        return self.table


def fit(
    train: Any,
    test: Any = None,
    *,
    method: str = AUTO,
    model: Any = AUTO,
    workdir: str | os.PathLike | None = None,
    seed: int = 0,
    label: str = "",
    image_size: int = 0,
    epochs: int = 0,
    pretrained: str | os.PathLike = "",
    finetune: str = "",
    writers: Sequence[Any] = (),
    **overrides: Any,
) -> Fitted:
    """Trains a network on data of your own and evaluates it.

    Everything that is not given is chosen from the data, see
    `ltjax.own_data.own_config`. A workdir that holds the same run is continued. Two
    examples: `ltjax.fit((x, y), epochs=20)`, `ltjax.fit("photos/", model="resnet18")`.

    Args:
        train: a path as `ltjax train --data` takes it; (x, y) with x [N, ...] and y [N]
            words or integers; a pandas data frame; or a data set whose items are (x, y)
            or dicts with an image and a label (torchvision, Hugging Face).
        test: of the same kind. Without it the test folder of a path is used, or a fifth
            of every class is split off.
        method: a name of `ltjax list presets`, or of weak supervision, see
            `ltjax.methods.weak_presets.WEAK`; "auto" = la, or what the labels ask for.
        model: a name of `ltjax list models`; "auto" = by the shape of the inputs. Or a
            network of your own: a Flax Linen or NNX module, an `ltjax.models.Model`, or
            a function or class that makes one, whose arguments are options, as in
            `model__width=64`; see `ltjax.models.own`.
        workdir: where the run is kept; None = a temporary folder.
        seed: of parameters, order and augmentation.
        label: column of the classes in a table, or those of 0 and 1 as "sky,sea"; "" =
            found.
        image_size: side of what the network sees of image files; 0 = chosen.
        epochs: length of the run; 0 = chosen.
        pretrained: .safetensors file of weights that the network starts from, see
            `ltjax.models.pretrained`.
        finetune: how it is tuned: "probe", "last:N", "lora:RANK" or "full:DECAY", see
            `ltjax.finetune`; "" = "full".
        writers: where records go besides: "wandb", "mlflow", or sinks with
            `write(record)`, see `ltjax.train.trackers`.
        **overrides: any option of the config; a dot is written as two underscores:
            `batch_size=64, loss__tau=2.0`.

    Returns:
        `Fitted`.

    Raises:
        ConfigError: for an argument or option that is wrong.
        DataError: for data that cannot be used.
    """
    import jax

    from ltjax.report.closing import closing_table
    from ltjax.report.reading import read_run
    from ltjax.train.stages import check_stages, train_stages
    from ltjax.train.trackers import make_writers

    sinks = make_writers(writers)

    name, test_path, sides = _data(
        train, test, label=label, image_size=image_size, method=method
    )
    config = own_config(
        name,
        test=test_path,
        method=method,
        model=model_name(model),
        image_size=image_size,
        epochs=epochs,
        label=label if isinstance(train, (str, os.PathLike)) else "",
        pretrained=os.fspath(pretrained),
        finetune=finetune,
        devices=len(jax.devices()),
        sides=sides,
    )
    config.seed = seed
    _override(config, overrides)
    stages = check_stages(config)
    place = pathlib.Path(workdir or tempfile.mkdtemp(prefix="ltjax-")).expanduser()
    result = train_stages(stages, place, tensorboard=workdir is not None, writers=sinks)
    run = read_run(place / stages[-1].folder)
    metrics = {
        key: float(np.mean(np.atleast_1d(values)))
        for key, values in result.metrics.items()
    }
    return Fitted(metrics, place, run, result, closing_table(run))


def _override(config: Any, overrides: Mapping[str, Any]) -> None:
    """Sets options by name, sections' names first: they decide what options exist."""
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    faults = []
    for path in sorted(changes, key=lambda path: not path.endswith(".name")):
        place, names = config, path.split(".")
        for k, name in enumerate(names):
            known = list(place) if hasattr(place, "keys") else []
            if name not in known:
                said = ".".join(names[: k + 1])
                faults.append(f"{said} is unknown{nearest(name, known)}")
                break
            place = place[name]
        else:
            try:
                apply_changes(config, {path: changes[path]})
            except TypeError as error:
                faults.append(f"{path} is {changes[path]!r}: {error}")
    if faults:
        raise ConfigError(faults)


def _data(
    train: Any, test: Any, *, label: str, image_size: int, method: str
) -> tuple[str, str, Sides | None]:
    """(what `own_config` calls the data, the path of the test data, sizes)."""
    if isinstance(train, (str, os.PathLike)):
        if test is not None and not isinstance(test, (str, os.PathLike)):
            raise DataError(
                f"fit: train is a path and test a {type(test).__name__}, expected two"
                " of a kind"
            )
        return os.fspath(train), os.fspath(test) if test is not None else "", None
    splits, sides = _contents(train, test, label, image_size, method)
    digest = _digest(splits)
    keep_in_memory(digest, splits)
    return f"memory:{digest}", "", sides


def _contents(
    train: Any, test: Any, label: str, image_size: int, method: str
) -> tuple[dict[str, Contents], Sides | None]:
    """Split -> contents of data in memory."""
    if isinstance(train, np.ndarray) and np.ndim(test) == 1:
        raise DataError(
            "fit: train and test are arrays, expected (x, y) in each; did you mean"
            " ltjax.fit((x, y))?"
        )
    kind = _kind(train, "train")
    if test is not None and _kind(test, "test") != kind:
        raise DataError(
            f"fit: train is a {kind} and test a {_kind(test, 'test')}, expected two of"
            " a kind"
        )
    if label and kind != "data frame":
        raise ConfigError(
            [f"label is {label!r}, the column of a table, but the data are a {kind}"]
        )
    given = {"train": train} | ({} if test is None else {"test": test})
    sides = None
    if kind == "data set":
        sides = _item_sides(train, image_size)
    elif image_size:
        raise ConfigError([f"image_size is {image_size}, but the data are a {kind}"])
    opened: dict[str, Contents] = {}
    layout: Layout | None = None
    for split, data in given.items():
        names = opened["train"].class_names if opened else None
        caller = f"fit: {split}"
        if kind == "data frame":
            columns = frame_columns(data)
            if layout is None:
                reading = reading_of(caller, columns, label=label, method=method)
                layout = find_layout(
                    caller,
                    columns,
                    label=label,
                    several=reading == "multi_label",
                    candidates=reading == "candidates",
                )
                if layout.ignored:
                    _LOG.warning("%s", layout.note(caller))
            opened[split] = table_contents(caller, columns, layout)
        elif kind == "pair":
            opened[split] = pair_contents(caller, data[0], data[1], names)
        else:
            side = sides.stored if sides else 0
            sizing = Sizing(side or None, side or None)
            opened[split] = item_contents(caller, data, names, sizing=sizing)
    return opened, sides


def _kind(data: Any, what: str) -> str:
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        return "data frame"
    if isinstance(data, (tuple, list)) and len(data) == 2 and _is_array(data[0]):
        return "pair"
    if isinstance(data, np.ndarray) or not (
        hasattr(data, "__len__") and hasattr(data, "__getitem__")
    ):
        shape = f" of shape {data.shape}" if isinstance(data, np.ndarray) else ""
        raise DataError(
            f"fit: {what} is a {type(data).__name__}{shape}, expected {EXPECTED}"
        )
    if isinstance(data, (dict, bytes)):
        raise DataError(f"fit: {what} is a {type(data).__name__}, expected {EXPECTED}")
    return "data set"


def _is_array(value: Any) -> bool:
    """Whether this is a batch of inputs, and not the first of two items."""
    return hasattr(value, "shape") or (
        isinstance(value, list)
        and len(value) > 0
        and isinstance(value[0], (list, tuple))
    )


def _item_sides(dataset: Any, image_size: int) -> Sides | None:
    """How PIL images of a data set are brought to one size; None if it has none."""
    count = len(dataset)
    sizes = []
    for k in np.unique(np.linspace(0, max(count - 1, 0), _LOOKED_AT).astype(int)):
        item: Any = dataset[int(k)] if count else ()
        values = item.values() if hasattr(item, "values") else item
        pictures = [v for v in values if type(v).__module__.startswith("PIL.")]
        sizes += [picture.size[::-1] for picture in pictures[:1]]
    if not sizes:
        return None
    return choose_sides(joined(sizes), image_size)


def _digest(splits: Mapping[str, Contents]) -> str:
    """A name that only these data have."""
    from ltjax.train.identity import content_fingerprint

    parts = []
    for split, contents in splits.items():
        source: Source = make_source(
            *("fit", split, contents, contents.class_names, None, None),
            unlabelled=True,
        )
        parts.append(content_fingerprint(source))
    return "-".join(part[:8] for part in parts)
