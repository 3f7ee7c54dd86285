"""One run on any number of devices and beside any number of replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.lanes import Lanes, replica_mode, training_lanes
from ltjax.train.mesh import Layout, make_mesh

SHORT = {"total": "10 steps", "eval_every": "0 steps", "log_every": "5 steps"}
# Summation in another order, over ten steps.
ROUNDING = {"rtol": 1e-4, "atol": 2e-6}


@pytest.mark.parametrize("mode", ["vmap", "unroll", "devices"])
@pytest.mark.parametrize("count", [1, 2])
def test_each_is_the_function_of_every_replica(mode, count, devices):
    with devices(count):
        lanes = Lanes(count, Layout(make_mesh(), "devices"), mode)

    def fn(own, shared):
        return {"sum": own + shared, "twice": 2 * own}

    both = jax.jit(lanes.each(fn, (0, None)))
    own, shared = jnp.arange(count * 3.0).reshape(count, 3), jnp.ones(3)
    found = both(own, shared)
    np.testing.assert_array_equal(found["sum"], own + 1)
    np.testing.assert_array_equal(found["twice"], 2 * own)


def test_few_replicas_are_unrolled_on_cpu_only(monkeypatch):
    assert [replica_mode("auto", n) for n in (1, 8, 9)] == ["unroll", "unroll", "vmap"]
    assert replica_mode("devices", 4) == "devices"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert replica_mode("auto", 1) == "vmap"


def test_lanes_are_those_that_the_config_asks_for(tiny, devices):
    changes = {"replicas.seeds": (0, 1), "eval_batch_size": 7}
    with devices(2):
        lanes = training_lanes(tiny(changes | {"replicas.layout": "devices"}), 2)
        assert (lanes.count, lanes.mode, lanes.eval_batch_size) == (2, "devices", 7)
        assert training_lanes(tiny(changes), 2).mode == "unroll"


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
POINTS = [(0.02, 0.5), (0.1, 0.5), (0.02, 1.5), (0.1, 1.5)]


@pytest.fixture(scope="module")
def singles(train):
    """A run of its own for every point of the grid."""
    alone = SHORT | {"loss.name": "la"}
    return [
        train(alone | {"optimizer.lr": lr, "loss.tau": tau}).state for lr, tau in POINTS
    ]


@pytest.mark.parametrize(
    "layout", ["vmap", pytest.param("unroll", marks=pytest.mark.slow), "devices"]
)
def test_replicas_equal_runs_of_their_own(singles, train, assert_same, layout):
    count = 4 if layout == "devices" else 1
    together = train(GRID | {"replicas.layout": layout}, count=count)
    assert together.traces == {"step": 1, "eval": 1, "refresh": 0}
    for r, single in enumerate(singles):
        own = jax.tree.map(lambda x, r=r: x[r : r + 1], together.state)
        assert_same(own, single, **ROUNDING)
    if layout == "devices":
        leaf = together.state.params["head"]["kernel"]
        assert {s.data.shape[0] for s in leaf.addressable_shards} == {1}


def test_replicas_per_device_must_fit(train, tmp_path):
    changes = {"replicas.seeds": (0, 1, 2), "replicas.layout": "devices"}
    with pytest.raises(ConfigError, match="3 replicas, expected a multiple of the 2 d"):
        train(changes, count=2, workdir=tmp_path / "run")


def test_a_batch_must_split_over_the_devices(train, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(ConfigError, match="batch_size is 20, expected a multiple of t"):
        train({"batch_size": 20}, count=8, workdir=workdir)
    with pytest.raises(ConfigError, match="batch_size is 4, expected a multiple of th"):
        train({"batch_size": 4}, count=8, workdir=workdir)
    assert not workdir.exists()


def test_fsdp_must_divide_the_devices(train, tmp_path):
    with pytest.raises(ValueError, match="fsdp is 3, expected a divisor of 4 devices"):
        train({"fsdp": 3}, count=4, workdir=tmp_path / "run")
