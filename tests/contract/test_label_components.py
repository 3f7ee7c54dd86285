"""Every component of `LABELS`: what a method is told, what stays known, and of whom."""

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.data.source import UNKNOWN
from ltjax.data.supervision import LABELS, LabelFacts
from ltjax.options import read

# Ten classes of 50, 45, ..., 5 examples.
COUNTS = np.arange(50, 0, -5)
SOURCE = array_source(
    np.zeros((COUNTS.sum(), 1), np.float32), np.repeat(np.arange(10), COUNTS)
)
# Component -> options, where the defaults are not for ten classes of this size.
ROWS = {
    "given": {},
    "uniform_candidates": {},
    "hierarchical_candidates": {"superclasses": (0, 0, 0, 1, 1, 1, 2, 2, 2, 2)},
    "label_dependent_candidates": {},
    "subset_candidates": {},
    "symmetric_noise": {"rate": 0.2},
    "imbalanced_noise": {"rate": 0.2},
    "proportional_noise": {"rate": 0.2},
    "asymmetric_noise": {"rate": 0.2},
    "cifar10_noise": {"rate": 0.2},
    "group_noise": {"rate": 0.2},
}


def made(name, source=SOURCE, **options):
    section = {"name": name, **ROWS[name], **options}
    found, faults = read("labels", section, LABELS, usual=LabelFacts())
    assert not faults
    return found.make(source), found.facts


def test_every_component_has_a_row():
    assert ROWS.keys() == LABELS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_facts_say_what_is_made(name):
    found, facts = made(name)
    assert set(found.columns) == set(facts.columns)
    np.testing.assert_array_equal(found.origin, SOURCE.origin)
    assert (found.labels == UNKNOWN).all() == facts.hidden
    np.testing.assert_array_equal(found.truth, SOURCE.labels)
    np.testing.assert_array_equal(found.true_counts, COUNTS)
    if "candidates" in found.columns:  # the source has checked them against the truth
        assert (found.columns["candidates"].sum(axis=1) < 10).any()


@pytest.mark.parametrize("name", [name for name in ROWS if name != "given"])
def test_a_seed_decides_and_clean_labels_are_needed(name):
    found = made(name)[0].fingerprint
    assert made(name)[0].fingerprint == found != made(name, seed=1)[0].fingerprint
    changed, _ = made(name)
    with pytest.raises(ValueError, match="config.labels changes clean labels, but"):
        made(name, source=changed)
