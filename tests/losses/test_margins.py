"""LDAM, its hinge form and the pairwise margin loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import ldam, ldam_hinge, pairwise_margin, softmax_cross_entropy
from ltjax.losses.margins import ldam_margins

COUNTS = np.array([100, 20, 5])
COSINES = np.array([[0.3, 0.1, -0.2]])


def test_margins_of_the_running_example():
    np.testing.assert_allclose(
        ldam_margins(COUNTS), [0.236435402, 0.353553391, 0.5], atol=1e-9
    )


def test_margins_of_a_long_tail():
    counts = [5000, 3426, 2348, 1609, 1102, 755, 517, 354, 243, 166]
    expected = [0.213430, 0.234585, 0.257824, 0.283373, 0.311495]
    expected += [0.342381, 0.376378, 0.413758, 0.454564, 0.5]
    np.testing.assert_allclose(ldam_margins(counts), expected, atol=5e-7)
    np.testing.assert_allclose(
        jax.jit(lambda n, m: ldam_margins(n, max_margin=m))(jnp.asarray(counts), 0.3),
        0.6 * np.array(expected),
        atol=1e-6,
    )


def test_equal_counts_share_the_largest_margin():
    np.testing.assert_array_equal(ldam_margins([7, 7], max_margin=0.3), [0.3, 0.3])


def test_margins_need_examples():
    with pytest.raises(ValueError, match="ldam_margins: .* class 1 has 0"):
        ldam_margins([3, 0])
    with pytest.raises(ValueError, match=r"ldam_margins: class_counts has shape \(\)"):
        ldam_margins(3)


@pytest.mark.parametrize(("label", "loss"), [(2, 30.002475685138), (0, 1.382227010372)])
def test_ldam_numbers(x64, label, loss):
    value = ldam(COSINES, np.array([label]), COUNTS)
    np.testing.assert_allclose(value, [loss], rtol=1e-12)


@pytest.mark.parametrize(("label", "loss"), [(2, 1.0), (0, 0.036435402251)])
def test_hinge_numbers(x64, label, loss):
    value = ldam_hinge(COSINES, np.array([label]), COUNTS)
    np.testing.assert_allclose(value, [loss], rtol=1e-10)


def test_ldam_tends_to_the_hinge(x64):
    ratios = [
        float(ldam(COSINES, np.array([2]), COUNTS, scale=s)[0]) / s for s in (30, 100)
    ]
    np.testing.assert_allclose(ratios, [1.000082523, 1.0000000000206], atol=5e-10)


def test_hinge_is_flat_beyond_its_margin():
    cosines = jnp.array([[0.9, 0.1, -0.2]])
    value, gradient = jax.value_and_grad(
        lambda z: ldam_hinge(z, jnp.array([0]), COUNTS)[0]
    )(cosines)
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


def test_hinge_pulls_against_the_best_rival_only():
    gradient = jax.grad(lambda z: ldam_hinge(z, jnp.array([2]), COUNTS)[0])
    np.testing.assert_array_equal(gradient(jnp.float32(COSINES)), [[1.0, 0.0, -1.0]])
    tied = jnp.array([[0.3, 0.3, -0.2]])
    np.testing.assert_array_equal(gradient(tied), [[0.5, 0.5, -1.0]])


def test_one_constant_margin_is_a_pairwise_margin(x64):
    # M-DRW: the same margin for every class.
    equal = np.array([9, 9, 9])
    value = ldam(COSINES, np.array([1]), equal, max_margin=0.4, scale=1.0)
    margins = np.full((3, 3), 0.4)
    expected = pairwise_margin(COSINES, np.array([1]), np.ones(3), margins)
    np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_pairwise_margin_does_not_read_the_diagonal():
    margins = np.random.default_rng(0).normal(size=(3, 3))
    wild = margins + np.diag([1e6, np.nan, np.inf])
    labels = np.array([0, 1, 2])
    logits = np.tile(COSINES, (3, 1))
    np.testing.assert_array_equal(
        pairwise_margin(logits, labels, np.ones(3), margins),
        pairwise_margin(logits, labels, np.ones(3), wild),
    )


def test_pairwise_margin_by_hand():
    # log(1 + 3 + 5) for equal logits, margins log 3 and log 5 and alpha 2.
    margins = np.log(np.array([[1, 3, 5], [1, 1, 1], [1, 1, 1]]))
    value = pairwise_margin(np.zeros((1, 3)), np.array([0]), [2.0, 1.0, 1.0], margins)
    np.testing.assert_allclose(value, [2 * np.log(9)], rtol=1e-6)


def test_margin_far_above_the_scale_of_the_logits():
    # softplus(rivals + s m): no term underflows, though e^-s m does.
    logits = jnp.array([[1.0, 0.0, 0.0]])
    value = ldam(logits, jnp.array([0]), [9, 9, 9], max_margin=5.0, scale=100.0)
    np.testing.assert_allclose(value, [400 + np.log(2)], rtol=1e-6)


def test_no_margin_is_scaled_cross_entropy(x64):
    np.testing.assert_allclose(
        ldam(COSINES, np.array([2]), COUNTS, max_margin=0.0, scale=30.0),
        softmax_cross_entropy(30 * COSINES, np.array([2])),
        rtol=1e-13,
    )


def test_shapes_and_ranges_are_checked():
    with pytest.raises(ValueError, match="ldam: scale is 0"):
        ldam(COSINES, np.array([2]), COUNTS, scale=0.0)
    with pytest.raises(ValueError, match="max_margin is -1.0"):
        ldam(COSINES, np.array([2]), COUNTS, max_margin=-1.0)
    with pytest.raises(ValueError, match=r"pairwise_margin: alpha has shape \(2,\)"):
        pairwise_margin(COSINES, np.array([2]), np.ones(2), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"pairwise_margin: delta has shape \(3,\)"):
        pairwise_margin(COSINES, np.array([2]), np.ones(3), np.zeros(3))
