"""Parametric contrastive loss: a published case, its definition, its limits."""

import functools

import jax
import numpy as np
import pytest

from ltjax.losses import balanced_softmax, paco

loss = jax.jit(paco, static_argnames="block")


def ref_paco(logits, labels, counts, q, k, queue, queue_labels, a, b, g, temperature):
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    samples = np.concatenate([unit(q), unit(k), queue])
    classes = np.concatenate([labels, labels, queue_labels])
    losses = []
    for i, y in enumerate(labels):
        centers = logits[i] + np.log(counts / counts.sum())
        others = [j for j in range(len(samples)) if j != i]
        s = {j: unit(q)[i] @ samples[j] / temperature for j in others}
        total = np.exp(centers).sum() + g * sum(np.exp(s[j]) for j in others)
        same = [j for j in others if classes[j] == y]
        gain = b * (centers[y] - np.log(total))
        gain += a * sum(s[j] - np.log(total) for j in same)
        losses.append(-gain / (b + a * len(same)))
    return np.array(losses)


def test_two_queries_by_hand(x64):
    case = {
        "logits": np.array([[1.0, 0.5], [0.2, 0.3]]),
        "labels": np.array([0, 1]),
        "class_counts": np.array([9, 1]),
        "queries": np.array([[1.0, 0.0], [0.0, 1.0]]),
        "keys": np.array([[0.6, 0.8], [0.0, 1.0]]),
        "queue": np.array([[1.0, 0.0], [0.8, 0.6]]),
        "queue_labels": np.array([0, 1]),
    }
    found = loss(**case, alpha=0.05, temperature=0.2)
    np.testing.assert_allclose(found.mean(), 5.56500718, atol=5e-9)
    expected = ref_paco(*case.values(), 0.05, 1.0, 1.0, 0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equals_its_definition_and_balanced_softmax(x64):
    rng = np.random.default_rng(0)
    queue = rng.normal(size=(9, 4))
    case = {
        "logits": rng.normal(size=(6, 3)),
        "labels": np.array([0, 1, 0, 2, 0, 1]),
        "class_counts": np.array([90, 20, 3]),
        "queries": rng.normal(size=(6, 4)),
        "keys": rng.normal(size=(6, 4)),
        "queue": queue / np.linalg.norm(queue, axis=1, keepdims=True),
        "queue_labels": np.array([0, -1, 2, 0, 1, -1, 0, 0, 2]),
    }
    call = functools.partial(loss, **case, temperature=0.3, block=4)
    found = call(alpha=0.2, beta=0.7, gamma=0.4)
    expected = ref_paco(*case.values(), 0.2, 0.7, 0.4, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    plain = balanced_softmax(case["logits"], case["labels"], case["class_counts"])
    np.testing.assert_allclose(call(alpha=0.0, beta=1.0, gamma=0.0), plain, rtol=1e-12)


def test_optimum_of_the_center_is_one_over_one_plus_alpha_k():
    """The weights of own center and 8 positives: 1 / (1 + 0.05 * 8)."""
    np.testing.assert_allclose(1 / (1 + 0.05 * 8), 0.71428571, atol=5e-9)
    one = {"queries": np.ones((1, 1)), "keys": np.ones((1, 1))}
    queue = {"queue": np.ones((7, 1)), "queue_labels": np.zeros(7, int)}

    def of_logit(z):
        args = np.array([[0.0]]) + z, np.array([0]), np.array([3])
        return paco(*args, **one, **queue, temperature=1.0, alpha=0.05)[0]

    # The slope in the own center's logit vanishes where its probability, against 8
    # samples of exp(1) each, is that number.
    logit = np.log(0.71428571 / (1 - 0.71428571) * 8 * np.e)
    slope = jax.jit(jax.grad(of_logit))(np.float32(logit))
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_bad_input_is_named():
    x, y = np.ones((3, 2)), np.zeros(3, int)
    samples = {"queries": x, "keys": x, "queue": x, "queue_labels": y}
    with pytest.raises(ValueError, match="must be > 0, but class 1 has 0"):
        paco(x, y, np.array([1, 0]), **samples)
    with pytest.raises(ValueError, match=r"logits has shape \(2, 2\), expected \[3"):
        paco(x[:2], y[:2], np.ones(2), **samples)
    with pytest.raises(ValueError, match="paco: gamma is -1"):
        paco(x, y, np.ones(2), **samples, gamma=-1.0)
