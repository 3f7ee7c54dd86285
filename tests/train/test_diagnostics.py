"""Collapse and bound of the training set, against float64 numpy on the same network."""

import json

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.restore import restore_run

WATCHED = {
    "replicas.seeds": (0, 1),
    "total": "24 steps",
    "eval_every": "12 steps",
    "collapse": True,
    "bound": True,
    "loss.name": "vs",
    "loss.gamma": 0.2,
    "loss.tau": 1.2,
    "weights.name": "inverse_power",
    "weights.power": 0.5,
}
COUNTS = np.array([40, 30, 23, 18, 14, 11, 8, 6, 5, 4])
PRIOR = COUNTS / COUNTS.sum()


@pytest.fixture(scope="module")
def watched(train, tmp_path_factory):
    """(workdir, Result) of a run with everything switched on."""
    workdir = tmp_path_factory.mktemp("watched") / "run"
    return workdir, train(WATCHED, workdir=workdir)


@pytest.fixture(scope="module")
def network(watched):
    """Features [R, N, D], logits [R, N, K], labels and class vectors [R, K, D]."""
    run, state, _ = restore_run(watched[0])
    arrays = run.train_set.feed.arrays
    forward = lambda p, m: run.model.forward(p, m, arrays["inputs"], train=False)[0]
    outputs = jax.vmap(forward)(state.params, state.model_state)
    features, logits = (np.asarray(outputs[n], float) for n in ("features", "logits"))
    vectors = np.asarray(state.params["head"]["kernel"], float).swapaxes(1, 2)
    return features, logits, np.asarray(arrays["label"]), vectors


def dense_collapse(features, logits, labels, vectors):
    """The definitions of methods card 24, with D x D matrices."""
    means = np.stack([features[labels == k].mean(0) for k in range(10)])
    centered = means - means.mean(0)
    between = centered.T @ centered / 10
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    per_class = []
    for k in range(10):
        apart = features[labels == k] - means[k]
        within = apart.T @ apart / len(apart)
        per_class.append(np.trace(within @ inverse) / 10)
    norms = np.linalg.norm(centered, axis=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    few = unit[COUNTS < 8] @ unit[COUNTS < 8].T
    distance = np.square(features[:, None] - means).sum(-1)
    gap = vectors / np.linalg.norm(vectors) - centered / np.linalg.norm(centered)
    return {
        "nc1": np.average(per_class, weights=COUNTS),
        "nc1_balanced": np.mean(per_class),
        "nc2_equinorm_means": norms.std(ddof=1) / norms.mean(),
        "nc3": np.square(gap).sum(),
        "nc4": np.mean(distance.argmin(1) != logits.argmax(1)),
        "minority_collapse": few[~np.eye(3, dtype=bool)].mean(),
    }, np.array(per_class)


def test_collapse_is_that_of_the_definition(watched, network):
    workdir, result = watched
    features, logits, labels, vectors = network
    with np.load(workdir / "evaluation" / "train_24.npz") as file:
        details = dict(file)
    for r in range(2):
        found, per_class = dense_collapse(features[r], logits[r], labels, vectors[r])
        for name, value in found.items():
            ours = result.metrics[f"eval/train/{name}"][r]
            assert ours == pytest.approx(value, rel=2e-4, abs=1e-6), name
        np.testing.assert_allclose(details["nc1_per_class"][r], per_class, rtol=2e-4)


def test_bound_is_that_of_the_definition(watched, network):
    """Card 15: alpha beta~ sqrt(pi) [1 - softmax(beta B + Delta)], over K pi_min."""
    workdir, result = watched
    _, logits, labels, _ = network
    with np.load(workdir / "evaluation" / "train_24.npz") as file:
        details = dict(file)
    alpha = COUNTS**-0.5
    alpha = alpha * 10 / alpha.sum()
    beta, delta = (COUNTS / 40) ** 0.2, 1.2 * np.log(PRIOR)
    spread = np.sqrt(beta**2 + (beta.sum() - beta) ** 2)
    for r in range(2):
        lowest = np.array([logits[r, labels == k, k].min() for k in range(10)])
        chance = np.exp(beta * lowest + delta)
        gap = 1 - chance / chance.sum()
        summand = alpha * spread * gap * np.sqrt(PRIOR)
        ours = details["bound_min_score"][r]
        np.testing.assert_allclose(ours, lowest, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(details["bound_gap"][r], gap, rtol=1e-4)
        np.testing.assert_allclose(details["bound_summand"][r], summand, rtol=1e-4)
        total = result.metrics["eval/train/bound"][r]
        assert total == pytest.approx(summand.sum() / (10 * PRIOR.min()), rel=1e-4)
        parts = [
            result.metrics[f"eval/train/bound_{g}"][r]
            for g in ("many", "medium", "few")
        ]
        assert sum(parts) == pytest.approx(total, rel=1e-5)
        few = summand[COUNTS < 8].sum() / (10 * PRIOR.min())
        assert parts[2] == pytest.approx(few, rel=1e-4)


def test_watching_changes_nothing_and_is_traced_once(watched, train, assert_same):
    assert watched[1].traces == {"step": 1, "eval": 3}  # test set, and two passes
    plain = train(WATCHED | {"collapse": False, "bound": False})
    assert plain.traces == {"step": 1, "eval": 1}
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
    "changes, count",
    [({}, 4), ({"data.feed": "streaming"}, 1), ({"replicas.layout": "devices"}, 2)],
    ids=["batch", "streaming", "devices"],
)
def test_every_layout_sees_the_same(watched, train, changes, count):
    found = train(WATCHED | changes, count=count).metrics
    for key, value in watched[1].metrics.items():
        if key.startswith("eval/train/"):
            # One of 159 examples may change sides (NC4).
            np.testing.assert_allclose(
                found[key], value, rtol=2e-3, atol=7e-3, err_msg=key
            )


def test_watching_may_begin_with_a_resumed_run(train, tmp_path):
    short = {"total": "6 steps", "eval_every": "0 steps"}
    train(short, workdir=tmp_path / "run")
    again = train(short | {"collapse": True}, workdir=tmp_path / "run")
    assert again.start_step == 6 and np.isfinite(again.metrics["eval/train/nc1"])


def test_a_fixed_frame_is_its_own_reference(train):
    """Against a simplex head, NC2 of the weights is 0 and rare classes do not merge."""
    found = train(
        {
            "total": "6 steps",
            "eval_every": "0 steps",
            "collapse": True,
            "loss.name": "dot_regression",
        }
    ).metrics
    for name in ("nc2_equinorm_weights", "nc2_equiangle_weights"):
        assert found[f"eval/train/{name}"].item() == pytest.approx(0, abs=1e-6)
    cosine = found["eval/train/minority_collapse"].item()
    assert cosine == pytest.approx(-1 / 9, abs=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"loss.name": "ldam"}, "bound is set, but loss 'ldam' is not of the form"),
        ({"weights.name": "batch"}, "class weights that do not change with the batch"),
        ({"gradient.name": "cc_sam"}, "another gradient.name than 'cc_sam'"),
    ],
)
def test_bounds_that_are_not_stated(tiny, changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny({"bound": True} | changes)
