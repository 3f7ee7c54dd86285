"""One optimizer step: by hand, padded, averaged, clipped, mixed, in micro-batches."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.method import Program
from ltjax.train.build import build
from ltjax.train.state import NEVER
from ltjax.train.step import add_metrics, empty_sums, make_train_step

SHORT = {"total": "10 steps", "eval_every": "0 steps", "log_every": "5 steps"}
# Summation in another order, over ten steps.
ROUNDING = {"rtol": 1e-4, "atol": 2e-6}


def network_gradient(params, inputs, labels):
    """Cross-entropy of ReLU(x W + b) V + c and its gradient, in float64."""
    x = inputs.reshape(len(inputs), -1).astype(np.float64)
    w, b, v, c = params
    hidden = np.maximum(x @ w + b, 0)
    logits = hidden @ v + c
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(x)), labels]).mean()
    p[np.arange(len(x)), labels] -= 1
    p /= len(x)
    back = (p @ v.T) * (hidden > 0)
    return loss, (x.T @ back, back.sum(0), hidden.T @ p, p.sum(0))


def test_whole_steps_of_the_engine_by_hand(tiny, devices):
    """Data, loss, gradient, decay, momentum and schedule of the recipe, in numpy."""
    with devices(1):
        run = build(
            tiny(
                {
                    "model.norm": "none",
                    "optimizer.lr": 0.1,
                    "optimizer.weight_decay": 2e-4,
                    "schedule.name": "warmup_multistep",
                    "schedule.warmup": "2 epochs",
                    "schedule.milestones": (3, 4),
                    "total": "5 epochs",
                }
            )
        )
    state = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])

    def leaves(tree):
        dense, head = tree["backbone"]["dense1"], tree["head"]
        parts = dense["kernel"], dense["bias"], head["kernel"], head["bias"]
        return [np.asarray(part, np.float64) for part in parts]

    params = leaves(state.params)
    velocity = [np.zeros_like(p) for p in params]
    step = jax.jit(run.step)
    arrays = run.feed.arrays
    for t in range(5 * 9):
        indices, mask = (part[0] for part in run.plan(t))
        rows = run.feed.rows(indices, mask)
        batch = run.feed.batch(arrays, rows, jax.random.key(0), train=True)
        state, metrics = step(state, batch)
        loss, gradient = network_gradient(
            params, arrays["inputs"][indices], arrays["label"][indices]
        )
        epoch = t // 9
        lr = 0.1 * [1 / 2, 1, 1, 1e-2, 1e-4][epoch]
        for i, g in enumerate(gradient):
            velocity[i] = 0.9 * velocity[i] + g + 2e-4 * params[i]
            params[i] = params[i] - lr * velocity[i]
        assert float(metrics["passes"][0]) == 1
        assert float(metrics["lr"][0]) == pytest.approx(lr, rel=1e-6)
        assert float(metrics["loss"][0]) == pytest.approx(loss, rel=1e-4)
    for found, expected in zip(leaves(state.params), params, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_padding_counts_for_nothing(tiny, devices):
    """The padded last batch of an epoch is the batch of its real rows alone."""
    with devices(1):
        run = build(tiny({"sampler.remainder": "pad"}))
    hyper = run.info.replicas[0]["hyper"]
    state = jax.jit(run.init)(0, hyper)
    indices, mask = (part[0] for part in run.plan(9))  # 159 = 9 x 16 + 15
    assert mask.sum() == 15 and not mask[-1]
    step = jax.jit(run.step)
    batch = run.feed.batch(
        run.feed.arrays, run.feed.rows(indices, mask), None, train=True
    )
    real = jax.tree.map(lambda x: x[:15], batch)
    hostile = {**batch, "inputs": batch["inputs"].at[15].set(1e6)}
    expected, metrics = step(state, real)
    for padded in (batch, hostile):
        found, padded_metrics = step(state, padded)
        for a, b in zip(
            jax.tree.leaves((found.params, found.model_state, found.opt_state)),
            jax.tree.leaves(
                (expected.params, expected.model_state, expected.opt_state)
            ),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)
        assert padded_metrics["accuracy"][1] == 15
        assert padded_metrics["accuracy"][0] == metrics["accuracy"][0]
        np.testing.assert_allclose(
            padded_metrics["loss"][0], metrics["loss"][0], rtol=1e-6
        )


def averaged(decay: float, values: list):
    """The mean of values[1:] until 1 / (1 - decay) of them, then a moving average."""
    count = round(1 / (1 - decay))
    average = sum(values[1 : count + 1]) / len(values[1 : count + 1])
    for value in values[count + 1 :]:
        average = decay * average + (1 - decay) * value
    return average


def steps_of(run, count: int):
    """States before and after each of the first steps, and the batches."""
    state = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])
    step = jax.jit(run.step)
    states, batches = [state], []
    for k in range(count):
        indices, mask = (part[0] for part in run.plan(k))
        rows = run.feed.rows(indices, mask)
        key = jax.random.key(k)
        batches.append(run.feed.batch(run.feed.arrays, rows, key, train=True))
        states.append(step(states[-1], batches[-1])[0])
    return states, batches


def test_the_average_of_parameters_and_statistics(tiny, train, devices, assert_same):
    decay = 0.75
    with devices(1):
        run = build(tiny({"ema_decay": decay}))
    states, _ = steps_of(run, 6)  # four and two
    for part in ("params", "model_state"):
        expected = jax.tree.map(
            lambda *x: averaged(decay, x), *(getattr(s, part) for s in states)
        )
        assert_same(states[-1].ema[part], expected, rtol=1e-5, atol=1e-6)
    # Predictions take it, if asked to.
    inputs = np.random.default_rng(0).normal(size=(4, 40, 1)).astype(np.float32)
    with devices(1):
        average = build(tiny({"ema_decay": decay, "evaluate_ema": True}))
    last = states[-1]
    swapped = last.replace(
        params=last.ema["params"], model_state=last.ema["model_state"]
    )
    np.testing.assert_allclose(
        average.predict(last, inputs)["logits"],
        run.predict(swapped, inputs)["logits"],
        rtol=1e-5,
    )
    ours, theirs = (r.predict(last, inputs)["logits"] for r in (average, run))
    assert not np.allclose(ours, theirs)


def test_random_streams_follow_from_seed_and_step(tiny, devices):
    with devices(1):
        run = build(tiny({"model.dropout": 0.5}))
    states, batches = steps_of(run, 1)
    step = jax.jit(run.step)

    def after(**changes):
        new = step(states[0].replace(**changes), batches[0])[0]
        return np.asarray(new.params["backbone"]["dense1"]["kernel"]).tobytes()

    same = after()
    assert after(rng=jax.random.key(0)) == same
    assert after(rng=jax.random.key(1)) != same
    assert after(step=jnp.int32(1)) != same


def test_clipping_bounds_the_step_not_the_direction(tiny, devices):
    changes = {"optimizer.weight_decay": 0.0, "optimizer.momentum": 0.0}
    with devices(1):
        free = build(tiny(changes))
        bound = build(tiny(changes | {"optimizer.clip_norm": 0.01}))

    def move(run):
        states, _ = steps_of(run, 1)
        before, after = (jax.tree.leaves(s.params) for s in states)
        parts = [np.ravel(b - a) for a, b in zip(before, after, strict=True)]
        return np.concatenate(parts).astype(np.float64)

    long, short = move(free), move(bound)
    assert np.linalg.norm(long) > 0.05 * 0.01  # else nothing was clipped
    assert np.linalg.norm(short) == pytest.approx(0.05 * 0.01, rel=1e-3)
    cosine = long @ short / np.linalg.norm(long) / np.linalg.norm(short)
    assert cosine == pytest.approx(1, abs=1e-5)


def test_mixup_learns(train, tmp_path, records):
    train(SHORT | {"method.mixup": 1.0, "total": "60 steps"}, workdir=tmp_path)
    losses = [r["train/loss"] for r in records(tmp_path) if "train/loss" in r]
    assert losses[-1] < 0.9 * losses[0]


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(
    train, tmp_path, records
):
    changes = SHORT | {"total": "40 steps"}
    train(changes, workdir=tmp_path / "exact")
    half = train(changes | {"model.dtype": "bfloat16"}, workdir=tmp_path / "half")
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(half.state.params)}
    assert dtypes == {jnp.dtype("float32")}
    exact, rounded = (
        [r["train/loss"] for r in records(tmp_path / name) if "train/loss" in r]
        for name in ("exact", "half")
    )
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.03)


def test_accumulated_gradients_are_those_of_the_batch(train, assert_same):
    # Without batch normalization: that normalizes within a micro-batch.
    changes = SHORT | {"model.norm": "none", "sampler.remainder": "pad"}
    whole = train(changes)
    parts = train(changes | {"optimizer.accumulate": 4})
    assert_same(parts.state, whole.state, **ROUNDING)


# ------------------------------------------------------- what a method may ask of it


@pytest.fixture(scope="module")
def small(tiny, devices):
    """A run without normalization, its first state and its first two batches."""
    with devices(1):
        run = build(tiny({"model.norm": "none", "optimizer.momentum": 0.9}))
    states, batches = steps_of(run, 2)
    return run, states, batches


def step_with(run, **fields):
    """The compiled step of a run whose method has other fields."""
    make_tx = run.config.optimizer.make(lambda step: 1.0)
    step = make_train_step(run.method._replace(**fields), run.rule, make_tx)
    return jax.jit(step, static_argnames="program")


def test_the_optimizer_starts_afresh_when_the_method_says_so(small, assert_same):
    run, states, batches = small
    step = step_with(run, restarts=lambda step: step == 1)
    kept = step(states[0], batches[0])[0]
    assert_same(kept.params, states[1].params, rtol=1e-6, atol=1e-8)
    found = step(kept, batches[1])[0]
    # The same as from a state without momentum.
    start = jax.tree.map(jnp.zeros_like, states[1].opt_state)
    expected = jax.jit(run.step)(states[1].replace(opt_state=start), batches[1])[0]
    assert_same(found.params, expected.params, rtol=1e-6, atol=1e-8)
    moved = jax.tree.leaves(states[2].params)[0] - jax.tree.leaves(expected.params)[0]
    assert np.abs(moved).max() > 1e-4


def test_a_stage_trains_its_own_modules(small, assert_same):
    run, states, batches = small
    step = step_with(run, trains=lambda stage: "head" if stage == "late" else None)
    # After a first step there is momentum and decay, which must not move them either.
    late = step(states[1], batches[1], program=Program("late"))[0]
    assert_same(late.params["backbone"], states[1].params["backbone"])
    assert_same(late.params["head"], states[2].params["head"], rtol=1e-6, atol=1e-8)
    early = step(states[1], batches[1], program=Program("early"))[0]
    assert_same(early.params, states[2].params, rtol=1e-6, atol=1e-8)


def test_what_a_method_prepares_is_seen_by_every_pass(tiny, devices, assert_same):
    """The batch is made once: all passes of a sharp gradient see the same noise."""
    with devices(1):
        run = build(tiny({"model.norm": "none", "gradient.name": "sam"}))
    states, batches = steps_of(run, 0)[0], None
    indices, mask = (part[0] for part in run.plan(0))
    rows = run.feed.rows(indices, mask)
    batches = run.feed.batch(run.feed.arrays, rows, jax.random.key(0), train=True)
    seen = []

    def prepare(state, batch, *, key, program):
        noise = jax.random.normal(key, batch["inputs"].shape)
        seen.append(program)
        return {"count": state.step + 1}, {**batch, "inputs": batch["inputs"] + noise}

    def loss(params, state, batch, *, key, program):
        assert set(state.method_state) == {"count"}
        return run.method.loss(
            params, state.replace(method_state=None), batch, key=key, program=program
        )

    start = states[0].replace(method_state={"count": jnp.zeros((), jnp.int32)})
    new, metrics = step_with(run, prepare=prepare, loss=loss)(start, batches)
    assert float(metrics["passes"][0]) == 2  # the gradient, and that of the moved point
    assert len(seen) == 1 and int(new.method_state["count"]) == 1
    assert np.isfinite(jax.tree.leaves(new.params)[0]).all()


def test_a_method_state_keeps_its_shapes_and_dtypes(small):
    run, states, batches = small
    start = states[0].replace(method_state={"count": jnp.zeros(2, jnp.int32)})

    def after(update):
        step = step_with(run, update=lambda state, batch, aux: {"count": update})
        return jax.eval_shape(step, start, batches[0])[0].method_state["count"]

    assert after(jnp.array([1.5, 2.5])).dtype == jnp.int32
    with pytest.raises(
        ValueError, match=r"method_state.count has shape \(3,\), expect"
    ):
        after(jnp.zeros(3, jnp.int32))


def test_sums_of_metrics_wait_for_those_of_other_programs():
    fine, lost = (types.SimpleNamespace(diverged=jnp.int32(t)) for t in (NEVER, 7))
    sums = empty_sums(["a", "b"])
    sums = add_metrics(sums, {"a": (3.0, 2)}, fine, True)
    sums = add_metrics(sums, {"a": (1.0, 1), "b": (5.0, 1)}, fine, True)
    assert int(sums.bad_step) == NEVER
    sums = add_metrics(sums, {"a": (np.nan, 1)}, lost, False)
    found = {name: [float(x) for x in pair] for name, pair in sums.metrics.items()}
    assert found == {"a": [4.0, 3.0], "b": [5.0, 1.0]}
    assert int(sums.bad_step) == 7
