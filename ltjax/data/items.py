"""Examples in memory: arrays, data frames, and data sets that are read item by item.

A data set is anything with `__len__` and `__getitem__`, whose items are (x, y) or dicts
with an image and a label, as those of torchvision and of Hugging Face are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltjax.data.arrays import array_contents
from ltjax.data.class_labels import encode_labels
from ltjax.data.readers import (
    Contents,
    DataError,
    Sizing,
    size_image,
    stack_images,
)

INPUT_KEYS = ("image", "img", "images", "inputs", "input", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "class", "y")
# Rows of fewer numbers are taken for the channels of a signal.
_SMALLEST_SIDE = 8


@dataclasses.dataclass(frozen=True, eq=False)
class ItemReader:
    """Inputs of a data set's items, read when they are asked for.

    Attributes:
        dataset: with `__getitem__`.
        key: of the input in an item: a position, or the key of a dict.
        sizing: of PIL images.
    """

    dataset: Any
    key: Any
    sizing: Sizing

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The inputs at `positions`."""
        inputs = [self._read(int(i)) for i in positions]
        return stack_images(inputs, "items of the data set", "image_size")

    def _read(self, position: int) -> np.ndarray:
        found = self.dataset[position][self.key]
        if _is_pil(found):
            try:
                return size_image(found, self.sizing)
            except DataError as error:
                raise DataError(f"item {position} {error}") from error
        return _as_input(np.asarray(found))


def pair_contents(
    caller: str, inputs: Any, labels: Any, names: tuple[str, ...] | None = None
) -> Contents:
    """Contents of arrays, with labels of any kind.

    Args:
        caller: whose they are, for messages.
        inputs: [N, F] features, [N, H, W] gray or [N, H, W, C] images, [N, L, C]
            signals. Integers are taken for pixels if they are images, in [0, 255].
        labels: [N], see `encode_labels`; None, NaN or "" where there is none.
        names: of the classes of the training data.

    Returns:
        Contents held in memory.

    Raises:
        DataError: if lengths differ, or a number is not finite or no pixel.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as frames and R have it
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{caller}: labels have shape {labels.shape}, expected one class per"
            " example, [N]"
        )
    if inputs.ndim < 2 or len(inputs) != len(labels):
        raise DataError(
            f"{caller}: inputs have shape {inputs.shape} and labels {labels.shape},"
            " expected [N, ...] and [N]"
        )
    if inputs.dtype.kind not in "biuf":
        raise DataError(f"{caller}: inputs have dtype {inputs.dtype}, expected numbers")
    numbers, names = encode_labels(f"{caller}, labels", labels, names, unlabelled=True)
    if inputs.ndim > 2 and inputs.dtype.kind in "iu" and inputs.dtype != np.uint8:
        low, high = inputs.min(), inputs.max()
        if low < 0 or high > 255:
            raise DataError(
                f"{caller}: inputs are integers from {low} to {high}, expected pixels"
                " in [0, 255], or floating point"
            )
        inputs = inputs.astype(np.uint8)
    elif inputs.dtype != np.uint8 or inputs.ndim == 2:
        inputs = inputs.astype(np.float32)
    if inputs.ndim == 3 and min(inputs.shape[1:]) >= _SMALLEST_SIDE:
        inputs = inputs[..., None]
    found = array_contents(caller, inputs, numbers, len(names))
    return found._replace(class_names=names)


def item_contents(
    caller: str,
    dataset: Any,
    names: tuple[str, ...] | None = None,
    *,
    sizing: Sizing | None = None,
) -> Contents:
    """Contents of a data set with `__len__` and `__getitem__`; inputs are read late.

    Args:
        caller: whose it is, for messages.
        dataset: of items (x, y) or dicts. x is a PIL image, or an array: [F], [H, W],
            [H, W, C] or, as torch has images, [C, H, W].
        names: of the classes of the training data. Otherwise `dataset.classes` or the
            names of a Hugging Face feature are used, if there are any.
        sizing: of PIL images.

    Returns:
        Contents of which only the labels are in memory.

    Raises:
        DataError: if items are neither of the two, or an input has no fixed size.
    """
    if len(dataset) == 0:
        raise DataError(f"{caller}: the data set has no items")
    input_key, label_key = _keys(caller, dataset[0])
    values, known = _labels(dataset, label_key), _names(dataset, label_key)
    whole = [type(v) is not bool and isinstance(v, (int, np.integer)) for v in values]
    if known and all(whole):
        outside = [v for v in values if not 0 <= v < len(known)]
        if outside:
            raise DataError(
                f"{caller}: a label is {outside[0]}, expected [0, {len(known)}), for"
                f" the classes are named {known[:5]}..."
            )
        values = [known[v] for v in values]
        # In the data set's own order, as far as it has examples.
        present = set(values)
        names = names or tuple(name for name in known if name in present)
    labels, names = encode_labels(f"{caller}, labels", values, names)
    reader = ItemReader(dataset, input_key, sizing or Sizing())
    first = reader(np.array([0]))
    return Contents(
        labels, reader, first.shape[1:], first.dtype, len(names), tuple(names)
    )


def _keys(caller: str, item: Any) -> tuple[Any, Any]:
    """(where the input is in an item, where the label is)."""
    if isinstance(item, (tuple, list)):
        if len(item) >= 2:
            return 0, 1
    elif hasattr(item, "keys"):
        keys = list(item.keys())
        inputs = [key for key in INPUT_KEYS if key in keys]
        labels = [key for key in LABEL_KEYS if key in keys]
        if inputs and labels:
            return inputs[0], labels[0]
        raise DataError(
            f"{caller}: an item has the keys {keys}, expected an input called"
            f" {', '.join(INPUT_KEYS)} and a label called {', '.join(LABEL_KEYS)}"
        )
    raise DataError(
        f"{caller}: an item is a {type(item).__name__}, expected (x, y) or a dict with"
        " 'image' and 'label'"
    )


def _labels(dataset: Any, key: Any) -> Sequence[Any]:
    """All labels, without reading the inputs where the data set allows it."""
    count = len(dataset)
    listed = None
    if isinstance(key, str) and hasattr(dataset, "features"):  # columns of Hugging Face
        listed = dataset[key]
    elif hasattr(dataset, "targets"):
        listed = dataset.targets
    if listed is not None and len(listed) == count:
        return np.asarray(listed).tolist()
    return [_scalar(dataset[i][key]) for i in range(count)]


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _names(dataset: Any, key: Any) -> list[str]:
    """Names of the classes, if the data set has them."""
    found = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if isinstance(key, str) and hasattr(features, "get"):
        found = getattr(features.get(key), "names", found)  # pyright: ignore
    return [str(name) for name in found] if found else []


def _is_pil(value: Any) -> bool:
    return type(value).__module__.startswith("PIL.")


def _as_input(value: np.ndarray) -> np.ndarray:
    """An array as an input: channels last, float32 unless it is uint8."""
    if value.dtype.kind not in "biuf":
        raise DataError(
            f"an input of the data set has dtype {value.dtype}, expected an image or"
            " numbers"
        )
    if value.dtype != np.uint8:
        value = value.astype(np.float32)
    if value.ndim == 2 and min(value.shape) >= _SMALLEST_SIDE:
        return value[..., None]
    # As torchvision's ToTensor leaves images.
    if value.ndim == 3 and value.shape[0] in (1, 3) and value.shape[2] > 4:
        return np.moveaxis(value, 0, -1)
    return value
