"""The source contract, on arrays."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ltjax.data import DataError, Source, array_source

INPUTS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
LABELS = np.array([0, 2, 1, 1, 0, 2])


@pytest.fixture
def source():
    return array_source(INPUTS, LABELS, class_names=("a", "b", "c"))


def test_importing_the_package_imports_no_reader_library():
    code = (
        "import sys, ltjax.data.feed, ltjax.data.augment, ltjax.data.prepare\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'PIL', 'mnist1d',"
        " 'absl', 'matplotlib'}\nassert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_contract(source):
    assert len(source) == 6 and source.num_classes == 3
    assert source.shape == (2, 2) and source.dtype == np.float32
    assert source.labels.dtype == np.int32
    assert source.class_counts.tolist() == [2, 2, 2]
    assert np.array_equal(source.read([4, 0, 4]), INPUTS[[4, 0, 4]])
    assert source.read(np.zeros(0, int)).shape == (0, 2, 2)


def test_reading_returns_a_copy(source):
    source.read([0])[:] = 7
    assert np.array_equal(source.read([0]), INPUTS[:1])


def test_select_composes_and_remembers_where_examples_come_from(source):
    once = source.select([5, 1, 3, 0])
    twice = once.select([2, 0])
    assert twice.origin.tolist() == [3, 5] and twice.labels.tolist() == [1, 2]
    assert np.array_equal(twice.read([1, 0]), INPUTS[[5, 3]])
    assert twice.num_classes == 3 and twice.class_counts.tolist() == [0, 1, 1]


def test_fingerprint_tells_selections_and_labels_apart(source):
    prints = {
        source.fingerprint,
        source.select([0, 1]).fingerprint,
        source.select([1, 0]).fingerprint,
        array_source(INPUTS, LABELS[::-1]).fingerprint,
        array_source(INPUTS, LABELS, name="other").fingerprint,
    }
    assert len(prints) == 5
    again = array_source(INPUTS, LABELS, class_names=("a", "b", "c"))
    assert source.select(np.arange(6)).fingerprint == again.fingerprint
    assert len(source.fingerprint) == 16


def test_sources_can_be_pickled(source):
    copy = pickle.loads(pickle.dumps(source.select([3, 1])))
    assert np.array_equal(copy.read([0, 1]), INPUTS[[3, 1]])
    assert copy.fingerprint == source.select([3, 1]).fingerprint


def test_float64_becomes_float32():
    assert array_source(INPUTS.astype(np.float64), LABELS).dtype == np.float32


def reader_of(shape, dtype):
    return lambda positions: np.zeros((len(positions), *shape), dtype)


def masked(targets):
    return lambda source: dataclasses.replace(source, columns={"targets": targets})


@pytest.mark.parametrize(
    "build, kind, message",
    [
        (
            lambda s: array_source(INPUTS[:5], LABELS),
            DataError,
            r"shape \(5, 2, 2\), but there are 6 labels",
        ),
        (lambda s: array_source(INPUTS, LABELS * 1.0), TypeError, "labels.*float64"),
        (lambda s: array_source(INPUTS, LABELS[:, None]), TypeError, r"\(6, 1\)"),
        (
            lambda s: array_source(INPUTS.astype(int), LABELS),
            TypeError,
            "dtype int64, expected uint8 or floating",
        ),
        (
            lambda s: array_source(INPUTS, LABELS, num_classes=2),
            ValueError,
            r"\[0, 2\), but labels\[1\] is 2",
        ),
        (lambda s: array_source(INPUTS, LABELS - 1), ValueError, r"labels\[0\] is -1"),
        (
            lambda s: array_source(INPUTS[:0], LABELS[:0]),
            DataError,
            "there are no examples",
        ),
        (
            lambda s: array_source(INPUTS, LABELS, class_names=("a",)),
            ValueError,
            "1 class names for 3 classes",
        ),
        (
            masked(np.zeros((6, 2, 3), np.uint8)),
            DataError,
            "masks have 2 x 3 pixels, but the images 2 x 2, expected the same",
        ),
        (
            masked(np.arange(24, dtype=np.uint8).reshape(6, 2, 2) // 20 * 7),
            DataError,
            r"mask of example 5 has a pixel of class 7, expected \[0, 3\) or 255",
        ),
        (masked(np.zeros((6, 2, 2))), DataError, "masks have dtype float64, expected"),
        (lambda s: s.read([0, 6]), IndexError, r"indices\[1\] is 6, expected \[0, 6\)"),
        (lambda s: s.read([-1]), IndexError, r"indices\[0\] is -1"),
        (lambda s: s.read([0.0]), TypeError, "float64"),
        (lambda s: s.read(3), ValueError, r"shape \(\)"),
        (lambda s: s.select([1, 4, 2, 4]), ValueError, "index 4 more than once"),
        (lambda s: s.select(np.zeros(0, int)), DataError, "no examples"),
        (
            lambda s: Source(
                "x", LABELS, 3, (2,), np.uint8, reader_of((3,), np.uint8)
            ).read([0]),
            DataError,
            r"read uint8 \(1, 3\), expected uint8 \(1, 2\)",
        ),
        (
            lambda s: Source(
                "x", LABELS, 3, (2,), np.uint8, reader_of((2,), np.float32)
            ).read([0]),
            DataError,
            r"read float32 \(1, 2\), expected uint8",
        ),
    ],
)
def test_bad_sources_and_requests_are_refused(source, build, kind, message):
    with pytest.raises(kind, match=message):
        build(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused(value):
    bad = INPUTS.copy()
    bad[3, 1, 0] = bad[4] = value
    with pytest.raises(DataError, match=r"input 3 is not finite \(2 such"):
        array_source(bad, LABELS)
    lazy = Source("x", LABELS, 3, (2, 2), np.float32, lambda rows: bad[rows])
    with pytest.raises(DataError, match=r"input 4 is not finite \(1 such"):
        lazy.read([0, 4, 1])
    assert lazy.select([4, 1]).read([1]).shape == (1, 2, 2)


def test_empty_classes_are_reported():
    with pytest.warns(
        UserWarning, match="2 of 5 classes have no example, e.g. class 3"
    ):
        array_source(INPUTS, LABELS, num_classes=5)
