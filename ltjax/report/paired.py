"""Differences of methods by seed: which gaps exceed the noise of the seeds.

Two runs of one seed start alike and see the same batches, so that their difference has
less noise than either of them. Intervals are those of the paired t test.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ltjax.report.runs import Run

if TYPE_CHECKING:
    from ltjax.metrics.column import Column

LEVEL = 0.95


class Difference(NamedTuple):
    """A mean difference over seeds and its interval; None where it is unknown.

    Attributes:
        mean: of the differences.
        low: lower end of the interval; None for fewer than two common seeds.
        high: upper end.
        seeds: how many both have.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int

    @property
    def beyond(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and (self.low > 0 or self.high < 0)  # pyright: ignore[reportOptionalOperand]


def t_probability(t: float, freedom: int) -> float:
    """P(|T| < t) of Student's distribution.

    Args:
        t: >= 0.
        freedom: degrees of freedom, >= 1.

    Returns:
        The probability, from the finite series for whole degrees of freedom.

    Example:
        >>> round(t_probability(1.0, 1), 6), round(t_probability(4.302653, 2), 6)
        (0.5, 0.95)

    References:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and
        26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| < t) = level.

    Args:
        level: in (0, 1).
        freedom: degrees of freedom, >= 1.

    Returns:
        The quantile, to 1e-12 of itself.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> [round(t_quantile(0.95, n), 3) for n in (1, 2, 4)]
        [12.706, 4.303, 2.776]
    """
    if not 0 < level < 1:
        raise ValueError(f"t_quantile: level is {level}, expected one in (0, 1)")
    if freedom < 1:
        raise ValueError(f"t_quantile: freedom is {freedom}, expected at least 1")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < level:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if t_probability(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return high


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, level: float = LEVEL
) -> Difference:
    """Mean of ours - theirs with its t interval.

    Args:
        ours: [S] values, one per seed.
        theirs: [S], of the same seeds.
        level: of the interval.

    Returns:
        The Difference. A value that is not finite makes it unknown.

    Raises:
        ValueError: if the two differ in length.

    Example:
        >>> found = paired_difference([3.0, 5.0], [1.0, 1.0])
        >>> found.mean, round(found.low, 2), found.beyond
        (3.0, -9.71, False)
    """
    gaps = np.asarray(ours, float), np.asarray(theirs, float)
    if gaps[0].shape != gaps[1].shape or gaps[0].ndim != 1:
        raise ValueError(
            f"paired_difference: ours has shape {gaps[0].shape}, theirs"
            f" {gaps[1].shape}, expected two vectors of the same seeds"
        )
    gap = gaps[0] - gaps[1]
    if not gap.size or not np.isfinite(gap).all():
        return Difference(None, None, None, gap.size)
    mean = float(gap.mean())
    if gap.size < 2:
        return Difference(mean, None, None, 1)
    error = float(gap.std(ddof=1)) / math.sqrt(gap.size)
    reach = t_quantile(level, gap.size - 1) * error
    return Difference(mean, mean - reach, mean + reach, gap.size)


def run_differences(
    run: Run, baseline: Run, columns: Sequence["Column"], *, level: float = LEVEL
) -> list[Difference]:
    """The differences of two runs over the seeds that both have, a metric each.

    Args:
        run: whose gain is asked for.
        baseline: what it is compared with.
        columns: metrics, in percent where they say so.
        level: of the intervals.

    Returns:
        One Difference per column; unknown where one of the runs lacks the metric.
    """
    common = [seed for seed in run.seeds if seed in baseline.seeds]
    found = []
    for column in columns:
        values = []
        for one in (run, baseline):
            known = one.summary.get(column.key)
            if known is not None:
                at = [one.seeds.index(seed) for seed in common]
                values.append((100 if column.percent else 1) * known[at])
        if len(values) < 2:
            found.append(Difference(None, None, None, 0))
        else:
            found.append(paired_difference(*values, level=level))
    return found
