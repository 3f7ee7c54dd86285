"""Pixelwise losses: means over the valid pixels of every image."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.data.pipelines import PIPELINES
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.check import check

CONFIGS = pathlib.Path(__file__).resolve().parents[3] / "configs"

B, K = 8, 6
CONFIG = ("segmentation_scenes", "method=ce")
STILL = ("none", "normalize")
MOVING = sorted(set(PIPELINES) - {*STILL, "scale_crop"})


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, K, (B, 32, 32))
    targets[rng.random(targets.shape) < 0.3] = 255  # ignored
    targets[5] = 255  # an image without any valid pixel
    return {
        "inputs": jnp.asarray(rng.normal(size=(B, 32, 32, 1)), jnp.float32),
        "targets": jnp.asarray(targets, jnp.uint8),
        "label": jnp.zeros(B, jnp.int32),
        "mask": jnp.arange(B) < 7,
    }


@pytest.mark.parametrize("weights", ["none", "inverse_power"])
def test_a_step_minimizes_the_mean_of_the_images(smoked, batch, weights):
    run, state = smoked(*CONFIG, "model.norm=none", f"weights.name={weights}")
    _, metrics = jax.jit(run.step)(state, batch)
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=False
    )
    z = np.asarray(outputs["logits"], np.float64)
    targets = np.asarray(batch["targets"], np.int64)
    valid = targets != 255
    known = np.where(valid, targets, 0)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    loss = -np.take_along_axis(log_p, known[..., None], -1)[..., 0]
    row = np.ones(K)
    if weights != "none":
        row = 1 / np.asarray(run.info.class_counts, np.float64)
        row *= K / row.sum()
    total = np.where(valid, row[known] * loss, 0).sum((1, 2))
    images = total / np.maximum(valid.sum((1, 2)), 1)
    assert float(metrics["loss"][0]) == pytest.approx(images[:7].mean(), rel=1e-5)
    hit = (z.argmax(-1) == targets) & valid & np.asarray(batch["mask"])[:, None, None]
    count = valid[:7].sum()
    got = tuple(map(int, metrics["accuracy"]))
    assert got == (hit.sum(), count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights.name=batch", "pixels are weighted by the training counts"),
        ("loss.name=auc_square", "compares the rows of a batch"),
        ("model.name=conv2d", "feature for every pixel|dense"),
        ("model.name=vit", "feature for every pixel|dense"),
        *((f"augment.name={name}", "leaves the column 'targets'") for name in MOVING),
    ],
)
def test_what_does_not_fit_pixels_is_refused(smoked, change, message):
    with pytest.raises(ConfigError, match=message):
        smoked(*CONFIG, change)


def test_a_transformer_may_have_a_feature_for_every_pixel():
    changes = ("name=vit", "pool=pixels", "width=8", "depth=1", "num_heads=2")
    file = CONFIGS / "segmentation_scenes.py"
    config = load_config(
        [
            *("--config", f"{file}:method=ce,smoke"),
            *(f"--config.model.{change}" for change in changes),
        ]
    )
    run = build(check(config))
    state = jax.eval_shape(run.init, 0, run.info.replicas[0]["hyper"])
    inputs = jax.ShapeDtypeStruct((3, 32, 32, 1), jnp.float32)
    logits = jax.eval_shape(run.predict, state, inputs)["logits"]
    assert logits.shape == (3, 32, 32, K)


@pytest.mark.parametrize("name", STILL)
def test_pipelines_that_move_nothing_are_fine(name):
    file = CONFIGS / "segmentation_scenes.py"
    check(load_config(["--config", f"{file}:smoke", f"--config.augment.name={name}"]))


def test_an_image_without_classes_of_pixels_is_not_scaled():
    file, name = CONFIGS / "mnist1d_lt.py", "--config.augment.name=scale_crop"
    with pytest.raises(ConfigError, match="reads no such column"):
        check(load_config(["--config", f"{file}:method=ce,smoke", name]))
