"""What training cost: steps, passes through the network, time."""

from typing import NamedTuple

import numpy as np

from ltjax.report.runs import Run


class Cost(NamedTuple):
    """The cost of a run; None where its logs do not say.

    Attributes:
        steps: trained.
        passes: forward and backward passes of a step, its mean over training. A
            perturbed term counts as a whole one, even if it sees some rows only.
        seconds: of training, all replicas of the workdir side by side.
        step: milliseconds of a step.
    """

    steps: int
    passes: float | None
    seconds: float | None
    step: float | None


def cost_of(run: Run) -> Cost:
    """The cost of a run, from its logs.

    Args:
        run: from `ltjax.report.reading.read_run`.

    Returns:
        The Cost.
    """
    _, passes = run.curve("train/passes")
    known = passes[np.isfinite(passes)]
    seconds = None if run.hours is None else 3600 * run.hours
    return Cost(
        steps=run.step,
        passes=float(known.mean()) if known.size else None,
        seconds=seconds,
        step=None if seconds is None or not run.step else 1000 * seconds / run.step,
    )


def duration_text(hours: float | None) -> str:
    """A duration in the unit that fits it, empty if unknown.

    Example:
        >>> [duration_text(hours) for hours in (0.0001, 0.005, 0.05, 0.25, 3.0)]
        ['0.4 s', '18 s', '3.0 min', '15 min', '3.0 h']
    """
    if hours is None:
        return ""
    seconds = 3600 * hours
    size, unit = (1, "s") if seconds < 90 else (60, "min")
    if hours >= 1.5:
        size, unit = 3600, "h"
    number = seconds / size
    return f"{number:.{0 if number >= 10 else 1}f} {unit}"
