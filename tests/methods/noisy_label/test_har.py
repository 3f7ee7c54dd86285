"""HAR: half of the data tells the errors, then slopes are penalized by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.method import Program
from ltjax.methods.noisy_label.har import row_norms
from ltjax.options import ConfigError
from ltjax.pseudo_labels import adaptive_strengths

B, K, REAL = 16, 10, 14
# One hidden layer: what follows its only normalization layer can be done by hand.
CHANGES = (
    "model.name=mlp",
    "model.hidden=(8,)",
    "model.norm=batch",
    "total=20 steps",
    "schedule.name=constant",
    "schedule.warmup=0 steps",
    "optimizer.weight_decay=0.0",
    "optimizer.momentum=0.0",
    "optimizer.nesterov=False",
    "optimizer.lr=1.0",
    "method.first=8 steps",
)


@pytest.fixture(scope="module")
def made(smoked):
    run, state = smoked("noisy_lt", "method=har", *CHANGES)
    strengths = jnp.linspace(0.1, 1, K)
    late = {**state.method_state, "strengths": strengths}
    step = jax.jit(run.step, static_argnames="program")
    return run, state, state.replace(method_state=late), step


def by_hand(run, state, batch):
    """(costs [B], row norms [B]) in float64, padding left out of the batch."""
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=True, mask=batch["mask"]
    )
    z, hidden = (np.asarray(outputs[n], np.float64) for n in ("logits", "features"))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    own = np.eye(K)[np.asarray(batch["label"])]
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    mask = np.asarray(batch["mask"])
    slope = mask[:, None] * (p - own) / mask.sum() @ kernel.T * (hidden > 0)
    return -np.log((p * own).sum(1)), np.linalg.norm(slope, axis=1)


def test_the_objective_is_the_published_one(made, noisy_batch):
    run, _, state, step = made
    batch = {**noisy_batch, "mask": jnp.ones(B, bool)}
    costs, norms = by_hand(run, state, batch)
    r = np.linspace(0.1, 1, K)[np.asarray(batch["label"])]
    _, metrics = step(state, batch, program=Program(1, None))
    want = costs.mean() + 10 * (r * norms).mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)


def test_the_penalty_is_differentiated_through_the_slopes(made, noisy_batch):
    run, _, state, step = made
    batch = {**noisy_batch, "mask": jnp.ones(B, bool)}

    def objective(params):
        costs, norms = by_hand(run, state.replace(params=params), batch)
        r = np.linspace(0.1, 1, K)[np.asarray(batch["label"])]
        return costs.mean() + 10 * (r * norms).mean()

    new, _ = step(state, batch, program=Program(1, None))
    # Along the head's kernel, in which the objective is smooth.
    gradient = np.asarray(state.params["head"]["kernel"] - new.params["head"]["kernel"])
    along = np.random.default_rng(0).normal(size=gradient.shape)

    def at(t):
        head = {**state.params["head"]}
        head["kernel"] = head["kernel"] + t * along.astype(np.float32)
        return objective({**state.params, "head": head})

    slope = (at(1e-2) - at(-1e-2)) / 2e-2
    assert float((gradient * along).sum()) == pytest.approx(slope, rel=2e-3)


def test_at_first_only_the_half_counts_that_is_not_held_out(made, noisy_batch):
    run, state, _, step = made
    held = np.asarray(state.method_state["held"])[np.asarray(noisy_batch["index"])]
    mask = np.asarray(noisy_batch["mask"]) & ~held
    assert 0 < mask.sum() < REAL
    costs, _ = by_hand(run, state, {**noisy_batch, "mask": jnp.asarray(mask)})
    new, metrics = step(state, noisy_batch, program=Program(0, None))
    want = costs[mask].mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)
    # What is held out may hold anything.
    other = {
        **noisy_batch,
        "inputs": jnp.where(mask[:, None, None], noisy_batch["inputs"], 7.0),
    }
    same, _ = step(state, other, program=Program(0, None))
    jax.tree.map(np.testing.assert_array_equal, new.params, same.params)


def test_the_held_out_half_decides_the_strengths_and_the_network_starts_afresh(made):
    run, state, _, step = made
    (refresh,) = run.method.refreshes
    assert [t for t in range(20) if refresh.due(t)] == [8]
    assert [run.program(t).stage for t in (7, 8)] == [0, 1]
    labels = np.asarray(run.sources["train"].labels)
    kept = jax.device_get(state.method_state)
    held = kept["held"][: len(labels)]
    predicted = np.where(np.arange(len(labels)) % 3 == 0, labels, (labels + 1) % K)
    got = refresh.fn(kept, predicted, step=8)["strengths"]
    errors = np.ones(K)
    for k in range(K):
        mine = held & (labels == k)
        if mine.any():
            errors[k] = (predicted[mine] != k).mean()
    want = adaptive_strengths(errors, np.bincount(labels, minlength=K))
    np.testing.assert_allclose(got, want)
    assert bool(run.method.redraws(8)) and not run.method.redraws(9)


def test_row_norms_have_no_slope_at_zero():
    x = jnp.array([[[3.0], [4.0]], [[0.0], [0.0]]])
    np.testing.assert_allclose(row_norms(x), [5, 0])
    slope = jax.grad(lambda x: row_norms(x).sum())(x)
    np.testing.assert_allclose(slope[:, :, 0], [[0.6, 0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("change", ["model.norm=none", "method.first=0 steps"])
def test_what_har_cannot_do_is_said(smoked, change):
    with pytest.raises(ConfigError, match=change.split("=")[0]):
        smoked("noisy_lt", "method=har", *CHANGES, change)
