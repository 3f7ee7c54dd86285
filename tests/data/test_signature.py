"""A source without its examples: what is kept of it, and what stands in for it."""

import dataclasses
import json

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.data.readers import FileReader, Sizing
from ltjax.data.signature import signature_from, signature_of, sizing_of, stand_in
from ltjax.data.source import UNKNOWN


def source(**more):
    inputs = np.zeros((6, 4, 4, 3), np.uint8)
    labels = np.array([2, 0, 0, 1, 0, 2])
    return array_source(inputs, labels, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), **more)


def written(signature):
    return signature_from(json.loads(json.dumps(dataclasses.asdict(signature))))


def test_a_signature_survives_json():
    columns = {"candidates": np.ones((6, 3), bool)}
    signature = signature_of(source(columns=columns))
    assert written(signature) == signature
    assert signature.columns == {"candidates": ((3,), "bool")}
    assert signature.label_counts == (3, 1, 2)
    assert signature.sizing is None


def test_how_images_are_sized_is_kept():
    reader = FileReader("/nowhere", ("a.png",) * 6, Sizing(5, 4))
    signature = written(signature_of(dataclasses.replace(source(), reader=reader)))
    assert sizing_of(signature) == Sizing(5, 4)


def test_a_stand_in_has_the_counts_and_shapes():
    targets = np.array([[1, 0, 1]] * 5 + [[0, 1, 0]], np.uint8)
    real = source(columns={"targets": targets})
    real = dataclasses.replace(
        real, labels=np.where(np.arange(6) == 3, UNKNOWN, real.labels)
    )
    found = stand_in(written(signature_of(real)), ("a", "b", "c"))
    assert len(found) == 6
    assert sorted(found.labels) == [UNKNOWN, 0, 0, 0, 2, 2]
    # Of the targets, which are ones in its own column.
    assert found.class_counts.tolist() == [5, 1, 5] == real.class_counts.tolist()
    assert (found.shape, found.dtype) == ((4, 4, 3), np.uint8)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert found.columns["targets"].shape == (6, 3)
    assert found.class_names == ("a", "b", "c")


def test_an_entry_that_is_missing_is_named():
    told = dataclasses.asdict(signature_of(source()))
    del told["dtype"]
    with pytest.raises(KeyError, match="dtype"):
        signature_from(told)
