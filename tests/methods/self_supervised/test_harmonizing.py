"""Geometric harmonization: its loss after a warm-up, the table and the proportions."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.durations import duration_steps
from ltjax.methods.method import Method, Program, Setting
from ltjax.methods.self_supervised.harmonizing import HarmonyOptions, harmonized

TIMING = {"steps_per_epoch": 2, "batch_size": 4, "total_steps": 400}
NETWORK = types.SimpleNamespace(
    num_features=2,
    classify=lambda params, model_state, features, train: (
        {"projection": features},
        model_state,
    ),
)
SETTING = Setting(
    class_counts=np.array([4, 2]),
    labels=np.zeros(6, np.int32),
    num_examples=6,
    steps=functools.partial(duration_steps, **TIMING),
    networks={"main": NETWORK},
    **TIMING,
)
Z = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
MASK = jnp.array([True, True, True, False])
BATCH = {"mask": MASK, "index": jnp.array([5, 1, 0, 3])}
PRIOR = np.array([0.5, 0.3, 0.2])


def base_loss(params, state, batch, *, key, program):
    aux = {"rows": {"views": (jnp.asarray(Z[0]), jnp.asarray(Z[1]))}, "metrics": {}}
    return {"views": jnp.array([1.0, 2.0, 3.0, 0.0])}, aux


BASE = Method(loss=base_loss, terms=lambda: None, predict=lambda: None)


@pytest.fixture(scope="module")
def method():
    options = HarmonyOptions(harmony=0.5, harmony_classes=3, harmony_start="100 epochs")
    return harmonized(BASE, options, SETTING)


def state_at(method, step, **changes):
    kept = method.init(jax.random.key(0), {}, {})
    kept |= {"prior": jnp.asarray(PRIOR, jnp.float32)} | changes
    return types.SimpleNamespace(method_state=kept, hyper={}, step=jnp.int32(step))


def logits_of(z, frame):
    t = np.asarray(z, np.float64) @ np.asarray(frame, np.float64)
    return t / np.linalg.norm(t, axis=1, keepdims=True)


def by_definition(frame):
    """Sinkhorn-Knopp on exp(20 t) of the three real rows, and the swapped loss."""
    views = [logits_of(z[:3], frame) for z in Z]

    def assigned(t):
        kernel, c = np.exp(20 * t), np.full(3, 1 / 3)
        for _ in range(300):
            r = PRIOR / (kernel * c[:, None]).sum(0)
            c = 1 / 3 / (kernel @ r)
        return 3 * kernel * c[:, None] * r

    def log_softmax(t):
        return t / 0.1 - np.log(np.exp(t / 0.1).sum(1, keepdims=True))

    one, two = views
    return -(assigned(one) * log_softmax(two) + assigned(two) * log_softmax(one)).sum(1)


def test_the_frame_is_a_simplex_and_the_warm_up_ends_between_two_programs(method):
    frame = np.asarray(state_at(method, 0).method_state["frame"])
    np.testing.assert_allclose(frame.T @ frame, 1.5 * np.eye(3) - 0.5, atol=1e-6)
    assert [method.program(s) for s in (0, 199, 200, 399)] == [False, False, True, True]
    assert method.programs == (False, True)


@pytest.mark.parametrize(("step", "share"), [(200, 0.1), (203, 0.2), (350, 1.0)])
def test_its_share_climbs_from_epoch_to_epoch(method, step, share):
    state = state_at(method, step)
    losses, aux = method.loss({}, state, BATCH, key=None, program=Program(True))
    extra = by_definition(state.method_state["frame"])
    want = np.array([1.0, 2.0, 3.0]) + 0.5 * share * extra
    np.testing.assert_allclose(losses["views"][:3], want, rtol=2e-4)
    assert losses["views"][3] == 0
    total, count = aux["metrics"]["harmony"]
    assert float(total / count) == pytest.approx(extra.mean(), rel=2e-4)
    losses, _ = method.loss({}, state, BATCH, key=None, program=Program(False))
    np.testing.assert_array_equal(losses["views"], [1, 2, 3, 0])


@pytest.mark.parametrize(("step", "decay"), [(200, 0.9), (201, 0.999)])
def test_the_table_averages_the_logits_of_the_first_view(method, step, decay):
    """`step` is that of the next batch: the last one of the warm-up still counts."""
    state = state_at(method, step)
    _, aux = base_loss({}, state, BATCH, key=None, program=None)
    first = logits_of(Z[0], state.method_state["frame"])
    for views, want in (
        (aux["rows"]["views"], first),
        (aux["rows"]["views"][::-1], None),
    ):
        aux = {**aux, "rows": {"views": views}}
        state.method_state = method.update(state, BATCH, aux)
        if want is None:
            second = logits_of(Z[1], state.method_state["frame"])
            want = decay * first + (1 - decay) * second
        table = state.method_state["latent"]
        np.testing.assert_allclose(table["logits"][BATCH["index"]][:3], want[:3], 2e-5)
        assert np.flatnonzero(table["seen"]).tolist() == [0, 1, 5]


def test_proportions_are_counted_when_the_warm_up_ends_and_every_20_epochs(method):
    (refresh,) = method.refreshes
    assert [s for s in range(300) if refresh.due(s)] == [200, 240, 280]
    rows = (
        jnp.zeros((128, 3))
        .at[jnp.array([0, 1, 2, 3])]
        .set(jnp.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0.5, 0], [0, 0, 9.0]]))
    )
    seen = jnp.arange(128) < 3
    state = state_at(method, 200, latent={"logits": rows, "seen": seen})
    found = refresh.fn(state, None)["prior"]
    np.testing.assert_allclose(found, [2 / 3, 1 / 3, 0], atol=1e-7)
