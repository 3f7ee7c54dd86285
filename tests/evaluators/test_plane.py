"""The principal plane of features that are given, by hand."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.plane import drawn_rows, principal_plane
from ltjax.evaluators.registry import EVALUATORS

STATE = types.SimpleNamespace(params={}, model_state={})


def test_the_plane_of_three_axes():
    # Spreads 2, 1 and 0.1 along axes that a rotation mixes.
    scores = np.array([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0.1]])
    scores = np.vstack([scores, [[0, 0, -0.1]]])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    points, share = principal_plane(scores @ rotation.T + 7)
    signs = np.sign(points[[0, 2], [0, 1]])
    np.testing.assert_allclose(points * signs, scores[:, :2], atol=1e-9)
    # Sums of squares 8, 2 and 0.02.
    assert share == pytest.approx(10 / 10.02)


def test_every_class_has_its_share_of_points():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    rows = drawn_rows(labels, per_class=20, most=15)
    assert np.bincount(labels[rows]).tolist() == [5, 3, 5]
    many = np.arange(100)
    assert drawn_rows(many, per_class=5, most=30).tolist() == list(range(30))


def test_an_evaluation_keeps_points_with_their_classes():
    def forward(params, model_state, inputs, *, train):
        return {"features": inputs}, model_state

    setting = EvaluatorSetting(
        predict=lambda state, inputs: {},
        class_counts=np.array([9, 2]),
        groups={},
        networks={"main": types.SimpleNamespace(forward=forward)},
    )
    component = EVALUATORS["pca"]
    one = component.make(component.options(per_class=2), setting)
    inputs = jnp.array([[1.0, 0], [-1, 0], [3, 0], [-3, 0.5]])
    batch = {"inputs": inputs, "label": jnp.array([0, 1, 0, 0])}
    features, labels = one.judge.fn(STATE, batch, None)
    arrays = one.arrays((features[None], labels[None]), None, None)
    assert arrays["points/features"].shape == (1, 3, 3)  # two of class 0, one of 1
    assert arrays["points/features"][0, :, 2].tolist() == [0, 1, 0]
    (share,) = one.summarize(arrays)["pca_share"]
    assert share == pytest.approx(1)
