"""Decoupled classifiers against numbers worked out by hand from their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import nearest_class_mean
from ltjax.methods.supervised.decoupled import nearest_mean, tau_normalized

# Class vectors (3, 4), (.6, .8), (0, 2), of norms 5, 1, 2.
KERNEL = jnp.array([[3.0, 0.6, 0.0], [4.0, 0.8, 2.0]])
BIAS = jnp.array([0.1, 0.0, -0.1])
FEATURES = jnp.array([[1.0, 0.5]])


@pytest.mark.parametrize(
    "tau, expected",
    [(0.0, (5, 1, 1)), (0.5, (2.236067977, 1, 0.707106781)), (1.0, (1, 1, 0.5))],
)
def test_tau_normalized_drops_or_keeps_the_bias(tau, expected):
    outputs = {"logits": FEATURES @ KERNEL + BIAS[None]}
    fitted = {"tau": tau, "kernel": KERNEL, "bias": BIAS}
    dropped = tau_normalized()(fitted, outputs)
    np.testing.assert_allclose(dropped[0], expected, rtol=1e-6)
    kept = tau_normalized(bias_mode="keep")(fitted, outputs)
    np.testing.assert_allclose(kept[0], np.add(expected, BIAS), rtol=1e-6)
    without = {"tau": tau, "kernel": KERNEL}
    np.testing.assert_allclose(
        tau_normalized()(without, {"logits": FEATURES @ KERNEL})[0], expected, rtol=1e-6
    )
    with pytest.raises(ValueError, match="bias_mode is 'half'"):
        tau_normalized(bias_mode="half")


@pytest.mark.parametrize(
    "transform, expected",
    [
        ("none", (-0.5, -3.25)),
        ("l2n", (-0.211145618, -1.105572809)),
        ("cl2n", (-0.013569415, -3.117280769)),
    ],
)
def test_nearest_mean_scores(transform, expected):
    train = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    labels = jnp.array([0, 0, 1, 1])
    fitted = nearest_class_mean(train, labels, 2, transform=transform)
    scores = nearest_mean()(fitted, {"features": FEATURES})
    np.testing.assert_allclose(scores[0], expected, rtol=2e-5)
    with pytest.raises(ValueError, match="score is 'cosine'"):
        nearest_mean(score="cosine")
