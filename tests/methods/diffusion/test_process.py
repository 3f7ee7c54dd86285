"""Regeneration and features with networks whose answers are known."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import noise_schedule
from ltjax.methods.diffusion.process import Diffusion
from ltjax.metrics import sobel_edges

KEPT = noise_schedule(steps=100)
IMAGES = jax.random.uniform(jax.random.key(0), (3, 8, 8, 1))
STATE = types.SimpleNamespace(params={"control": ()}, model_state={})


def oracle(params, model_state, asked, *, train, tap, low_rank=False):
    """Sees the noise that leads to what it is told: class means, or edges."""
    kept = jnp.asarray(KEPT, jnp.float32)[asked["time"]][:, None, None, None]
    told = jnp.zeros_like(asked["image"])
    if "label" in asked:
        told = told + 0.25 * asked["label"][:, None, None, None]
    if "control" in asked:
        told = asked["control"]
    spread = jnp.sqrt(jnp.maximum(1 - kept, 1e-12))
    noise = (asked["image"] - jnp.sqrt(kept) * told) / spread
    tap("backbone/up0", asked["image"])
    tap("backbone/up0/norm", asked["image"])
    return {"noise": noise, "features": asked["image"]}, model_state


def diffusion():
    return Diffusion(types.SimpleNamespace(forward=oracle), KEPT, num_classes=4)


def regenerated(technique, labels=None, strength=0.6):
    return diffusion().regeneration(
        STATE,
        IMAGES,
        labels,
        technique=technique,
        strength=strength,
        steps=7,
        key=jax.random.key(5),
    )


def test_what_the_network_is_told_is_what_comes_back():
    np.testing.assert_allclose(regenerated("none"), jnp.zeros((3, 8, 8, 1)), atol=1e-5)
    edges = sobel_edges(IMAGES)[..., None]
    np.testing.assert_allclose(regenerated("control"), edges, atol=1e-5)
    labels = jnp.array([0, 2, 3])
    want = np.broadcast_to(np.array([0, 0.5, 0.75])[:, None, None, None], (3, 8, 8, 1))
    np.testing.assert_allclose(regenerated("prompt", labels), want, atol=1e-5)


def test_drift_falls_when_the_control_is_the_image_itself(monkeypatch):
    from ltjax.methods.diffusion import process

    monkeypatch.setattr(process, "sobel_edges", lambda images: images[..., 0])
    steered, free = regenerated("control"), regenerated("none")
    np.testing.assert_allclose(steered, IMAGES, atol=1e-5)
    assert np.abs(free - IMAGES).mean() > 0.3


def test_without_noise_nothing_drifts():
    for technique in ("none", "control"):
        found = regenerated(technique, strength=0.0)
        np.testing.assert_allclose(found, IMAGES, atol=1e-5)


def test_features_without_noise_and_their_mean_over_draws():
    def found(time, draws):
        return diffusion().activations(
            STATE,
            IMAGES,
            None,
            technique="none",
            time=time,
            key=jax.random.key(7),
            draws=draws,
        )

    assert found(0, 3).keys() == {"up0", "last"}
    np.testing.assert_allclose(found(0, 3)["up0"], IMAGES, atol=1e-6)
    noises = [
        jax.random.normal(jax.random.fold_in(jax.random.key(7), n), (8, 8, 1))
        for n in range(2)
    ]
    kept = KEPT[30]
    want = np.sqrt(kept) * IMAGES + np.sqrt(1 - kept) * np.mean(noises, axis=0)[None]
    np.testing.assert_allclose(found(30, 2)["last"], want, atol=1e-5)


def test_a_label_is_guessed_by_the_noise_that_it_explains():
    means = 0.25 * jnp.arange(4)[:, None, None, None] * jnp.ones((4, 8, 8, 1))
    found = diffusion().guess(STATE, means, key=jax.random.key(0))
    np.testing.assert_array_equal(found, [0, 1, 2, 3])


def test_a_technique_needs_its_module():
    with pytest.raises(ValueError, match="'low_rank' needs a network with the module"):
        diffusion().steer("low_rank", STATE, IMAGES)
