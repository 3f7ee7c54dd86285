"""Class labels as people have them, words or numbers, as 0 ... K - 1 with names."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltjax.data.readers import DataError
from ltjax.options import nearest

_LONGEST = 1000  # characters of a class's name


def natural_key(text: str) -> tuple:
    """Sorts numbers within names by value: "class2" comes before "class10".

    Letters are compared without regard to case first, so that the order is the same on
    every file system.

    Example:
        >>> sorted(["class10", "class2", "Class1"], key=natural_key)
        ['Class1', 'class2', 'class10']
    """
    parts = re.split(r"(\d+)", text.casefold())
    # Odd places hold digits, even ones the text between them.
    return tuple(int(p) if k % 2 else p for k, p in enumerate(parts)), text


def encode_labels(
    caller: str,
    values: Sequence[Any] | np.ndarray,
    names: tuple[str, ...] | None = None,
    *,
    unlabelled: bool = False,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers the classes: words in natural order, numbers by value.

    Args:
        caller: whose labels these are, for messages.
        values: N words, integers, booleans, or floats without a fraction.
        names: those of the training data, which number the classes of other data.
        unlabelled: whether a label may be missing: it is -1 then.

    Returns:
        (labels int32 [N], the names of the K classes).

    Raises:
        DataError: if a label is missing or a fraction, most labels are different, so
            that they are no classes, or a label is not one of `names`.

    Example:
        >>> labels, names = encode_labels("example", ["cat", "ant", "cat"])
        >>> labels.tolist(), names
        ([1, 0, 1], ('ant', 'cat'))
    """
    if len(values) == 0:
        raise DataError(f"{caller}: there are no labels, expected one per example")
    words = [_word(caller, row, value) for row, value in enumerate(values)]
    missing = [row for row, word in enumerate(words) if not word]
    if missing and (not unlabelled or len(missing) == len(words)):
        raise DataError(
            f"{caller}: label {missing[0]} is missing; drop the row or name its class"
        )
    if names is None:
        distinct = set(filter(None, words))
        if len(words) > 4 and len(distinct) > len(words) / 2:
            raise DataError(
                f"{caller}: {len(words)} labels hold {len(distinct)} different ones,"
                f" such as {words[0]!r}; expected classes, which repeat"
            )
        key = int if all(map(_is_whole, distinct)) else natural_key
        names = tuple(sorted(distinct, key=key))
    number = {"": -1} | {name: k for k, name in enumerate(names)}
    for row, word in enumerate(words):
        if word not in number:
            raise DataError(
                f"{caller}: label {row} is {word!r}, which no training example"
                f" has{nearest(word, names[:30])}"
            )
    return np.array([number[word] for word in words], np.int32), names


def _is_whole(word: str) -> bool:
    return re.fullmatch(r"-?\d+", word) is not None


def _word(caller: str, row: int, value: Any) -> str:
    """The name of a label, "" if it is missing: whole numbers as integers."""
    if isinstance(value, (bytes, np.bytes_)):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        word = value.strip()
    elif value is None or value != value:
        word = ""
    elif isinstance(value, (bool, np.bool_)):
        word = str(bool(value)).lower()
    elif isinstance(value, (int, np.integer)):
        word = str(int(value))
    elif isinstance(value, (float, np.floating)):
        if not float(value).is_integer():
            raise DataError(
                f"{caller}: label {row} is {value}, expected a class: a word or an"
                " integer"
            )
        word = str(int(value))
    else:  # a date, a category, ...
        word = str(value)
    if len(word) > _LONGEST:
        raise DataError(
            f"{caller}: label {row} has {len(word)} characters, expected a class: a"
            " word or an integer"
        )
    return word
