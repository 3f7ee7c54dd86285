"""What weak supervision refuses, a message each: the name, what came, what to give."""

import numpy as np
import pytest

from ltjax.data import DataError, array_source, corrupt_labels
from ltjax.data.source import Source
from ltjax.data.unlabelled_streams import Unlabelled
from ltjax.options import ConfigError
from ltjax.train.build import build

FIXMATCH = {
    "method.name": "fixmatch",
    "unlabelled.name": "rest",
    "augment_unlabelled.name": "weak_strong",
    "augment_unlabelled.recipe": "signal",
    "data.train_per_class": 60,
}
SOLAR = {
    "method.name": "solar",
    "labels.name": "uniform_candidates",
    "augment.name": "weak_strong",
    "augment.recipe": "signal",
}
READER = array_source(np.zeros((2, 1), np.float32), [0, 1]).reader


def source(labels, **columns):
    columns = {name: np.array(column) for name, column in columns.items()}
    return Source("x", np.array(labels), 2, (1,), np.float32, READER, columns=columns)


def test_candidate_sets():
    with pytest.raises(
        DataError, match="candidates of example 1 are .0., expected its"
    ):
        source([-1, -1], candidates=[[True, True], [True, False]], truth=[0, 1])
    with pytest.raises(DataError, match="example 1 has an empty candidate set .1 such"):
        source([-1, -1], candidates=[[True, True], [False, False]])


def test_unlabelled_rows_with_labels():
    with pytest.raises(DataError, match="1 of the 2 examples of an unlabelled stream"):
        Unlabelled(source([-1, 1]), 1)


def test_an_unlabelled_pool_smaller_than_a_batch(tiny):
    small = {"unlabelled.max_count": 3, "unlabelled.imbalance_factor": 1.0}
    with pytest.raises(ConfigError) as refused:
        build(tiny(FIXMATCH | small | {"unlabelled.ratio": 2}))
    assert refused.value.faults == [
        "the stream 'unlabelled' has 30 examples, fewer than the 32 of a step"
        " (config.batch_size 16 x ratio 2); expected more examples, or a smaller ratio"
        " or batch size"
    ]


def test_a_class_absent_from_the_labelled_data(tiny):
    counts = (9, 9, 9, 9, 9, 9, 9, 9, 9, 0)
    changes = FIXMATCH | {"data.profile": "counts", "data.counts": counts}
    with pytest.raises(ConfigError, match="class 9 has no training example .1 empty"):
        build(tiny(changes | {"unlabelled.ratio": 1}))


PRIOR = (0.0,) + (1.0,) * 9


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({**FIXMATCH, "pseudo_labels.name": "align"}, "pseudo_labels.counts"),
        (
            {
                **FIXMATCH,
                "pseudo_labels.name": "darp",
                "pseudo_labels.masses": "given",
            },
            "pseudo_labels.counts",
        ),
        (SOLAR, "method.prior"),
    ],
    ids=["align", "darp", "solar"],
)
def test_a_prior_with_a_zero_or_of_another_length(changes, option, tiny):
    with pytest.raises(ConfigError, match=f"config.{option} is .0.0, .*a number > 0"):
        tiny(changes | {option: PRIOR})
    config = tiny(changes | {option: PRIOR[1:]})
    with pytest.raises(ConfigError, match=f"config.{option} is .*expected 10 numbers"):
        build(config)


def test_a_transition_matrix_whose_rows_do_not_sum_to_one():
    with pytest.raises(
        ValueError, match=r"row 0 of transition is \[0.9, 0.2\], of sum 1.1"
    ):
        corrupt_labels([0, 1], [[0.9, 0.2], [0.0, 1.0]])
