"""Margins of features on a simplex, and what a missing class and a head do."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import simplex_etf
from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.margins import MarginsOptions, make

STATE = types.SimpleNamespace(params={}, model_state={})
FRAME = np.asarray(simplex_etf(0, 4, 3), np.float32)


def setting(class_vectors):
    def forward(params, model_state, inputs, *, train):
        return {"features": inputs}, model_state

    network = types.SimpleNamespace(forward=forward, class_vectors=class_vectors)
    return EvaluatorSetting(
        predict=lambda state, inputs: {},
        class_counts=np.array([4, 2, 1]),
        groups={},
        networks={"main": network},
    )


def judged(features, labels, gamma=0.5):
    one = make(MarginsOptions(gamma), setting(lambda params, model_state: FRAME))
    batch = {"inputs": jnp.asarray(features), "label": jnp.asarray(labels)}
    found = one.judge.fn(STATE, batch, None)
    arrays = one.arrays([x[None] for x in found], None, one.about(STATE)[None])
    return {name: value[0] for name, value in one.summarize(arrays).items()}


def test_collapsed_features_have_the_margin_of_the_simplex():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    found = judged(2 * FRAME.T[labels], labels)
    for name in ("smallest", "low", "mean"):
        assert found[f"margin_{name}"] == pytest.approx(1.5, rel=1e-5)  # K / (K - 1)
    assert found["margin_smallest_raw"] == pytest.approx(3, rel=1e-5)
    # No margin below 0.5: what is left are two pairs of a class with n examples.
    each = [2 * (2 / (n**0.5 * 0.5) + np.sqrt(np.log(60) / (2 * n))) for n in (4, 2, 1)]
    want = np.dot([4 / 7, 2 / 7, 1 / 7], each)
    assert found["margin_bound"] == pytest.approx(want, rel=1e-5)
    # An example on the vector of another class misses its own by 1.5.
    wrong = judged(2 * FRAME.T[labels], np.array([0, 0, 0, 1, 1, 1, 2]))
    assert wrong["margin_smallest"] == pytest.approx(-1.5, rel=1e-5)


def test_an_absent_class_has_no_bound():
    labels = np.array([0, 1])
    found = judged(FRAME.T[labels], labels)
    assert np.isnan(found["margin_bound"]) and found["margin_mean"] > 1.4


def test_a_network_without_class_vectors_is_refused():
    with pytest.raises(ValueError, match="margins: the network does not expose"):
        make(MarginsOptions(), setting(None))
