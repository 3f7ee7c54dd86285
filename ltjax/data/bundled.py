"""Small real data sets that come with scikit-learn, so that nothing is downloaded."""

import numpy as np

from ltjax._checks import check_choice, check_range
from ltjax.data.loading import array_source
from ltjax.data.readers import DataError
from ltjax.data.source import Source

BUNDLED = ("breast_cancer", "digits", "wine")


def bundled(
    name: str, *, test: bool = False, test_share: float = 0.3, seed: int = 0
) -> Source:
    """A part of a data set that is installed with scikit-learn.

    The test part takes the same share of every class. Tables of measurements are
    standardized by the training part; digits are images with pixels in [0, 1].

    Args:
        name: "breast_cancer" (569 x 30, two classes), "digits" (1797 images of 8 x 8,
            ten classes) or "wine" (178 x 13, three classes).
        test: whether it is the test part.
        test_share: of each class, in (0, 1).
        seed: of the parts.

    Returns:
        `Source` of float32 rows [D], or images [8, 8, 1].

    Raises:
        ValueError: for another name, or a share out of range.
        DataError: if scikit-learn is not installed.

    Example:
        >>> source = bundled("breast_cancer")
        >>> source.shape, source.class_counts.tolist(), source.class_names
        ((30,), [148, 250], ('malignant', 'benign'))
    """
    check_choice("bundled", "name", name, BUNDLED)
    check_range("bundled", "test_share", test_share, low=0, high=1, open_low=True)
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise DataError(
            f"{name} comes with scikit-learn: pip install 'ltjax[sklearn]'"
        ) from error
    stored = getattr(datasets, f"load_{name}")()
    labels = np.asarray(stored.target, np.int32)
    drawn = np.random.default_rng(seed).permutation(labels.size)
    held = np.zeros(labels.size, bool)
    for k in np.unique(labels):
        members = drawn[labels[drawn] == k]
        held[members[: round(test_share * members.size)]] = True
    if name == "digits":
        inputs = np.asarray(stored.images, np.float32)[..., None] / 16
    else:
        known = np.asarray(stored.data, np.float64)[~held]
        inputs = (stored.data - known.mean(0)) / known.std(0)
    whole = array_source(
        inputs.astype(np.float32),
        labels,
        num_classes=len(stored.target_names),
        name=name,
        split="test" if test else "train",
        class_names=tuple(map(str, stored.target_names)),
    )
    return whole.select(np.flatnonzero(held == test))
