"""AUCSeg: the memory's invariants, and both losses of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.segmentation.aucseg import AUCSegOptions, tail_classes
from ltjax.methods.segmentation.tail_memory import (
    TailMemory,
    empty_memory,
    paste,
    shrink,
    store,
)
from ltjax.options import ConfigError

TAIL = np.array([2, 4])
H = 6


@pytest.fixture(scope="module")
def filled():
    """A bank of two entries a class, after five images of class 2 and one of 4."""
    images = jnp.arange(1.0, 7)[:, None, None, None] * jnp.ones((6, H, H, 1))
    targets = np.zeros((6, H, H), np.uint8)
    targets[:5, 1, 1:3] = 2
    targets[5, 4, 4] = 4
    targets[5, 0, 0] = 255
    mask = jnp.array([True] * 4 + [False, True])  # the fifth image is padding
    program = jax.jit(functools.partial(store, tail=TAIL))
    memory = empty_memory(2, 2, (H, H, 1))
    return jax.device_get(
        program(memory, jax.random.key(0), images, jnp.asarray(targets), mask)
    )


def test_lists_fill_up_and_then_lose_an_entry(filled):
    assert filled.number.tolist() == [2, 1]
    kept = set(filled.images[0, :, 0, 0, 0].tolist())
    assert kept <= {1.0, 2.0, 3.0, 4.0} and kept != {1.0, 2.0}
    region = np.zeros((H, H), bool)
    region[1, 1:3] = True
    np.testing.assert_array_equal(filled.pixels[0], [region] * 2)
    assert filled.images[1, 0, 0, 0, 0] == 6 and filled.pixels[1, 0].sum() == 1
    assert not filled.pixels[1, 1].any()


@pytest.fixture(scope="module")
def pasting(filled):
    def go(key, image, target, share):
        memory = TailMemory(*map(jnp.asarray, filled))
        return paste(memory, key, image, target, tail=TAIL, share=share, resize=1.0)

    return jax.jit(go, static_argnums=3)


def test_only_missing_classes_are_pasted(filled, pasting):
    image, target = jnp.zeros((H, H, 1)), np.zeros((H, H), np.uint8)
    target[5, 5], target[0, 0] = 2, 255
    new, labels, count = pasting(jax.random.key(1), image, jnp.asarray(target), 1.0)
    # Class 2 is there; class 4 comes at its own place, for at size 1 nothing moves.
    want = target.copy()
    want[4, 4] = 4
    np.testing.assert_array_equal(labels, want)
    assert labels.dtype == np.uint8 and count == 1
    np.testing.assert_array_equal(new[..., 0], np.where(want == 4, 6, 0))
    target[4, 4] = 4
    new, labels, count = pasting(jax.random.key(1), image, jnp.asarray(target), 1.0)
    assert count == 0 and not new.any()
    np.testing.assert_array_equal(labels, target)


def test_a_share_of_the_missing_classes_is_asked_for(pasting):
    image, target = jnp.zeros((H, H, 1)), jnp.zeros((H, H), jnp.uint8)
    seen = {
        tuple(np.unique(pasting(jax.random.key(k), image, target, 0.5)[1]).tolist())
        for k in range(12)
    }
    assert seen == {(0, 2), (0, 4)}  # ceil(0.5 * 2) of them, either one


def test_smaller_regions_are_pasted_whole_into_a_window(filled):
    """At half the size: rows and columns 0, 2, 4 of the stored pixels are left."""

    @jax.jit
    def go(key, image, target):
        memory = TailMemory(*map(jnp.asarray, filled))
        return paste(memory, key, image, target, tail=TAIL, share=1.0, resize=0.5)

    image, target = jnp.zeros((H, H, 1)), np.zeros((H, H), np.uint8)
    target[0, 0] = 2  # so that class 4 alone is missing; its pixel (4, 4) is (2, 2) now
    places = set()
    for k in range(12):
        new, labels, count = go(jax.random.key(k), image, jnp.asarray(target))
        rows, columns = np.nonzero(np.asarray(labels) == 4)
        assert count == 1 and len(rows) == 1 and new.shape == image.shape
        changed = np.argwhere(np.asarray(labels) != target)
        assert changed.tolist() == [[rows[0], columns[0]]]
        np.testing.assert_array_equal(new[..., 0], np.where(labels == 4, 6, 0))
        # The window of 3 x 3 begins at 0 to 3, its last pixel lies at 2 to 5.
        assert 2 <= rows[0] <= 5 and 2 <= columns[0] <= 5
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 4


def test_regions_shrink_by_the_published_rule():
    pixels = np.zeros((5, 7), bool)
    pixels[3, 4] = True
    image = jnp.asarray(np.add.outer(np.arange(5.0), 10 * np.arange(7.0))[..., None])
    small, region = shrink(image, jnp.asarray(pixels), 2, 3)
    # Rows 0, 2 and columns 0, 2, 4 are taken: floor(i * 5 / 2), floor(j * 7 / 3).
    assert not region.any()
    assert shrink(image, jnp.asarray(np.roll(pixels, -1, 0)), 2, 3)[1].tolist() == [
        [False, False, False],
        [False, False, True],
    ]
    # Half-pixel centres without antialiasing: (i + 0.5) * 5 / 2 - 0.5.
    down, across = np.array([0.75, 3.25]), (np.arange(3) + 0.5) * 7 / 3 - 0.5
    np.testing.assert_allclose(
        small[..., 0], np.add.outer(down, 10 * across), rtol=1e-5
    )


def test_the_loss_is_both_terms_over_the_batch(smoked):
    run, state = smoked(
        "segmentation_scenes",
        "method=aucseg",
        "model.norm=none",
        "method.memory=0",
        "method.weight=3.0",
    )
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, (8, 32, 32)).astype(np.uint8)
    targets[rng.random(targets.shape) < 0.3] = 255
    batch = {
        "inputs": jnp.asarray(rng.normal(size=(8, 32, 32, 1)), jnp.float32),
        "targets": jnp.asarray(targets),
        "label": jnp.zeros(8, jnp.int32),
        "mask": jnp.arange(8) < 7,
    }
    _, metrics = jax.jit(run.step)(state, batch)
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=False
    )
    z = np.asarray(outputs["logits"], np.float64)[:7]
    y = targets[:7].astype(int)
    valid = y != 255
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    own = np.take_along_axis(log_p, np.where(valid, y, 0)[..., None], -1)[..., 0]
    images = -(own * valid).sum((1, 2)) / valid.sum((1, 2))
    s, total = 1 / (1 + np.exp(-z)), 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                p, q = s[y == i][:, i], s[y == j][:, i]
                gap = 1 - p.mean() + q.mean()
                total += (gap**2 + p.var() + q.var()) / 2
    want = images.mean() + 3 * total / 6  # K (K - 1) of the three classes present
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)


def test_a_step_with_the_memory_keeps_shapes(smoked):
    run, state = smoked("segmentation_scenes", "method=aucseg", "method.memory=2")
    shapes = jax.tree.map(jnp.shape, state.method_state)
    assert shapes["images"] == (3, 2, 32, 32, 1)
    batch = {
        "inputs": jax.ShapeDtypeStruct((8, 32, 32, 1), jnp.float32),
        "targets": jax.ShapeDtypeStruct((8, 32, 32), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((8,), jnp.bool_),
    }
    new, metrics = jax.eval_shape(run.step, state, batch)
    assert jax.tree.map(jnp.shape, new.method_state) == shapes
    assert "pasted" in metrics


def test_tail_classes_and_what_is_refused(smoked):
    counts = np.array([90, 5, 30, 7, 60])
    assert tail_classes(AUCSegOptions(), counts).tolist() == [1, 3]
    assert tail_classes(AUCSegOptions(tail=(4, 0)), counts).tolist() == [0, 4]
    for tail in ((5,), (1, 1)):
        with pytest.raises(ConfigError, match="expected different classes below 5"):
            tail_classes(AUCSegOptions(tail=tail), counts)
    with pytest.raises(ConfigError, match="'aucseg' couples the rows of the batch"):
        smoked("segmentation_scenes", "method=aucseg", "optimizer.accumulate=2")
