"""What every evaluator promises: it is traced once, changes nothing, and is stored."""

import json

import numpy as np
import pytest


def test_watching_changes_nothing_and_is_traced_once(
    watched, changes, train, assert_same
):
    # The test set; class means and spread; the smallest scores.
    assert watched[1].traces == {"step": 1, "eval": 4, "refresh": 0}
    plain = train(changes | {"evaluators": {}})
    assert plain.traces == {"step": 1, "eval": 1, "refresh": 0}
    assert not any("eval/train" in key for key in plain.metrics)
    assert_same(plain.state, watched[1].state)


def test_every_evaluation_is_logged(watched):
    lines = (watched[0] / "metrics.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, lines) if "eval/train/nc1" in line]
    assert [line["step"] for line in lines] == [12, 24]
    assert len(lines[0]["replicas"]["eval/train/nc1"]) == 2
    found = sorted((watched[0] / "evaluation").glob("train_*.npz"))
    assert [path.name for path in found] == ["train_12.npz", "train_24.npz"]


@pytest.mark.parametrize(
    "more, count",
    [
        ({}, 4),
        pytest.param({"data.feed": "streaming"}, 1, marks=pytest.mark.slow),
        pytest.param({"replicas.layout": "devices"}, 2, marks=pytest.mark.slow),
    ],
    ids=["batch", "streaming", "devices"],
)
def test_every_layout_sees_the_same(watched, changes, train, more, count):
    found = train(changes | more, count=count).metrics
    for key, value in watched[1].metrics.items():
        if key.startswith("eval/train/"):
            # One of 159 examples may change sides (NC4).
            np.testing.assert_allclose(
                found[key], value, rtol=2e-3, atol=7e-3, err_msg=key
            )


def test_watching_may_begin_with_a_resumed_run(train, tmp_path):
    short = {"total": "6 steps", "eval_every": "0 steps"}
    train(short, workdir=tmp_path / "run")
    again = train(
        short | {"evaluators": {"classification": {}, "collapse": {}}},
        workdir=tmp_path / "run",
    )
    assert again.start_step == 6 and np.isfinite(again.metrics["eval/train/nc1"])
