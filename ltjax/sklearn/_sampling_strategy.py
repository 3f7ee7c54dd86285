"""The `sampling_strategy` grammar of imbalanced-learn."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import cast

import numpy as np

Strategy = str | float | dict | Callable

# Of over-sampling; under-sampling has "majority" in place of "minority".
NAMES = ("auto", "all", "minority", "not minority", "not majority")
UNDER_NAMES = ("auto", "all", "majority", "not minority", "not majority")


def new_points_per_class(strategy: Strategy, y: np.ndarray, caller: str) -> dict:
    """Number of new points of each class that the strategy names, sorted by class.

    A name says which classes are filled to the size of the largest: "not majority"
    ("auto") all but the first largest, "minority" the first smallest only, "not
    minority" all but that one, "all" all of them. A float is the ratio of the two
    classes of a binary problem afterwards, rounded down. A dict gives the *total* size
    of the classes that it names, and a callable makes such a dict from y.
    """
    size = _sizes(y, caller)
    if isinstance(strategy, str):
        chosen = _chosen(strategy, size, NAMES, caller)
        largest = max(size.values())
        return {label: largest - size[label] for label in chosen}
    if callable(strategy):
        strategy = strategy(y)
    if isinstance(strategy, dict):
        totals = _totals(strategy, size, caller)
        for label, total in totals.items():
            if total < size[label]:
                raise ValueError(
                    f"{caller}: sampling_strategy asks for {total} examples of class"
                    f" {label!r}, expected an integer of at least the {size[label]}"
                    " that there are"
                )
        return {label: total - size[label] for label, total in totals.items()}
    ratio, majority, minority = _ratio(strategy, size, NAMES, caller)
    total = int(ratio * size[majority])
    if total <= size[minority]:
        raise ValueError(
            f"{caller}: sampling_strategy={strategy} asks for {total} examples of"
            f" class {minority!r}, which has {size[minority]} already"
        )
    return {minority: total - size[minority]}


def kept_per_class(strategy: Strategy, y: np.ndarray, caller: str) -> dict:
    """Number of examples to keep of each class that the strategy names, by class.

    A name says which classes are cut to the size of the smallest: "not minority"
    ("auto") all but the first smallest, "majority" the first largest only, "not
    majority" all but that one, "all" all of them. A float is the ratio of the two
    classes of a binary problem afterwards, rounded down. A dict gives the size of the
    classes that it names, and a callable makes such a dict from y.
    """
    size = _sizes(y, caller)
    if isinstance(strategy, str):
        chosen = _chosen(strategy, size, UNDER_NAMES, caller)
        return dict.fromkeys(chosen, min(size.values()))
    if callable(strategy):
        strategy = strategy(y)
    if isinstance(strategy, dict):
        totals = _totals(strategy, size, caller)
        for label, total in totals.items():
            if not 0 <= total <= size[label]:
                raise ValueError(
                    f"{caller}: sampling_strategy asks for {total} examples of class"
                    f" {label!r}, expected an integer in [0, {size[label]}], as many as"
                    " there are"
                )
        return totals
    ratio, majority, minority = _ratio(strategy, size, UNDER_NAMES, caller)
    total = int(size[minority] / ratio)
    if total > size[majority]:
        raise ValueError(
            f"{caller}: sampling_strategy={strategy} asks for {total} examples of"
            f" class {majority!r}, which has only {size[majority]}"
        )
    return {majority: total}


def _sizes(y: np.ndarray, caller: str) -> dict:
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"{caller}: the target y needs to have more than 1 class, got"
            f" {classes.tolist()}"
        )
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def _chosen(name: str, size: dict, names: tuple[str, ...], caller: str) -> list:
    """The classes that a name stands for, sorted."""
    if name not in names:
        other = "over" if name == "minority" else "under"
        hint = f" (that is for {other}-sampling)" if name in NAMES + UNDER_NAMES else ""
        raise ValueError(
            f"{caller}: sampling_strategy is {name!r}{hint}, expected one of"
            f" {list(names)}"
        )
    majority = max(size, key=lambda label: size[label])
    minority = min(size, key=lambda label: size[label])
    auto = majority if names is NAMES else minority
    left_out = {"all": [], "auto": [auto], "not minority": [minority]}
    left_out["not majority"] = [majority]
    if name in left_out:
        return [label for label in size if label not in left_out[name]]
    return [minority if name == "minority" else majority]


def _ratio(strategy, size: dict, names: tuple[str, ...], caller: str):
    """A ratio, the majority and the minority of a binary problem."""
    if not isinstance(strategy, Real) or isinstance(strategy, bool):
        raise TypeError(
            f"{caller}: sampling_strategy is {strategy!r}, expected one of"
            f" {list(names)}, a float, a dict or a callable"
        )
    if len(size) > 2:
        raise ValueError(
            f"{caller}: sampling_strategy={strategy} is a ratio, which needs two"
            f" classes, but y has {len(size)}; use a dict"
        )
    ratio = cast(float, strategy)  # numbers.Real has no arithmetic in its stub
    if not 0 < ratio <= 1:
        raise ValueError(
            f"{caller}: sampling_strategy={strategy}, expected a ratio in (0, 1]"
        )
    majority = max(size, key=lambda label: size[label])
    (minority,) = (label for label in size if label != majority)
    return ratio, majority, minority


def _totals(totals: dict, size: dict, caller: str) -> dict:
    """The sizes of a dict, checked to be integers of classes that exist, sorted."""
    unknown = set(totals) - set(size)
    if unknown:
        raise ValueError(
            f"{caller}: sampling_strategy names {sorted(unknown, key=str)}, but y has"
            f" the classes {list(size)}"
        )
    for label, total in totals.items():
        if not isinstance(total, Integral):
            raise ValueError(
                f"{caller}: sampling_strategy asks for {total} examples of class"
                f" {label!r}, expected an integer"
            )
    return {label: int(totals[label]) for label in size if label in totals}
