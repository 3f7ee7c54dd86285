"""Images and the classes of their pixels move together."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.augment import PipelineSetting
from ltjax.data.pipelines import PIPELINES
from ltjax.data.pixel_pipelines import ScaleCropOptions, scale_crop
from ltjax.losses import pixel_auc
from ltjax.metrics.segmentation import pixel_confusion
from ltjax.options import options_of

SIDE, CELL = 16, 4
ARRAYS = {"key", "image", "targets"}


def made(**options):
    setting = PipelineSetting((0.0, 0.0), (1.0, 1.0))
    return PIPELINES["scale_crop"].make(ScaleCropOptions(**options), setting)


@pytest.fixture(scope="module")
def batch():
    """Pixels whose two colors say where they are; classes are cells of 4 x 4."""
    place = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1)
    classes = place[..., 0] // CELL * (SIDE // CELL) + place[..., 1] // CELL
    return {
        "inputs": jnp.asarray(np.stack([place + 1.0] * 32), jnp.float32),
        "targets": jnp.asarray(np.stack([classes] * 32), jnp.uint8),
        "label": jnp.arange(32),
    }


@pytest.fixture(scope="module")
def moved(batch):
    return jax.jit(made().train)(jax.random.key(0), batch)


def test_a_pixel_keeps_the_class_of_the_place_that_it_comes_from(batch, moved):
    images, targets = np.asarray(moved["inputs"]), np.asarray(moved["targets"])
    assert images.shape == (32, SIDE, SIDE, 2) and targets.dtype == np.uint8
    out = targets == 255
    np.testing.assert_array_equal(images[out], 0)
    where = images - 1.0  # bilinear ramps give the place itself, but at the border
    assert (where[~out] >= -1e-4).all() and (where[~out] <= SIDE - 1 + 1e-4).all()
    # Half-pixel centers: a place of -0.5 to 3.5 belongs to the first four pixels.
    cells = np.floor((where + 0.5) / CELL)
    sure = ~out & (
        np.abs((where + 0.5) / CELL - np.round((where + 0.5) / CELL)) > 1e-4
    ).all(-1)
    want = cells[..., 0] * (SIDE // CELL) + cells[..., 1]
    np.testing.assert_array_equal(targets[sure], want[sure])
    assert sure.sum() > 0.9 * (~out).sum()
    np.testing.assert_array_equal(moved["label"], batch["label"])


def test_sizes_places_and_flips_are_drawn_for_every_position(batch, moved):
    where = np.asarray(moved["inputs"])[:, SIDE // 2]
    inside = np.asarray(moved["targets"])[:, SIDE // 2] != 255
    step = np.array(
        [
            np.median(np.diff(row[keep, 1]))
            for row, keep in zip(where, inside, strict=True)
        ]
    )
    mirrored, size = step < 0, 1 / np.abs(step)
    assert 6 <= mirrored.sum() <= 26
    assert size.min() < 0.75 and size.max() > 1.6 and len(np.unique(size)) > 25
    assert (size > 0.49).all() and (size < 2.01).all()
    still = jax.jit(made(smallest=1.0, largest=1.0, flip=False).train)
    kept = still(jax.random.key(1), batch)
    np.testing.assert_allclose(kept["inputs"], batch["inputs"], atol=1e-5)
    np.testing.assert_array_equal(kept["targets"], batch["targets"])
    np.testing.assert_array_equal(made().eval(batch)["targets"], batch["targets"])


def test_what_comes_into_view_counts_nowhere(batch):
    shrink = jax.jit(made(smallest=0.5, largest=0.5, flip=False).train)
    small = shrink(jax.random.key(2), batch)
    targets = small["targets"]
    valid = targets != 255
    assert int(valid.sum()) == 32 * (SIDE // 2) ** 2
    logits = jax.random.normal(jax.random.key(3), (*targets.shape, 16))
    noise = jnp.where(valid[..., None], logits, jnp.nan)
    known = jnp.where(valid, targets, 0)
    loss = jax.jit(pixel_auc)
    values = loss(noise, known, where=valid)
    np.testing.assert_allclose(values, loss(logits, known, where=valid))
    assert np.isfinite(values).all() and not values[~valid].any()
    guess = np.asarray(logits).argmax(-1)
    table = pixel_confusion(jnp.asarray(guess), targets, 16)
    assert int(table.sum()) == int(valid.sum())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ScaleCropOptions(smallest=2.0, largest=1.0),
            ValueError,
            "smallest is 2.0 and largest 1.0",
        ),
        (
            lambda: scale_crop(
                jax.random.key(0), jnp.ones((4, 4, 1)), jnp.zeros((2, 4), jnp.uint8)
            ),
            ValueError,
            r"targets have shape \(2, 4\)",
        ),
        (
            lambda: scale_crop(
                jax.random.key(0), jnp.ones((4, 4, 1)), jnp.zeros((4, 4), jnp.int8)
            ),
            TypeError,
            "dtype int8, expected one of integers up to 255",
        ),
    ],
)
def test_bad_requests_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_options_are_those_of_the_function():
    own = set(options_of(ScaleCropOptions)) - {"mean", "std"}
    assert own == set(inspect.signature(scale_crop).parameters) - ARRAYS
