"""Columns of result tables: a metric with its title and its definition."""

from typing import NamedTuple


class Column(NamedTuple):
    """One metric of the tables.

    Attributes:
        key: name of the metric, below "eval/<split>/".
        title: of the column.
        best: "max" or "min", which end is better.
        meaning: for the legend.
        percent: whether it is shown in percent.
        brief: its name on the console; "" if it does not appear there.
    """

    key: str
    title: str
    best: str
    meaning: str
    percent: bool = True
    brief: str = ""


CLASSIFICATION = (
    Column(
        "balanced_accuracy",
        "All",
        "max",
        "balanced accuracy, the mean recall",
        brief="bal",
    ),
    Column("many", "Many", "max", "mean recall of the many-shot classes"),
    Column("medium", "Medium", "max", "mean recall of the medium-shot classes"),
    Column("few", "Few", "max", "mean recall of the few-shot classes", brief="few"),
    Column("worst", "Worst", "max", "smallest recall of any class", brief="worst"),
    Column("g_mean", "G-mean", "max", "geometric mean of the recalls"),
    Column("ece", "ECE", "min", "expected calibration error, 15 bins; lower is better"),
)
