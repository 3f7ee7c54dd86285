"""Rows of one seed each, and what holds from seed to seed.

All seeds of a setting share the long-tailed subset, so that two methods can be compared
seed by seed: a difference counts as one only if every seed shows it.
"""

import contextlib
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.grid import Point, mean_std, provenance_row
from ltjax.report.cells import markdown_grid

SEEDS = (0, 1, 2)
# Steps of one dispatch on an accelerator; durations are multiples of it.
STEPS_PER_CALL = 50


class Trained(NamedTuple):
    """A run, its result, and the minutes of all its stages; no result: it diverged."""

    run: Any
    result: Any
    minutes: float


def train_seeds(config: Any) -> Trained:
    """Trains every stage of a config, in a folder that is gone afterwards.

    Args:
        config: a ConfigDict with the seeds as replicas.

    Returns:
        `Trained`, of the last stage.
    """
    import jax

    from ltjax.train.build import build
    from ltjax.train.loop import run
    from ltjax.train.records import NonFinite
    from ltjax.train.stages import check_stages

    started = time.perf_counter()
    if jax.default_backend() != "cpu":
        config.steps_per_call = STEPS_PER_CALL
    config.log_every = config.eval_every = config.checkpoint_every = "100%"
    built = result = None
    with tempfile.TemporaryDirectory() as nowhere:
        for stage in check_stages(config):
            built = build(stage.config)
            place = pathlib.Path(nowhere, stage.folder)
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
                try:
                    result = run(built, place, tensorboard=False)
                except NonFinite:
                    result = None
                    break
    return Trained(built, result, (time.perf_counter() - started) / 60)


def seed_rows(
    point: Point, trained: Trained, values: Mapping[str, np.ndarray]
) -> list[dict[str, str]]:
    """A row for every seed.

    Args:
        point: whose key leads the rows.
        trained: what was run.
        values: column -> fractions [R], shown in percent.

    Returns:
        Rows with the key, "seed", the columns and what produced them.
    """
    rows = []
    for r, replica in enumerate(trained.run.info.replicas):
        row = {name: str(value) for name, value in point.key.items()}
        row["seed"] = str(replica["seed"])
        row |= {name: f"{100 * value[r]:.2f}" for name, value in values.items()}
        made = provenance_row(
            trained.run, point.command, seeds=(), minutes=trained.minutes
        )
        del made["seeds"]
        rows.append(row | made)
    return rows


def by_seed(
    rows: Sequence[Mapping[str, str]], key: Mapping[str, str], metric: str
) -> dict[str, float]:
    """Seed -> metric of the rows with this key; the last row of a seed counts."""
    return {
        row["seed"]: float(row[metric]) for row in rows if key.items() <= row.items()
    }


def cell(rows: Sequence[Mapping[str, str]], key: Mapping[str, str], metric: str) -> str:
    """ "mean ± std" over seeds, an en dash where there is nothing to show."""
    values = np.asarray(list(by_seed(rows, key, metric).values()))
    if not values.size:
        return mean_std(np.nan, np.nan)
    spread = values.std(ddof=1) if values.size > 1 else np.nan
    return mean_std(float(values.mean()), float(spread))


class Claim(NamedTuple):
    """A published ordering: `better` is above `worse` in `metric`.

    Attributes:
        text: how a table says it.
        setting: where.
        better: column -> value of the rows that should be above.
        worse: likewise, below.
        metric: a column.
    """

    text: str
    setting: str
    better: Mapping[str, str]
    worse: Mapping[str, str]
    metric: str = "balanced_accuracy"


VERDICTS = ("holds", "reversed", "open")


def differences(rows: Sequence[Mapping[str, str]], claim: Claim) -> np.ndarray:
    """Better minus worse for every seed that both sides have; may be empty."""
    above = by_seed(rows, claim.better, claim.metric)
    below = by_seed(rows, claim.worse, claim.metric)
    return np.asarray([above[seed] - below[seed] for seed in above if seed in below])


def verdict(found: np.ndarray) -> str:
    """ "holds" or "reversed" if every seed says so (two at least), else "open"."""
    if len(found) > 1 and (found > 0).all():
        return "holds"
    if len(found) > 1 and (found < 0).all():
        return "reversed"
    return "open"


def claims_table(
    rows: Sequence[Mapping[str, str]],
    claims: Sequence[Claim],
    *,
    kind: str = "published ordering",
) -> str:
    """What became of the published orderings: a sentence and a table.

    Args:
        rows: of `seed_rows`.
        claims: those without rows on both sides are left out.
        kind: what the claims are called, in the singular.

    Returns:
        Markdown.
    """
    lines, counts = [], dict.fromkeys(VERDICTS, 0)
    for claim in claims:
        found = differences(rows, claim)
        if not found.size:
            continue
        told = verdict(found)
        counts[told] += 1
        spread = found.std(ddof=1) if found.size > 1 else np.nan
        difference = mean_std(float(found.mean()), float(spread))
        what = claim.metric.replace("_", " ")
        lines.append([claim.text, claim.setting, what, difference, told])
    if not lines:
        return "No rows yet."
    head = [kind, "setting", "of", "difference", "here"]
    return (
        f"Of {_counted(len(lines), kind, f'{kind}s')},"
        f" {_counted(counts['holds'], 'holds', 'hold')} in every seed,"
        f" {_counted(counts['reversed'], 'is', 'are')} reversed in every seed, and"
        f" {_counted(counts['open'], 'is', 'are')} open.\n\n"
        + markdown_grid(head, lines, align="lllrl")
    )


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
