"""The `sampling_strategy` grammar of imbalanced-learn, for over-sampling."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import cast

import numpy as np

NAMES = ("auto", "all", "minority", "not minority", "not majority")


def new_points_per_class(
    strategy: str | float | dict | Callable, y: np.ndarray
) -> dict:
    """Number of new points of each class that the strategy names, sorted by class.

    A name says which classes are filled to the size of the largest: "not majority"
    ("auto") all but the first largest, "minority" the first smallest only, "not
    minority" all but that one, "all" all of them. A float is the ratio of the two
    classes of a binary problem afterwards, rounded down. A dict gives the *total* size
    of the classes that it names, and a callable makes such a dict from y.
    """
    classes, counts = np.unique(y, return_counts=True)
    classes, counts = classes.tolist(), counts.tolist()
    if len(classes) < 2:
        raise ValueError(
            f"SMOTE: the target y needs to have more than 1 class, got {classes}"
        )
    size = dict(zip(classes, counts, strict=True))
    largest = max(counts)
    if isinstance(strategy, str):
        return _named(strategy, size)
    if callable(strategy):
        strategy = strategy(y)
    if isinstance(strategy, dict):
        return _totals(strategy, size)
    if isinstance(strategy, Real) and not isinstance(strategy, bool):
        if len(classes) > 2:
            raise ValueError(
                f"SMOTE: sampling_strategy={strategy} is a ratio, which needs two"
                f" classes, but y has {len(classes)}; use a dict"
            )
        ratio = cast(float, strategy)  # numbers.Real has no arithmetic in its stub
        if not 0 < ratio <= 1:
            raise ValueError(
                f"SMOTE: sampling_strategy={strategy}, expected a ratio in (0, 1]"
            )
        majority = classes[counts.index(largest)]
        (minority,) = (label for label in classes if label != majority)
        total = int(ratio * largest)
        if total <= size[minority]:
            raise ValueError(
                f"SMOTE: sampling_strategy={strategy} asks for {total} examples of"
                f" class {minority!r}, which has {size[minority]} already"
            )
        return {minority: total - size[minority]}
    raise TypeError(
        f"SMOTE: sampling_strategy is {strategy!r}, expected one of {list(NAMES)}, a"
        " float, a dict or a callable"
    )


def _named(name: str, size: dict) -> dict:
    if name not in NAMES:
        hint = " (that is for under-sampling)" if name == "majority" else ""
        raise ValueError(
            f"SMOTE: sampling_strategy is {name!r}{hint}, expected one of {list(NAMES)}"
        )
    majority = max(size, key=lambda label: size[label])
    minority = min(size, key=lambda label: size[label])
    chosen = {
        "all": set(size),
        "minority": {minority},
        "not minority": set(size) - {minority},
        "not majority": set(size) - {majority},
        "auto": set(size) - {majority},
    }[name]
    return {label: size[majority] - size[label] for label in size if label in chosen}


def _totals(totals: dict, size: dict) -> dict:
    unknown = set(totals) - set(size)
    if unknown:
        raise ValueError(
            f"SMOTE: sampling_strategy names {sorted(unknown, key=str)}, but y has the"
            f" classes {list(size)}"
        )
    for label, total in totals.items():
        if not isinstance(total, Integral) or total < size[label]:
            raise ValueError(
                f"SMOTE: sampling_strategy asks for {total} examples of class"
                f" {label!r}, expected an integer of at least the {size[label]} that"
                " there are"
            )
    return {
        label: int(totals[label] - size[label]) for label in size if label in totals
    }
