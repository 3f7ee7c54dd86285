"""What all data sets share: options, what is known of them, what is refused."""

import dataclasses
from typing import NamedTuple

from ltjax.data.corruptions import CORRUPTIONS
from ltjax.options import nearest, option

PROFILES = ("exp", "step", "pareto", "balanced", "counts", "none")


class DataFacts(NamedTuple):
    """What is known of a data set before it is opened.

    Attributes:
        columns: that it brings along.
        modalities: names of its inputs, if they are a dict.
        hidden: whether the method is not given the labels themselves.
    """

    columns: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Shared by all data sets."""

    data_dir: str = option("", "folder of the data; '' = LTJAX_DATA_DIR")
    train_split: str = option("train", "name of the training split")
    test_split: str = option("test", "name of the split to report on")
    val_split: str = option("", "evaluated as 'val' beside the test split; '' = none")
    holdout: float = option(
        0.0, "share of each training class set aside as 'val'", low=0, below=1
    )
    profile: str = option("exp", "of the long-tailed subset", choices=PROFILES)
    imbalance_factor: float = option(100.0, "n_max / n_min of the subset", low=1)
    max_count: int = option(
        0, "examples of the largest class; 0 = those of the smallest one", low=0
    )
    counts: tuple[int, ...] = option((), "with profile='counts'", low=0)
    positive_from: int = option(
        0,
        "two classes: those from this one on, and the others; 0 = as they are",
        low=0,
    )
    subset_seed: int = option(0, "of the subset", low=0, below=2**31)
    corruptions: tuple[str, ...] = option(
        (), "of the test images, evaluated as 'corrupted'; ('all',) = all that fit"
    )
    corrupted_images: int = option(
        1000, "test images that are corrupted, evenly spaced; 0 = all", low=0
    )
    feed: str = option(
        "resident",
        "data on the device, or read ahead",
        choices=("resident", "streaming"),
    )
    workers: int = option(
        0, "processes of the streaming feed; 0 = threads only", low=0, high=64
    )

    @property
    def has_validation(self) -> bool:
        """Whether there is a stored validation split."""
        return bool(self.val_split or getattr(self, "val_list", ""))


@dataclasses.dataclass(frozen=True)
class OwnDataOptions(DataOptions):
    """Shared by data that are used as they are, because they are imbalanced already."""

    profile: str = option("none", "of the long-tailed subset", choices=PROFILES)


def data_needs(options: DataOptions, config) -> list[str]:
    """Faults of a config's data that any kind of them can have."""
    faults = []
    if options.holdout and options.has_validation:
        faults.append(
            "config.data.holdout and config.data.val_split (or val_list) both make a"
            " split 'val', expected one of them"
        )
    if options.profile == "counts" and not options.counts:
        faults.append("config.data.counts is empty, but data.profile is 'counts'")
    if options.counts and options.profile != "counts":
        faults.append(
            f"config.data.counts is set, but data.profile is {options.profile!r},"
            " expected 'counts'"
        )
    for name in options.corruptions:
        if name not in ("all", *CORRUPTIONS):
            faults.append(
                f"config.data.corruptions has {name!r}, unknown"
                f"{nearest(name, ('all', *CORRUPTIONS))}"
            )
    return faults
