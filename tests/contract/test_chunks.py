"""Steps dispatched by threes are single steps, for every gradient rule and switch."""

import jax
import numpy as np
import pytest

from ltjax.methods.registry import GRADIENTS
from ltjax.train.build import build
from ltjax.train.lanes import training_lanes
from ltjax.train.loop import _dispatcher, _rows_of
from ltjax.train.records import zero_sums
from ltjax.train.refresh import make_refresher

SIZE, TOTAL = 3, 9
LATE = {"late": "4 steps"}  # inside of the second chunk
# Rule -> variants, each with options of the rule.
ROWS = {
    "plain": [{}],
    "sam": [LATE],
    "asam": [LATE],
    "rwsam": [LATE],
    "focal_sam": [LATE],
    "imbsam": [LATE, {**LATE, "eta": 10, "compaction": True}],
    "sse_sam": [
        {"eta": 10, "switch": "4 steps"},
        {"eta": 10, "switch": "4 steps", "compaction": True},
    ],
    "cc_sam": [{}],
}
# What a chunk can get wrong: a switch of programs, and buckets of rows.
QUICK = ("plain", "imbsam+late+eta+compaction")


def case(name, options):
    key = "+".join([name, *options])
    marks = () if key in QUICK else pytest.mark.slow
    return pytest.param(name, options, id=key, marks=marks)


CASES = [case(name, options) for name, variants in ROWS.items() for options in variants]


def test_every_rule_is_held():
    assert ROWS.keys() == GRADIENTS.keys()


@pytest.fixture(scope="module")
def run_of(tiny, devices, tmp_path_factory):
    weights = tmp_path_factory.mktemp("density") / "weights.npy"
    np.save(weights, np.random.default_rng(0).uniform(0.5, 2, 159).astype(np.float32))

    def make(name, options, size):
        changes = {
            "total": f"{TOTAL} steps",
            "steps_per_call": size,
            "model.norm": "none",
            "weights.name": "class_balanced",
            "weights.start": "5 steps",  # traced, so it may fall anywhere
            "gradient.name": name,
        }
        changes |= {f"gradient.{key}": value for key, value in options.items()}
        if name == "rwsam":
            changes["gradient.density_weights"] = str(weights)
        with devices(1):
            return build(tiny(changes))

    return make


def trained(run, devices):
    """(state, sums) after all steps, by the dispatcher of the loop."""
    size = run.config.steps_per_call
    with devices(1):
        lanes = training_lanes(run.config, 1)
    layout, shapes = lanes.layout, run.shapes
    shardings = layout.state(shapes, run.method.tables)
    arrays = layout.put(run.feed.arrays, layout.replicated)
    refresh = make_refresher(run, lanes, shardings)
    with jax.set_mesh(layout.mesh):
        zeros = zero_sums(run, lanes, shapes, arrays)
        sums = layout.place(zeros, lanes.sums_sharding(zeros))
        init = jax.jit(jax.vmap(run.init), out_shardings=shardings)
        state = init(run.info.seeds, run.info.hypers)
        traces = []
        advance = _dispatcher(
            run,
            lanes,
            (shardings, lanes.sums_sharding(zeros)),
            lambda: traces.append(1),
        )
        rows = run.feed.iterate(_rows_of(run, size), 0, TOTAL // size)
        for index, one in enumerate(rows):
            state, sums = advance(index * size, state, sums, arrays, one, refresh)
    return state, jax.device_get(sums), len(traces)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_chunks_are_single_steps(name, options, run_of, devices, assert_same):
    single, chunked = (run_of(name, options, size) for size in (1, SIZE))
    programs = [single.program(t) for t in range(TOTAL)]
    chunks = [programs[k : k + SIZE] for k in range(0, TOTAL, SIZE)]
    if {"late", "switch"} & options.keys():
        assert any(len(set(chunk)) > 1 for chunk in chunks)  # a switch inside of one
    expected, sums, traces = trained(single, devices)
    found, chunk_sums, _ = trained(chunked, devices)
    assert traces == len(set(programs))
    assert int(found.step[0]) == TOTAL
    assert_same(found, expected, rtol=1e-6, atol=1e-6)
    assert_same(chunk_sums, sums, rtol=1e-5, atol=1e-5)
