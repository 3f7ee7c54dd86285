"""Probes, neighbors and the spread of features that are given, by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.registry import EVALUATORS

STATE = types.SimpleNamespace(params={}, model_state={})


def evaluator(name, counts, **options):
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


# Where x = 1 the rare class has two examples, the other one four.
HEAD_AND_TAIL = batch_of([[0.0]] * 8 + [[1.0]] * 6, [0] * 12 + [1] * 2)
ENDS = batch_of([[0.0], [1.0]], [0, 1])


def test_the_long_tailed_probe_gives_up_the_tail_and_the_balanced_one_does_not():
    found = judged(evaluator("probe", [12, 2], l2=1e-2), HEAD_AND_TAIL, ENDS)
    assert found["probe_many"] == 1 and found["probe_few"] == 0
    assert found["probe_balanced_accuracy"] == 0.5
    assert found["probe_group_std"] == pytest.approx(np.sqrt(0.5))  # ddof = 1
    assert found["probe_class_std"] == pytest.approx(0.5)
    assert not any("ece" in name for name in found)
    even = evaluator("balanced_probe", [12, 2], l2=1e-2)
    found = judged(even, HEAD_AND_TAIL, ENDS)
    assert found["balanced_probe_balanced_accuracy"] == 1
    assert found["balanced_probe_group_std"] == 0


def test_the_few_shot_probe_sees_as_many_of_every_class():
    x = np.array([[0.0]] * 12 + [[1.0]] * 2)
    truth = jnp.asarray([0] * 12 + [1] * 2)
    hidden = batch_of(x, [-1] * 14, truth=truth)  # the labels that a method had
    one = evaluator("few_shot_probe", [12, 2], l2=1e-2)
    found = judged(one, hidden, ENDS)
    assert found["few_shot_probe_balanced_accuracy"] == 1
    solved = one.digest(with_replica((x.astype(np.float32), np.asarray(truth))))
    # Two and two examples, symmetric about 1/2.
    assert solved.kernel[0, 0, 0] * 0.5 + solved.bias[0, 0] == pytest.approx(
        0, abs=1e-4
    )
    with pytest.raises(ValueError, match=r"class 1 has 2 row\(s\), expected"):
        judged(evaluator("few_shot_probe", [12, 2], per_class=3), hidden, ENDS)


def test_neighbors_tell_how_even_their_votes_are():
    found = judged(evaluator("knn", [12, 2], k=3), HEAD_AND_TAIL, ENDS)
    assert found["knn_many"] == 1 and found["knn_few"] == 0
    assert found["knn_group_std"] == pytest.approx(np.sqrt(0.5))


def test_the_sphere_of_a_square():
    """Ends of two axes, one class each; the norms do not matter."""
    one = evaluator("sphere", [9, 9, 2, 2])
    x = [[3.0, 0], [-1.0, 0], [0, 2.0], [0, -1.0]]
    found = one.judge.fn(STATE, batch_of(x, [0, 1, 2, 3]), None)
    values = one.summarize(one.arrays(with_replica(found), None, None))
    want = {
        "uniformity": -4.396348967,
        "class_uniformity": 1.609475708,
        "neighborhood_uniformity": np.sqrt(2),
        "class_tightness": 0,
    }
    assert values.keys() == want.keys() == {column.key for column in one.columns}
    for name, value in want.items():
        assert values[name].shape == (1,)
        assert values[name][0] == pytest.approx(value, abs=2e-6), name


def test_an_output_that_the_network_lacks_is_named():
    one = evaluator("probe", [12, 2], features="projection")
    with pytest.raises(ValueError, match="no output 'projection', expected"):
        one.bank.fn(STATE, ENDS, None)
