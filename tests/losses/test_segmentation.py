"""The pixel AUC loss: a double loop over pixels, masks, chunks and memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import auc_square, pixel_auc
from ltjax.reduce import weighted_mean

CLASSES = 4


def scene(seed):
    """Two images of 4 x 3 pixels, class 3 absent, a fifth of the pixels ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 4, 3)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = 255
    logits = 3 * rng.normal(size=(2, 4, 3, CLASSES))
    return np.where((labels != 255)[..., None], logits, np.nan), labels


@functools.cache
def program(chunk=5):
    def mean(logits, labels, where, margin):
        values = pixel_auc(logits, labels, margin=margin, chunk=chunk, where=where)
        return weighted_mean(values.ravel(), where=where.ravel()), values

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


def graded(logits, labels, margin=0.8, chunk=5):
    out = program(chunk)(logits, labels, labels != 255, logits.dtype.type(margin))
    return jax.device_get(out)


def loop(logits, labels, margin=0.8):
    scores = 1 / (1 + np.exp(-logits.reshape(-1, CLASSES)))
    labels = labels.ravel()
    present = [k for k in range(CLASSES) if np.any(labels == k)]
    risks = [
        np.mean(
            [
                (margin - p + q) ** 2 / 2
                for p in scores[labels == i, i]
                for q in scores[labels == j, i]
            ]
        )
        for i in present
        for j in present
        if i != j
    ]
    return np.mean(risks)


def test_equals_the_double_loop(x64):
    logits, labels = scene(0)
    (value, values), gradient = graded(logits, labels)
    assert value == pytest.approx(loop(logits, labels), rel=1e-12)
    assert values.shape == labels.shape and not values[labels == 255].any()
    assert not gradient[labels == 255].any()
    for place in ((0, 1, 2, 0), (1, 3, 0, 2), (0, 0, 1, 1), (1, 2, 2, 3)):
        if labels[place[:3]] == 255:
            continue
        ends = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[place] += sign * 1e-6
            ends.append(loop(moved, labels))
        difference = (ends[0] - ends[1]) / 2e-6
        assert gradient[place] == pytest.approx(difference, rel=1e-5, abs=1e-9)


def test_is_the_square_loss_of_the_pixels(x64):
    logits, labels = scene(1)
    keep = labels != 255
    (_, values), gradient = graded(logits, labels)
    flat = logits[keep], labels[keep].astype(np.int32)

    def total(z):
        values = auc_square(jax.nn.sigmoid(z), flat[1], margin=0.8)
        return jnp.mean(values), values

    (_, expected), slopes = jax.jit(jax.value_and_grad(total, has_aux=True))(flat[0])
    np.testing.assert_allclose(values[keep], expected, rtol=1e-12)
    np.testing.assert_allclose(gradient[keep], slopes, rtol=1e-10, atol=1e-15)


def test_second_derivatives(x64):
    logits, labels = scene(4)
    logits = np.where(np.isnan(logits), 0, logits)
    direction = np.random.default_rng(5).normal(size=logits.shape)

    def slope(z):
        return program()(z, labels, labels != 255, 0.8)[1]

    product = jax.jit(lambda z, d: jax.jvp(slope, (z,), (d,))[1])(logits, direction)
    ends = [graded(logits + sign * 1e-6 * direction, labels)[1] for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(product, difference, rtol=1e-5, atol=1e-10)


def test_pixels_may_move_between_images_and_chunks(x64):
    logits, labels = scene(2)
    (value, values), _ = graded(logits, labels)
    order = np.random.default_rng(0).permutation(24)
    mixed = logits.reshape(24, -1)[order].reshape(logits.shape)
    moved = labels.ravel()[order].reshape(labels.shape)
    (other, _), _ = graded(mixed, moved)
    assert other == pytest.approx(value, rel=1e-12)
    (_, whole), _ = graded(logits, labels, chunk=1000)
    np.testing.assert_allclose(whole, values, rtol=1e-12)


def test_one_class_costs_nothing():
    logits, labels = scene(3)
    logits = np.float32(logits)
    for given in (np.where(labels == 255, 255, 2), np.full_like(labels, 255)):
        (value, values), gradient = graded(logits, given.astype(np.uint8))
        assert value == 0 and not values.any() and not gradient.any()
        assert value.dtype == np.float32
    bad = np.where(labels == 255, 255, labels)
    bad[0, 0, 0] = 4
    (_, values), _ = graded(np.nan_to_num(logits), bad)
    np.testing.assert_array_equal(np.isnan(values), bad == 4)
    empty = pixel_auc(logits[:0], labels[:0])
    assert empty.shape == (0, 4, 3)


def test_memory_does_not_grow_with_the_scores():
    """Temporaries of 2^15 pixels of 32 classes (4 MiB of scores) in chunks of 2^10."""
    logits = jax.ShapeDtypeStruct((2**15, 32), jnp.float32)
    labels = jax.ShapeDtypeStruct((2**15,), jnp.int32)

    def gradient(chunk):
        loss = lambda z, y: jnp.sum(pixel_auc(z, y, chunk=chunk))
        compiled = jax.jit(jax.grad(loss)).lower(logits, labels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # The gradient of each of the passes over the pixels, and little more.
    assert gradient(2**10) < 5 * 2**22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "softmax"}, "activation is 'softmax', expected one of"),
        ({"chunk": 0}, "chunk is 0"),
        (
            {"where": np.ones((2, 4), bool)},
            r"where has shape \(2, 4\), expected",
        ),
        ({"labels": np.zeros((2, 4), int)}, r"labels have shape \(2, 4\)"),
    ],
)
def test_bad_input_is_named(options, message):
    arguments = {
        "logits": np.zeros((2, 4, 3, CLASSES), np.float32),
        "labels": np.zeros((2, 4, 3), int),
    }
    with pytest.raises(ValueError, match=f"pixel_auc: {message}"):
        pixel_auc(**arguments | options)
