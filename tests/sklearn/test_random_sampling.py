"""Random over- and under-sampling: strategies, containers of any kind, messages."""

import imblearn.pipeline
import numpy as np
import pandas as pd
import pytest
from imblearn.utils import check_sampling_strategy
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from ltjax.sklearn import RandomOverSampler, RandomUnderSampler

SIZES = {"a": 40, "b": 12, "c": 7}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(list(SIZES), list(SIZES.values())))
    return rng.standard_normal((59, 3)), y


def sizes_of(y):
    return dict(
        zip(*(v.tolist() for v in np.unique(y, return_counts=True)), strict=True)
    )


@pytest.mark.parametrize(
    "strategy",
    ["auto", "all", "majority", "not minority", "not majority", {"a": 9, "c": 0}]
    + [lambda y: {"b": 5}],
    ids=lambda s: "callable" if callable(s) else str(s),
)
def test_what_is_kept_is_what_imbalanced_learn_keeps(data, strategy):
    x, y = data
    sampler = RandomUnderSampler(sampling_strategy=strategy, random_state=0)
    x_new, y_new = sampler.fit_resample(x, y)
    expected = dict(check_sampling_strategy(strategy, y, "under-sampling"))
    assert sampler.sampling_strategy_ == expected
    after = {k: n for k, n in (SIZES | expected).items() if n}
    assert sizes_of(y_new) == after
    rows = sampler.sample_indices_
    assert len(set(rows.tolist())) == len(rows)
    np.testing.assert_array_equal(x_new, x[rows])
    np.testing.assert_array_equal(y_new, y[rows])


def test_a_ratio_for_two_classes(data):
    x, y = data
    two = y != "c"
    sampler = RandomUnderSampler(sampling_strategy=0.4, random_state=0)
    _, y_new = sampler.fit_resample(x[two], y[two])
    assert sizes_of(y_new) == {"a": 30, "b": 12}  # 12 / 0.4
    with pytest.raises(
        ValueError, match="asks for 60 examples of class 'a', which has"
    ):
        RandomUnderSampler(sampling_strategy=0.2).fit(x[two], y[two])


def test_repetitions(data):
    x, y = data
    sampler = RandomOverSampler(random_state=0)
    x_new, y_new = sampler.fit_resample(x, y)
    assert sizes_of(y_new) == {"a": 40, "b": 40, "c": 40}
    np.testing.assert_array_equal(sampler.sample_indices_[:59], np.arange(59))
    np.testing.assert_array_equal(x_new, x[sampler.sample_indices_])


@pytest.mark.parametrize("kind", [RandomOverSampler, RandomUnderSampler])
def test_features_of_any_kind_in_any_container(data, kind):
    x, y = data
    sampler = kind(random_state=0)
    sampler.fit(x, y).fit_resample(x, y)
    rows = sampler.sample_indices_
    words = np.array([f"w{i}" for i in range(59)], object)
    frame = pd.DataFrame({"word": words, "gap": np.where(x[:, 0] > 0, np.nan, 1.0)})
    frame.index = np.arange(100, 159)
    found, labels = sampler.fit_resample(frame, pd.Series(y, name="y"))
    pd.testing.assert_frame_equal(found, frame.iloc[rows])
    assert labels.name == "y" and labels.tolist() == y[rows].tolist()
    listed, labels = sampler.fit_resample(words[:, None].tolist(), y.tolist())
    assert [row[0] for row in listed] == words[rows].tolist()
    assert labels == y[rows].tolist()
    found, _ = sampler.fit_resample(sparse.csr_matrix(x), y)
    np.testing.assert_array_equal(found.toarray(), x[rows])
    one_hot = np.eye(3, dtype=int)[np.unique(y, return_inverse=True)[1]]
    np.testing.assert_array_equal(sampler.fit_resample(x, one_hot)[1], one_hot[rows])


def test_in_a_pipeline_it_resamples_during_fit_only(data):
    x, y = data
    sampler = RandomUnderSampler(random_state=0)
    pipeline = imblearn.pipeline.make_pipeline(sampler, LogisticRegression())
    predicted = pipeline.fit(x, y).predict(x)
    model = LogisticRegression().fit(
        *RandomUnderSampler(random_state=0).fit_resample(x, y)
    )
    assert np.array_equal(predicted, model.predict(x))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("minority", r"is 'minority' \(that is for over-sampling\), expected one of"),
        ("most", "is 'most', expected one of"),
        (
            {"a": 41},
            r"asks for 41 examples of class 'a', expected an integer in",
        ),
        ({"a": 3.5}, "asks for 3.5 examples of class 'a', expected an integer"),
        ({"z": 1}, r"names \['z'\], but y has the classes"),
        (0.5, "is a ratio, which needs two classes, but y has 3"),
        (None, "is None, expected one of"),
    ],
)
def test_bad_strategies_give_one_readable_error(data, strategy, message):
    sampler = RandomUnderSampler(sampling_strategy=strategy)
    with pytest.raises(
        (ValueError, TypeError), match=f"RandomUnderSampler: .*{message}"
    ):
        sampler.fit(*data)
