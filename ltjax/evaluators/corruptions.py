r"""How a classifier bears common corruptions of its test images.

The split "corrupted" (`config.data.corruptions`) holds the images clean and at five
severities of each corruption; this evaluator judges every corruption by itself.

References:
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", ICLR 2019, section 4.
"""

import dataclasses
import os
import zipfile

import jax
import numpy as np

from ltjax._archives import check_members
from ltjax.evaluators.evaluator import Arrays, Evaluator, EvaluatorSetting, Sweep
from ltjax.metrics import auc, ovo_auc
from ltjax.metrics.column import Column
from ltjax.metrics.corruption_error import (
    SEVERITIES,
    case_name,
    mean_corruption_error,
)
from ltjax.options import Component, option

ARRAYS = ("corruption_values", "corruption_cases")


@dataclasses.dataclass(frozen=True)
class CorruptionOptions:
    """Of the corrupted test images."""

    measure: str = option(
        "accuracy",
        "balanced over classes, or the area under the ROC curve over pairs of them",
        choices=("accuracy", "auc"),
    )
    baseline: str = option(
        "", "evaluation file (.npz) of the run that errors are divided by; '' = none"
    )


def value_of(measure: str, scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall, or the area over pairs of classes, of scores [N, K]."""
    if measure == "accuracy":
        hit = scores.argmax(axis=1) == labels
        return float(np.mean([hit[labels == k].mean() for k in np.unique(labels)]))
    if scores.shape[1] == 2:
        return float(auc(scores[:, 1] - scores[:, 0], labels))
    return float(ovo_auc(scores, labels))


def names_of(cases: np.ndarray) -> list[str]:
    """The corruptions of a split, from the numbers of its cases, 0 being clean."""
    return [
        corruption for corruption, severity in map(case_name, cases) if severity == 1
    ]


def relative_error(arrays: Arrays, baseline: str | os.PathLike) -> np.ndarray:
    """[R], the mean over corruptions of errors relative to a baseline's.

    Args:
        arrays: of this run, its values in [0, 1].
        baseline: evaluation file of the split "corrupted" of another run; the mean of
            its replicas counts.

    Raises:
        ValueError: if it is not one, or of other corruptions.
    """
    try:
        check_members(baseline)
        # numpy leaves a file open that it finds damaged.
        with open(baseline, "rb") as raw, np.load(raw) as stored:
            theirs = {name: stored[name] for name in ARRAYS}
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"corruptions: baseline is {os.fspath(baseline)!r}, which cannot be read as"
            f" the evaluation of a split 'corrupted': {error}"
        ) from None
    cases = arrays["corruption_cases"][0]
    if not np.array_equal(theirs["corruption_cases"][0], cases):
        raise ValueError(
            f"corruptions: baseline {os.fspath(baseline)!r} has other corruptions,"
            f" expected {', '.join(names_of(cases))}"
        )

    base = 1 - by_severity(theirs["corruption_values"]).mean(axis=0)
    return mean_corruption_error(1 - by_severity(arrays["corruption_values"]), base)


def by_severity(values: np.ndarray) -> np.ndarray:
    """Values [R, 1 + C S], the clean ones first -> [R, C, S]."""
    return values[:, 1:].reshape(len(values), -1, len(SEVERITIES))


def make(options: CorruptionOptions, setting: EvaluatorSetting) -> Evaluator:
    """Metrics of the split "corrupted"; on other splits only "clean".

    "corrupted_<name>_<severity>", "corrupted_<name>" (mean over severities),
    "severity_<s>" (mean over corruptions), "corrupted_mean", "corrupted_worst" (the
    worst corruption), "clean", and with a baseline "mean_corruption_error" (below 1 is
    better than it).

    Args:
        options: see `CorruptionOptions`.
        setting: the method's prediction, with "logits" [B, K].

    Returns:
        `Evaluator`.
    """
    what = "mean recall" if options.measure == "accuracy" else "AUC"

    def judge(state, batch, extra):
        logits = setting.predict(state, batch["inputs"])["logits"]
        case = batch.get("corruption", 0 * batch["label"])
        return jax.nn.softmax(logits), batch["label"], case

    def arrays(found, extra, about):
        scores, labels, case = (np.asarray(part) for part in found)
        numbers = np.unique(case[0])  # replicas see the same split
        values = [
            [value_of(options.measure, s[c == n], y[c == n]) for n in numbers]
            if np.isfinite(s).all()
            else [np.nan] * len(numbers)
            for s, y, c in zip(scores, labels, case, strict=True)
        ]
        stored = {
            "corruption_values": np.asarray(values),
            "corruption_cases": np.tile(numbers, (len(values), 1)),
        }
        return {**stored, **profiles(stored["corruption_values"], names_of(numbers))}

    def profiles(values: np.ndarray, names: list[str]) -> Arrays:
        """Charts of the report; none of a split that is not corrupted."""
        if not names:
            return {}
        each = 100 * by_severity(values)
        severities = {"clean": 100 * values[:, 0]}
        for s, severity in enumerate(SEVERITIES):
            severities[f"severity {severity}"] = each[:, :, s].mean(axis=1)
        kinds = {
            name.replace("_", " "): each[:, n].mean(axis=1)
            for n, name in enumerate(names)
        }
        return {
            f"profiles/{what} by {title} (%)/{name}": value
            for title, found in (("severity", severities), ("corruption", kinds))
            for name, value in found.items()
        }

    def summarize(arrays):
        values = arrays["corruption_values"]
        found = {"clean": values[:, 0]}
        if values.shape[1] == 1:
            return found
        each = by_severity(values)
        for n, name in enumerate(names_of(arrays["corruption_cases"][0])):
            for s, severity in enumerate(SEVERITIES):
                found[f"corrupted_{name}_{severity}"] = each[:, n, s]
            found[f"corrupted_{name}"] = each[:, n].mean(axis=1)
        for s, severity in enumerate(SEVERITIES):
            found[f"severity_{severity}"] = each[:, :, s].mean(axis=1)
        found["corrupted_mean"] = each.mean(axis=(1, 2))
        found["corrupted_worst"] = each.mean(axis=2).min(axis=1)
        if options.baseline:
            found["mean_corruption_error"] = relative_error(arrays, options.baseline)
        return found

    return Evaluator(
        judge=Sweep(judge),
        arrays=arrays,
        summarize=summarize,
        columns=(
            Column(
                "corrupted_mean",
                "Corrupted",
                "max",
                f"{what} over corruptions and severities",
            ),
            Column("corrupted_worst", "Worst corruption", "max", f"its mean {what}"),
            *(
                Column(f"severity_{s}", f"Severity {s}", "max", f"mean {what} there")
                for s in (1, 5)
            ),
        ),
    )


def _needs(options: CorruptionOptions, config) -> list[str]:
    if config.data.corruptions:
        return []
    return [
        "evaluator 'corruptions' judges the split 'corrupted', but config.data."
        "corruptions is empty, expected ('all',) or names of corruptions"
    ]


CORRUPTED = Component(
    "common corruptions of the test images by severity (Hendrycks 2019)",
    CorruptionOptions,
    make,
    _needs,
)
