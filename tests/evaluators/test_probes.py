"""Linear probes of features that are given, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest


def test_the_long_tailed_probe_gives_up_the_tail_and_the_balanced_one_does_not(given):
    found = given.judged(
        given.evaluator("probe", [12, 2], l2=1e-2), given.head_and_tail, given.ends
    )
    assert found["probe_many"] == 1 and found["probe_few"] == 0
    assert found["probe_balanced_accuracy"] == 0.5
    assert found["probe_group_std"] == pytest.approx(np.sqrt(0.5))  # ddof = 1
    assert found["probe_class_std"] == pytest.approx(0.5)
    assert not any("ece" in name for name in found)
    even = given.evaluator("balanced_probe", [12, 2], l2=1e-2)
    found = given.judged(even, given.head_and_tail, given.ends)
    assert found["balanced_probe_balanced_accuracy"] == 1
    assert found["balanced_probe_group_std"] == 0


def test_the_few_shot_probe_sees_as_many_of_every_class(given):
    x = np.array([[0.0]] * 12 + [[1.0]] * 2)
    truth = jnp.asarray([0] * 12 + [1] * 2)
    hidden = given.batch(x, [-1] * 14, truth=truth)  # the labels that a method had
    one = given.evaluator("few_shot_probe", [12, 2], l2=1e-2)
    found = given.judged(one, hidden, given.ends)
    assert found["few_shot_probe_balanced_accuracy"] == 1
    solved = one.digest(given.with_replica((x.astype(np.float32), np.asarray(truth))))
    # Two and two examples, symmetric about 1/2.
    assert solved.kernel[0, 0, 0] * 0.5 + solved.bias[0, 0] == pytest.approx(
        0, abs=1e-4
    )
    with pytest.raises(ValueError, match=r"class 1 has 2 row\(s\), expected"):
        given.judged(
            given.evaluator("few_shot_probe", [12, 2], per_class=3), hidden, given.ends
        )


def test_the_full_probe_is_solved_on_all_that_is_stored(given):
    """Where x = 1 the rare class has ten examples then, the other one four."""
    pool = given.batch([[0.0]] * 8 + [[1.0]] * 14, [0] * 12 + [1] * 10)
    one = given.evaluator("full_probe", [12, 2], l2=1e-2)
    assert one.on_pool and not given.evaluator("probe", [12, 2]).on_pool
    found = given.judged(one, pool, given.ends)
    assert found["full_probe_many"] == found["full_probe_few"] == 1
    # The groups are those of the training set's counts.
    assert found["full_probe_group_std"] == 0
    few = given.evaluator("full_probe", [12, 2], l2=1e-2, per_class=10)
    solved = few.digest(given.with_replica(few.bank.fn(given.state, pool, None)))
    other = given.evaluator("full_probe", [12, 2], l2=1e-2, per_class=10, draw=1)
    again = other.digest(given.with_replica(other.bank.fn(given.state, pool, None)))
    assert not np.array_equal(solved.kernel, again.kernel)  # ten of the other twelve
    with pytest.raises(ValueError, match=r"class 1 has 10 row\(s\), expected"):
        given.judged(
            given.evaluator("full_probe", [12, 2], per_class=11), pool, given.ends
        )
