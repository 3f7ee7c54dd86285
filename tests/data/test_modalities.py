"""Inputs that are a dict: sources, feeds, augmentation, and what does not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import array_source, augment
from ltjax.data import feed as feeds
from ltjax.data.modalities import byte_count, check_batch
from ltjax.data.overlap import find_overlap
from ltjax.data.signature import signature_from, signature_of, stand_in
from ltjax.train.identity import content_fingerprint


def made(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8),
        "sound": rng.normal(size=(count, 8, 1)).astype(np.float32),
    }


def source(count=6, seed=0):
    return array_source(made(count, seed), np.arange(count) % 2)


def test_a_source_knows_each_modality():
    found = source()
    assert found.shape == {"image": (4, 4, 1), "sound": (8, 1)}
    assert found.dtype == {"image": np.uint8, "sound": np.float32}
    assert byte_count(found.element) == 16 + 32
    rows = found.select([4, 1]).read([1, 0])
    for name, stored in made().items():
        np.testing.assert_array_equal(rows[name], stored[[1, 4]])


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_both_feeds_make_the_same_batch(kind):
    make = {"resident": feeds.resident, "streaming": feeds.streaming}[kind]
    feed = make(source(), augment.build("none"))
    plan = (np.array([3, 0]), np.array([True, True]))
    (rows,) = feed.iterate(lambda step: plan, 0, 1)
    batch = jax.jit(lambda a, r: feed.batch(a, r, None, train=False))(feed.arrays, rows)
    want = made()
    np.testing.assert_allclose(
        batch["inputs"]["image"], want["image"][[3, 0]] / np.float32(255), rtol=1e-6
    )
    np.testing.assert_array_equal(batch["inputs"]["sound"], want["sound"][[3, 0]])


def test_shift_each_moves_images_and_turns_signals_by_position():
    pipeline = augment.build("shift_each", pad=1, turn=0.5)
    batch = {"inputs": jax.tree.map(jnp.asarray, made())}
    key = jax.random.key(1)
    moved = pipeline.train(key, batch)["inputs"]
    first = pipeline.train(key, jax.tree.map(lambda x: x[:], batch))["inputs"]
    still = pipeline.eval(batch)["inputs"]
    for name in ("image", "sound"):
        assert moved[name].dtype == jnp.float32
        np.testing.assert_array_equal(moved[name], first[name])
        assert not np.array_equal(moved[name], still[name])
    # A turned signal has the same samples.
    np.testing.assert_array_equal(
        np.sort(moved["sound"], axis=1), np.sort(still["sound"], axis=1)
    )


def test_a_signature_survives_json_and_stands_in():
    signature = signature_of(source())
    again = signature_from(json.loads(json.dumps(dataclasses.asdict(signature))))
    assert again == signature
    assert stand_in(again).element == source().element


def test_content_and_overlap_look_at_every_modality():
    changed = made()
    changed["sound"][2] += 1
    other = array_source(changed, np.arange(6) % 2)
    assert content_fingerprint(source()) == content_fingerprint(source())
    assert content_fingerprint(source()) != content_fingerprint(other)
    assert find_overlap(source(), other).shared == 5


def test_what_does_not_fit_is_named():
    inputs = made()
    with pytest.raises(ValueError, match=r"arrays, sound: inputs have shape \(5"):
        array_source({**inputs, "sound": inputs["sound"][:5]}, np.arange(6) % 2)
    bad = {**inputs, "sound": inputs["sound"] * np.nan}
    with pytest.raises(ValueError, match="arrays, sound: input 0 is not finite"):
        array_source(bad, np.arange(6) % 2)
    element = source().element
    check_batch("ask", inputs, element)
    with pytest.raises(ValueError, match="lack the modality 'sound', there is only"):
        check_batch("ask", {"image": inputs["image"]}, element)
    with pytest.raises(ValueError, match="have the unknown modality 'text'"):
        check_batch("ask", {**inputs, "text": inputs["sound"]}, element)
    with pytest.raises(ValueError, match="inputs are one array, expected a dict of"):
        check_batch("ask", inputs["image"], element)
    with pytest.raises(ValueError, match="are a dict of image, sound, expected one"):
        check_batch("ask", inputs, element["image"])
    with pytest.raises(ValueError, match=r"modality 'image': inputs have shape \(6, 8"):
        check_batch("ask", {**inputs, "image": inputs["sound"]}, element)
