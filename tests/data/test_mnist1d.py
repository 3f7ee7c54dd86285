"""MNIST-1D: balanced, deterministic, and without side effects."""

import random

import numpy as np
import pytest

from ltjax.data import load_source
from ltjax.data.mnist1d import _generate

SMALL = {"train_per_class": 20, "test_per_class": 5}


def test_splits_are_balanced_and_disjoint():
    train, test = (
        load_source("mnist1d", split, **SMALL) for split in ("train", "test")
    )
    assert train.class_counts.tolist() == [20] * 10
    assert test.class_counts.tolist() == [5] * 10
    assert train.shape == (40, 1) and train.dtype == np.float32
    everything = np.concatenate([train.read(np.arange(200)), test.read(np.arange(50))])
    assert len(np.unique(everything, axis=0)) == 250
    assert np.allclose((everything.mean(), everything.std()), (0, 1), atol=1e-5)


def test_defaults_allow_a_head_class_of_2000(monkeypatch):
    def without_signals(per_class, seed):
        assert (per_class, seed) == (3000, 42)
        labels = np.tile(np.arange(10, dtype=np.int32), per_class)
        return np.zeros((labels.size, 40, 1), np.float32), labels

    monkeypatch.setattr("ltjax.data.mnist1d._generate", without_signals)
    assert load_source("mnist1d", "train").class_counts.tolist() == [2500] * 10
    assert load_source("mnist1d", "test").class_counts.tolist() == [500] * 10


def test_deterministic_and_without_side_effects():
    source = load_source("mnist1d", **SMALL)
    _generate.cache_clear()
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    again = load_source("mnist1d", **SMALL)
    drawn = random.random(), np.random.random()  # noqa: NPY002
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    assert drawn == (random.random(), np.random.random())  # noqa: NPY002
    assert source.fingerprint == again.fingerprint
    assert np.array_equal(source.read([7, 3]), again.read([7, 3]))
    other = load_source("mnist1d", seed=1, **SMALL)
    assert not np.array_equal(source.read(np.arange(9)), other.read(np.arange(9)))


def test_it_is_the_public_generator():
    import mnist1d.data

    arguments = mnist1d.data.get_dataset_args()
    arguments.num_samples = 250
    state = np.random.get_state()  # noqa: NPY002
    published = mnist1d.data.make_dataset(arguments)
    np.random.set_state(state)  # noqa: NPY002
    signals = np.concatenate([published["x"], published["x_test"]])
    labels = np.concatenate([published["y"], published["y_test"]])
    train = load_source("mnist1d", "train", **SMALL)
    first_20 = np.concatenate([np.flatnonzero(labels == k)[:20] for k in range(10)])
    kept = np.sort(first_20)
    assert np.array_equal(train.labels, labels[kept])
    assert np.array_equal(
        train.read(np.arange(200))[..., 0], signals[kept].astype(np.float32)
    )


@pytest.mark.parametrize("options", [{"train_per_class": 0}, {"test_per_class": 0}])
def test_empty_splits_are_refused(options):
    with pytest.raises(ValueError, match="must both be at least 1"):
        load_source("mnist1d", **options)
