"""How data of your own are labelled, and which methods learn from such labels."""

from typing import Any

import numpy as np

from ltjax.data.arrays import find_npz_file, has_candidates
from ltjax.data.components import stored_of
from ltjax.data.own import located
from ltjax.data.readers import MissingDataError
from ltjax.data.source import Source
from ltjax.data.table_files import read_columns
from ltjax.data.tables import Columns, candidate_column, has_label_sets
from ltjax.methods import presets
from ltjax.methods.weak_presets import PARTIAL_LABEL, SEMI_SUPERVISED, WEAK, apply_weak
from ltjax.options import ConfigError, nearest
from ltjax.own_places import chosen_data

AUTO = "auto"
METHODS = (AUTO, *presets.PRESETS, *presets.MULTI_LABEL, *WEAK)


def reading_of(caller: str, columns: Columns, *, label: str, method: str) -> str:
    """How the labels of a table are read.

    Args:
        caller: the file, for messages.
        columns: of the table.
        label: its label column, see `ltjax.data.tables.find_layout`.
        method: a name of `METHODS`.

    Returns:
        "candidates": one label of a set is true; "multi_label": all are. "" for a label
        per example.
    """
    if candidate_column(columns):
        return "candidates"
    if not has_label_sets(caller, columns, label=label):
        return ""
    return "candidates" if method in PARTIAL_LABEL else "multi_label"


def choose_reading(config: Any, method: str) -> None:
    """Sets how the data of a config are read, see `reading_of`."""
    kind, _, path = config.data.name.partition(":")
    found = ""
    if kind == "table":
        file = located(path, config.data.data_dir)
        found = reading_of(
            file, read_columns(file), label=config.data.label, method=method
        )
    elif kind == "npz":
        file = path.replace("{split}", config.data.train_split)
        try:
            known = has_candidates(find_npz_file(file, config.data.data_dir or None))
        except MissingDataError:  # which opening it says better
            known = False
        found = "candidates" if known else ""
    elif kind == "memory":
        contents = stored_of(chosen_data(config)).open("train")
        if contents.candidates is not None:
            found = "candidates"
        elif contents.targets is not None:
            found = "multi_label"
    if found:
        config.data[found] = True


def choose_method(config: Any, method: str, source: Source) -> None:
    """Sets the method, and refuses one that does not learn from such labels.

    Args:
        config: whose data, inputs and length are chosen.
        method: a name of `METHODS`.
        source: the training examples.

    Raises:
        ConfigError: naming the method, what the data have and what it needs.
    """
    several = "targets" in source.columns
    partial, bare = "candidates" in source.columns, len(source.bare)
    if method == AUTO:
        method = _usual(several, partial, bare)
    if several:
        _check_several(method)
        _choose_ranking(config, method, source.num_classes)
        return
    for fault in (_sets_fault(method, partial), _unlabelled_fault(method, source)):
        if fault:
            raise ConfigError([f"method is {method!r}, {fault}"])
    if method in WEAK:
        apply_weak(config, method, shape=source.shape, unlabelled=bare)
    else:
        presets.apply_preset(config, method, late="80%")


def _usual(several: bool, partial: bool, bare: int) -> str:
    if several:
        return "tkpr"
    return "proden" if partial else "fixmatch" if bare else "la"


def _check_several(method: str) -> None:
    if method not in presets.MULTI_LABEL:
        hint = nearest(method, presets.MULTI_LABEL)
        raise ConfigError(
            [
                f"method is {method!r}, unknown for several labels per example{hint};"
                f" where only one of them is true: {', '.join(PARTIAL_LABEL)}"
            ]
        )


def _sets_fault(method: str, partial: bool) -> str:
    if method in presets.MULTI_LABEL and not partial:
        return (
            "for several labels per example, but the data have one; expected a name of"
            " `ltjax list presets`"
        )
    if method in PARTIAL_LABEL and not partial:
        return (
            "which learns from candidate sets, but the data have one label per example;"
            " expected names between | as labels, a column (or array of a .npz file)"
            " 'candidates', or a name of `ltjax list presets`"
        )
    if partial and method not in PARTIAL_LABEL:
        return (
            "which needs the label of each example, but the data have candidate sets;"
            f" expected {', '.join(PARTIAL_LABEL)}"
        )
    return ""


def _unlabelled_fault(method: str, source: Source) -> str:
    bare = source.bare
    if method in SEMI_SUPERVISED and not bare.size:
        return (
            "which learns from examples without a label besides, but all"
            f" {len(source)} training examples have one; expected rows with an empty"
            " label (-1 in a .npz file, a folder 'unlabelled'), or a name of"
            " `ltjax list presets`"
        )
    if bare.size and method not in SEMI_SUPERVISED:
        return (
            f"which would leave out the {bare.size} of {len(source)} training examples"
            f" whose label is missing, the first is row {source.origin[bare[0]]}"
            f" (0-based); expected {', '.join(SEMI_SUPERVISED)}, or only rows with a"
            " label"
        )
    return ""


def _choose_ranking(config: Any, method: str, num_labels: int) -> None:
    """Loss and measures for several labels per example, no deeper than there are."""
    presets.apply_multi_label(config, method)
    if config.loss.name == "tkpr":
        config.loss.k = min(config.loss.k, num_labels)
    depths = [k for k in (1, 3, 5) if k <= num_labels]
    config.evaluators = {"multilabel": {"k": tuple(depths)}}


def labelled_counts(source: Source) -> np.ndarray:
    """[K], the training examples of each class that a run's groups go by."""
    return source.true_counts if "candidates" in source.columns else source.class_counts
