"""Damaged files: read as what they now say, or refused by the file's name.

What a damaged file holds may be something else, and then that is what has to be read.
Never may a reader raise another kind of exception, or ask for memory because a header
tells it to.
"""

import contextlib
import copy
import functools
import json
import os
import pathlib
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from experiments.reliability.fuzz.outcomes import (
    ANSWERED,
    REFUSED,
    Unexplained,
    explained,
)

# What a small file may make a reader ask for.
MEMORY = 1 << 30
_RNG = np.random.default_rng(0)


def _pixels(side: int = 8) -> np.ndarray:
    return _RNG.integers(0, 256, (side, side, 3), np.uint8)


def _npz(file: pathlib.Path) -> None:
    labels = np.arange(9) % 3
    np.savez_compressed(file, inputs=_RNG.normal(size=(9, 4)), labels=labels)


def _npz_words(file: pathlib.Path) -> None:
    words = np.array(["cat", "ant", "bee"])[np.arange(9) % 3]
    np.savez(file, images=np.zeros((9, 4, 4, 3), np.uint8), labels=words)


def _npy(file: pathlib.Path) -> None:
    np.save(file, np.zeros((5, 4), np.float32))


def _csv(file: pathlib.Path) -> None:
    lines = ["a,b,label", *(f"{k},{k / 7},{'xyz'[k % 3]}" for k in range(12))]
    file.write_text("\n".join(lines) + "\n")


def _features(file: pathlib.Path) -> None:
    file.write_text("".join(f"{k},{k / 7},-1,{k * 1e3}\n" for k in range(6)))


def _parquet(file: pathlib.Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    words = pa.array(["x", "y", "x", "y"]).dictionary_encode()
    table = pa.table({"a": [0.5, 1.5, 2.5, 3.5], "b": [1, 2, 3, 4], "label": words})
    parquet.write_table(table, file)


def _list(file: pathlib.Path) -> None:
    import PIL.Image

    for k in range(3):
        PIL.Image.fromarray(_pixels()).save(file.with_name(f"{k}.png"))
    file.write_text("".join(f"{k % 3}.png {k % 3}\n" for k in range(6)))


def _image(file: pathlib.Path) -> None:
    import PIL.Image

    other = file.parent.parent / "other" / "0.png"
    other.parent.mkdir()
    PIL.Image.fromarray(_pixels()).save(other)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned
    PIL.Image.fromarray(_pixels()).save(file, exif=exif)


def _run(file: pathlib.Path) -> None:
    """The files of a run, as training leaves them."""
    from ltjax._seal import sealed
    from ltjax.train.config import default_config

    folder = file.parent if file.suffix != ".npz" else file.parent.parent
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    confusion = np.array([[[5, 1], [2, 3]]])
    np.savez_compressed(folder / "evaluation" / "test_4.npz", confusion=confusion)
    signature = {
        **{"name": "toy", "shape": [2], "dtype": "float32", "examples": 11},
        **{"label_counts": [6, 5], "class_counts": [6, 5], "mean": None, "std": None},
        **{"sizing": None, "columns": {}, "features": None},
    }
    facts = {
        **{"method": "CE", "data": "toy", "num_classes": 2, "class_counts": [6, 5]},
        "replicas": [{"seed": 0, "hyper": {"lr": 0.1}}],
        "class_names": ["a", "b"],
        "shot_groups": {"many": 100, "few": 20},
        "columns": [{"key": "k", "title": "t", "best": "max", "meaning": "m"}],
        **{"inputs": signature, "companions": {}, "versions": {"ltjax": "0"}},
    }
    values = json.loads(json.dumps(default_config().to_dict()))
    for name, content in (("run.json", facts), ("config.json", values)):
        (folder / name).write_text(json.dumps(sealed(content), indent=2) + "\n")
    lines = [{"step": k, "train/loss": 1 / k} for k in range(1, 5)]
    text = "".join(json.dumps(sealed(line)) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def _checksums(file: pathlib.Path) -> None:
    from ltjax.train.integrity import write_checksums

    (file.parent / "array").write_bytes(b"123")
    write_checksums(file.parent, {"w": "cbf43926"})


def _read_npz(file: pathlib.Path) -> Any:
    from ltjax.data.arrays import npz_class_names, open_npz

    npz_class_names(str(file), None)
    found = open_npz("train", path=str(file))
    return found.labels, found.reader(np.arange(len(found.labels)))


def _signature() -> Any:
    from ltjax.data.signature import Signature

    return Signature("toy", (4,), "float32", 5, (3, 2), (3, 2))


def _read_features(file: pathlib.Path) -> Any:
    from ltjax.serving.files import read_table

    return read_table(file, _signature())


def _read_table(file: pathlib.Path) -> Any:
    from ltjax.data.table_files import read_columns
    from ltjax.data.tables import find_layout, table_contents

    columns = read_columns(file)
    found = table_contents(str(file), columns, find_layout(str(file), columns))
    return found.labels, found.reader(np.arange(len(found.labels)))


def _read_list(file: pathlib.Path) -> Any:
    from ltjax.data.folders import open_folder

    found = open_folder(
        "train", list_file=file, image_root=file.parent, resize=None, crop=None
    )
    return found.labels, found.reader(np.arange(len(found.labels)))


def _read_images(file: pathlib.Path) -> Any:
    from ltjax.data.class_folders import list_classes, open_class_folder
    from ltjax.data.image_sizes import image_sizes
    from ltjax.serving.files import read_items

    folder = file.parent.parent
    with contextlib.suppress(ValueError):  # says what `open_class_folder` says
        image_sizes(str(folder), list_classes(folder).paths)
    list(read_items([file], _signature()))
    found = open_class_folder(folder, resize=8, crop=8)
    return found.reader(np.arange(len(found.labels)))


def _read_run(file: pathlib.Path) -> Any:
    from ltjax.report.reading import read_run
    from ltjax.report.tables import csv_table

    folder = file.parent if file.suffix != ".npz" else file.parent.parent
    run = read_run(folder)
    return csv_table([run]), len(run.records)


def _read_facts(file: pathlib.Path) -> Any:
    from ltjax.serving.loading import read_facts, read_inputs

    return read_inputs(file.parent, read_facts(file.parent))


def _read_config(file: pathlib.Path) -> Any:
    from ltjax.train.restore import read_config

    return read_config(file.parent).batch_size


def _read_checksums(file: pathlib.Path) -> Any:
    from ltjax.train.integrity import check_files

    return check_files(file.parent, 3)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: of the file that is damaged.
        write: makes it, and what belongs to it.
        read: from its path.
        told: words of which a refusal has to hold one; the file's name.
        json: whether values in it may be exchanged too.
    """

    name: str
    write: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], Any]
    told: tuple[str, ...] = ()
    json: bool = False


IMAGES = ("png", "jpg", "bmp", "gif", "tif", "webp", "ppm")
KINDS: Mapping[str, Kind] = {
    "npz": Kind("data.npz", _npz, _read_npz),
    "npz of words": Kind("words.npz", _npz_words, _read_npz),
    "npz of features": Kind("features.npz", _npz, _read_features),
    "npy": Kind("features.npy", _npy, _read_features),
    "csv": Kind("data.csv", _csv, _read_table),
    "csv of features": Kind("features.csv", _features, _read_features),
    "parquet": Kind("data.parquet", _parquet, _read_table),
    # An entry that leads to no image is told by the image and its place in the list.
    "list": Kind("list.txt", _list, _read_list, ("image ",)),
    **{
        suffix: Kind(f"class/image.{suffix}", _image, _read_images, ("image files",))
        for suffix in IMAGES
    },
    "run.json": Kind("run.json", _run, _read_run, json=True),
    "run.json, loaded": Kind("run.json", _run, _read_facts, json=True),
    # A fault of a config names its option.
    "config.json": Kind("config.json", _run, _read_config, ("config.",), json=True),
    "metrics.jsonl": Kind("metrics.jsonl", _run, _read_run, json=True),
    "evaluation": Kind("evaluation/test_4.npz", _run, _read_run),
    "checksums.json": Kind("checksums.json", _checksums, _read_checksums, ("check",)),
}


class Damage(NamedTuple):
    """An example.

    Attributes:
        kind: of `KINDS`.
        edits: (what, where in [0, 1), a number), one after the other.
    """

    kind: str
    edits: tuple[tuple[str, float, int], ...]


# Words that mean something to a parser.
TOKENS = (
    *(b"nan", b"1e999", b"-1", b"\0", b'"', b"\n", b",", b"\t", b" ", b"{", b"["),
    *(b"\xff\xfe", b"\xe2\x80\xa8", b"../", b"18446744073709551617"),
    *(b"9" * 5000, b"[" * 100_000),
)
VALUES = (
    *(None, True, -1, 0, 1.5, 10**30, float("inf"), float("nan"), "", "x", "-1"),
    *([], {}, [[1]], [None], {"a": 1}, ["a", "b", "c"], 2**31),
)


def _flip(data: bytearray, at: int, number: int) -> None:
    data[at] ^= 1 << number % 8


def _cut(data: bytearray, at: int, number: int) -> None:
    del data[at:]


def _remove(data: bytearray, at: int, number: int) -> None:
    del data[at : at + 1 + number % 64]


def _zero(data: bytearray, at: int, number: int) -> None:
    stop = min(at + 1 + number % 64, len(data))
    data[at:stop] = bytes(stop - at)


def _largest(data: bytearray, at: int, number: int) -> None:
    width, last = (1, 2, 4, 8)[number % 4], b"\x7f" if number % 8 < 4 else b"\xff"
    data[at : at + width] = b"\xff" * (width - 1) + last


def _insert(data: bytearray, at: int, number: int) -> None:
    data[at:at] = TOKENS[number % len(TOKENS)]


def _repeat(data: bytearray, at: int, number: int) -> None:
    data[at:at] = data[max(at - number, 0) : at]


def _append(data: bytearray, at: int, number: int) -> None:
    data += bytes(range(256)) * (number % 5)


EDITS: Mapping[str, Callable[[bytearray, int, int], None]] = {
    "flip": _flip,
    "cut": _cut,
    "remove": _remove,
    "zero": _zero,
    "largest": _largest,
    "insert": _insert,
    "repeat": _repeat,
    "append": _append,
}
EXCHANGE = "exchange"


def _exchanged(text: str, where: float, number: int) -> str:
    """JSON without its seal and with one value exchanged or taken out."""
    lines = text.splitlines(keepends=True) if "\n{" in text else [text]
    line = int(where * len(lines)) if len(lines) > 1 else 0
    try:
        root = json.loads(lines[line])
    except (ValueError, RecursionError):
        return text
    if not isinstance(root, dict):
        return text
    root.pop("crc32", None)
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            places.append((node, key))
            if isinstance(value, (dict, list)):
                visit(value)

    visit(root)
    if places:
        node, key = places[int(where * 7919) % len(places)]
        if number % (len(VALUES) + 1) == len(VALUES):
            del node[key]
        else:
            node[key] = copy.deepcopy(VALUES[number % (len(VALUES) + 1)])
    lines[line] = json.dumps(root) + "\n"
    return "".join(lines)


def apply(damage: Damage, whole: bytes) -> bytes:
    """The content of a file after its damage."""
    data = bytearray(whole)
    for what, where, number in damage.edits:
        if what == EXCHANGE:
            text = data.decode("utf-8", errors="replace")
            data = bytearray(_exchanged(text, where, number).encode())
        elif data or what in ("insert", "append"):
            EDITS[what](data, int(where * len(data)), number)
    return bytes(data)


@st.composite
def damages(draw: Any, kinds: tuple[str, ...] = tuple(KINDS)) -> Damage:
    """Files with one to three things wrong."""
    kind = draw(st.sampled_from(kinds))
    known = (*EDITS, *((EXCHANGE,) * 8 if KINDS[kind].json else ()))
    where = st.integers(0, 9999).map(lambda x: x / 10_000)
    one = st.tuples(st.sampled_from(known), where, st.integers(0, 255))
    return Damage(kind, tuple(draw(st.lists(one, min_size=1, max_size=3))))


@functools.cache
def _whole(kind: str) -> tuple[tempfile.TemporaryDirectory, pathlib.Path, bytes]:
    """A folder with a file of a kind, which is damaged in place."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    file = pathlib.Path(folder.name, KINDS[kind].name)
    file.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind].write(file)
    with bounded():
        KINDS[kind].read(file)
    return folder, file, file.read_bytes()


@contextlib.contextmanager
def bounded(memory: int = MEMORY) -> Iterator[None]:
    """Inside, this process gets that much more memory and then a MemoryError."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not on this system
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def check(damage: Damage) -> str:
    """What became of reading a damaged file.

    Raises:
        Unexplained: if it was refused in another way than it should be.
    """
    kind = KINDS[damage.kind]
    _, file, whole = _whole(damage.kind)
    return read_damaged(kind, file, apply(damage, whole), whole, str(damage))


def read_damaged(
    kind: Kind, file: pathlib.Path, content: bytes, whole: bytes, said: str = ""
) -> str:
    """What became of reading a file with other content.

    Args:
        kind: of the file.
        file: that is written and put right again.
        content: that is read.
        whole: what the file holds otherwise.
        said: where it came from, for messages.

    Raises:
        Unexplained: see `check`.
    """
    from ltjax.options import ConfigError

    file.write_bytes(content)
    try:
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(file)
    except Exception as error:
        names = (file.name, *kind.told)
        why = explained(error, names, (ValueError, OSError, ConfigError))
        if why:
            raise Unexplained(f"{said}: {why}") from error
        return REFUSED
    finally:
        file.write_bytes(whole)
    return ANSWERED
