"""SADE: three cross-entropies under three priors, summed."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError

CONFIG = ("experts_lt", "method=sade")


def test_a_step_minimizes_the_sum_over_the_experts(
    smoked, expert_batch, expert_logits, cross_entropy
):
    run, state = smoked(*CONFIG, "model.norm=none", "method.tau=1.5")
    new, metrics = jax.jit(run.step)(state, expert_batch)
    z, y = expert_logits(run, state, expert_batch), np.asarray(expert_batch["label"])
    counts = np.asarray(run.info.class_counts, np.float64)
    assert (np.diff(counts) < 0).all()  # no ties: the reversed prior is the prior, read
    log_prior = np.log(counts / counts.sum())  # from the other end
    shifts = [0 * log_prior, log_prior, log_prior - 1.5 * log_prior[::-1]]
    loss = sum(cross_entropy(z[:, e] + shift, y) for e, shift in enumerate(shifts))
    assert float(metrics["loss"][0]) == pytest.approx(loss[:14].mean(), rel=1e-5)
    outputs = run.predict(state, expert_batch["inputs"])
    np.testing.assert_allclose(outputs["logits"], z.mean(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("head.num_experts=2", "num_experts is 2, but method 'sade' has an"),
        ("head.own_features=True", "'conv1d' has 1 part"),
        ("head.class_scale=ones", "would scale the mean of the experts only"),
    ],
)
def test_networks_that_do_not_fit_are_refused(smoked, change, message):
    with pytest.raises(ConfigError, match=message):
        smoked(*CONFIG, change)


def test_another_head_is_refused(smoked):
    with pytest.raises(ConfigError, match="method 'sade' needs 'experts'"):
        smoked("experts_lt", "method=ce", "method.name=sade", "head.name=linear")
