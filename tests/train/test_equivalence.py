"""One run, many ways to execute it: devices, replicas, chunks, feeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.build import build

SHORT = {"total": "10 steps", "eval_every": "0 steps", "log_every": "5 steps"}
# Summation in another order, over ten steps.
ROUNDING = {"rtol": 1e-4, "atol": 2e-6}


def test_eight_devices_equal_one(train, assert_same, records, tmp_path):
    one = train(SHORT, workdir=tmp_path / "one")
    eight = train(SHORT, count=8, workdir=tmp_path / "eight")
    leaf = eight.state.params["head"]["kernel"]
    assert leaf.sharding.num_devices == 8 and leaf.sharding.is_fully_replicated
    assert_same(eight.state, one.state, **ROUNDING)
    assert_same(eight.evaluation, one.evaluation, **ROUNDING)
    for ours, theirs in zip(
        records(tmp_path / "eight"), records(tmp_path / "one"), strict=True
    ):
        assert ours.keys() == theirs.keys()
        for key in ("train/loss", "train/accuracy", "train/grad_norm", "train/lr"):
            if key in theirs:
                assert ours[key] == pytest.approx(theirs[key], rel=1e-4)


def test_a_plan_does_not_know_how_many_devices_there_are(tiny, devices):
    plans = []
    for count in (1, 8):
        with devices(count):
            run = build(tiny({"sampler.name": "class_balanced"}))
            plans.append([run.plan(step) for step in (0, 8, 9, 23)])
    for (indices, mask), (others, other_mask) in zip(*plans, strict=True):
        assert indices.shape == (1, 16)
        np.testing.assert_array_equal(indices, others)
        np.testing.assert_array_equal(mask, other_mask)


def test_sharded_parameters_equal_replicated_ones(train, assert_same):
    wide = SHORT | {"model.hidden": (128, 128), "model.norm": "none"}
    wide |= {"optimizer.clip_norm": 1.0}  # a norm over all shards
    one = train(wide, count=2)
    sharded = train(wide | {"fsdp": 2}, count=2)
    kernel = sharded.state.params["backbone"]["dense2"]["kernel"]
    assert kernel.shape == (1, 128, 128)
    assert {s.data.shape for s in kernel.addressable_shards} == {(1, 64, 128)}
    trace = [
        leaf
        for leaf in jax.tree.leaves(sharded.state.opt_state)
        if leaf.shape == (1, 128, 128)
    ]
    assert trace and not trace[0].sharding.is_fully_replicated
    assert_same(sharded.state, one.state, **ROUNDING)


GRID = SHORT | {
    "loss.name": "la",
    "replicas.grid": {"optimizer.lr": (0.02, 0.1), "loss.tau": (0.5, 1.5)},
}
POINTS = [(0.02, 0.5), (0.02, 1.5), (0.1, 0.5), (0.1, 1.5)]


@pytest.fixture(scope="module")
def singles(train):
    """A run of its own for every point of the grid."""
    alone = SHORT | {"loss.name": "la"}
    return [
        train(alone | {"optimizer.lr": lr, "loss.tau": tau}).state for lr, tau in POINTS
    ]


@pytest.mark.parametrize("layout", ["vmap", "unroll", "devices"])
def test_replicas_equal_runs_of_their_own(singles, train, assert_same, layout):
    count = 4 if layout == "devices" else 1
    together = train(GRID | {"replicas.layout": layout}, count=count)
    assert together.traces == {"step": 1, "eval": 1}
    for r, single in enumerate(singles):
        own = jax.tree.map(lambda x, r=r: x[r : r + 1], together.state)
        assert_same(own, single, **ROUNDING)
    if layout == "devices":
        leaf = together.state.params["head"]["kernel"]
        assert {s.data.shape[0] for s in leaf.addressable_shards} == {1}


@pytest.fixture(scope="module")
def pair(train, tmp_path_factory):
    """Two seeds side by side, over a padded last batch: (result, workdir)."""
    workdir = tmp_path_factory.mktemp("pair")
    return train(PAIR, workdir=workdir), workdir


PAIR = SHORT | {
    "sampler.remainder": "pad",
    "replicas.seeds": (0, 1),
    "replicas.layout": "vmap",
}


def test_seeds_differ_in_start_and_order(tiny, pair):
    kernel = np.asarray(pair[0].state.params["head"]["kernel"])
    assert not np.allclose(kernel[0], kernel[1])
    indices, _ = build(tiny({"replicas.seeds": (0, 1), "seed": 5})).plan(3)
    np.testing.assert_array_equal(indices[1], build(tiny({"seed": 6})).plan(3)[0][0])
    assert not np.array_equal(indices[0], indices[1])


def test_replicas_per_device_must_fit(train, tmp_path):
    changes = {"replicas.seeds": (0, 1, 2), "replicas.layout": "devices"}
    with pytest.raises(ConfigError, match="3 replicas, expected a multiple of the 2 d"):
        train(changes, count=2, workdir=tmp_path / "run")


def test_chunks_of_steps_equal_single_steps(
    pair, train, assert_same, records, tmp_path
):
    chunks = train(PAIR | {"steps_per_call": 5}, workdir=tmp_path)
    assert chunks.traces["step"] == 1
    assert_same(chunks.state, pair[0].state, **ROUNDING)
    ours, theirs = records(tmp_path), records(pair[1])
    assert [line["step"] for line in ours] == [5, 10, 10]
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        replicas = a["replicas"]["train/loss"]
        assert replicas == pytest.approx(b["replicas"]["train/loss"], rel=1e-4)


def test_streaming_equals_resident_bit_for_bit(
    pair, train, assert_same, records, tmp_path
):
    streaming = train(PAIR | {"data.feed": "streaming"}, workdir=tmp_path)
    assert_same(streaming.state, pair[0].state)
    assert_same(streaming.evaluation, pair[0].evaluation)
    assert records(tmp_path) == records(pair[1])


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


def test_a_batch_must_split_over_the_devices(train, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(ConfigError, match="batch_size is 20, expected a multiple of t"):
        train({"batch_size": 20}, count=8, workdir=workdir)
    assert not workdir.exists()


def test_fsdp_must_divide_the_devices(train, tmp_path):
    with pytest.raises(ValueError, match="fsdp is 3, expected a divisor of 4 devices"):
        train({"fsdp": 3}, count=4, workdir=tmp_path / "run")


def averaged(decay: float, values: list):
    """The moving average of `values`, starting at the first."""
    average = values[0]
    for value in values[1:]:
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
    states, _ = steps_of(run, 4)
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
        run = build(tiny({"model.hidden": (16,), "model.dropout": 0.5}))
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
