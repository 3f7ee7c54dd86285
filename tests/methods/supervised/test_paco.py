"""PaCo: one softmax over class centers and labelled samples, by the definition."""

import jax
import numpy as np
import pytest

REAL = 13


def test_a_step_contrasts_with_centers_and_samples(smoked, pair_batch, unit_outputs):
    changes = ("model.norm=none", "head.norm=none", "method.queue=16")
    run, state = smoked("selfsup_lt", "method=paco,probe=false", *changes)
    labels = np.arange(16) % 3
    kept = {**state.method_state, "queue_labels": labels.astype(np.int32)}
    state = state.replace(method_state=kept)
    new, metrics = jax.jit(run.step)(state, pair_batch)
    outputs, _ = run.model.forward(
        state.params, state.model_state, pair_batch["view1"], train=True
    )
    logits = np.asarray(outputs["logits"], np.float64)[:REAL]
    found = unit_outputs(run, state.params, state.model_state, pair_batch)
    # The key network begins as the other one.
    queries, keys = found["projection"]
    queue = np.asarray(kept["queue"], np.float64)
    samples = np.concatenate([queries, keys, queue])
    classes = np.concatenate([labels[:REAL], labels[:REAL], labels])
    counts = run.info.class_counts
    centers = logits + np.log(counts / counts.sum())
    total = 0.0
    for i in range(REAL):
        others = np.arange(len(samples)) != i
        s = samples @ queries[i] / 0.2
        z = np.log(np.exp(centers[i]).sum() + np.exp(s[others]).sum())
        near = s[others & (classes == labels[i])]
        gain = centers[i, labels[i]] - z + 0.05 * (near - z).sum()
        total -= gain / (1 + 0.05 * len(near))
    assert float(metrics["loss"][0]) == pytest.approx(total / REAL, rel=1e-4)
    hits = (logits.argmax(1) == labels[:REAL]).sum()
    assert [float(x) for x in metrics["accuracy"]] == [hits, REAL]
    assert run.predict(new, pair_batch["view1"])["logits"].shape == (16, 10)
