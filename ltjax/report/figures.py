"""The figures of a report as PNG files, for papers and for pages without scripts."""

import io
from typing import NamedTuple

import numpy as np

from ltjax.report.cells import slug
from ltjax.report.collapse import plot_collapse
from ltjax.report.confusions import plot_many_confusions
from ltjax.report.diagrams import NAMED_CLASSES, plot_confusion, plot_reliability
from ltjax.report.pictures import picture_png
from ltjax.report.plots import plot_class_accuracy, plot_training_curves
from ltjax.report.runs import Run
from ltjax.report.series import (
    calibration_panels,
    class_recalls,
    collapse_curves,
    confusion_of,
    training_panels,
)
from ltjax.report.style import DPI, LineStyle


class Picture(NamedTuple):
    """A figure of the page.

    Attributes:
        png: bytes.
        caption: one or two sentences.
        method: whose it is; "" if it compares methods.
        place: "open", "confusions" (folded away) or "pixels" (shown unscaled).
    """

    png: bytes
    caption: str
    method: str = ""
    place: str = "open"


_CALIBRATION = (
    "Accuracy against confidence; below the diagonal a network is over-confident."
    " Confidence is the softmax of the logits that the prediction is made from. Where a"
    " loss or a head multiplies logits by a fixed scale (LDAM, cosine heads), that"
    " scale, and not the network alone, sets the confidence: compare such methods after"
    " their temperatures have been fitted. Bins are pooled over seeds; the expected"
    " calibration error is the mean of the seeds' own."
)


def captions(runs: list[Run]) -> dict[str, str]:
    """Name of a figure or chart -> what it shows."""
    spread = (
        "; bands are one standard deviation over seeds"
        if any(len(run.members) > 1 for run in runs)
        else ""
    )
    return {
        "class_accuracy": (
            "Accuracy of each class against its number of training examples (bars,"
            f" logarithmic){spread}."
        ),
        "training_curves": (
            "Over training. Losses of different methods have different scales; compare"
            f" a loss with itself only{spread}."
        ),
        "collapse": (
            "Neural collapse of the training set (evaluation mode, no augmentation;"
            " classes weighted equally). All but the last panel go to 0 under complete"
            " collapse; in the last -1 / (classes - 1) is a simplex, and 1 means that"
            f" the few-shot classes' vectors have merged{spread}."
        ),
        "reliability": _CALIBRATION,
        "cost": (
            "What judges the runs against the time of training, of all seeds together,"
            " without compilation and evaluation."
        ),
        "reported": (
            "What the methods say of themselves over training, such as the share of"
            f" labels that they believe and how many of these are right{spread}."
        ),
        "logged": f"Everything else that was logged{spread}.",
    }


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _shared_figures(
    runs: list[Run], styles: dict[str, LineStyle], reference: str | None
) -> dict[str, object]:
    """File stem -> matplotlib figure, of those that compare methods."""
    look = {"reference": reference, "styles": styles}
    found = {}
    recalls = class_recalls(runs)
    if recalls:
        found["class_accuracy"] = plot_class_accuracy(
            recalls,
            runs[0].class_counts,
            groups=runs[0].groups,
            class_names=runs[0].class_names,
            **look,
        )
    curves = training_panels(runs)
    if curves:
        found["training_curves"] = plot_training_curves(curves, **look)
    collapse = collapse_curves(runs)
    if collapse:
        num_classes = len(runs[0].class_counts)
        found["collapse"] = plot_collapse(collapse, num_classes=num_classes, **look)
    bins = calibration_panels(runs)
    if bins:
        found["reliability"] = plot_reliability(bins, **look)
    return found


def _confusion_picture(run: Run, confusion: np.ndarray) -> Picture:
    """Classes against classes, or groups and pairs where there are many classes."""
    shared = {"class_names": run.class_names, "title": run.name}
    if len(run.class_counts) > NAMED_CLASSES:
        figure = plot_many_confusions(confusion, groups=run.groups, **shared)
        caption = (
            f"{run.name}: where the examples of each class group go, and the pairs"
            " that are confused most (at least two examples), mean over seeds."
        )
    else:
        figure = plot_confusion(confusion, class_counts=run.class_counts, **shared)
        caption = f"{run.name}: where the examples of each class go, mean over seeds."
    return Picture(_png(figure), caption, run.name, "confusions")


def all_pictures(
    runs: list[Run], styles: dict[str, LineStyle], reference: str | None
) -> dict[str, Picture]:
    """File stem -> figure of a group of comparable runs.

    Args:
        runs: comparable ones, in order.
        styles: of `ltjax.report.style.method_styles`.
        reference: name of the run that is drawn in grey, if any.

    Returns:
        The pictures that the runs have something for.
    """
    told = captions(runs)
    pictures = {
        stem: Picture(_png(figure), told[stem])
        for stem, figure in _shared_figures(runs, styles, reference).items()
    }

    def add(stem: str, picture: Picture) -> None:
        while stem in pictures:
            stem += "_"
        pictures[stem] = picture

    for run in runs:
        confusion = confusion_of(run)
        if confusion is not None:
            add(f"confusion_{slug(run.name)}", _confusion_picture(run, confusion))
        kept = picture_png(run)
        if kept is not None:
            png, names = kept
            caption = f"{run.name}, from top to bottom: {', '.join(names)}."
            add(f"pictures_{slug(run.name)}", Picture(png, caption, run.name, "pixels"))
    return pictures
