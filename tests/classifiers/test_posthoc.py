"""Post-hoc adjustment: the decision, and the exact path of its accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.class_stats import log_prior
from ltjax.classifiers import accuracy_path, adjust_logits, select_tau

COUNTS = np.array([100, 20, 5])


def curve_at(logits, labels, slopes, t):
    """Class-mean accuracy and standard error at one t, by definition."""
    right = np.argmax(logits + t * slopes, axis=1) == labels
    classes = np.unique(labels)
    recalls = np.array([right[labels == k].mean() for k in classes])
    sizes = np.array([np.sum(labels == k) for k in classes])
    error = np.sqrt(np.sum(recalls * (1 - recalls) / sizes)) / classes.size
    return recalls.mean(), error


def changes(logits, labels, slopes, stop):
    """All t in (0, stop) where some example turns right or wrong: tries all pairs."""
    times = {0.0, stop}
    for i in range(slopes.size):
        for j in range(i):
            if slopes[i] != slopes[j]:
                crossing = (logits[:, i] - logits[:, j]) / (slopes[j] - slopes[i])
                times |= set(crossing[(crossing > 0) & (crossing < stop)])
    times = np.sort(list(times))
    middles = 0.5 * (times[1:] + times[:-1])
    right = [np.argmax(logits + t * slopes, axis=1) == labels for t in middles]
    changed = [np.any(a != b) for a, b in zip(right[1:], right[:-1], strict=True)]
    return times[1:-1][changed]


def problem(seed, examples=300, num_classes=6, scale=1.5):
    rng = np.random.default_rng(seed)
    counts = np.floor(200 * 0.4 ** np.arange(num_classes)) + 1
    labels = rng.integers(0, num_classes, examples)
    logits = scale * rng.normal(size=(examples, num_classes)) + np.log(counts)
    logits[np.arange(examples), labels] += 2.0
    return logits, labels, counts


def test_adjustment_of_the_running_example(x64):
    logits = np.array([1.0, 0.5, -0.2])
    adjusted = adjust_logits(logits, COUNTS, tau=1.0)
    np.testing.assert_allclose(
        adjusted, [1.223143551, 2.332581464, 3.018875825], atol=1e-9
    )
    assert (int(np.argmax(logits)), int(np.argmax(adjusted))) == (0, 2)


def test_adjustment_divides_the_posterior_by_the_prior():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
    posterior = np.asarray(jax.nn.softmax(logits)) / (COUNTS / 125)
    expected = posterior / posterior.sum(axis=-1, keepdims=True)
    values = jax.nn.softmax(adjust_logits(logits, COUNTS))
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_array_equal(adjust_logits(logits, COUNTS, tau=0.0), logits)


def test_adjustment_with_traced_counts_and_tau():
    logits = jnp.ones((2, 3), jnp.bfloat16)
    values = jax.jit(lambda n, t: adjust_logits(logits, n, tau=t))(COUNTS, 0.5)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, 1 - 0.5 * np.tile(log_prior(COUNTS), (2, 1)))


def test_adjustment_checks_the_counts():
    with pytest.raises(
        ValueError, match=r"adjust_logits: class_counts has shape \(2,\)"
    ):
        adjust_logits(jnp.ones((4, 3)), [3, 1])
    with pytest.raises(ValueError, match="class 1 has count 0"):
        adjust_logits(jnp.ones((4, 3)), [3, 0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_path_equals_brute_force_on_every_piece(seed):
    logits, labels, counts = problem(seed)
    slopes = -log_prior(counts)
    path = accuracy_path(logits, labels, slopes, stop=3.0)
    assert path.scores.size == path.standard_errors.size == path.breakpoints.size - 1
    assert path.scores.size > 50
    assert (path.breakpoints[0], path.breakpoints[-1]) == (0.0, 3.0)
    assert np.all(np.diff(path.breakpoints) > 0)
    middles = 0.5 * (path.breakpoints[1:] + path.breakpoints[:-1])
    expected = np.array([curve_at(logits, labels, slopes, t) for t in middles])
    np.testing.assert_allclose(path.scores, expected[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(path.standard_errors, expected[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_path_finds_every_breakpoint_and_no_other(seed):
    logits, labels, counts = problem(seed, examples=25, num_classes=4)
    slopes = -log_prior(counts)
    path = accuracy_path(logits, labels, slopes, stop=3.0)
    expected = changes(logits, labels, slopes, 3.0)
    assert expected.size > 3
    np.testing.assert_allclose(path.breakpoints[1:-1], expected, rtol=1e-12)


def test_slopes_may_be_anything_finite():
    logits, labels, _ = problem(5, examples=40, num_classes=5)
    slopes = np.array([-1.0, 2.0, 2.0, 0.0, -3.0])  # two equal, some negative
    path = accuracy_path(logits, labels, slopes, stop=2.0)
    expected = changes(logits, labels, slopes, 2.0)
    np.testing.assert_allclose(path.breakpoints[1:-1], expected, rtol=1e-12)
    for t, score in zip(path.breakpoints[1:] - 1e-7, path.scores, strict=True):
        assert abs(curve_at(logits, labels, slopes, t)[0] - score) < 1e-12


def test_path_by_hand():
    # One example per class, slopes 0 and 1: class 1 overtakes at t = 1 and at t = 0.5.
    logits, labels = np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([0, 1])
    path = accuracy_path(logits, labels, np.array([0.0, 1.0]), stop=2.0)
    np.testing.assert_array_equal(path.breakpoints, [0.0, 0.5, 1.0, 2.0])
    np.testing.assert_array_equal(path.scores, [0.5, 1.0, 0.5])
    np.testing.assert_array_equal(path.standard_errors, [0.0, 0.0, 0.0])
    area = path.scores @ np.diff(path.breakpoints)
    np.testing.assert_allclose(area, 0.25 + 0.5 + 0.5)


def test_standard_error_by_hand():
    # Class 0: 3 of 4 right; class 1: 1 of 2 right, for every t.
    logits = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]) * 1.0
    labels = np.array([0, 0, 0, 0, 1, 1])
    path = accuracy_path(logits, labels, np.zeros(2), stop=1.0)
    np.testing.assert_allclose(path.scores, [(0.75 + 0.5) / 2])
    expected = 0.5 * np.sqrt(0.75 * 0.25 / 4 + 0.5 * 0.5 / 2)
    np.testing.assert_allclose(path.standard_errors, [expected])


def test_ties_go_to_the_lower_index_as_in_argmax():
    logits, slopes = np.array([[1.0, 1.0]] * 2), np.zeros(2)
    labels = np.array([0, 1])
    path = accuracy_path(logits, labels, slopes, stop=1.0)
    np.testing.assert_array_equal(path.scores, [0.5])
    only = accuracy_path(logits[:1], np.array([1]), slopes, stop=1.0)
    np.testing.assert_array_equal(only.scores, [0.0])


def test_tie_at_zero_is_decided_by_the_slope():
    # Equal logits: for every t > 0 the steeper class has won.
    logits, slopes = np.array([[1.0, 1.0]]), np.array([0.0, 1.0])
    for label, score in ((0, 0.0), (1, 1.0)):
        path = accuracy_path(logits, np.array([label]), slopes, stop=1.0)
        np.testing.assert_array_equal(path.breakpoints, [0.0, 1.0])
        np.testing.assert_array_equal(path.scores, [score])


def test_simultaneous_changes_are_one_breakpoint():
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    labels = np.array([0, 1, 1])
    path = accuracy_path(logits, labels, np.array([0.0, 2.0]), stop=1.0)
    np.testing.assert_array_equal(path.breakpoints, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(path.scores, [0.5, 0.5])


def test_classes_without_examples_are_left_out():
    logits, labels, counts = problem(7)
    keep = labels != 2
    slopes = -log_prior(counts)
    path = accuracy_path(logits[keep], labels[keep], slopes, stop=1.0)
    expected = curve_at(logits[keep], labels[keep], slopes, 0.0)
    np.testing.assert_allclose(path.scores[0], expected[0], atol=1e-12)


def test_blocks_do_not_show(monkeypatch):
    logits, labels, counts = problem(8)
    whole = accuracy_path(logits, labels, -log_prior(counts), stop=3.0)
    monkeypatch.setattr("ltjax.classifiers.posthoc._BLOCK", 20)
    blocks = accuracy_path(logits, labels, -log_prior(counts), stop=3.0)
    for a, b in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(a, b)


def test_selected_tau_has_the_score_it_claims():
    logits, labels, counts = problem(9)
    slopes = -log_prior(counts)
    for rule in ("best", "one_standard_error"):
        chosen = select_tau(logits, labels, counts, rule=rule)
        score, error = curve_at(logits, labels, slopes, chosen.tau)
        np.testing.assert_allclose(chosen.score, score, atol=1e-12)
        np.testing.assert_allclose(chosen.standard_error, error, atol=1e-12)


def test_rules():
    logits, labels, counts = problem(10)
    best = select_tau(logits, labels, counts, rule="best")
    path = best.path
    assert best.score == path.scores.max()
    assert np.all(path.scores[path.breakpoints[1:] <= best.tau] < best.score)
    frugal = select_tau(logits, labels, counts)
    enough = best.score - best.standard_error
    assert frugal.score >= enough
    assert 0 < frugal.tau < best.tau
    assert np.all(path.scores[path.breakpoints[1:] <= frugal.tau] < enough)


def test_no_grid_does_better():
    logits, labels, counts = problem(11)
    chosen = select_tau(logits, labels, counts, rule="best")
    slopes = -log_prior(counts)
    grid = [curve_at(logits, labels, slopes, t)[0] for t in np.arange(61) * 0.05]
    assert chosen.score >= max(grid) - 1e-12
    assert chosen.score > grid[0] + 0.05


def test_nothing_to_gain_selects_zero():
    logits, labels, _ = problem(12)
    chosen = select_tau(logits, labels, np.full(6, 10))
    assert (chosen.tau, chosen.path.scores.size) == (0.0, 1)


def test_population_where_the_prior_is_the_whole_mistake():
    # Scores log p(x|y) + log pi_y: balanced decisions need exactly tau = 1.
    rng = np.random.default_rng(13)
    labels = rng.integers(0, 3, 20_000)
    features = rng.normal(size=labels.size) + 1.5 * labels
    likelihood = -0.5 * (features[:, None] - 1.5 * np.arange(3)) ** 2
    chosen = select_tau(likelihood + log_prior(COUNTS), labels, COUNTS, rule="best")
    np.testing.assert_allclose(chosen.tau, 1.0, atol=0.1)


def test_arguments_are_checked():
    logits, labels, counts = problem(14)
    with pytest.raises(ValueError, match="select_tau: rule is 'mean', expected one of"):
        select_tau(logits, labels, counts, rule="mean")
    with pytest.raises(ValueError, match=r"select_tau: class_counts has shape \(5,\)"):
        select_tau(logits, labels, counts[:5])
    with pytest.raises(ValueError, match="accuracy_path: stop is 0.0"):
        select_tau(logits, labels, counts, max_tau=0.0)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 6\)"):
        select_tau(logits, labels + 1, counts)
    with pytest.raises(ValueError, match="accuracy_path: logits are not all finite"):
        select_tau(np.where(logits == logits.max(), np.nan, logits), labels, counts)
    with pytest.raises(ValueError, match="accuracy_path: slopes are"):
        accuracy_path(logits, labels, np.full(6, np.inf), stop=1.0)
    with pytest.raises(ValueError, match="accuracy_path: there are no examples"):
        select_tau(logits[:0], labels[:0], counts)
    with pytest.raises(ValueError, match="accuracy_path: logits has shape"):
        accuracy_path(logits[None], labels[None], counts, stop=1.0)
