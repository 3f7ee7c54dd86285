"""Unlabelled streams: those of examples that have no label, and none that has one."""

import dataclasses

import numpy as np
import pytest

from ltjax.data import DataError, array_source
from ltjax.data.unlabelled_streams import COMPANIONS, Remainder, Unlabelled
from ltjax.options import ConfigError, read

TRUTH = np.repeat([0, 1], [6, 4])
LABELS = np.array([0, -1, 0, -1, -1, 0, 1, -1, 1, -1])
FULL = array_source(np.arange(10, dtype=np.float32)[:, None], TRUTH)
WHOLE = dataclasses.replace(FULL, labels=LABELS)
BARE = np.flatnonzero(LABELS < 0)


def made(name, whole, chosen, **options):
    found, faults = read("unlabelled", {"name": name, **options}, COMPANIONS)
    assert not faults
    return found.make(Remainder(whole, chosen, whole.bare))


def test_stored_examples_without_a_label_are_the_stream():
    chosen = np.flatnonzero(LABELS >= 0)
    (stream,) = made("stored", WHOLE, chosen, ratio=2).values()
    assert stream.ratio == 2 and stream.source.origin.tolist() == BARE.tolist()
    assert (stream.source.labels == -1).all() and "truth" not in stream.source.columns
    # With clean labels these stay a column; labelled examples are hidden too.
    whole = dataclasses.replace(WHOLE, columns={"truth": TRUTH})
    found = made("stored", whole, chosen, include_labelled=True)["unlabelled"].source
    assert len(found) == 10 and (found.labels == -1).all()
    np.testing.assert_array_equal(found.truth, TRUTH[found.origin])


def test_what_the_subset_left_loses_its_labels():
    found = made("rest", FULL, np.array([0, 1, 6]))["unlabelled"].source
    assert found.origin.tolist() == [2, 3, 4, 5, 7, 8, 9]
    assert (found.labels == -1).all()
    np.testing.assert_array_equal(found.truth, TRUTH[found.origin])


@pytest.mark.parametrize("name", ["none", "rest"])
def test_stored_examples_without_a_label_are_never_left_out(name):
    with pytest.raises(ConfigError) as refused:
        made(name, WHOLE, np.flatnonzero(LABELS >= 0))
    (fault,) = refused.value.faults
    assert fault.startswith("5 of the 10 training examples of arrays have no label")
    assert "example 1, 0-based" in fault and f"name is {name!r}" in fault
    assert "expected 'stored' and a semi-supervised method" in fault


def test_a_stream_needs_examples_without_labels():
    with pytest.raises(ConfigError, match="'stored', but all 10 training examples of"):
        made("stored", FULL, np.arange(10))
    with pytest.raises(DataError, match=r"5 of the 10 .* labels\[0\] = 0; expected -1"):
        Unlabelled(WHOLE, 1)
    assert made("none", FULL, np.arange(10)) == {}
