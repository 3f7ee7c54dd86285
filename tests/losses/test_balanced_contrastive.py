"""Balanced contrastive learning against its definition, one pair at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import balanced_contrastive


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def ref_losses(features, labels, centers, temperature):
    """Losses [B] with the keys, their classes and the class sizes written out."""
    size, views = features.shape[:2]
    rows = unit(features.reshape(size * views, -1))
    keys = np.concatenate([rows, unit(centers.T)])
    classes = np.concatenate([np.repeat(labels, views), np.arange(centers.shape[1])])
    losses = []
    for i, anchor in enumerate(rows):
        total, positives = 0.0, []
        for j, key in enumerate(keys):
            if j == i:
                continue
            mates = sum(classes[m] == classes[j] for m in range(len(keys)) if m != i)
            total += np.exp(anchor @ key / temperature) / mates
            if classes[j] == classes[i]:
                positives.append(anchor @ key / temperature)
        losses.append(np.log(total) - np.mean(positives))
    return np.reshape(losses, (size, views)).mean(axis=1)


@pytest.mark.parametrize("block", [None, 4])
def test_equals_its_definition(x64, block):
    """Class 3 has no example in the batch, class 2 has one; two views of each."""
    rng = np.random.default_rng(0)
    features, centers = rng.normal(size=(6, 2, 3)), rng.normal(size=(3, 4))
    labels = np.array([0, 1, 0, 2, 1, 0])
    loss = functools.partial(balanced_contrastive, temperature=0.3, block=block)

    @jax.jit
    def graded(features, centers):
        total = lambda f, c: jnp.sum(loss(f, labels, c))
        return loss(features, labels, centers), jax.grad(total, (0, 1))(
            features, centers
        )

    found, gradients = graded(features, centers)
    expected = ref_losses(features, labels, centers, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for which, place in ((0, (3, 1, 2)), (1, (1, 3)), (1, (0, 0))):
        ends = []
        for step in (1e-6, -1e-6):
            moved = [features.copy(), centers.copy()]
            moved[which][place] += step
            ends.append(ref_losses(moved[0], labels, moved[1], 0.3).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradients[which][place], slope, rtol=1e-7, atol=1e-9)


def test_two_examples_by_hand(x64):
    """Identity features and centers, T = 1: log(e + 1/2 + 1/2) - 1."""
    eye, labels = np.eye(2), np.array([0, 1])
    found = jax.jit(balanced_contrastive)(eye, labels, eye, temperature=1.0)
    # Own center e / 1; the other class has two keys at similarity 0.
    np.testing.assert_allclose(found, np.log(np.e + 1) - 1, rtol=1e-12)


def test_label_out_of_range_is_nan_and_nobodys_key(x64):
    rng = np.random.default_rng(1)
    features, centers = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    loss = jax.jit(balanced_contrastive)
    found = jax.device_get(loss(features, np.array([0, 5, 1, -1]), centers))
    assert np.all(np.isnan(found[[1, 3]]))
    expected = loss(features[[0, 2]], np.array([0, 1]), centers)
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=1e-12)


def test_bad_input_is_named():
    x, y = np.ones((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match=r"centers has shape \(3, 2\), expected \[2"):
        balanced_contrastive(x, y, x)
    with pytest.raises(ValueError, match=r"features has shape \(3,\)"):
        balanced_contrastive(x[:, 0], y, x.T)


@pytest.mark.parametrize("labels", [[], np.zeros(0), np.zeros(0, np.int64)])
def test_no_examples_have_no_losses(labels):
    features, centers = np.zeros((0, 2), np.float32), np.eye(2, dtype=np.float32)
    assert balanced_contrastive(features, labels, centers).shape == (0,)
