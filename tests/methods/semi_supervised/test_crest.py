"""CReST: what is adopted, the enlarged labelled term, and the network that restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.method import Program
from ltjax.methods.semi_supervised.crest import adopted
from ltjax.options import ConfigError
from ltjax.train.state import step_key

B, M, K = 16, 2, 10
CONFIG = ("semi_lt", "method=crest_plus")
CHANGES = ("model.norm=none", "method.generations=3", "method.threshold=0.3")


@pytest.fixture(scope="module")
def made(smoked):
    """Six steps: generations of two."""
    return smoked(*CONFIG, *CHANGES)


def test_the_most_confident_of_each_class_are_adopted():
    """N = (100, 46, 21, 10), predicted (50, 30, 20, 8): (23, 17, 15, 8) adopted."""
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.repeat(np.arange(4), [50, 30, 20, 8]))
    best = rng.uniform(0.4, 1.0, len(classes))
    rows = np.repeat((1 - best)[:, None] / 3, 4, axis=1)
    rows[np.arange(len(classes)), classes] = best
    found = adopted(rows, [100, 46, 21, 10], power=1 / 3)
    for k, size in enumerate((23, 17, 15, 8)):
        members = np.flatnonzero(classes == k)
        chosen = members[np.argsort(-best[members])[:size]]
        assert set(np.flatnonzero(found == k)) == set(chosen)
    assert np.all(adopted(rows, [9, 9, 9, 9], power=0.0) == classes)


def test_generations_begin_in_equal_parts(made):
    method = made[0].method
    (refresh,) = method.refreshes
    assert [s for s in range(8) if refresh.due(s)] == [2, 4]
    assert [bool(method.redraws(s)) for s in range(6)] == [0, 0, 1, 0, 1, 0]
    assert [method.program(s) for s in range(6)] == [False] * 2 + [True] * 4
    run = made[0]
    size = run.companions[0].size
    rows = np.random.default_rng(0).dirichlet(np.ones(K), size)
    kept = jax.device_get(method.init(jax.random.key(0), None, None))
    new = refresh.fn(kept, rows, step=2)
    want = adopted(rows, run.info.class_counts, power=1 / 3)
    np.testing.assert_array_equal(new["adopted"][:size], want)
    assert new["count"] == (want >= 0).sum() > 0
    assert np.all(new["adopted"][size:] == -1)


@pytest.fixture(scope="module")
def grown(made, stream_batch):
    """(run, a state with adopted examples, compiled step, batch)."""
    run, state = made
    table = np.full(state.method_state["adopted"].shape, -1, np.int32)
    table[: B * M : 2] = np.arange(B * M // 2) % K
    kept = {
        **state.method_state,
        "adopted": jnp.asarray(table),
        "count": jnp.asarray(40.0),
    }
    step = jax.jit(run.step, static_argnames="program")
    batch = stream_batch(views=("weak", "strong"))
    return run, state.replace(method_state=kept), step, batch


def test_the_labelled_term_is_that_of_the_enlarged_set(grown, outputs_of, log_softmax):
    run, state, step, batch = grown
    stream, real = batch["unlabelled"], np.ravel(batch["unlabelled"]["mask"])
    own, weak, strong = (
        log_softmax(outputs_of(run, state, x)["logits"])
        for x in (batch["inputs"], *(stream[v] for v in ("weak", "strong")))
    )
    # Second of three generations: the prior to the power 3/4 over the uniform buffer.
    target = (run.info.class_counts / run.info.class_counts.sum()) ** 0.75
    target /= target.sum()
    q = np.exp(weak) * (target + 1e-6) / (1 / K + 1e-6)
    q /= q.sum(1, keepdims=True)
    limit = np.median(q.max(1))  # between two guesses: their number is even
    state = state.replace(
        step=jnp.asarray(3, jnp.int32),
        hyper={**state.hyper, "method.threshold": jnp.asarray(limit, jnp.float32)},
    )
    _, metrics = step(state, batch, program=Program(True))
    n, size, rows = run.info.num_train, run.companions[0].size, np.arange(B * M)
    labelled = -own[np.arange(B), np.asarray(batch["label"])].mean()
    joined = np.asarray(state.method_state["adopted"])[np.ravel(stream["index"])]
    member = (joined >= 0) & real
    more = -(weak[rows, joined] * member).mean()
    sure = (q.max(1) >= limit) & real
    assert 0 < sure.sum() < real.sum()
    agree = -(strong[rows, q.argmax(1)] * sure).mean()
    want = (n * labelled + size * more) / (n + 40) + agree
    np.testing.assert_allclose(metrics["loss"][0], want, rtol=1e-5)
    assert metrics["adopted"][0] == member.sum()


def test_a_generation_begins_with_another_network(grown):
    run, state, step, batch = grown
    state = state.replace(
        step=jnp.asarray(2, jnp.int32),
        hyper={**state.hyper, "optimizer.lr": jnp.zeros(())},
    )
    new, _ = step(state, batch, program=Program(True))
    params, _ = run.model.init(step_key(state, "init"), batch["inputs"][:1])
    for got in (new.params, new.ema["params"]):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, params
        )
    kernel = state.params["head"]["kernel"]
    assert not np.allclose(kernel, params["head"]["kernel"])
    np.testing.assert_array_equal(
        new.method_state["adopted"], state.method_state["adopted"]
    )
    kept, _ = step(state.replace(step=jnp.asarray(3)), batch, program=Program(True))
    np.testing.assert_array_equal(kept.params["head"]["kernel"], kernel)


def test_labelled_examples_are_not_adopted_again(smoked):
    with pytest.raises(ConfigError, match="would adopt the labelled examples once"):
        smoked(*CONFIG, "unlabelled.include_labelled=True")
