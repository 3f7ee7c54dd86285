"""Pipelines: what they are made of, keys per position, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.data import augment
from ltjax.options import options_of

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
KEY = jax.random.key(0)


def images(count, size=8):
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (count, size, size, 3)).astype(np.uint8)


def standardized(x):
    return (np.asarray(x, np.float64) / 255 - MEAN) / STD


@functools.cache
def compiled(name, **options):
    """A pipeline whose functions are compiled once for all tests here."""
    if name in ("imagenet", "inaturalist"):
        options["size"] = 6
    return OfInputs(augment.build(name, mean=MEAN, std=STD, **options))


class OfInputs:
    """A pipeline as compiled functions of the inputs alone."""

    def __init__(self, pipeline):
        self._train = jax.jit(pipeline.train)
        self._eval = jax.jit(pipeline.eval)

    def train(self, key, inputs):
        return self._train(key, {"inputs": inputs})["inputs"]

    def eval(self, inputs):
        return self._eval({"inputs": inputs})["inputs"]


RANDOM = {
    "cifar": {},
    "cifar_cutout": {"cutout_size": 4},
    "imagenet": {},
    "inaturalist": {},
}


@pytest.fixture(params=RANDOM)
def random_pipeline(request):
    return compiled(request.param, **RANDOM[request.param])


def test_cifar_is_crop_flip_normalize():
    batch = images(64)
    pipeline = compiled("cifar")
    out = np.asarray(pipeline.train(KEY, batch))
    assert out.shape == batch.shape and out.dtype == np.float32
    padded = np.pad(batch, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = set()
    for one, image in zip(out, padded, strict=True):
        windows = {
            (top, left, step): standardized(
                image[top : top + 8, left : left + 8][:, ::step]
            )
            for top in range(9)
            for left in range(9)
            for step in (1, -1)
        }
        found = [k for k, w in windows.items() if np.allclose(one, w, atol=1e-5)]
        assert found
        places.add(found[0])
    assert len(places) > 30  # 64 draws of 162
    # Padding is black before normalization.
    black = standardized(np.zeros(3))
    assert np.any(np.all(np.isclose(out, black, atol=1e-5), axis=-1))


def test_cifar_cutout_blackens_up_to_a_16_square():
    batch = np.full((32, 40, 40, 3), 200, np.uint8)
    pipeline = compiled("cifar_cutout", pad=0)
    out = np.asarray(pipeline.train(KEY, batch))
    black = np.all(np.isclose(out, standardized(np.zeros(3)), atol=1e-5), axis=-1)
    area = black.sum(axis=(1, 2))
    assert area.max() == 256 and area.min() >= 64
    white = np.all(np.isclose(out, standardized(np.full(3, 200)), atol=1e-5), axis=-1)
    assert np.all(black ^ white)


@pytest.mark.parametrize("name", ["normalize", "cifar", "cifar_cutout"])
def test_evaluation_only_normalizes(name):
    batch = images(3)
    pipeline = augment.build(name, mean=MEAN, std=STD)
    out = pipeline.eval({"inputs": batch})["inputs"]
    assert np.allclose(out, standardized(batch), atol=1e-5)
    assert pipeline.deterministic == (name == "normalize")
    if name == "normalize":
        trained = pipeline.train(KEY, {"inputs": batch})["inputs"]
        assert np.array_equal(trained, out)


def test_imagenet_evaluation_takes_the_center():
    batch = images(2, size=10)
    out = compiled("imagenet").eval(batch)
    assert np.allclose(out, standardized(batch[:, 2:8, 2:8]), atol=1e-5)


def test_imagenet_stays_in_the_range_of_pixels():
    out = np.asarray(compiled("imagenet").train(KEY, images(16)))
    assert out.shape == (16, 6, 6, 3) and out.dtype == np.float32
    low, high = standardized(np.zeros(3)), standardized(np.full(3, 255))
    assert np.all(out >= low - 1e-4) and np.all(out <= high + 1e-4)


def test_inaturalist_has_no_jitter():
    gray = np.full((16, 8, 8, 3), 100, np.uint8)
    expected = standardized(np.full(3, 100))
    plain, jittered = compiled("inaturalist"), compiled("imagenet")
    assert np.allclose(plain.train(KEY, gray), expected, atol=1e-4)
    assert not np.allclose(jittered.train(KEY, gray), expected, atol=1e-2)


@pytest.mark.parametrize("name", ["cifar", "imagenet", "inaturalist"])
def test_images_are_mirrored_half_of_the_time(name):
    options = {"pad": 0} if name == "cifar" else {}
    ramp = np.broadcast_to(np.arange(60, 220, 20)[:, None], (16, 8, 8, 3))
    out = np.asarray(compiled(name, **options).train(KEY, ramp.astype(np.uint8)))
    middle = out.shape[2] // 2
    rising = (out[:, 3, middle, 0] > out[:, 3, middle - 1, 0]).sum()
    assert 2 <= rising <= 14  # 5 in 10,000 fair draws lie outside


def test_none_keeps_floats_and_scales_pixels():
    pipeline = OfInputs(augment.build("none"))
    floats = np.array([[0.5], [-3.0]], np.float32)
    assert np.array_equal(pipeline.train(None, floats), floats)
    assert np.array_equal(pipeline.eval(floats), floats)
    pixels = pipeline.eval(np.array([[0, 255]], np.uint8))
    assert pixels.dtype == jnp.float32 and pixels.tolist() == [[0.0, 1.0]]


def test_positions_have_their_own_keys(random_pipeline):
    """Equal images come out different, and do not depend on their neighbors."""
    batch = np.repeat(images(1), 16, axis=0)
    out = np.asarray(random_pipeline.train(KEY, batch))
    assert len(np.unique(out.reshape(16, -1), axis=0)) > 8
    others = images(16)
    others[5] = batch[5]
    assert np.allclose(random_pipeline.train(KEY, others)[5], out[5], atol=1e-6)
    assert not np.array_equal(random_pipeline.train(jax.random.key(1), batch), out)


def test_eight_devices_equal_one(random_pipeline):
    batch = images(16)
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    one = random_pipeline.train(KEY, batch)
    assert np.allclose(random_pipeline.train(KEY, sharded), one, atol=1e-5)


@pytest.mark.parametrize("name", augment.PIPELINES)
def test_what_else_is_in_a_batch_stays_in_it(name):
    options = {"size": 6} if "size" in options_of_pipeline(name) else {}
    pipeline = augment.build(name, mean=MEAN, std=STD, **options)
    batch = {"inputs": images(4), "label": np.arange(4), "mask": np.ones(4, bool)}
    trained = jax.eval_shape(pipeline.train, KEY, batch)
    for found in (trained, jax.eval_shape(pipeline.eval, batch)):
        assert found.keys() == batch.keys()
        assert found["inputs"].dtype == jnp.float32
        assert found["label"].shape == (4,) and found["mask"].dtype == bool
    if name in ("none", "normalize"):
        assert pipeline.train(KEY, batch)["label"] is batch["label"]


def options_of_pipeline(name):
    return options_of(augment.PIPELINES[name].options)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: augment.build("cifr"), "'cifr' is unknown; did you mean 'cifar'"),
        (lambda: augment.build("cifar", mean=MEAN), "std is None"),
        (
            lambda: augment.build("cifar", mean=MEAN, std=STD, size=3),
            "'cifar' has no option 'size'; did you mean 'cutout_size'",
        ),
        (
            lambda: augment.build("cifar", mean=MEAN, std=STD, pad=-1),
            "pad is -1, expected a number >= 0",
        ),
        (
            lambda: augment.build("imagenet", mean=MEAN, std=STD).eval(
                {"inputs": images(1)}
            ),
            "8x8 pixels, expected at least 224x224",
        ),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
