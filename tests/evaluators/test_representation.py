"""Neighbors and the spread of features that are given, by hand."""

import numpy as np
import pytest


def test_neighbors_tell_how_even_their_votes_are(given):
    found = given.judged(
        given.evaluator("knn", [12, 2], k=3), given.head_and_tail, given.ends
    )
    assert found["knn_many"] == 1 and found["knn_few"] == 0
    assert found["knn_group_std"] == pytest.approx(np.sqrt(0.5))


def test_the_sphere_of_a_square(given):
    """Ends of two axes, one class each; the norms do not matter."""
    one = given.evaluator("sphere", [9, 9, 2, 2])
    x = [[3.0, 0], [-1.0, 0], [0, 2.0], [0, -1.0]]
    found = one.judge.fn(given.state, given.batch(x, [0, 1, 2, 3]), None)
    values = one.summarize(one.arrays(given.with_replica(found), None, None))
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


def test_an_output_that_the_network_lacks_is_named(given):
    one = given.evaluator("probe", [12, 2], features="projection")
    with pytest.raises(ValueError, match="no output 'projection', expected"):
        one.bank.fn(given.state, given.ends, None)
