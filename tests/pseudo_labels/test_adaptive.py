"""HAR's strengths: errors on a held-out half, and class sizes."""

import numpy as np
import pytest

from ltjax.pseudo_labels import adaptive_strengths, held_out_errors, held_out_half


def test_known_strengths():
    got = adaptive_strengths([0.1, 0.3, 0.5], [500, 100, 20])
    np.testing.assert_allclose(got, [0.105061112, 0.386636409, 1], rtol=1e-8)


def test_more_errors_and_fewer_examples_are_stronger():
    # 0.4^0.6 / 0.1^0.6 = 4^0.6 at equal sizes, 16^0.4 at equal errors.
    np.testing.assert_allclose(adaptive_strengths([0.1, 0.4], [9, 9])[0], 4**-0.6)
    np.testing.assert_allclose(adaptive_strengths([0.2, 0.2], [160, 10])[0], 16**-0.4)


def test_without_errors_or_examples_there_is_nothing_to_do():
    assert not adaptive_strengths([0.0, 0.0], [5, 1]).any()
    assert adaptive_strengths([1.0, 0.5], [0, 5]).tolist() == [0, 1]


def test_half_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2, -1], [10, 7, 1, 4])
    held = held_out_half(labels, seed=3)
    assert [held[labels == k].sum() for k in (0, 1, 2, -1)] == [5, 3, 0, 0]
    assert (held == held_out_half(labels, seed=3)).all()
    assert (held != held_out_half(labels, seed=4)).any()


def test_errors_are_those_of_the_held_out_rows():
    labels, predicted = [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 2]
    held = [True, True, True, True, False, False]
    got = held_out_errors(predicted, labels, held, 3)
    np.testing.assert_allclose(got, [2 / 3, 0, 1])  # nobody of class 2 is held out


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="adaptive_strengths.*errors"):
        adaptive_strengths([0.1], [5, 5])
    with pytest.raises(ValueError, match="adaptive_strengths.*errors"):
        adaptive_strengths([0.1, 1.5], [5, 5])


def test_held_out_errors_name_what_they_cannot_use():
    held = np.array([True, True, False])
    with pytest.raises(ValueError, match="labels must lie in"):
        held_out_errors([0, 1, 0], [0, 5, 0], held, 2)
    with pytest.raises(TypeError, match="predicted have dtype float64"):
        held_out_errors([0.0, 1.0, 0.0], [0, 1, 0], held, 2)
    with pytest.raises(TypeError, match="held has dtype"):
        held_out_errors([0, 1, 0], [0, 1, 0], held.astype(np.int32), 2)
    with pytest.raises(ValueError, match=r"predicted has shape \(2,\)"):
        held_out_errors([0, 1], [0, 1, 0], held, 2)
