"""A run that every evaluator has looked at, shared by their tests."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.registry import EVALUATORS
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


STATE = types.SimpleNamespace(params={}, model_state={})


def evaluator_of(name, counts, **options):
    def forward(params, model_state, inputs, *, train):
        return {"features": inputs}, model_state

    counts = np.asarray(counts)
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {},
        class_counts=counts,
        groups={"many": counts > 5, "few": counts <= 5},
        networks={"main": types.SimpleNamespace(forward=forward)},
        num_train=int(counts.sum()),
    )
    component = EVALUATORS[name]
    return component.make(component.options(**options), setting)


def batch_of(features, labels, **more):
    mask = np.ones(len(labels), bool)
    features = jnp.asarray(features, jnp.float32)
    return {"inputs": features, "label": jnp.asarray(labels), "mask": mask, **more}


def with_replica(tree):
    return jax.tree.map(lambda x: np.asarray(x)[None], tree)


def judged(one, train, test):
    """Metrics of one replica, the training set being one batch and the test another."""
    extra = one.digest(with_replica(one.bank.fn(STATE, train, None)))
    extra = jax.tree.map(lambda x: jnp.asarray(x[0]), extra)
    sums = one.judge.fn(STATE, one.judge.empty, test, extra)
    arrays = one.arrays(jax.tree.map(lambda x: x[None], sums), None, None)
    return {name: np.ravel(x)[0] for name, x in one.summarize(arrays).items()}


@pytest.fixture(scope="session")
def given():
    """Evaluators of features that are the inputs, and what they find."""
    return types.SimpleNamespace(
        state=STATE,
        evaluator=evaluator_of,
        batch=batch_of,
        with_replica=with_replica,
        judged=judged,
        ends=batch_of([[0.0], [1.0]], [0, 1]),
        # Where x = 1 the rare class has two examples, the other one four.
        head_and_tail=batch_of([[0.0]] * 8 + [[1.0]] * 6, [0] * 12 + [1] * 2),
    )
