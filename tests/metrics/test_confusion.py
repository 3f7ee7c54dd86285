"""The confusion matrix against scikit-learn, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax import metrics as M


def test_confusion_matrix_against_scikit_learn():
    rng = np.random.default_rng(0)
    y, guess = rng.integers(0, 5, (2, 200))
    expected = sk.confusion_matrix(y, guess, labels=range(6))
    found = M.confusion_matrix(jnp.asarray(y), guess.astype(np.uint8), 6)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    keep = rng.random(200) < 0.5
    dirty = np.where(keep, y, -1)
    np.testing.assert_array_equal(
        M.confusion_matrix(dirty, guess, 6, where=keep),
        sk.confusion_matrix(y[keep], guess[keep], labels=range(6)),
    )


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: M.confusion_matrix([0, 2], [0, 1], 2), ValueError, "labels[1] is 2"),
        (
            lambda: M.confusion_matrix([0, 1], [0, 2**32], 2),
            ValueError,
            "predictions[1] is 4294967296",
        ),
        (lambda: M.confusion_matrix([0], [0, 1], 2), ValueError, "expected the same"),
        (
            lambda: M.confusion_matrix([0], np.ones((1, 2)), 2),
            TypeError,
            "predictions have dtype float64",
        ),
        (lambda: M.confusion_matrix([0], [0], 0), ValueError, "num_classes is 0"),
    ],
)
def test_confusion_matrix_names_what_came(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_specificity_without_negatives_is_nan():
    np.testing.assert_array_equal(M.specificity([[3, 1], [0, 0]]), [np.nan, 0.75])
