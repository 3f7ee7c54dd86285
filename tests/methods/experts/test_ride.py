"""RIDE: weighted losses of the experts and their distance from the mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.splits import Splits
from ltjax.methods.experts.ride import RIDEOptions, ride
from ltjax.options import ConfigError
from ltjax.train.parts import make_parts

CONFIG = ("experts_lt", "method=ride")


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def test_two_phases_as_the_paper_has_them(
    smoked, expert_batch, expert_logits, cross_entropy
):
    run, state = smoked(
        *CONFIG,
        "model.norm=none",
        "head.scale=4.0",
        "weights.start=1 steps",
        "method.strength=0.3",
    )
    step = jax.jit(run.step)
    y, real = np.asarray(expert_batch["label"]), slice(14)
    counts = np.asarray(run.info.class_counts, np.float64)
    raw = 0.3 * 10 * counts / counts.sum() + 0.7
    late = raw / raw.max()
    effective = (1 - 0.9999) / (1 - 0.9999**counts)
    weights = effective * 10 / effective.sum()
    for temperatures, weight in ((np.ones(10), np.ones(10)), (late, weights)):
        z = expert_logits(run, state, expert_batch)
        target = log_softmax(z.mean(1) / temperatures)[:, None]
        kl = np.exp(target) * (target - log_softmax(z / temperatures))
        apart = temperatures.mean() ** 2 * kl.sum(-1).sum(1)
        plain = cross_entropy(z, y[:, None]).sum(1)
        want = (weight[y] * plain)[real].mean() - 0.45 * apart[real].mean()
        state, metrics = step(state, expert_batch)
        assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)
        total, count = metrics["diversity"]
        assert float(total / count) == pytest.approx(apart[real].mean(), rel=1e-3)


def test_ldam_on_scaled_cosines_is_refused(smoked):
    with pytest.raises(ConfigError, match="scales the cosines itself, expected 1"):
        smoked(*CONFIG, "loss.name=ldam")
    with pytest.raises(ConfigError, match="'ldam' is of cosines, expected 'cosine'"):
        smoked(*CONFIG, "loss.name=ldam", "head.scale=1.0", "head.classifier=linear")
    run, state = smoked(*CONFIG, "loss.name=ldam", "head.scale=1.0")
    outputs = jax.eval_shape(run.predict, state, np.zeros((2, 40, 1), np.float32))
    assert outputs["expert_logits"].shape == (2, 3, 10)


def test_a_loss_of_features_is_refused(smoked):
    with pytest.raises(ConfigError, match="needs features and a fixed frame"):
        smoked(*CONFIG, "loss.name=dot_regression")


@pytest.mark.parametrize("distills", ["experts", "mean"])
def test_experts_follow_a_teacher(smoked, expert_batch, cross_entropy, distills):
    run, state = smoked(*CONFIG, "model.norm=none", "head.scale=4.0")
    parts = make_parts(run.config, Splits(run.sources["train"], {}, {}))
    rows = len(run.sources["train"])
    setting = dataclasses.replace(
        parts.setting, columns={"teacher": np.zeros((rows, 10), np.float32)}
    )
    options = RIDEOptions(teacher=0.8, distills=distills)
    method = ride(options, setting)
    teacher = np.random.default_rng(0).normal(size=(16, 10))
    batch = {**expert_batch, "teacher": jnp.asarray(teacher, jnp.float32)}
    program = run.program(0)
    losses, aux = method.loss(
        state.params, state, batch, key=jax.random.key(0), program=program
    )
    z = np.asarray(aux["outputs"]["expert_logits"], np.float64)
    pupils = z.mean(1, keepdims=True) if distills == "mean" else z
    target = log_softmax(teacher / 1.5)[:, None]
    kl = (np.exp(target) * (target - log_softmax(pupils / 1.5))).sum(-1)
    times = 3 if distills == "mean" else 1
    np.testing.assert_allclose(
        losses["teacher"], times * 2.25 * kl.sum(1), rtol=1e-4, atol=1e-5
    )
    plain = cross_entropy(z, np.asarray(batch["label"])[:, None]).sum(1)
    np.testing.assert_allclose(losses["label"], times * plain, rtol=1e-4)
    (term,) = method.terms(state, batch, aux, program=program)
    np.testing.assert_allclose(
        term.descent["teacher"], 0.8 * np.asarray(batch["mask"]) / 14, rtol=1e-6
    )


def test_a_teacher_of_other_outputs_is_refused(smoked):
    run, _ = smoked(*CONFIG)
    parts = make_parts(run.config, Splits(run.sources["train"], {}, {}))
    columns = {"teacher": np.zeros((len(run.sources["train"]), 64), np.float32)}
    setting = dataclasses.replace(parts.setting, columns=columns)
    with pytest.raises(ConfigError, match=r"'teacher' has shape \(64,\) .* 10 classes"):
        ride(RIDEOptions(teacher=1.0), setting)
    with pytest.raises(ConfigError, match="'ride' needs the column 'teacher', which"):
        smoked(*CONFIG, "method.teacher=1.0")
