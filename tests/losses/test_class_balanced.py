"""Class-balanced losses, and the two reductions they are averaged by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.class_stats import class_balanced_weights
from ltjax.losses import class_balanced, softmax_cross_entropy
from ltjax.reduce import weighted_mean

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2]])
TAIL = np.array([2])


@pytest.mark.parametrize(
    ("base", "gamma", "loss"),
    [
        ("softmax", 2.0, 4.112826696385),
        ("sigmoid", 2.0, 6.874671580),
        ("focal", 0.5, 5.532751666),
        ("focal", 1.0, 4.467819118),
        ("focal", 2.0, 2.942330035),
    ],
)
def test_numbers(x64, base, gamma, loss):
    value = class_balanced(LOGITS, TAIL, COUNTS, beta=0.99, base=base, gamma=gamma)
    np.testing.assert_allclose(value, [loss], atol=1e-9)


def test_the_two_reductions(x64):
    logits = np.array([[1.0, 0.5, -0.2], [0.3, -0.1, 0.8]])
    labels = np.array([2, 0])
    plain = softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(plain, [1.845911365, 1.199675981], atol=1e-9)
    weights = class_balanced_weights(COUNTS, beta=0.99)
    by_examples = weighted_mean(plain, weights[labels])
    by_weights = weighted_mean(plain, weights[labels], normalize="weights")
    np.testing.assert_allclose(by_examples, 2.159732466, atol=1e-9)
    np.testing.assert_allclose(by_weights, 1.799538009, atol=1e-9)
    inside = class_balanced(logits, labels, COUNTS, beta=0.99)
    np.testing.assert_allclose(jnp.mean(inside), by_examples, rtol=1e-14)


def test_weight_does_not_enter_the_focal_modulator(x64):
    # Doubling all counts of one class changes its loss by the ratio of weights only.
    light, heavy = np.array([100, 20, 5]), np.array([100, 20, 10])
    values = [
        float(class_balanced(LOGITS, TAIL, n, beta=0.99, base="focal")[0])
        for n in (light, heavy)
    ]
    weights = [class_balanced_weights(n, beta=0.99)[2] for n in (light, heavy)]
    np.testing.assert_allclose(values[0] / values[1], weights[0] / weights[1])


def test_traced_beta_gives_the_same_numbers():
    logits = jnp.float32(LOGITS)
    traced = jax.jit(lambda b: class_balanced(logits, TAIL, COUNTS, beta=b))
    for beta in (0.0, 0.9, 0.9999):
        expected = class_balanced(logits, TAIL, COUNTS, beta=beta)
        np.testing.assert_allclose(traced(beta), expected, rtol=1e-3)


def test_unknown_names_and_bad_ranges_are_refused():
    with pytest.raises(
        ValueError, match="class_balanced: base is 'hinge', expected one"
    ):
        class_balanced(LOGITS, TAIL, COUNTS, beta=0.9, base="hinge")
    with pytest.raises(ValueError, match="beta is 1.0"):
        class_balanced(LOGITS, TAIL, COUNTS, beta=1.0)
