"""CC-SAM in a run: its calibration, the bound of its radii, and its share."""

import jax
import numpy as np
import pytest

from ltjax.train.build import build

CC_SAM = {
    "total": "8 steps",
    "eval_every": "0 steps",
    "model.norm": "none",
    "gradient.name": "cc_sam",
}
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


def start_of(run):
    return jax.jit(run.init)(0, run.info.replicas[0]["hyper"])


def batch_of(run, step):
    rows = run.feed.rows(*(part[0] for part in run.plan(step)))
    return run.feed.batch(run.feed.arrays, rows, jax.random.key(step), train=True)


def advance(run, count):
    """The states after each of the first steps."""
    step, states = jax.jit(run.step, static_argnames="program"), [start_of(run)]
    for t in range(count):
        batch = batch_of(run, t)
        states.append(step(states[-1], batch, program=run.program(t))[0])
    return states[1:]


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_cc_sam_calibrates_its_radii_on_the_first_batch(tiny, devices):
    with devices(1):
        run = build(tiny(CC_SAM))
    start, batch = start_of(run), batch_of(run, 0)
    memories = [state.method_state["auxiliary"] for state in advance(run, 2)]
    nu = [float(memory["nu"]) for memory in memories]
    assert nu[0] == nu[1] > 0

    # rho_{c,W} = nu sqrt(|w|) k^(1/4) / (sqrt(2 |g_c|) (n_c - 1)^(1/4)), by class.
    outputs, _ = run.model.forward(start.params, {}, batch["inputs"], train=False)
    features, logits = (
        np.asarray(outputs[name], np.float64) for name in ("features", "logits")
    )
    labels = np.asarray(batch["label"])
    residual = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual -= np.eye(10)[labels]
    head = flat(start.params["head"]).astype(np.float64)
    radii = []
    for k in np.unique(labels):
        own = labels == k
        gradient = features[own].T @ residual[own] / own.sum()
        radius = np.sqrt(np.linalg.norm(head)) * head.size**0.25 / np.sqrt(2)
        radius /= np.sqrt(np.linalg.norm(gradient))
        radii.append(radius / (run.info.class_counts[k] - 1) ** 0.25)
    assert len(radii) > 3
    assert nu[0] * np.median(radii) == pytest.approx(0.05, rel=1e-5)


def test_cc_sam_bounds_its_radii(tiny, devices, assert_same):
    assert tiny(CC_SAM).gradient.max_rho == 0.2
    chosen = [CC_SAM | {"gradient.name": "plain"}]
    for bound in (1e-9, 0.02, 0.0):  # the median is 0.05
        chosen.append(CC_SAM | {"gradient.max_rho": bound})
    with devices(1):
        runs = [build(tiny(changes)) for changes in chosen]
    plain, none, some, free = (advance(run, 2)[-1].params for run in runs)
    assert_same(none, plain, **ROUNDING)  # radii of zero: two equal losses
    distance = [np.abs(flat(p) - flat(plain)).max() for p in (some, free)]
    assert min(distance) > 1e-4 and distance[0] != distance[1]


def test_the_share_of_the_perturbed_loss(tiny, devices):
    """The objective is (1 - share) of the plain loss and share of the perturbed one."""
    with devices(1):
        run = build(tiny(CC_SAM | {"gradient.ratio": 0.25}))
    start, batch = start_of(run), batch_of(run, 0)
    losses, aux = run.method.loss(
        start.params, start, batch, key=jax.random.key(0), program=run.program(0)
    )
    assert set(losses) == {"label", "auxiliary"}
    (term,) = run.method.terms(start, batch, aux, program=run.program(0))
    np.testing.assert_allclose(term.descent["label"], 0.75 / 16, rtol=1e-6)
    np.testing.assert_allclose(term.descent["auxiliary"], 0.25 / 16, rtol=1e-6)
    # Where radii are positive, the perturbed loss is the larger one (to first order).
    assert np.mean(np.asarray(losses["auxiliary"] - losses["label"])) > 0
