"""Runs as data frames."""

import json
import sys

import numpy as np
import pytest

from ltjax.report import ReportError, to_dataframe

# Two replicas, three classes: recalls (8/10, 1/2, 1/4) and (1, 0, 1/2).
CONFUSION = np.array(
    [
        [[8, 1, 1], [1, 2, 1], [3, 0, 1]],
        [[10, 0, 0], [4, 0, 0], [2, 0, 2]],
    ]
)
COUNTS = (200, 50, 5)


@pytest.fixture
def two_runs(workdir):
    """Two runs of two replicas each, which differ in loss.tau and in batch_size."""
    paths = []
    for name, batch_size in (("a", 16), ("b", 32)):
        path = workdir(
            f"runs/{name}",
            confusion=CONFUSION,
            class_counts=COUNTS,
            seeds=[3, 4],
            hypers=[{"loss.tau": 0.5}, {"loss.tau": 1.0}],
            class_names=["cat", "dog", "eel"],
        )
        config = json.loads((path / "config.json").read_text())
        config |= {"batch_size": batch_size, "seed": batch_size, "hidden": [16, 8]}
        (path / "config.json").write_text(json.dumps(config))
        paths.append(path)
    return paths


def test_a_row_for_each_run_and_replica(two_runs):
    frame = to_dataframe(two_runs[0].parent)
    assert list(frame["run"]) == [str(path) for path in two_runs for _ in range(2)]
    assert list(frame["replica"]) == [0, 1, 0, 1]
    assert list(frame["seed"]) == [3, 4, 3, 4]
    assert set(frame["step"]) == {100} and set(frame["method"]) == {"CE"}
    # What differs, by replica too, and nothing that does not.
    assert list(frame["batch_size"]) == [16, 16, 32, 32]
    assert list(frame["loss.tau"]) == [0.5, 1.0, 0.5, 1.0]
    assert not {"hidden", "loss.name", "data.name", "total"} & set(frame.columns)
    balanced = [np.mean([0.8, 0.5, 0.25]), np.mean([1, 0, 0.5])]
    assert np.allclose(frame["balanced_accuracy"], balanced * 2)
    assert np.allclose(frame["accuracy"], [11 / 18, 12 / 18] * 2)
    means = frame.groupby("loss.tau")["few"].mean()
    assert np.allclose(means, [0.25, 0.5])


def test_a_row_for_each_class(two_runs):
    frame = to_dataframe(two_runs[1], per_class=True)
    assert list(frame["class"]) == ["cat", "dog", "eel"] * 2
    assert list(frame["class_index"]) == [0, 1, 2] * 2
    assert list(frame["train_examples"]) == list(COUNTS) * 2
    assert list(frame["group"]) == ["many", "medium", "few"] * 2
    assert np.allclose(frame["recall"], [0.8, 0.5, 0.25, 1, 0, 0.5])
    assert list(frame["loss.tau"]) == [0.5] * 3 + [1.0] * 3
    assert "balanced_accuracy" not in frame


def test_a_metric_that_a_run_lacks_is_unknown(two_runs):
    path = two_runs[0] / "evaluation" / "test_100.npz"
    np.savez(path, **{"summary/accuracy": np.array([0.5, 0.75])})
    frame = to_dataframe(*two_runs)
    assert list(frame["accuracy"][:2]) == [0.5, 0.75]
    assert frame["few"].isna().tolist() == [True, True, False, False]


def test_a_run_that_cannot_be_read_is_left_out(two_runs, caplog):
    (two_runs[0] / "evaluation" / "test_100.npz").unlink()
    frame = to_dataframe(*two_runs)
    assert set(frame["run"]) == {str(two_runs[1])}
    assert f"left out: run 'CE' in {two_runs[0]} has no evaluation" in caplog.text
    with pytest.raises(ReportError, match="has no evaluation on split 'val'"):
        to_dataframe(*two_runs, split="val")
    with pytest.raises(ReportError, match="workdirs is empty"):
        to_dataframe()


def test_without_pandas_it_says_what_to_install(two_runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'ltjax\[frames\]'"):
        to_dataframe(two_runs[0])
