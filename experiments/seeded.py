"""Rows of one seed each, and what holds from seed to seed.

All seeds of a setting share the long-tailed subset, so that two methods can be compared
seed by seed: a difference counts as one only if every seed shows it.
"""

import contextlib
import importlib
import os
import pathlib
import shlex
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.grid import Point, mean_std, provenance_row
from ltjax.methods.presets import apply_changes
from ltjax.report.cells import markdown_grid

SEEDS = (0, 1, 2)
# Steps of one dispatch on an accelerator; durations are multiples of it.
STEPS_PER_CALL = 50


def shipped_point(
    key: Mapping[str, object],
    file: str,
    arg: str,
    changes: Mapping[str, Any] | None = None,
    *,
    smoke: bool,
    total: str,
) -> Point:
    """A point of a shipped config, with every seed.

    Args:
        key: see `Point`.
        file: of configs/, without its ending.
        arg: of the config.
        changes: options by dotted name; part of the point's command.
        smoke: whether it is a few steps of one seed.
        total: of the run otherwise.

    Returns:
        A `Point`, whose config may be changed further.
    """
    module = importlib.import_module(f"configs.{file}")
    config = module.get_config(f"{arg},smoke" if smoke else arg)
    apply_changes(config, changes or {})
    if not smoke:
        config.total, config.replicas.seeds = total, SEEDS
    options = [
        shlex.quote(f"--config.{path}={value}")
        for path, value in (changes or {}).items()
    ]
    return Point(key, config, " ".join([f"configs/{file}.py:{arg}", *options]))


def shipped_points(
    file: str,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    key: Mapping[str, object],
    arg: str,
    *,
    smoke: bool,
    total: str,
) -> list[Point]:
    """The points of a shipped config in one setting, one for each method.

    Args:
        file: see `shipped_point`.
        methods: name in the tables -> (method of the config, options by dotted name).
        key: of the setting.
        arg: of the config, beside the method.
        smoke: see `shipped_point`.
        total: see `shipped_point`.
    """
    return [
        shipped_point(
            {"method": name, **key},
            file,
            f"method={method},{arg}",
            changes,
            smoke=smoke,
            total=total,
        )
        for name, (method, changes) in methods.items()
    ]


class Trained(NamedTuple):
    """What came of a config, of its last stage.

    Attributes:
        run: as built.
        result: None if it diverged.
        minutes: of all stages.
        read: the finished run as reports read it, if it was evaluated repeatedly.
    """

    run: Any
    result: Any
    minutes: float
    read: Any = None

    def metric(self, name: str) -> np.ndarray:
        """A metric of the result, [R]; NaN where there is none."""
        lost = np.full(len(self.run.info.replicas), np.nan)
        found = self.result.metrics if self.result else {}
        return np.asarray(found.get(name, lost))

    def curve(self, name: str, count: int) -> np.ndarray:
        """A metric at each of `count` evaluations, [count, R]; NaN if it diverged."""
        lost = np.full((count, len(self.run.info.replicas)), np.nan)
        return self.read.curve(name)[1] if self.read else lost


def train_seeds(config: Any, *, evaluations: int = 1) -> Trained:
    """Trains every stage of a config, in a folder that is gone afterwards.

    Args:
        config: a ConfigDict with the seeds as replicas.
        evaluations: of a stage, evenly spread; the last one at its end.

    Returns:
        `Trained`, of the last stage.
    """
    import jax

    from ltjax.report import read_run
    from ltjax.train.build import build
    from ltjax.train.loop import run
    from ltjax.train.records import NonFinite
    from ltjax.train.restore import earlier_columns
    from ltjax.train.stages import check_stages

    started = time.perf_counter()
    if jax.default_backend() != "cpu":
        config.steps_per_call = STEPS_PER_CALL
    config.log_every = config.checkpoint_every = "100%"
    config.eval_every = f"{100 / evaluations:g}%"
    built = result = read = None
    with tempfile.TemporaryDirectory() as nowhere:
        for stage in check_stages(config):
            place = pathlib.Path(nowhere, stage.folder)
            said = earlier_columns(stage.config, place)
            built = build(stage.config, said=said)
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
                try:
                    result = run(built, place, tensorboard=False)
                except NonFinite:
                    result = None
                    break
        if result is not None and evaluations > 1:
            read = read_run(place)
    return Trained(built, result, (time.perf_counter() - started) / 60, read)


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


def metric_rows(point: Point, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """Trains a point and gives a row for every seed.

    Args:
        point: see `Point`.
        columns: column -> metric of the evaluation that it shows in percent.

    Returns:
        See `seed_rows`.
    """
    trained = train_seeds(point.config)
    values = {column: trained.metric(name) for column, name in columns.items()}
    return seed_rows(point, trained, values)


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


def results_table(
    rows: Sequence[Mapping[str, str]],
    lines: Mapping[str, Mapping[str, str]],
    columns: Mapping[str, str],
    *,
    title: str = "",
    corner: str = "",
) -> str:
    """What the seeds of a setting give, a line for each method that has rows.

    Args:
        rows: of `seed_rows`.
        lines: what a line is called -> column -> value of its rows.
        columns: metric -> what its column is called.
        title: stands above, in bold.
        corner: what the first column is called.

    Returns:
        Markdown; empty if no line has rows.
    """
    shown = [
        [name, *(cell(rows, key, metric) for metric in columns)]
        for name, key in lines.items()
        if any(key.items() <= row.items() for row in rows)
    ]
    if not shown:
        return ""
    grid = markdown_grid([corner, *columns.values()], shown)
    return f"**{title}**\n\n{grid}" if title else grid


def joined(*blocks: str) -> str:
    """Blocks of Markdown with an empty line between them, without the empty ones."""
    return "\n\n".join(block.rstrip() for block in blocks if block)


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


class Grid(NamedTuple):
    """Methods in settings: the tables of a README.

    Attributes:
        column: that tells the settings apart.
        settings: value of it -> how a table says it.
        methods: as the column "method" has them.
        columns: metric -> what its column is called.
        orderings: (better method, worse method, metric) that are published.
        corner: what the first column is called.
        kind: what the orderings are, in the singular.
    """

    column: str
    settings: Mapping[Any, str]
    methods: Iterable[str]
    columns: Mapping[str, str]
    orderings: Sequence[tuple[str, str, str]]
    corner: str = ""
    kind: str = "published ordering"

    def key(self, method: str, value: object) -> dict[str, str]:
        """Column -> value of the rows of a method in a setting."""
        return {"method": method, self.column: str(value)}

    def measure(self, point: Point) -> list[dict[str, str]]:
        """Trains a point; the rows have the metrics of the test set."""
        return metric_rows(point, {name: f"eval/test/{name}" for name in self.columns})

    def claims(self) -> list[Claim]:
        """The orderings in every setting."""
        return [
            Claim(
                f"{better} above {worse}",
                told,
                self.key(better, value),
                self.key(worse, value),
                metric,
            )
            for value, told in self.settings.items()
            for better, worse, metric in self.orderings
        ]

    def text(self, rows: Sequence[Mapping[str, str]]) -> str:
        """Everything of the README that is a number."""
        tables = [
            results_table(
                rows,
                {method: self.key(method, value) for method in self.methods},
                self.columns,
                title=told[:1].upper() + told[1:],
                corner=self.corner,
            )
            for value, told in self.settings.items()
        ]
        return joined(claims_table(rows, self.claims(), kind=self.kind), *tables)


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
