"""SoLar: transport, selection and the objective in float64; the prior by epoch."""

import jax
import numpy as np
import pytest

from ltjax.train.state import step_key

B, K, REAL = 16, 10, 14
# Half risen: share 0.45, rate 0.4. The queue is full from the second step on.
CHANGES = ("model.norm=none", "method.ramp=18 steps", "method.confident=0.5")
EPOCH = 9


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    """Two steps from the start of the second epoch, counting the epoch's batches."""
    changes = (*CHANGES, "method.queue=1", "method.prior_from=batches")
    more = ("method.prior_rate=0.3",)
    run, state = smoked("partial_lt", "method=solar", *changes, *more)
    assert run.info.steps_per_epoch == EPOCH
    prior = np.arange(10, 0, -1, dtype=np.float32) / 55
    kept = {**state.method_state, "prior": jax.numpy.asarray(prior)}
    state = state.replace(step=state.step + EPOCH, method_state=kept)
    batch = candidate_batch("weak", "strong")
    states, told = advance(run, state, batch)
    prepare, prepared = jax.jit(run.method.prepare, static_argnames="program"), []
    for before in states[:2]:
        key, _ = jax.random.split(step_key(before, "model"))
        _, made = prepare(before, batch, key=key, program=run.program(0))
        prepared.append(jax.device_get(made))
    return run, prior, states, told, prepared


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def transported(scores, prior):
    a, c = scores**3.0, np.full(len(scores), 1 / len(scores))
    for _ in range(50):
        u = prior / (a.T @ c)
        c = 1 / len(scores) / (a @ u)
    return len(scores) * a * u * c[:, None]


def selection(rows, p, prior):
    """By hand, of the real rows: small losses of every class, and the sure ones."""
    label, chosen = rows.argmax(1), np.zeros(len(rows), bool)
    cost = -(rows * np.log(p)).sum(1)
    for k in range(K):
        members = np.flatnonzero(label == k)
        if len(members):
            wanted = int(np.ceil(REAL * prior[k] * 0.4 - 1e-6))
            size = max(1, min(wanted, len(members)))
            chosen[members[np.argsort(cost[members], kind="stable")[:size]]] = True
    return chosen | ((rows * p).sum(1) > 0.5)


def test_rows_are_transported_with_the_queue_and_the_safest_are_selected(
    stepped, outputs_of
):
    run, prior, states, _, prepared = stepped
    queue = np.zeros((0, K))
    for state, made in zip(states, prepared, strict=False):
        p = softmax(outputs_of(run, state, made["weak"])["logits"])[:REAL]
        scores = p * made["candidates"][:REAL]
        rows = transported(np.concatenate([queue, scores]), prior)[-REAL:]
        np.testing.assert_allclose(made["refined"][:REAL], rows, atol=2e-5)
        wanted = selection(rows, p, prior)
        assert 0 < wanted.sum() < REAL
        np.testing.assert_array_equal(made["selected"][:REAL], wanted)
        assert not made["selected"][REAL:].any()
        queue = scores


def test_selected_rows_are_mixed_with_each_other(stepped):
    made = stepped[-1][0]
    chosen = np.flatnonzero(made["selected"])
    x, q = made["weak"], made["refined"]
    found, partners = [], []
    for i in chosen:
        for j in chosen:
            away = x[i] - x[j]
            lam = np.sum((made["mixed"][i] - x[j]) * away) / max(np.sum(away**2), 1e-9)
            if i != j and np.allclose(made["mixed"][i], lam * x[i] + (1 - lam) * x[j]):
                found.append(lam)
                partners.append(j)
                want = lam * q[i] + (1 - lam) * q[j]
                np.testing.assert_allclose(made["mixed_refined"][i], want, atol=1e-5)
    assert len(set(partners)) == len(partners) > 0  # a permutation but for fixed points
    np.testing.assert_allclose(found, found[0], atol=1e-4)
    assert 0.5 <= found[0] <= 1


def test_the_objective_is_that_of_selected_and_of_other_rows(stepped, outputs_of):
    run, prior, states, told, prepared = stepped
    table = np.zeros((B, K))
    counts = np.bincount(run.sources["train"].columns["truth"], minlength=K)
    away = np.abs(prior - counts / counts.sum()).sum() / 2
    for state, made, metrics in zip(states, prepared, told, strict=False):
        log_p = {
            name: np.log(softmax(outputs_of(run, state, made[name])["logits"]))
            for name in ("weak", "strong", "mixed")
        }
        q = {name: made["refined"] for name in log_p}
        q["mixed"] = made["mixed_refined"]
        chosen = made["selected"]
        rest = (np.arange(B) < REAL) & ~chosen
        inside = sum(-(q[name] * log_p[name]).sum(1)[chosen].mean() for name in log_p)
        rows = table if table.any() else made["candidates"] / 3
        outside = -(rows * log_p["weak"]).sum(1)[rest].mean()
        want = 0.45 * inside + 0.55 * outside
        assert metrics["loss"] == pytest.approx(want, rel=1e-5)
        assert metrics["prior_distance"] == pytest.approx(away, rel=1e-4)
        assert metrics["selected"] == pytest.approx(chosen.sum() / REAL)
        p = np.exp(log_p["weak"]) * made["candidates"]
        table = p / p.sum(1, keepdims=True)


def test_the_prior_follows_the_labels_of_the_epoch(stepped, candidate_batch):
    run, prior, states, _, prepared = stepped
    kept = states[1].method_state
    counts = np.zeros(K)
    for made in prepared:
        p = np.exp(made["guess"]) * made["candidates"]
        counts += np.bincount(p.argmax(1)[:REAL], minlength=K)
    state = states[2]
    np.testing.assert_array_equal(state.method_state["evidence"], counts)
    np.testing.assert_array_equal(kept["prior"], prior)
    ended = state.replace(step=state.step * 0 + 2 * EPOCH)
    batch = {**prepared[0], "mask": np.zeros(B, bool)}  # adds nothing
    new = run.method.update(ended, batch, {})
    want = 0.7 * prior + 0.3 * counts / counts.sum()
    np.testing.assert_allclose(new["prior"], want, rtol=1e-5)
    assert not new["evidence"].any()


def test_by_default_it_counts_the_training_set_between_epochs(smoked):
    run, state = smoked("partial_lt", "method=solar", "method.prior_rate=0.25")
    (refresh,) = run.method.refreshes
    assert [t for t in range(20) if refresh.due(t)] == [EPOCH, 2 * EPOCH]
    rows = jax.nn.one_hot(np.array([3, 3, 3, 1]), K)
    new = refresh.fn(state, rows)["prior"]
    want = np.full(K, 0.075) + 0.25 * np.eye(K)[[3, 3, 3, 1]].mean(0)
    np.testing.assert_allclose(new, want, rtol=1e-6)


def test_a_first_training_leaves_only_its_prior(smoked):
    """Of two epochs, with g = 0.2 till their end and 0.05 from then on."""
    run, state = smoked(
        *("partial_lt", "method=solar", "method.estimate=2 epochs"),
        *("method.estimate_rate=0.2", "method.prior_rate=0.05"),
    )
    first = 2 * EPOCH
    counting, anew = run.method.refreshes
    assert [bool(run.method.redraws(s)) for s in (0, first - 1, first)] == [0, 0, 1]
    assert [t for t in range(30) if anew.due(t)] == [first]
    rows = jax.nn.one_hot(np.array([3, 3, 3, 1]), K)
    counted = np.eye(K)[[3, 3, 3, 1]].mean(0)
    for step, rate in ((EPOCH, 0.2), (first, 0.2), (first + EPOCH, 0.05)):
        now = state.replace(step=state.step * 0 + step)
        want = (1 - rate) * np.full(K, 0.1) + rate * counted
        np.testing.assert_allclose(counting.fn(now, rows)["prior"], want, rtol=1e-6)
    kept = jax.tree.map(lambda x: np.asarray(x) + 1, state.method_state)
    kept["prior"] = counted
    left = anew.fn(kept, None, step=first)
    assert left.keys() == kept.keys()
    np.testing.assert_array_equal(left.pop("prior"), counted)
    assert not any(np.any(x) for x in left.values())


def test_share_and_rate_rise_in_each_training_and_newton_meets_the_prior(
    smoked, candidate_batch
):
    """Nothing is selected in the first steps of both; step 13 is the 4th of the 2nd."""
    run, state = smoked(
        *("partial_lt", "method=solar", "method.estimate=1 epochs", *CHANGES),
        *("method.warmup=2 steps", "method.solver=newton"),
    )
    prior = np.full(K, 0.08)
    prior[:2] = 0.18
    kept = {**state.method_state, "prior": jax.numpy.asarray(prior, "float32")}
    state = state.replace(method_state=kept)
    batch = candidate_batch("weak", "strong")
    prepare = jax.jit(run.method.prepare, static_argnames="program")
    chosen = {}
    for step in (1, 4, EPOCH, EPOCH + 1, EPOCH + 4):
        now = state.replace(step=state.step * 0 + step)
        key = jax.random.key(0)
        _, made = prepare(now, batch, key=key, program=run.program(0))
        chosen[step] = np.asarray(made["selected"])
    assert [t for t in chosen if chosen[t].any()] == [4, EPOCH + 4]
    np.testing.assert_array_equal(chosen[4], chosen[EPOCH + 4])
    rows = np.asarray(made["refined"], np.float64)
    np.testing.assert_allclose(rows.sum(axis=0), REAL * prior, atol=1e-5)
    assert not rows[REAL:].any()
