"""Accuracy under test priors: one pass against test sets that are drawn."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import stable_expert_weights
from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.test_priors import PriorOptions, make, moved_view, named_priors

COUNTS = np.array([90, 9, 30])
LABELS = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2])


def evaluator(options, predict, **more):
    setting = EvaluatorSetting(
        **{"predict": predict, "class_counts": COUNTS, "groups": {}, "networks": {}}
        | more
    )
    return make(options, setting)


def batch(inputs):
    return {
        "inputs": inputs,
        "label": jnp.asarray(LABELS, jnp.int32),
        "mask": jnp.arange(len(LABELS)) < 9,  # the last one is padding
        "index": jnp.arange(len(LABELS), dtype=jnp.int32),
    }


def test_priors_are_sums_over_recalls():
    options = PriorOptions(ratios=(4.0,), draws=0)
    judge = evaluator(options, lambda state, inputs: {"logits": inputs})
    # Recalls 1/2, 1/4 and 2/3.
    named = jnp.array([0, 1, 1, 0, 0, 2, 2, 2, 0, 2])
    logits = jax.nn.one_hot(named, 3)
    sums = judge.judge.fn(None, judge.judge.empty, batch(logits), None)
    arrays = judge.arrays([np.asarray(x)[None] for x in sums], None, None)
    found = {name: value[0] for name, value in judge.summarize(arrays).items()}
    recall = np.array([1 / 2, 1 / 4, 2 / 3])
    want = {
        "forward_4": recall @ [4 / 7, 1 / 7, 2 / 7],
        "uniform": recall.mean(),
        "backward_4": recall @ [1 / 7, 4 / 7, 2 / 7],
    }
    for name, value in want.items():
        assert found[f"priors_{name}"] == pytest.approx(value)
    each = np.array(list(want.values()))
    assert found["priors_mean"] == pytest.approx(each.mean())
    assert found["priors_std"] == pytest.approx(each.std())
    assert found["priors_worst"] == pytest.approx(each.min())


def test_names_and_draws():
    found = named_priors(PriorOptions(ratios=(2.0, 50.0), draws=2), COUNTS)
    assert found.names[:5] == (
        *("forward_50", "forward_2", "uniform", "backward_2", "backward_50"),
    )
    assert found.names[5:7] == ("forward_draw_1", "forward_draw_2")
    assert found.shares.shape == (11, 3)
    np.testing.assert_allclose(found.shares.sum(1), 1)


def test_weights_are_learned_on_the_test_set_of_each_prior():
    table = jax.random.normal(jax.random.key(0), (3, 2, 3))

    def predict(state, inputs):
        z = jnp.tanh(inputs @ table.reshape(3, 6)).reshape(-1, 2, 3)
        return {"logits": z.mean(1), "expert_logits": 3 * z}

    options = PriorOptions(ratios=(4.0,), draws=0, experts="stability", noise=0.5)
    judge = evaluator(options, predict)
    inputs = jax.random.normal(jax.random.key(1), (10, 3))
    kept = judge.judge.fn(None, batch(inputs), None)
    arrays = judge.arrays([np.asarray(x)[None] for x in kept], None, None)
    clean, first, second, labels = kept
    priors = named_priors(options, COUNTS).shares
    for p, share in enumerate(priors):
        often = share[LABELS] / np.bincount(LABELS)[LABELS]
        w = stable_expert_weights(
            first,
            second,
            key=jax.random.key(0),
            example_weights=often.astype(np.float32),
        )
        np.testing.assert_allclose(arrays["priors_weights"][0, p], w, rtol=1e-4)
        hit = jnp.argmax(jnp.einsum("e,nek->nk", w, clean), -1) == labels
        want = np.sum(often * np.asarray(hit))
        assert arrays["priors_accuracy"][0, p] == pytest.approx(want, abs=1e-6)
    charted = arrays["profiles/accuracy by test prior (%)/backward 4"]
    assert charted == 100 * arrays["priors_accuracy"][:, 2]
    charted = arrays["profiles/weight of expert 2 by test prior/uniform"]
    assert charted == arrays["priors_weights"][:, 1, 1]


def test_without_experts_there_is_nothing_to_weigh():
    judge = evaluator(
        PriorOptions(experts="stability"), lambda state, inputs: {"logits": inputs}
    )
    with pytest.raises(ValueError, match="predicts no 'expert_logits', only logits"):
        judge.judge.fn(None, batch(jnp.zeros((10, 3))), None)


def test_a_view_is_the_input_moved():
    x = jnp.arange(1.0, 10).reshape(9, 1)
    seen = {
        tuple(moved_view(jax.random.key(k), x, shift=1, noise=0.0)[:, 0].tolist())
        for k in range(12)
    }
    left, right = (*range(2, 10), 0), (0, *range(1, 9))
    assert seen == {tuple(map(float, one)) for one in (left, range(1, 10), right)}
    flat = moved_view(jax.random.key(0), x[:, 0], shift=1, noise=0.0)
    assert flat.tolist() == x[:, 0].tolist()


def raw_network():
    """A network whose inputs are its logits."""
    forward = lambda params, model_state, inputs, train: ({"logits": inputs}, None)
    return types.SimpleNamespace(forward=forward)


@pytest.mark.parametrize("correct", ["loss", "training", "uniform"])
def test_predictions_that_know_the_prior_are_those_of_bayes_rule(correct):
    weight, scale, shift = np.array([0.5, 2.0, 1.0]), 1.5, np.array([0.3, -0.2, 0.0])
    state = types.SimpleNamespace(params=None, model_state=None)
    options = PriorOptions(ratios=(4.0,), draws=0, correct=correct)
    judge = evaluator(
        options,
        lambda state, inputs: {"logits": inputs},
        networks={"main": raw_network()},
        adjustment=lambda state: tuple(map(jnp.float32, (weight, scale, shift))),
    )
    z = jax.random.normal(jax.random.key(3), (10, 3))
    sums = judge.judge.fn(state, judge.judge.empty, batch(z), None)
    arrays = judge.arrays([np.asarray(x)[None] for x in sums], None, None)
    found = judge.summarize(arrays)
    likelihood = np.exp(np.asarray(z, np.float64))
    if correct == "loss":
        likelihood = np.exp(scale * np.asarray(z, np.float64) + shift) / weight
    if correct != "uniform":
        likelihood = likelihood / COUNTS
    priors = named_priors(options, COUNTS)
    values = []
    for name, share in zip(priors.names, priors.shares, strict=True):
        hit = ((likelihood * share).argmax(1) == LABELS)[:9]
        recall = [hit[LABELS[:9] == k].mean() for k in range(3)]
        values.append(np.dot(recall, share))
        assert found[f"corrected_{name}"][0] == pytest.approx(values[-1], abs=1e-9)
    assert found["corrected_worst"][0] == pytest.approx(min(values))
    assert "priors_uniform" in found


def test_a_loss_of_another_form_has_no_prior_of_its_own():
    with pytest.raises(ValueError, match="correct is 'loss', but .* 'training'"):
        evaluator(PriorOptions(correct="loss"), None)
