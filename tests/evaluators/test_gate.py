"""GATE and probes on features of a network whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting, diffusion_probe, gate
from ltjax.evaluators import denoising as denoising_error
from ltjax.metrics import drift, gate_benefit, linear_cka

N, D = 12, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(N, 4, 4, D)).astype(np.float32)
LABELS = np.arange(N) % 3
# How far each technique takes an image from itself.
AWAY = {"none": 0.8, "prompt": 0.3, "control": 0.9}


class Known:
    """Regenerates by turning channels; features are the channels' means."""

    steps, num_classes = 100, 3
    kept = np.linspace(1, 0.01, 101)

    def labels(self, technique, state, images, given=None, *, key):
        return given

    def regeneration(self, state, images, labels, *, technique, strength, steps, key):
        return images + AWAY[technique] * jnp.roll(images, 1, axis=-1)

    def activations(self, state, images, labels, *, technique, time, key, draws):
        shift = 0.0 if time == 0 else AWAY.get(technique, 0.5)
        turned = images * (1 - shift) + shift * jnp.square(jnp.roll(images, 1, axis=-1))
        return {"bottom": turned, "up1": turned, "up0": images}

    def steer(self, technique, state, images, labels=None):
        return lambda x, time: ({"noise": 0.5 * jnp.ones_like(x)}, {})


def setting(**more):
    return EvaluatorSetting(
        predict=lambda state, inputs: {},
        class_counts=np.array([30, 10, 5]),
        groups={"few": np.array([False, True, True])},
        networks={},
        parts={"diffusion": Known()},
        **more,
    )


def batch(count=N):
    return {
        "inputs": jnp.asarray(IMAGES),
        "label": jnp.asarray(LABELS, jnp.int32),
        "index": jnp.arange(N, dtype=jnp.int32),
        "mask": jnp.arange(N) < count,
    }


def replica(tree):
    import jax

    return jax.tree.map(lambda x: np.asarray(x)[None], tree)


def test_the_score_is_the_drift_of_the_first_images():
    options = gate.GateOptions(techniques=("prompt", "control"), images=8, seed=4)
    judge = gate.make(options, setting())
    arrays = judge.arrays(replica(judge.judge.fn(None, batch(), None)), None, None)
    found = {name: value[0] for name, value in judge.summarize(arrays).items()}
    pooled = IMAGES.mean((1, 2))
    want = {
        name: np.asarray(drift(pooled, pooled + away * np.roll(pooled, 1, axis=-1)))[:8]
        for name, away in AWAY.items()
    }
    for name, value in want.items():
        np.testing.assert_allclose(arrays[f"gate_drift_{name}"][0], value, atol=1e-5)
        assert found[f"drift_{name}"] == pytest.approx(value.mean(), abs=1e-5)
    assert found["recommended_prompt"] == 1 and found["recommended_control"] == 0
    for name in ("prompt", "control"):
        benefit = gate_benefit(want["none"], want[name], seed=4)
        got = (found[f"benefit_{name}{end}"] for end in ("", "_low", "_high"))
        np.testing.assert_allclose([*got], benefit, atol=1e-5)
    squares = np.square(np.roll(IMAGES, 1, axis=-1)).mean((1, 2))
    for name, away in AWAY.items():
        features = (1 - away) * pooled + away * squares
        shift = 1 - linear_cka(features[:8], pooled[:8])
        assert found[f"content_shift_{name}"] == pytest.approx(shift, abs=1e-4)
        charted = arrays[f"profiles/drift by technique/{name}"]
        assert charted == pytest.approx(found[f"drift_{name}"])
    assert {column.key for column in judge.columns} <= found.keys()
    # Where an image was brought back to, from its darkest to its brightest channel.
    made = IMAGES[:8] + AWAY["control"] * np.roll(IMAGES[:8], 1, axis=-1)
    low, high = (f(made, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    shown = arrays["pictures/brought back by control"][0]
    np.testing.assert_allclose(shown, 255 * (made - low) / (high - low), atol=0.51)
    assert arrays["pictures/image"].shape == shown[None].shape


def test_batches_beyond_the_images_are_not_computed():
    options = gate.GateOptions(techniques=(), images=8)
    later = {**batch(), "index": jnp.arange(N, dtype=jnp.int32) + 100}
    kept = gate.make(options, setting()).judge.fn(None, later, None)
    assert not kept["wanted"].any() and not kept["none"]["drift"].any()


def test_probes_are_solved_on_pooled_features():
    options = diffusion_probe.DiffusionProbeOptions(
        techniques=("control",), times=(10,), layers=("up0",), l2=1e-3
    )
    judge = diffusion_probe.make(options, setting())
    # A channel that is brighter in the images of its class.
    seen = {
        **batch(10),
        "inputs": batch()["inputs"].at[jnp.arange(N), :, :, LABELS].add(3),
    }
    solved = judge.digest(replica(judge.bank.fn(None, seen, None)))
    solved = [type(one)(*(x[0] for x in one)) for one in solved]
    sums = judge.judge.fn(None, judge.judge.empty, seen, solved)
    arrays = judge.arrays(replica(sums), None, None)
    found = {name: value[0] for name, value in judge.summarize(arrays).items()}
    assert arrays["diffusion_counts"][0, 0].sum() == 10  # without padding
    assert found["probe_none_up0_10"] == 1 == found["probe_best"]
    assert found["probe_control_up0_10_few"] == 1
    assert arrays["profiles/mean recall of probes (%)/control up0 10"] == 100


def test_pixels_are_drawn_evenly_from_the_classes_of_an_image():
    import jax

    targets = jnp.asarray(np.r_[np.zeros(90), np.ones(6), np.full(4, 255)], jnp.int32)
    rows = diffusion_probe.balanced_pixels(jax.random.key(0), targets, 2000)
    drawn = np.asarray(targets)[np.asarray(rows)]
    assert set(drawn) == {0, 1}
    # Half of 2,000, and three standard deviations of 22.
    assert abs((drawn == 1).sum() - 1000) < 67


def test_a_probe_of_pixels_sees_every_pixel_of_the_test_images():
    options = diffusion_probe.DiffusionProbeOptions(
        times=(10,), layers=("up0",), pixels=16, l2=1e-3
    )
    judge = diffusion_probe.make(options, setting())
    targets = IMAGES.argmax(-1).astype(np.uint8)
    targets[0, 0] = 255
    seen = {**batch(10), "targets": jnp.asarray(targets)}
    solved = judge.digest(replica(judge.bank.fn(None, seen, None)))
    solved = [type(one)(*(x[0] for x in one)) for one in solved]
    arrays = judge.arrays(
        replica(judge.judge.fn(None, judge.judge.empty, seen, solved)), None, None
    )
    matrix = arrays["diffusion_counts"][0, 0]
    assert matrix.sum() == 10 * 16 - 4
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    want = (np.diag(matrix) / union).mean()
    assert judge.summarize(arrays)["probe_none_up0_10"][0] == pytest.approx(want)
    assert want > 0.8  # the largest channel is nearly a linear rule


def test_the_error_of_the_noise_by_level():
    judge = denoising_error.make(denoising_error.DenoisingOptions(levels=3), setting())
    sums = judge.judge.fn(None, judge.judge.empty, batch(9), None)
    found = judge.summarize(judge.arrays(replica(sums), None, None))
    assert found.keys() == {
        "denoising_loss",
        *(f"denoising_loss_{t}" for t in (25, 50, 75)),
    }
    # E (0.5 - e)^2 = 1.25 over 9 * 48 numbers, at three standard deviations.
    assert found["denoising_loss"][0] == pytest.approx(1.25, abs=3 * 1.73 / 432**0.5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="'promt', unknown; did you mean 'prompt'"):
        gate.GateOptions(techniques=("promt",))
    with pytest.raises(ValueError, match="tells the network the classes"):
        diffusion_probe.DiffusionProbeOptions(techniques=("prompt",))
    bare = EvaluatorSetting(
        predict=lambda *_: {}, class_counts=np.ones(2), groups={}, networks={}
    )
    with pytest.raises(ValueError, match="gate: the run's method has no diffusion"):
        gate.make(gate.GateOptions(), bare)
