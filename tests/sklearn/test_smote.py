"""The SMOTE sampler: strategies, containers, dtypes, messages."""

import imblearn.over_sampling
import imblearn.pipeline
import numpy as np
import pandas as pd
import pytest
from imblearn.utils import check_sampling_strategy
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from ltjax import resampling
from ltjax.resampling import synthesize
from ltjax.sklearn import ADASYN, SMOTE, BorderlineSMOTE, SmoothedBootstrap
from ltjax.sklearn._base import key_from
from ltjax.sklearn._sampler import back_to


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(["a", "b", "c"], [40, 12, 7]))
    x = rng.standard_normal((59, 3)) + (y == "b")[:, None]
    return x, y


@pytest.mark.parametrize(
    "strategy",
    ["auto", "all", "minority", "not minority", "not majority", {"b": 30, "c": 7}]
    + [{"c": 20}, lambda y: {"b": 13}],
    ids=lambda s: "callable" if callable(s) else str(s),
)
def test_strategies_mean_what_they_mean_in_imbalanced_learn(data, strategy):
    x, y = data
    sampler = SMOTE(sampling_strategy=strategy, random_state=0)
    x_new, y_new = sampler.fit_resample(x, y)
    expected = dict(check_sampling_strategy(strategy, y, "over-sampling"))
    assert sampler.sampling_strategy_ == expected
    before, after = (dict(zip(*np.unique(v, return_counts=True))) for v in (y, y_new))  # noqa: B905
    assert after == {label: before[label] + expected.get(label, 0) for label in before}
    np.testing.assert_array_equal(x_new[:59], x)
    np.testing.assert_array_equal(y_new[:59], y)
    assert y_new.dtype == y.dtype


def test_a_ratio_for_two_classes(data):
    x, y = data
    two = y != "c"
    sampler = SMOTE(sampling_strategy=0.77, random_state=0)
    sampler.fit_resample(x[two], y[two])
    assert sampler.sampling_strategy_ == {"b": int(0.77 * 40) - 12}


def test_the_first_of_tied_majorities_is_the_majority():
    y = [0, 0, 1, 1, 2]
    with pytest.warns(UserWarning, match="class 2 has a single point"):
        sampler = SMOTE().fit(np.eye(5), y)
        sampler.fit_resample(np.eye(5), y)
    assert sampler.sampling_strategy_ == {1: 0, 2: 1}


def test_the_plan_explains_the_new_points(data):
    x, y = data
    sampler = SMOTE(random_state=3)
    x_new, y_new = sampler.fit_resample(x, y)
    np.testing.assert_array_equal(x_new[59:], synthesize(x, sampler.plan_))
    assert np.array_equal(y[sampler.plan_.base], y_new[59:])
    again = SMOTE(random_state=3).fit_resample(x, y)[0]
    np.testing.assert_array_equal(x_new, again)
    other = SMOTE(random_state=4).fit_resample(x, y)[0]
    assert not np.array_equal(x_new, other)
    assert not np.array_equal(SMOTE().fit_resample(x, y)[0], x_new)


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_in_sparse_out(data, container):
    x, y = data
    dense = SMOTE(random_state=0).fit_resample(x, y)[0]
    found, _ = SMOTE(random_state=0).fit_resample(container(x), y)
    assert isinstance(found, container)
    np.testing.assert_array_equal(found.toarray(), dense)


def test_one_hot_targets_come_back_one_hot(data):
    x, y = data
    codes = np.unique(y, return_inverse=True)[1]
    x_new, y_new = SMOTE(random_state=0).fit_resample(x, np.eye(3, dtype=int)[codes])
    plain = SMOTE(random_state=0).fit_resample(x, codes)
    np.testing.assert_array_equal(x_new, plain[0])
    np.testing.assert_array_equal(y_new.argmax(axis=1), plain[1])


def test_dtypes(data):
    x, y = data
    for dtype in (np.float32, np.float64):
        assert SMOTE().fit_resample(x.astype(dtype), y)[0].dtype == dtype
    assert SMOTE().fit_resample((10 * x).astype(int), y)[0].dtype == np.float64


def test_one_hot_targets_of_two_classes_keep_their_two_columns(data):
    x, y = data
    two = y != "c"
    for dtype in (int, bool, np.float32):
        target = np.eye(2, dtype=dtype)[(y[two] == "b").astype(int)]
        _, found = SMOTE(random_state=0).fit_resample(x[two], target)
        assert found.shape == (80, 2) and found.dtype == dtype
        assert found.sum(axis=0).tolist() == [40, 40]


def test_columns_of_a_data_frame_keep_their_dtypes(data):
    x, y = data
    frame = pd.DataFrame(
        {
            "f32": x[:, 0].astype(np.float32),
            "int": np.arange(59) + 2**60,  # more digits than a double has
            "flag": y == "b",
            "nullable": pd.array((10 * x[:, 1]).astype(int), dtype="Int16"),
        }
    )
    found, _ = SMOTE(random_state=0).fit_resample(frame, pd.Series(y))
    assert found.dtypes.tolist() == frame.dtypes.tolist()
    pd.testing.assert_frame_equal(found[:59], frame)
    assert len(found) == 120 and found.index.tolist() == list(range(120))
    # A class whose flag is the same everywhere makes no point with another one.
    assert not found["flag"][59:][np.repeat(["b", "c"], [28, 33]) == "c"].any()


@pytest.mark.parametrize(
    ("sampler", "peer"),
    [
        (BorderlineSMOTE(random_state=0, k_neighbors=3), "borderline_smote"),
        (ADASYN(random_state=0, n_neighbors=3), "adasyn"),
        (SmoothedBootstrap(random_state=0, shrinkage=0.5), "smoothed_bootstrap"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_relatives_are_the_functions_of_the_package(data, sampler, peer):
    x, y = data
    x_new, y_new = sampler.fit_resample(x, y)
    codes = np.unique(y, return_inverse=True)[1]
    options = {
        "borderline_smote": {"k": 3},
        "adasyn": {"k": 3},
        "smoothed_bootstrap": {"shrinkage": 0.5},
    }[peer]
    expected = getattr(resampling, peer)(key_from(0), x, codes, **options)
    np.testing.assert_array_equal(x_new[59:], expected.features)
    assert y_new[59:].tolist() == np.array(["a", "b", "c"])[expected.labels].tolist()
    assert sampler.sampling_strategy_ == {"b": 28, "c": 33}


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (BorderlineSMOTE(m_neighbors=0), "BorderlineSMOTE: m_neighbors is 0"),
        (BorderlineSMOTE(kind="third"), "kind is 'third'"),
        (ADASYN(n_neighbors=2.0), "ADASYN: n_neighbors is 2.0, expected an integer"),
        (ADASYN(sampling_strategy="most"), "ADASYN: sampling_strategy is 'most'"),
        (SmoothedBootstrap(shrinkage=-1), "shrinkage is -1"),
    ],
    ids=lambda v: "",
)
def test_relatives_name_what_came(data, sampler, message):
    with pytest.raises(ValueError, match=message):
        sampler.fit_resample(*data)


def test_data_frames_come_back_as_data_frames():
    class Frame:
        """The part of a pandas object that the sampler touches."""

        iloc, ndim, columns = None, 2, ["a", "b"]

        def __init__(self, array=None, columns=None):
            self.array, self.given = array, columns

    class Series:
        iloc, ndim, name, dtype = None, 1, "class", "category"

        def __init__(self, array=None, dtype=None, name=None):
            self.array, self.given = array, (dtype, name)

    frame, series = back_to(Frame(), np.eye(2)), back_to(Series(), np.ones(2))
    assert isinstance(frame, Frame) and frame.given == ["a", "b"]
    assert isinstance(series, Series) and series.given == ("category", "class")


def test_in_a_pipeline_it_resamples_during_fit_only(data):
    x, y = data
    options = {"max_iter": 1000}
    pipeline = imblearn.pipeline.make_pipeline(
        SMOTE(random_state=0), LogisticRegression(**options)
    )
    predicted = pipeline.fit(x, y).predict(x)
    resampled = SMOTE(random_state=0).fit_resample(x, y)
    expected = LogisticRegression(**options).fit(*resampled).predict(x)
    assert np.array_equal(predicted, expected) and len(predicted) == len(x)


def test_no_class_repeats_the_draws_of_another():
    # imbalanced-learn starts the same stream for every class when given a seed.
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 2)), np.repeat([0, 1, 2], [40, 10, 10])
    x[50:] = x[40:50] + 100  # classes 1 and 2 are copies of each other
    ours = SMOTE(random_state=0).fit_resample(x, y)[0][60:]
    theirs = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(x, y)[0][60:]
    np.testing.assert_allclose(theirs[30:] - 100, theirs[:30], atol=1e-9)
    assert not np.any(np.isclose(ours[30:] - 100, ours[:30]).all(axis=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_neighbors": 0}, "k_neighbors is 0, expected an integer >= 1"),
        ({"k_neighbors": "5"}, "k_neighbors is '5', expected an integer >= 1"),
        ({"bases": "some"}, "bases is 'some', expected 'stratified' or 'uniform'"),
        ({"sampling_strategy": "majority"}, r"is 'majority' \(that is for under-"),
        ({"sampling_strategy": "most"}, "is 'most', expected one of"),
        (
            {"sampling_strategy": 0.9},
            "which needs two classes, but y has 3",
        ),
        ({"sampling_strategy": {"b": 3}}, "asks for 3 examples of class 'b', expected"),
        ({"sampling_strategy": {"b": 20.5}}, "asks for 20.5 examples of class 'b'"),
        ({"sampling_strategy": {"z": 9}}, r"names \['z'\], but y has the classes"),
        ({"sampling_strategy": None}, "is None, expected one of"),
    ],
)
def test_bad_parameters_give_one_readable_error(data, change, message):
    x, y = data
    for call in ("fit", "fit_resample"):
        with pytest.raises((ValueError, TypeError), match=f"SMOTE: .*{message}"):
            getattr(SMOTE(**change), call)(x, y)


def test_bad_ratios_and_data_give_one_readable_error(data):
    x, y = data
    binary = y == "b"
    with pytest.raises(ValueError, match=r"expected a ratio in \(0, 1\]"):
        SMOTE(sampling_strategy=1.5).fit(x, binary)
    with pytest.raises(ValueError, match="asks for 4 examples of class True"):
        SMOTE(sampling_strategy=0.1).fit(x, binary)
    with pytest.raises(ValueError, match="needs to have more than 1 class, got"):
        SMOTE().fit_resample(x, np.zeros(59))
    with pytest.raises(ValueError, match="y to be passed"):
        SMOTE().fit_resample(x, None)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        SMOTE().fit_resample(x, x[:, 0])
    with pytest.raises(ValueError, match="Multilabel and multioutput"):
        SMOTE().fit_resample(x, np.ones((59, 2), int))
    with pytest.raises(ValueError, match="Multilabel and multioutput"):
        SMOTE().fit_resample(x, np.arange(118).reshape(59, 2) % 3)
    with pytest.raises(ValueError, match="NaN"):
        SMOTE().fit_resample(np.where(x > 2, np.nan, x), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SMOTE().fit_resample(x[:-1], y)
