"""A finished run read back: its outputs, other values of swept options, its judges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.train.restore import evaluate_run, judge_splits, restore_run, split_outputs

CHANGES = {
    "replicas.seeds": (0, 1),
    "eval_every": "0 steps",
    "data.holdout": 0.25,
    "total": "20 steps",
    "loss.name": "la",
    "evaluators": {"classification": {}, "collapse": {}},
}


@pytest.fixture(scope="module")
def result(train, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return train(CHANGES, workdir=workdir), workdir


@pytest.fixture(scope="module")
def finished(result):
    """Workdir of a run with two seeds that set a quarter of each class aside."""
    return result[1]


def test_a_run_is_judged_again_as_it_was(result, finished):
    found = evaluate_run(finished)
    assert found.keys() == result[0].metrics.keys()
    for key, values in result[0].metrics.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-6)


def test_another_way_to_predict_is_judged_by_what_it_says_only(finished):
    """What looks into the run's own network (collapse) does not judge it."""
    run, state, _ = restore_run(finished)

    def first_class(state, inputs):
        logits = run.predict(state, inputs)["logits"]
        return {"logits": jnp.zeros_like(logits).at[:, 0].set(1.0)}

    judgement = judge_splits(run, first_class, state)
    assert set(judgement.arrays) == {"val", "test"}
    assert not any("nc1" in key for key in judgement.values)
    balanced = judgement.values["eval/test/balanced_accuracy"]
    np.testing.assert_allclose(balanced, [0.1, 0.1])


@pytest.mark.parametrize("changes", [{"method.posthoc_tau": 1.5}, "a function"])
def test_swept_options_take_other_values(finished, changes):
    run, before, step = restore_run(finished)
    assert step == 20
    if changes == "a function":
        changes = lambda config: {"method.posthoc_tau": 1.5 * config.loss.tau}
    _, after, _ = restore_run(finished, changes=changes)
    assert after.hyper["method.posthoc_tau"].tolist() == [1.5, 1.5]
    inputs = run.eval_sets[0].feed.arrays["inputs"][:5]
    counts = run.info.class_counts
    first = lambda state: jax.tree.map(lambda x: x[0], state)
    plain, adjusted = (
        np.asarray(run.predict(first(state), inputs)["logits"])
        for state in (before, after)
    )
    shift = 1.5 * np.log(counts / counts.sum())
    np.testing.assert_allclose(adjusted, plain - shift, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss.gamma": 1.0},
            "loss.gamma is not a swept option of this run .loss 'la'",
        ),
        ({"optimizer.momentum": 0.5}, "optimizer.momentum is not a swept option"),
        ({"posthoc_tau": 1.0}, "posthoc_tau is not .* .no section 'posthoc_tau'"),
        ({"method.posthoc_tau": -1.0}, "method.posthoc_tau is -1.0, expected .* >= 0"),
    ],
)
def test_changes_that_a_finished_run_cannot_take(finished, changes, message):
    with pytest.raises(ValueError, match=message):
        restore_run(finished, changes=changes)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_outputs_of_a_split_are_in_its_order(finished, split):
    run, state, _ = restore_run(finished)
    whole = next(s for s in (run.train_set, *run.eval_sets) if s.name == split)
    inputs, labels = (whole.feed.arrays[name] for name in ("inputs", "label"))
    outputs = jax.vmap(lambda p, m: run.model.forward(p, m, inputs, train=False)[0])(
        state.params, state.model_state
    )
    # In batches that do not divide the split: nothing of the padding comes back.
    size = max(2, len(labels) // 3 - 1)
    engine = dataclasses.replace(run.config.engine, eval_batch_size=size)
    run = run._replace(config=dataclasses.replace(run.config, engine=engine))
    found, targets = split_outputs(run, state, split, outputs=("features", "logits"))
    assert set(found) == {"features", "logits"}
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_allclose(
        found["features"], outputs["features"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found["logits"], outputs["logits"], rtol=1e-5, atol=1e-5)


def test_outputs_that_a_run_does_not_have(finished):
    run, state, _ = restore_run(finished)
    with pytest.raises(ValueError, match="split is 'dev', expected one of .*'val'"):
        split_outputs(run, state, "dev")
    with pytest.raises(ValueError, match="outputs is 'scores', expected one of .*logi"):
        split_outputs(run, state, "val", outputs=("logits", "scores"))
