"""RECORDS and the mixed pass, which all methods with a table of confidences share."""

import numpy as np
import pytest

from ltjax.options import ConfigError

REAL = 14
CHANGES = ("model.norm=none", "method.momentum=0.6", "method.warmup=1 steps")


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    """CORR with RECORDS and a mixed pass; the first of three steps is the warm-up."""
    changes = (*CHANGES, "sampler.remainder=drop")
    run, state = smoked("partial_lt", "method=corr,records,mixup=4.0", *changes)
    batch = candidate_batch("weak", "strong")
    return run, batch, *advance(run, state, batch, 3)


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def means(run, state, batch, outputs_of):
    """Per-row means over the two views of logits and features."""
    views = [outputs_of(run, state, batch[name]) for name in ("weak", "strong")]
    return [np.mean([v[name] for v in views], 0) for name in ("logits", "features")]


def test_the_table_is_refined_without_the_prior_that_the_old_head_has(
    stepped, outputs_of
):
    run, batch, states, told = stepped
    mean = 0.0
    assert not states[1].method_state["confidence"].any()
    counts = np.bincount(run.sources["train"].columns["truth"], minlength=10)
    for t in range(2):
        head = states[t].params["head"]
        kernel, bias = (np.asarray(head[k], np.float64) for k in ("kernel", "bias"))
        before = softmax(mean @ kernel + bias) if t else softmax(bias)
        distance = np.abs(before - counts / counts.sum()).sum() / 2
        assert told[t]["prior_distance"] == pytest.approx(distance, rel=1e-5)
        logits, features = means(run, states[t], batch, outputs_of)
        mean = 0.6 * mean + 0.4 * features[:REAL].mean(0)
        np.testing.assert_allclose(
            states[t + 1].method_state["features"], mean, rtol=1e-4, atol=1e-6
        )
    prior = softmax(mean @ kernel + bias)
    lifted = np.exp(logits - np.log(prior + 1e-9)) * np.asarray(batch["candidates"])
    rows = lifted / lifted.sum(1, keepdims=True)
    table = np.asarray(states[2].method_state["confidence"])
    np.testing.assert_allclose(
        table[batch["index"][:REAL]], rows[:REAL], rtol=1e-4, atol=1e-6
    )


def test_it_predicts_without_the_prior_of_the_head_of_the_moment(stepped):
    run, batch, states, _ = stepped
    state = states[3]
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["weak"], train=False
    )
    head = state.params["head"]
    prior = softmax(
        np.asarray(state.method_state["features"]) @ np.asarray(head["kernel"])
        + np.asarray(head["bias"])
    )
    np.testing.assert_allclose(
        run.predict(state, batch["weak"])["logits"],
        np.asarray(outputs["logits"]) - np.log(prior + 1e-9),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_mixed_pass_counts_from_the_end_of_the_warm_up(stepped, outputs_of):
    run, batch, states, told = stepped
    possible = np.asarray(batch["candidates"])
    plain = []
    for t in range(2):
        total = 0
        for name in ("weak", "strong"):
            p = softmax(outputs_of(run, states[t], batch[name])["logits"])
            rows = possible / 3
            agree = (rows * (np.log(1 / 3) - np.log(p))).sum(1)
            total = total + agree - (np.log1p(-p) * ~possible).sum(1)
        plain.append(total[:REAL].mean())
    assert told[0]["loss"] == pytest.approx(plain[0], rel=1e-5)
    assert told[1]["loss"] > plain[1] + 0.1


def test_a_head_without_an_affine_map_has_no_such_prior(smoked):
    with pytest.raises(ConfigError, match=r"expected head\.normalize = 'none'"):
        smoked(
            "partial_lt",
            "method=proden,records",
            "head.name=linear",
            "head.normalize=l2",
        )


def test_mixing_with_padding_is_refused(smoked):
    with pytest.raises(ConfigError, match="mix examples with padding"):
        smoked("partial_lt", "method=lw,mixup=4.0", "sampler.remainder=pad")
