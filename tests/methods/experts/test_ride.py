"""RIDE: weighted losses of the experts and their distance from the mean."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError

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
