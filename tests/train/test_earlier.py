"""Columns that earlier runs bring, and runs on some of the examples only."""

import pathlib

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.earlier import Said, outputs_of, told_by
from ltjax.train.restore import earlier_columns, restore_run, split_outputs
from ltjax.train.stages import check_stages

ALL = array_source(np.arange(6.0)[:, None], [0, 1, 0, 1, 0, 1], name="six")
OURS = ALL.select([5, 0, 3, 1])  # in an order of their own
SHORT = {"total": "2 steps", "eval_every": "0 steps", "model.norm": "none"}


def test_what_runs_say_is_brought_together_by_position():
    one = Said(ALL.select([1, 5, 2]), np.array([[10.0], [50.0], [20.0]]))
    two = Said(ALL.select([3, 0]), np.array([[30.0], [0.5]]))
    train, bare = told_by(OURS, {"x": [one, two]}, {})
    np.testing.assert_array_equal(train.columns["x"], [[50], [0.5], [30], [10]])
    assert bare.fingerprint == OURS.fingerprint != train.fingerprint
    found = told_by(OURS, {"x": [one, two], "y": [Said(ALL, np.arange(6))]}, {"y": 3})
    assert [len(x) for x in found] == [1, 1]
    assert found.train.origin.tolist() == found.bare.origin.tolist() == [3]


def test_what_runs_cannot_say_is_refused():
    one = Said(ALL.select([0, 1, 3]), np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="of the 4 examples, such as number 0"):
        told_by(OURS, {"x": [one]}, {})
    other = Said(array_source(np.zeros((6, 1)), [0] * 6, name="more"), np.zeros(6))
    with pytest.raises(ConfigError, match="was trained on more , expected six"):
        told_by(OURS, {"x": [other]}, {})
    with pytest.raises(ConfigError, match=r"say \(2,\) and \(\) of an example"):
        told_by(OURS, {"x": [one, Said(ALL, np.zeros(6))]}, {})
    with pytest.raises(ConfigError, match=r"only is \{'x': 7\}, which no example"):
        told_by(OURS, {"x": [Said(ALL, np.zeros(6))]}, {"x": 7})


def test_entries_are_checked_before_anything_runs(tiny):
    with pytest.raises(ValueError, match="'runs/a' is not of the form RUN#OUTPUT"):
        outputs_of("stage:b#features, runs/a")
    with pytest.raises(ConfigError, match=r"columns_from.x: 'stage:a' is not of"):
        tiny({"columns_from": {"x": "stage:a"}})
    with pytest.raises(ConfigError, match="only has the column 'clusters', unknown"):
        tiny({"only": {"clusters": 1}, "columns_from": {"cluster": "a#features"}})
    with pytest.raises(ConfigError, match="were not asked"):
        build(tiny({"columns_from": {"x": "a#features"}}))


def test_stages_may_ask_earlier_ones_only(tiny_config):
    from ltjax.config_file import load_config

    config = load_config(["--config", str(tiny_config)])
    late = {"name": "two", "columns_from": {"x": "stage:three#features"}}
    config.stages = ({"name": "one"}, late, {"name": "three"})
    with pytest.raises(ConfigError, match="'stage:three', which is not an earlier"):
        check_stages(config)


def test_a_run_reads_what_another_one_said_and_can_be_restored(
    train, tiny, tmp_path, devices
):
    first = tmp_path / "0_first"
    train(SHORT, workdir=first)
    changes = {**SHORT, "columns_from": {"seen": "stage:first#features"}}
    place = tmp_path / "1_second"
    config = tiny(changes)
    with devices(1):
        said = earlier_columns(config, place)
        run = build(config, said=said)
        told = restore_run(first)
        want = split_outputs(*told[:2], "train", outputs=("features",))[0]
    indices, mask = (part[0] for part in run.plan(0))
    rows = run.feed.rows(indices, mask)
    batch = run.feed.batch(run.feed.arrays, rows, None, train=False)
    np.testing.assert_array_equal(batch["seen"], want["features"][0][indices])
    plain = build(tiny(SHORT))
    assert run.info.subset == plain.info.subset
    with pytest.raises(ConfigError, match=r"columns_from.seen is 'stage:gone', but"):
        config = tiny({**SHORT, "columns_from": {"seen": "stage:gone#features"}})
        earlier_columns(config, place)
    with pytest.raises(ConfigError, match="outputs is 'hue'"):
        config = tiny({**SHORT, "columns_from": {"seen": f"{first}#hue"}})
        earlier_columns(config, pathlib.Path(place))
