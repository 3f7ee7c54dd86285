"""Passes over a split: every example once, whatever batches and devices share it."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import array_source, augment, feed
from ltjax.evaluators import Evaluator, Sweep
from ltjax.metrics.column import Column
from ltjax.train.evaluate import (
    EvalSet,
    eval_plan,
    judged_metric,
    make_collector,
    make_judge,
    make_pass,
)
from ltjax.train.lanes import Lanes
from ltjax.train.mesh import Layout, make_mesh

INPUTS = np.arange(11, dtype=np.float32)[:, None]
STATE = {"factor": np.array([1.0, 10.0], np.float32)}  # two replicas
LAYOUTS = [(1, "vmap"), (4, "vmap"), (2, "devices"), (1, "unroll")]


def split(name="test", which=feed.resident, count=11):
    source = array_source(INPUTS[:count], np.arange(count) % 2)
    return EvalSet(name, which(source, augment.build("none")), count)


@pytest.fixture(params=LAYOUTS, ids=lambda pair: f"{pair[1]} on {pair[0]}")
def lanes(request, devices):
    count, mode = request.param
    with devices(count):
        layout = Layout(make_mesh(), "devices" if mode == "devices" else "batch")
    return Lanes(2, layout, mode, eval_batch_size=4)


@pytest.fixture
def placed(lanes):
    return lanes.layout.place(STATE, lanes.sums_sharding(STATE))


def test_a_plan_asks_for_every_example_once_and_pads():
    plan = eval_plan(11, 4)
    indices, masks = zip(*(plan(step) for step in range(3)), strict=True)
    assert np.concatenate(indices).tolist() == [*range(11), 0]
    assert np.concatenate(masks).tolist() == [True] * 11 + [False]


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_sums_over_every_example_once(lanes, placed, which):
    def update(state, sums, batch, extra):
        own = jnp.where(batch["mask"], state["factor"] * batch["inputs"][:, 0], 0)
        return {"sum": sums["sum"] + jnp.sum(own), "n": sums["n"] + batch["mask"].sum()}

    told = []
    go = make_pass(
        update,
        split(which=which),
        lanes,
        empty={"sum": jnp.zeros(()), "n": jnp.int32(0)},
        beat=told.append,
    )
    for _ in range(2):  # sums start afresh
        found = go(placed)
        assert found["sum"].tolist() == [55, 550] and found["n"].tolist() == [11, 11]
    assert set(told) == {"the pass over 'test'"} and len(told) == 6


def test_what_is_kept_of_each_example_is_in_its_order(lanes, placed):
    def fn(state, batch, extra):
        return {"value": state["factor"] * batch["inputs"][:, 0] + extra["shift"]}

    collect = make_collector(fn, split(), lanes)
    found = collect(placed, {"shift": np.array([0.5, -1.0], np.float32)})["value"]
    np.testing.assert_array_equal(found, [INPUTS[:, 0] + 0.5, 10 * INPUTS[:, 0] - 1])


def counting(**changes) -> Evaluator:
    """Judges by the mean input times the factor, with its bank's mean subtracted."""

    def update(state, sums, batch, extra):
        own = jnp.sum(jnp.where(batch["mask"], batch["inputs"][:, 0], 0))
        return sums + jnp.stack([state["factor"] * own, jnp.sum(batch["mask"] * 1.0)])

    known = Evaluator(
        judge=Sweep(update, jnp.zeros(2)),
        arrays=lambda found, extra, about: {
            "mean": found[:, 0] / found[:, 1] - (0 if extra is None else extra),
            "about": np.zeros(2) if about is None else about,
        },
        summarize=lambda arrays: {"score": arrays["mean"]},
        columns=(Column("score", "Score", "min", "the mean input"),),
        judged="score",
    )
    return known._replace(**changes)


def test_an_evaluation_of_several_evaluators(lanes, placed):
    bank = counting().judge
    with_bank = counting(
        bank=bank,
        digest=lambda found: found[:, 0] / found[:, 1],
        about=lambda state: 2 * state["factor"],
        arrays=lambda found, extra, about: {
            "apart": found[:, 0] / found[:, 1] - extra,
            "twice": about,
        },
        summarize=lambda arrays: {"apart": arrays["apart"]},
    )
    of_pool = with_bank._replace(
        on_pool=True, summarize=lambda arrays: {"beyond": arrays["apart"]}
    )
    own = counting(on_train=True)
    traced = []
    judge = make_judge(
        {"plain": counting(), "bank": with_bank, "train": own, "pool": of_pool},
        (split("test"), split("val", count=5)),
        split("train", count=3),
        lanes,
        split("pool", count=9),
        on_trace=lambda: traced.append(1),
    )
    found = judge(placed)
    # Means of 0..10, 0..4 and 0..2, times the factors; that of the pool is 4.
    expected = {
        "eval/test/score": [5, 50],
        "eval/val/score": [2, 20],
        "eval/train/score": [1, 10],
        "eval/test/apart": [4, 40],
        "eval/val/apart": [1, 10],
        "eval/test/beyond": [1, 10],
        "eval/val/beyond": [-2, -20],
    }
    assert {k: v.tolist() for k, v in found.values.items()} == expected
    assert set(found.arrays) == {"test", "val", "train"}
    test = found.arrays["test"]
    assert test["twice"].tolist() == [2, 20]
    assert test["summary/score"].tolist() == [5, 50]
    assert test["summary/apart"].tolist() == [4, 40]
    count = len(traced)
    judge(placed)
    assert len(traced) == count == 9  # seven passes over splits, two over banks


def test_which_metric_decides_what_is_best():
    splits = tuple(types.SimpleNamespace(name=name) for name in ("test", "val"))
    table = {"silent": counting(judged=""), "one": counting()}
    assert judged_metric(table, splits) == ("eval/val/score", "min")
    assert judged_metric(table, splits[:1]) == ("eval/test/score", "min")
    assert judged_metric({"own": counting(on_train=True)}, splits) is None
    assert judged_metric({}, splits) is None
