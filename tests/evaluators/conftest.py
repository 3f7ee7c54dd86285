"""A run that every evaluator has looked at, shared by their tests."""

import jax
import numpy as np
import pytest

from ltjax.train.restore import restore_run

WATCHED = {
    "replicas.seeds": (0, 1),
    "total": "24 steps",
    "eval_every": "12 steps",
    "evaluators": {"classification": {}, "collapse": {}, "bound": {}},
    "loss.name": "vs",
    "loss.gamma": 0.2,
    "loss.tau": 1.2,
    "weights.name": "inverse_power",
    "weights.power": 0.5,
}


@pytest.fixture(scope="session")
def changes():
    """Of the watched run, from the tiny config."""
    return WATCHED


@pytest.fixture(scope="session")
def watched(train, tmp_path_factory):
    """(workdir, Result) of a run with every evaluator."""
    workdir = tmp_path_factory.mktemp("watched") / "run"
    return workdir, train(WATCHED, workdir=workdir)


@pytest.fixture(scope="session")
def network(watched):
    """Features [R, N, D], logits [R, N, K], labels and class vectors [R, K, D]."""
    run, state, _ = restore_run(watched[0])
    arrays = run.train_set.feed.arrays
    forward = lambda p, m: run.model.forward(p, m, arrays["inputs"], train=False)[0]
    outputs = jax.vmap(forward)(state.params, state.model_state)
    features, logits = (np.asarray(outputs[n], float) for n in ("features", "logits"))
    vectors = np.asarray(state.params["head"]["kernel"], float).swapaxes(1, 2)
    return features, logits, np.asarray(arrays["label"]), vectors
