"""DirMixE: the mean over the drawn priors, and the semi-variance late in a run."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError

CONFIG = ("experts_lt", "method=dirmixe")


def test_a_step_averages_over_the_priors_of_its_state(
    smoked, expert_batch, expert_logits, cross_entropy
):
    run, state = smoked(
        *CONFIG,
        "model.norm=none",
        "head.scale=5.0",
        "method.draws=7",
        "method.spread=3.0",
        "method.spread_from=1 steps",
    )
    step, seen = jax.jit(run.step), []
    y = np.asarray(expert_batch["label"])
    counts = np.asarray(run.info.class_counts, np.float64)
    for spread in (0.0, 3.0):
        z = expert_logits(run, state, expert_batch)
        state, metrics = step(state, expert_batch)
        drawn = jax.device_get(state.method_state)
        seen.append(drawn)
        log_ratio = drawn["log_priors"].astype(float) - np.log(counts / counts.sum())
        shift = -np.log(np.exp(1.3 * log_ratio) + 1e-9)
        each = np.array(
            [
                cross_entropy(z[:14, k] + s, y[:14]).mean()
                for k, s in zip(drawn["experts"], shift, strict=True)
            ]
        )
        above = each[each > each.mean()] - each.mean()
        semi = (above**2).sum() / max(len(above) - 1, 1)
        want = each.mean() + spread * semi
        assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)
        assert float(metrics["worst_draw"][0]) == pytest.approx(each.max(), rel=1e-4)
    first, second = (one["log_priors"] for one in seen)
    assert np.abs(first - second).max() > 1e-3  # drawn afresh
    np.testing.assert_allclose(np.exp(first).sum(1), 1, rtol=1e-5)


def test_parts_of_a_batch_would_have_another_semi_variance(smoked):
    with pytest.raises(ConfigError, match="'dirmixe' couples the rows of the batch"):
        smoked(*CONFIG, "optimizer.accumulate=2")
