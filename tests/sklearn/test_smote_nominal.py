"""SMOTE-NC and SMOTE-N on tables: columns, containers, messages."""

import numpy as np
import pandas as pd
import pytest

from ltjax import resampling
from ltjax.sklearn import SMOTEN, SMOTENC
from ltjax.sklearn._base import key_from


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(size=30),
            "color": pd.Categorical(rng.choice(["red", "green"], 30)),
            "number": rng.integers(0, 50, 30),
            "word": rng.choice(["x", "y", "z"], 30),
        }
    )


Y = np.repeat([0, 1], [20, 10])


def codes_of(table):
    return table.apply(lambda c: np.unique(c, return_inverse=True)[1]).to_numpy()


def test_a_data_frame_keeps_its_columns_and_values(frame):
    sampler = SMOTENC(random_state=0, k_neighbors=3)
    found, labels = sampler.fit_resample(frame, Y)
    assert sampler.categorical_features_.tolist() == [1, 3]
    assert found.dtypes.tolist() == frame.dtypes.tolist() and len(found) == 40
    pd.testing.assert_frame_equal(found[:30], frame)
    assert labels[30:].tolist() == [1] * 10
    codes = codes_of(frame[["color", "word"]])
    expected = resampling.smote_nc(
        key_from(0), frame[["size", "number"]].to_numpy(float), codes, Y, k=3
    )
    np.testing.assert_array_equal(found["size"][30:], expected.continuous[:, 0])
    words = np.array(["x", "y", "z"])[expected.nominal[:, 1]]
    assert found["word"][30:].tolist() == words.tolist()


@pytest.mark.parametrize(
    "columns", [[1, 3], [False, True, False, True], ["color", "word"]], ids=str
)
def test_columns_by_index_mask_and_name(frame, columns):
    expected = SMOTENC(random_state=0).fit_resample(frame, Y)[0]
    found = SMOTENC(columns, random_state=0).fit_resample(frame, Y)[0]
    pd.testing.assert_frame_equal(found, expected)


def test_an_array_of_objects(frame):
    table = frame.to_numpy(object)
    found, _ = SMOTENC([1, 3], random_state=0).fit_resample(table, Y)
    assert found.dtype == object and set(found[30:, 1]) <= {"red", "green"}
    np.testing.assert_array_equal(found[:30], table)


def test_nominal_columns_only(frame):
    table = frame[["color", "word"]]
    found, _ = SMOTEN(random_state=0, k_neighbors=3).fit_resample(table, Y)
    assert found.dtypes.tolist() == table.dtypes.tolist()
    codes = codes_of(table)
    expected = resampling.smote_n(key_from(0), codes, Y, k=3).nominal
    colors = np.array(["green", "red"])[expected[:, 0]]
    assert found["color"][30:].tolist() == colors.tolist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("some", "categorical_features is 'some', expected a mask"),
        (["shade"], r"names \['shade'\], but the columns are \['size'"),
        ([4], r"expected a mask of 4 or indices in \[0, 4\)"),
        ([0, 1, 2, 3], "expected rows of at least one feature each"),
    ],
)
def test_bad_columns_are_named(frame, columns, message):
    with pytest.raises(ValueError, match=message):
        SMOTENC(columns).fit_resample(frame, Y)


def test_auto_needs_a_data_frame(frame):
    with pytest.raises(ValueError, match="'auto' needs a data frame"):
        SMOTENC().fit_resample(frame.to_numpy(object), Y)
    mixed = np.array([["a"], [1], ["b"]], object)
    with pytest.raises(TypeError, match="SMOTEN: column 0 has values that cannot be"):
        SMOTEN().fit_resample(mixed, [0, 0, 1])
    with pytest.raises(ValueError, match="SMOTEN: k_neighbors is 0"):
        SMOTEN(k_neighbors=0).fit_resample(mixed, [0, 0, 1])
