import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from ltjax import metrics as M
from ltjax.metrics import BinSums

# Five bins of width 0.2; the sums are worked out by hand.
CONFIDENCE = [0.95, 0.9, 0.62, 0.55, 0.41]
CORRECT = [True, True, False, True, False]


def test_known_number():
    # (.8, 1]: |2 - 1.85| / 5; (.6, .8]: .62 / 5; (.4, .6]: |1 - .96| / 5.
    value = M.expected_calibration_error(CONFIDENCE, CORRECT, bins=5)
    assert value == pytest.approx(0.162, abs=1e-12)
    assert M.maximum_calibration_error(CONFIDENCE, CORRECT, bins=5) == 0.62


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [5, 10, 15])
def test_bins_are_closed_on_the_right_in_every_precision(dtype, bins):
    edges = np.arange(1, bins + 1).astype(dtype) / dtype(bins)
    np.testing.assert_array_equal(M.bin_index(edges, bins=bins), np.arange(bins))
    above = np.nextafter(edges[:-1], dtype(2))
    np.testing.assert_array_equal(M.bin_index(above, bins=bins), np.arange(1, bins))


def test_traced_bins_equal_host_bins():
    confidence = np.random.default_rng(0).random(500).astype(np.float32)
    traced = jax.jit(M.bin_index)(confidence)
    assert traced.dtype == jnp.int32
    np.testing.assert_array_equal(traced, M.bin_index(confidence))


def test_reliability_curve_against_scikit_learn():
    rng = np.random.default_rng(1)
    confidence = rng.random(300)
    correct = rng.random(300) < confidence**2
    curve = M.reliability_curve(M.bin_sums(confidence, correct, bins=10))
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(curve.accuracy, accuracy)
    np.testing.assert_allclose(curve.confidence, mean)
    np.testing.assert_allclose(curve.upper, np.arange(1, 11) / 10)
    np.testing.assert_allclose(curve.lower[1:], curve.upper[:-1])
    expected = np.sum(curve.count / 300 * np.abs(accuracy - mean))
    found = M.expected_calibration_error(confidence, correct, bins=10)
    assert found == pytest.approx(expected)
    worst = np.max(np.abs(accuracy - mean))
    assert M.maximum_calibration_error(confidence, correct, bins=10) == pytest.approx(
        worst
    )


def test_empty_bins_are_nan_in_the_curve_and_harmless_elsewhere():
    sums = M.bin_sums([0.9, 0.95], [True, False], bins=4)
    curve = M.reliability_curve(sums)
    np.testing.assert_array_equal(np.isnan(curve.accuracy), [True, True, True, False])
    assert M.ece(sums) == pytest.approx(0.425)  # |1 - 1.85| / 2
    assert M.mce(sums) == pytest.approx(0.425)


def test_no_example_is_nan():
    assert np.isnan(M.expected_calibration_error([], []))
    assert np.isnan(M.maximum_calibration_error([], []))


def test_tail_overconfidence_hides_in_the_total():
    # Class 0: 90 examples, perfectly calibrated at 0.9. Class 1: 10 examples at 0.9,
    # all wrong.
    arrays = {
        "bin_count": np.array([[[0.0, 90.0], [0.0, 10.0]]]),
        "bin_confidence": np.array([[[0.0, 81.0], [0.0, 9.0]]]),
        "bin_correct": np.array([[[0.0, 81.0], [0.0, 0.0]]]),
        "confusion": np.array([[[81, 9], [10, 0]]]),
    }
    bins = M.class_bins(arrays)
    np.testing.assert_allclose(M.ece(bins), [[0.0, 0.9]], atol=1e-15)
    np.testing.assert_allclose(M.mce(bins), [[0.0, 0.9]], atol=1e-15)
    np.testing.assert_allclose(M.ece(M.pool_classes(bins)), [0.09])
    out = M.summarize(arrays, [500, 5])
    np.testing.assert_allclose(out["ece"], [0.09])
    np.testing.assert_allclose(out["mce"], [0.09])
    np.testing.assert_allclose(out["ece_many"], [0.0], atol=1e-15)
    np.testing.assert_allclose(out["ece_few"], [0.9])
    assert np.isnan(out["ece_medium"]).all()


def test_top_confidence_is_the_softmax_maximum():
    logits = np.random.default_rng(2).normal(size=(20, 6)).astype(np.float32) * 5
    exact = np.exp(logits.astype(np.float64))
    exact = (exact / exact.sum(-1, keepdims=True)).max(-1)
    np.testing.assert_allclose(M.top_confidence(logits), exact, rtol=1e-6)
    large = jnp.array([[1e4, -1e4], [-1e4, -jnp.inf], [jnp.nan, 0.0], [jnp.inf, 0.0]])
    np.testing.assert_array_equal(M.top_confidence(large), [1, 1, np.nan, np.nan])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: M.bin_sums([0.5], [1, 0]), ValueError, "(2,)"),
        (lambda: M.bin_sums([0.5, 1.5], [1, 0]), ValueError, "confidence[1] is 1.5"),
        (lambda: M.bin_sums([np.nan], [1]), ValueError, "confidence[0] is nan"),
        (lambda: M.bin_index(np.array([1, 0])), TypeError, "int"),
        (lambda: M.bin_index([0.5], bins=0), ValueError, "bins is 0"),
        (lambda: M.class_bins({"bin_count": 1}), KeyError, "bin_confidence"),
        (
            lambda: M.class_bins(
                {
                    "bin_count": np.ones((2, 3)),
                    "bin_confidence": np.ones((2, 3)),
                    "bin_correct": np.ones((2, 4)),
                }
            ),
            ValueError,
            "(2, 4)",
        ),
        (
            lambda: M.pool_classes(BinSums(*np.ones((3, 2, 5))), [True]),
            ValueError,
            "expected bool (2,)",
        ),
        (lambda: M.top_confidence(np.array([1, 2])), TypeError, "int"),
    ],
)
def test_errors_name_what_came(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "above",
    [
        [1 + 2**-52, 0.5],
        np.array([1 + 2**-23, 0.5], np.float32),
        np.array([1 + 2**-10, 0.5], np.float16),
        [10 * 0.1 + 2**-51, 0.5],
    ],
)
def test_rounding_above_one_counts_as_one(above):
    # Both right and wrong at 1/2 and 1: (|1 - 1| + |0 - 0.5|) / 2.
    assert M.expected_calibration_error(above, [1, 0]) == 0.25
    assert M.bin_sums(above, [1, 0]).confidence.sum() == 1.5


@pytest.mark.parametrize(
    "above", [1 + 1e-7, np.float32(1.0001), 1.5, np.inf, np.nan, -(2**-52)]
)
def test_more_than_rounding_is_refused(above):
    confidence = np.array([0.5, above])
    with pytest.raises(ValueError, match=r"confidence\[1\] is .*, expected a prob"):
        M.expected_calibration_error(confidence, [1, 0])


def test_what_is_no_confidence_is_named():
    with pytest.raises(TypeError, match="bin_sums: confidence is None"):
        M.expected_calibration_error(None, [1])
    with pytest.raises(TypeError, match="bin_sums: correct is dtype <U1"):
        M.expected_calibration_error([0.5], ["1"])
