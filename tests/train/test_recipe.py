"""The standard CIFAR-LT recipe, number by number."""

import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.data import augment
from ltjax.durations import duration_steps
from ltjax.train.check import check

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
STEPS_PER_EPOCH = 96


@pytest.fixture(scope="module")
def cifar():
    """configs/cifar_lt.py as it comes."""
    return check(load_config(["--config", str(CONFIGS / "cifar_lt.py")]))


def rates(config, epochs):
    """The learning rate at the first and at the last step of every epoch."""
    total = 200 * STEPS_PER_EPOCH
    setting = types.SimpleNamespace(
        steps_per_epoch=STEPS_PER_EPOCH,
        total_steps=total,
        steps=lambda text: duration_steps(
            text, steps_per_epoch=STEPS_PER_EPOCH, batch_size=128, total_steps=total
        ),
    )
    factor = config.schedule.make(setting)
    first = np.asarray(epochs) * STEPS_PER_EPOCH
    steps = np.stack([first, first + STEPS_PER_EPOCH - 1])
    found = jax.vmap(jax.vmap(factor))(jnp.asarray(steps))
    return config.optimizer.lr * np.asarray(found)


def test_the_rate_of_every_epoch(cifar):
    # e < 5: .1 (e + 1) / 5; then .1; from 160 .001; from 180 .00001.
    expected = np.full(200, 0.1)
    expected[:5] = [0.02, 0.04, 0.06, 0.08, 0.1]
    expected[160:180] = 0.001
    expected[180:] = 0.00001
    found = rates(cifar, np.arange(200))
    for at_step in found:  # constant within an epoch
        np.testing.assert_allclose(at_step, expected, rtol=1e-6)


def test_the_recipe_is_written_in_the_config(cifar):
    optimizer = cifar.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == (
        "sgd",
        0.9,
        False,
    )
    assert (optimizer.weight_decay, optimizer.decay) == (2e-4, "all")
    assert (cifar.batch_size, cifar.total) == (128, "200 epochs")
    assert optimizer.clip_norm == 0 and cifar.ema_decay == 0
    assert cifar.model.name == "resnet32" and cifar.augment.name == "cifar"


def test_padding_is_black_before_normalization(cifar):
    """A crop at offset (0, 0) begins with 4 rows and columns of -mean / std."""
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    pipeline = augment.build(cifar.augment.name, mean=mean, std=std)
    rows, columns = np.mgrid[:32, :32]
    image = np.stack([rows + 1, columns + 1, np.full((32, 32), 255)], axis=-1)
    images = np.broadcast_to(image.astype(np.uint8), (512, 32, 32, 3))
    batch = pipeline.train(jax.random.key(0), {"inputs": images})
    cropped = np.asarray(batch["inputs"])
    pixels = np.rint((cropped * std + mean) * 255).astype(int)
    # Offset (0, 0), not mirrored (1 crop in 162): the image begins at (4, 4).
    at_origin = (pixels[:, 4, 4, :2] == 1).all(-1) & (pixels[:, 4, 5, 1] == 2)
    assert at_origin.any()
    black = -mean / std
    for found in cropped[at_origin]:
        np.testing.assert_allclose(found[0, 0], black, rtol=1e-5)
        for edge in (found[:4].reshape(-1, 3), found[:, :4].reshape(-1, 3)):
            np.testing.assert_allclose(edge, np.tile(black, (128, 1)), rtol=1e-5)
    # Not every crop is padded there, and evaluation does not crop.
    assert not (pixels[:, 0, 0] == 0).all()
    evaluated = np.asarray(pipeline.eval({"inputs": images[:1]})["inputs"])
    expected = (np.array([1, 1, 255]) / 255 - mean) / std
    np.testing.assert_allclose(evaluated[0, 0, 0], expected, rtol=1e-5)
