"""MNIST-1D: ten shapes drawn as signals of 40 samples, generated, never downloaded."""

import functools
import random
from typing import Any

import numpy as np

from ltjax.data.readers import ArrayReader, Contents

NUM_CLASSES = 10


def open_mnist1d(
    split: str,
    *,
    train_per_class: int = 2500,
    test_per_class: int = 500,
    seed: int = 42,
) -> Contents:
    """Opens MNIST-1D, generated with the default noise and deformations.

    The public generator makes `train_per_class + test_per_class` signals per class and
    standardizes them together; the last `test_per_class` of each class, in generated
    order, are the test split. Generation takes a few seconds and is kept in memory.

    Args:
        split: "train" or "test", both exactly balanced.
        train_per_class: examples per class of the training split.
        test_per_class: examples per class of the test split.
        seed: of the generator.

    Returns:
        Contents with inputs float32 [40, 1].

    Raises:
        ValueError: for another split or non-positive sizes.

    References:
        Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024. The
        published file has 4,000 + 1,000 examples, too few for a head class of 2,000.
    """
    if split not in ("train", "test"):
        raise ValueError(f"mnist1d: split is {split!r}, expected 'train' or 'test'")
    if train_per_class < 1 or test_per_class < 1:
        raise ValueError(
            f"mnist1d: train_per_class {train_per_class} and test_per_class"
            f" {test_per_class} must both be at least 1"
        )
    signals, labels = _generate(train_per_class + test_per_class, seed)
    # How many examples of the same class come before each one.
    rank = np.empty(labels.size, np.int64)
    for k in range(NUM_CLASSES):
        members = labels == k
        rank[members] = np.arange(members.sum())
    chosen = (rank < train_per_class) == (split == "train")
    return Contents(
        labels=labels[chosen],
        reader=ArrayReader(signals[chosen]),
        shape=signals.shape[1:],
        dtype=signals.dtype,
        num_classes=NUM_CLASSES,
        class_names=tuple(str(k) for k in range(NUM_CLASSES)),
    )


@functools.lru_cache(maxsize=4)
def _generate(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals float32 [N, 40, 1] and labels int32 [N], in shuffled order."""
    import mnist1d.data

    arguments: Any = mnist1d.data.get_dataset_args()
    arguments.num_samples = per_class * NUM_CLASSES
    arguments.train_split = 1.0  # we split by class ourselves
    arguments.seed = seed
    # The generator seeds and uses the global random states; put them back.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        generated = mnist1d.data.make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    signals = generated["x"].astype(np.float32)[..., None]
    labels = generated["y"].astype(np.int32)
    signals.setflags(write=False)
    labels.setflags(write=False)
    return signals, labels
