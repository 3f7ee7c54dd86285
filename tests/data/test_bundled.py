"""Data sets of scikit-learn: their two parts, and a run from the shipped config."""

import pathlib

import jax
import numpy as np
import pytest
from sklearn import datasets

from ltjax.config_file import load_config
from ltjax.data.bundled import bundled
from ltjax.train.build import build
from ltjax.train.check import check

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def test_parts_are_stratified_and_share_no_example():
    stored = datasets.load_wine()
    train, test = bundled("wine"), bundled("wine", test=True)
    counts = np.bincount(stored.target)
    np.testing.assert_array_equal(test.class_counts, np.round(0.3 * counts))
    np.testing.assert_array_equal(train.class_counts + test.class_counts, counts)
    rows = [one.read(np.arange(len(one))) for one in (train, test)]
    np.testing.assert_allclose(rows[0].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(rows[0].std(0), 1, rtol=1e-5)
    # A linear map of the stored table: what lies between has the stored proportions.
    first = np.sort(np.concatenate(rows)[:, 0])
    stored_first = np.sort(stored.data[:, 0])
    np.testing.assert_allclose(
        (first - first[0]) / np.ptp(first),
        (stored_first - stored_first[0]) / np.ptp(stored_first),
        atol=1e-5,
    )
    other = bundled("wine", seed=1)
    assert other.fingerprint != train.fingerprint


def test_digits_are_images_with_pixels_up_to_one():
    source = bundled("digits")
    images = source.read(np.arange(len(source)))
    assert images.shape[1:] == (8, 8, 1) and (images.min(), images.max()) == (0, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="bundled: name is 'iris'"):
        bundled("iris")
    with pytest.raises(ValueError, match="bundled: test_share is 0"):
        bundled("wine", test_share=0)


@pytest.mark.parametrize(("data", "classes"), [("breast_cancer", 2), ("digits", 10)])
def test_the_config_of_areas_takes_them(data, classes):
    spec = f"{CONFIGS / 'auc_lt.py'}:method=auc_square,data={data},smoke"
    run = build(check(load_config(["--config", spec])))
    counts = run.info.class_counts
    assert len(counts) == classes and 9 < counts.max() / counts.min() < 11
    state = jax.eval_shape(run.init, 0, run.info.replicas[0]["hyper"])
    shape = run.sources["train"].shape
    inputs = jax.ShapeDtypeStruct((4, *shape), np.float32)
    outputs = jax.eval_shape(run.predict, state, inputs)
    assert outputs["logits"].shape == (4, classes)
