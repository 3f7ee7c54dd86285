"""The exact path of the tau-normalized head against brute force."""

import numpy as np
import pytest

from ltjax.classifiers import tau_normalize_logits
from ltjax.classifiers.tau_path import select_tau_norm, tau_norm_path


def scores_at(logits, norms, tau):
    return logits / norms**tau


def curve_at(logits, labels, norms, tau):
    """Class-mean accuracy and its standard error at one tau, by definition."""
    right = np.argmax(scores_at(logits, norms, tau), axis=1) == labels
    classes, sizes = np.unique(labels, return_counts=True)
    recalls = np.array([right[labels == k].mean() for k in classes])
    error = np.sqrt(np.sum(recalls * (1 - recalls) / sizes)) / classes.size
    return recalls.mean(), error


def changes(logits, labels, norms, stop):
    """Every tau in (0, stop) where some example turns right or wrong: all pairs.

    a_i e^{-tau b_i} = a_j e^{-tau b_j} at tau = log(a_i / a_j) / (b_i - b_j).
    """
    times = {0.0, stop}
    for i in range(norms.size):
        for j in range(i):
            ratio = logits[:, i] / logits[:, j]
            ratio = ratio[ratio > 0]
            crossing = np.log(ratio) / np.log(norms[i] / norms[j])
            times |= set(crossing[(crossing > 0) & (crossing < stop)])
    times = np.sort(list(times))
    middles = 0.5 * (times[1:] + times[:-1])
    right = [np.argmax(scores_at(logits, norms, t), axis=1) == labels for t in middles]
    changed = [np.any(a != b) for a, b in zip(right[1:], right[:-1], strict=True)]
    return times[1:-1][changed]


def problem(seed, shift, examples=200, num_classes=6):
    """Scores whose signs are mixed, mostly positive or mostly negative."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(5, num_classes)) * 0.7 ** np.arange(num_classes)
    labels = rng.integers(0, num_classes, examples)
    logits = rng.normal(size=(examples, num_classes)) + shift
    logits[np.arange(examples), labels] += 0.7
    return logits, labels, weights


@pytest.mark.parametrize(
    ("seed", "shift"), [(0, 0.0), (1, 3.0), (2, -3.0), (3, 0.5), (4, -0.5)]
)
def test_every_breakpoint_and_every_score(seed, shift):
    logits, labels, weights = problem(seed, shift)
    norms = np.linalg.norm(weights, axis=0)
    path = tau_norm_path(logits, labels, weights, stop=2.0)
    expected = changes(logits, labels, norms, 2.0)
    assert expected.size > 5
    np.testing.assert_allclose(path.breakpoints[1:-1], expected, rtol=0, atol=1e-12)
    assert (path.breakpoints[0], path.breakpoints[-1]) == (0.0, 2.0)
    middles = 0.5 * (path.breakpoints[1:] + path.breakpoints[:-1])
    values = np.array([curve_at(logits, labels, norms, t) for t in middles])
    np.testing.assert_allclose(path.scores, values[:, 0], atol=1e-12)
    np.testing.assert_allclose(path.standard_errors, values[:, 1], atol=1e-12)


def test_signs_and_zeros_by_hand():
    # Column norms e^0, e^1: scores (a_0, a_1 e^-tau).
    weights = np.array([[1.0, 0.0], [0.0, np.e]])
    logits = np.array(
        [
            [1.0, np.e],  # right for class 1 until tau = 1
            [-1.0, -np.e],  # class 0 first; class 1 after tau = 1
            [-1.0, 2.0],  # opposite signs: class 1 for ever
            [0.0, 2.0],  # a zero is beaten by any positive score
            [0.0, -2.0],  # and beats any negative one
            [0.0, 0.0],  # a tie goes to the lower index
        ]
    )
    for row, right_for_one in enumerate(["until", "after", True, True, False, False]):
        path = tau_norm_path(logits[[row]], np.array([1]), weights)
        if isinstance(right_for_one, bool):
            assert path.breakpoints.tolist() == [0.0, 2.0]
            assert path.scores.tolist() == [float(right_for_one)]
        else:
            np.testing.assert_allclose(path.breakpoints, [0.0, 1.0, 2.0], atol=1e-15)
            assert path.scores.tolist() == [
                float(right_for_one == "until"),
                float(right_for_one == "after"),
            ]
        other = tau_norm_path(logits[[row]], np.array([0]), weights)
        np.testing.assert_array_equal(other.scores, 1 - path.scores)


def test_zero_column_and_bias():
    # The third class was never updated; its score is exactly 0 for every tau, and the
    # bias it was trained with does not count.
    logits, labels, weights = problem(5, 0.0, num_classes=4)
    weights[:, 2] = 0.0
    logits[:, 2] = 0.0
    bias = np.array([0.3, -0.2, 1.5, 0.1])
    path = tau_norm_path(logits, labels, weights)
    norms = np.where(np.arange(4) == 2, 1.0, np.linalg.norm(weights, axis=0))
    middles = 0.5 * (path.breakpoints[1:] + path.breakpoints[:-1])
    values = [curve_at(logits, labels, norms, t)[0] for t in middles]
    np.testing.assert_allclose(path.scores, values, atol=1e-12)
    # Binary fractions, so that adding and subtracting the bias is exact.
    rounded = np.round(logits * 64) / 64
    bias = np.round(bias * 64) / 64
    first = tau_norm_path(rounded, labels, weights)
    second = tau_norm_path(rounded + bias, labels, weights, bias)
    np.testing.assert_array_equal(first.breakpoints, second.breakpoints)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_selected_tau_scores_what_the_head_scores():
    logits, labels, weights = problem(6, 1.0)
    chosen = select_tau_norm(logits, labels, weights, rule="best")
    assert chosen.score == chosen.path.scores.max()
    adjusted = np.asarray(
        tau_normalize_logits(logits.astype(np.float32), weights, tau=chosen.tau)
    )
    right = adjusted.argmax(axis=1) == labels
    recalls = [right[labels == k].mean() for k in range(6)]
    assert np.mean(recalls) == pytest.approx(chosen.score, abs=1e-12)
    careful = select_tau_norm(logits, labels, weights)
    assert careful.tau <= chosen.tau
    assert careful.score >= chosen.score - chosen.standard_error


def test_blocks_do_not_matter(monkeypatch):
    logits, labels, weights = problem(7, 0.0)
    whole = tau_norm_path(logits, labels, weights)
    monkeypatch.setattr("ltjax.classifiers.tau_path._BLOCK", 6 * 17)
    blocked = tau_norm_path(logits, labels, weights)
    for first, second in zip(whole, blocked, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((3, 4))}, "there are 6 classes"),
        ({"weights": np.ones(6)}, "weights has shape"),
        ({"bias": np.ones(5)}, "bias has shape"),
        ({"stop": 0.0}, "stop is 0"),
        ({"labels": np.full(200, 6)}, "labels must lie in"),
        ({"logits": np.full((200, 6), np.nan)}, "not all finite"),
        ({"logits": np.zeros((0, 6)), "labels": np.zeros(0, int)}, "no examples"),
    ],
)
def test_bad_arguments_are_named(change, message):
    logits, labels, weights = problem(0, 0.0)
    arguments = {"logits": logits, "labels": labels, "weights": weights, **change}
    with pytest.raises(ValueError, match=message):
        tau_norm_path(**arguments)
