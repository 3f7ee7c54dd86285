"""BCL: logit-adjusted cross-entropy and a contrast with class centers."""

import jax
import numpy as np
import pytest

REAL = 13


def centers_of(params, columns):
    """[K, P]: a hidden layer that is normalized over the classes, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = columns @ p["dense1"]["kernel"]
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = np.maximum(x * p["norm1"]["scale"] + p["norm1"]["bias"], 0)
    return x @ p["dense2"]["kernel"] + p["dense2"]["bias"]


def test_a_step_adds_the_contrast_to_the_loss_of_the_config(
    smoked, pair_batch, unit_outputs
):
    changes = ("model.norm=none", "head.norm=none", "method.contrast=0.6")
    arguments = "method=balanced_contrastive,probe=false"
    run, state = smoked("selfsup_lt", arguments, *changes)
    new, metrics = jax.jit(run.step)(state, pair_batch)
    assert int(new.step) == 1
    labels, counts = np.arange(REAL) % 3, run.info.class_counts

    outputs, _ = run.model.forward(
        state.params, state.model_state, pair_batch["view1"], train=True
    )
    z = np.asarray(outputs["logits"], np.float64)[:REAL] + np.log(counts / counts.sum())
    entropy = np.log(np.exp(z).sum(1)) - z[np.arange(REAL), labels]

    head = state.params["head"]
    columns = np.asarray(head["classifier"]["kernel"], np.float64).T
    centers = centers_of(head["centers"], columns)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    found = unit_outputs(run, state.params, state.model_state, pair_batch)
    keys = np.concatenate([*found["projection"], centers])
    classes = np.concatenate([labels, labels, np.arange(10)])
    total = 0.0
    for i in range(2 * REAL):
        others = np.arange(len(keys)) != i
        size = np.array([np.sum(classes[others] == c) for c in classes])
        s = keys @ keys[i] / 0.1
        near = s[others & (classes == classes[i])].mean()
        total += np.log(np.sum(np.exp(s[others]) / size[others])) - near
    contrast = total / (2 * REAL)
    value, count = metrics["contrast"]
    assert float(value / count) == pytest.approx(contrast, rel=1e-4)
    want = entropy.mean() + 0.6 * contrast
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)
    # Everything learns: also the network that makes the centers.
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), new.params["head"], head
    )
    assert all(x > 0 for x in jax.tree.leaves(moved["centers"]["dense2"]))


def test_without_the_contrast_it_is_the_loss_of_the_config(smoked, pair_batch):
    arguments = "method=balanced_contrastive,probe=false"
    run, state = smoked("selfsup_lt", arguments, "method.contrast=0")
    new, _ = jax.jit(run.step)(state, pair_batch)
    same = jax.tree.map(np.array_equal, new.params, state.params)
    # Nothing but weight decay moves what only the contrast would train.
    assert not same["head"]["classifier"]["kernel"]
    assert same["head"]["centers"]["dense2"]["bias"]
