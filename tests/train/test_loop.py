"""The loop: chunks and feeds give one run, records come in time, intervals divide."""

import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.lanes import training_lanes
from ltjax.train.loop import Intervals, _intervals, describe

SHORT = {"total": "10 steps", "eval_every": "0 steps", "log_every": "5 steps"}
# Summation in another order, over ten steps.
ROUNDING = {"rtol": 1e-4, "atol": 2e-6}


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


def test_seeds_differ_in_their_start(pair):
    kernel = np.asarray(pair[0].state.params["head"]["kernel"])
    assert not np.allclose(kernel[0], kernel[1])


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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (6, 12, 8, 0, 24)),
        # 24 steps are 2 2/3 epochs of 9 steps.
        ({"eval_every": "50%", "checkpoint_every": "1 epochs"}, (6, 12, 9, 0, 24)),
        # Whole dispatches of 4: 6 becomes 8, 9 becomes 12.
        ({"steps_per_call": 4, "eval_every": "9 steps"}, (8, 12, 8, 0, 24)),
        ({"keep_every": "160 examples", "eval_every": "0 steps"}, (6, 0, 8, 10, 24)),
    ],
)
def test_intervals_in_steps(tiny, changes, expected):
    assert _intervals(build(tiny(changes))) == Intervals(*expected)


def test_what_an_interval_means():
    every = Intervals(log=6, judge=0, save=8, keep=0, total=20)
    assert [t for t in range(1, 21) if every.logs(t)] == [6, 12, 18, 20]
    assert [t for t in range(1, 21) if every.judges(t)] == [20]
    assert [t for t in range(1, 21) if every.saves(t)] == [8, 16, 20]


def test_a_total_that_dispatches_do_not_divide(tiny):
    with pytest.raises(
        ConfigError, match="24 steps, expected a multiple of steps_per_"
    ):
        _intervals(build(tiny({"steps_per_call": 5})))


def test_what_a_run_says_of_itself_before_it_starts(tiny, devices):
    with devices(1):
        run = build(tiny({"replicas.seeds": (0, 1)}))
        text = describe(run, training_lanes(run.config, 2))
    assert "CE: 159 training examples of 10 classes, 40 to 4 each (ratio 10)" in text
    # Counts 40, 30, 23; 18, 14, 11, 8; 6, 5, 4.
    assert "many 3 with 93, medium 4 with 51, few 3 with 15" in text
    assert "842 parameters" in text
    assert "24 steps of 16, 2 replica(s), 1 cpu device(s)" in text
