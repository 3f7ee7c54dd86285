"""Confidence tables: the rules' numbers, debiasing, and what is read and written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import pseudo_labels
from ltjax.pseudo_labels import masked_softmax, read_confidences, write_confidences

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0]])
STRONG = np.array([[1.0, 1.5, 0.5, -1.0]])
CANDIDATES = np.array([[True, True, False, True]])
# RECORDS' prior after two steps, from softmax(W F + b); see test_priors.
PRIOR = np.array([0.367025527, 0.335436075, 0.171645517, 0.125892882])

_compiled = jax.jit(pseudo_labels.disambiguate, static_argnames="rule")


def disambiguate(*arguments, **options):
    return np.asarray(_compiled(*arguments, **options))


def test_proden_numbers(x64):
    rows = disambiguate(LOGITS, CANDIDATES)
    expected = [[0.705384513, 0.25949646, 0, 0.035119027]]
    np.testing.assert_allclose(rows, expected, atol=1e-9)
    # The same with probabilities, as released.
    p = np.exp(LOGITS) / np.exp(LOGITS).sum()
    released = p * CANDIDATES / np.sum(p * CANDIDATES)
    np.testing.assert_allclose(rows, released, rtol=1e-12)


def test_corr_numbers(x64):
    views = np.stack([LOGITS, STRONG], axis=1)
    rows = disambiguate(views, CANDIDATES, rule="corr")
    expected = [[0.537378495, 0.418510792, 0, 0.044110713]]
    np.testing.assert_allclose(rows, expected, atol=1e-9)
    # The square root of the product of the views' probabilities, with 1e-9 thrice.
    p, q = (np.exp(z) / np.exp(z).sum() for z in (LOGITS, STRONG))
    released = np.sqrt(p * q) * CANDIDATES
    released = released / (released.sum() + 1e-9)
    np.testing.assert_allclose(rows, released, atol=1e-7)
    same = disambiguate(np.stack([LOGITS] * 3, axis=1), CANDIDATES, rule="corr")
    np.testing.assert_allclose(same, disambiguate(LOGITS, CANDIDATES), rtol=1e-12)


def test_debiased_numbers(x64):
    rows = disambiguate(LOGITS, CANDIDATES, prior=PRIOR)
    expected = [[0.646131562, 0.260083606, 0, 0.093784832]]
    np.testing.assert_allclose(rows, expected, atol=2e-9)
    views = np.stack([LOGITS, STRONG], axis=1)
    rows = disambiguate(views, CANDIDATES, rule="corr", prior=PRIOR)
    expected = [[0.478136558, 0.407441098, 0, 0.114422344]]
    np.testing.assert_allclose(rows, expected, atol=2e-9)
    # A uniform prior, or none of its strength, is no prior.
    for prior, tau in ((np.full(4, 0.25), 1.0), (PRIOR, 0.0)):
        np.testing.assert_allclose(
            disambiguate(LOGITS, CANDIDATES, prior=prior, tau=tau),
            disambiguate(LOGITS, CANDIDATES),
            rtol=1e-12,
        )


def test_leveraged_weights_numbers(x64):
    logits = np.array([[1.0, -0.5, 0.3, -2.0]])
    candidates = np.array([[True, True, False, False]])
    rows = disambiguate(logits, candidates, rule="leveraged_weighted")
    expected = [[0.817574476, 0.182425524, 0.908877039, 0.091122961]]
    np.testing.assert_allclose(rows, expected, atol=1e-9)
    every = disambiguate(logits, np.ones((1, 4), bool), rule="leveraged_weighted")
    np.testing.assert_allclose(every.sum(), 1, rtol=1e-12)


def test_cavl_chooses_a_candidate(x64):
    # Values z |1 - z|: (0.24, 2, -3.75, -0.24), and -0.96 for -0.6.
    candidates = np.array([[True, False, False, True]])
    rows = disambiguate(np.array([[0.6, 2.0, -1.5, -0.2]]), candidates, rule="cavl")
    np.testing.assert_array_equal(rows, [[1, 0, 0, 0]])
    rows = disambiguate(np.array([[-0.6, 2.0, -1.5, -0.2]]), candidates, rule="cavl")
    np.testing.assert_array_equal(rows, [[0, 0, 0, 1]])


def test_only_the_rule_of_cavl_depends_on_the_level():
    for rule in ("proden", "corr", "leveraged_weighted"):
        np.testing.assert_allclose(
            disambiguate(LOGITS + 7, CANDIDATES, rule=rule),
            disambiguate(LOGITS, CANDIDATES, rule=rule),
            atol=1e-6,
        )
    # 0.9 * 0.1 is less than 0.5 * 0.5, but 7.9 * 6.9 more than 7.5 * 6.5.
    logits = np.array([[0.9, 0.5, 0.0, -1.0]])
    for shift, winner in ((0.0, 1), (7.0, 0)):
        rows = disambiguate(logits + shift, CANDIDATES, rule="cavl")
        assert np.argmax(rows) == winner


def test_no_confidence_is_lost_to_underflow():
    # exp(-200) is 0 in float32, and so is its product with a mask.
    logits = np.float32([[200.0, 0.0, 1.0, 0.0]])
    candidates = np.array([[False, True, True, False]])
    rows = disambiguate(logits, candidates)
    np.testing.assert_allclose(rows, [[0, 0.26894143, 0.7310586, 0]], rtol=1e-6)


@pytest.mark.parametrize("rule", ["proden", "corr", "cavl", "leveraged_weighted"])
def test_a_row_without_candidates_has_no_confidence(rule):
    rows = disambiguate(np.float32(LOGITS), np.zeros((1, 4), bool), rule=rule)
    assert np.all(np.isfinite(rows))
    inside = 1.0 if rule == "leveraged_weighted" else 0.0  # all labels are others
    np.testing.assert_allclose(rows.sum(), inside, rtol=1e-6)


def test_no_gradient_flows_into_confidences():
    gradient = jax.grad(
        lambda z: jnp.sum(pseudo_labels.disambiguate(z, CANDIDATES)[0, 0])
    )(jnp.float32(LOGITS))
    assert not np.any(gradient)


def test_masked_softmax():
    where = np.array([[True, False], [False, False]])
    rows = masked_softmax(jnp.zeros((2, 2)), where)
    np.testing.assert_array_equal(rows, [[1, 0], [0, 0]])
    with pytest.raises(TypeError, match="masked_softmax: where has dtype int"):
        masked_softmax(jnp.zeros((2, 2)), where.astype(int))


@jax.jit
def step(table, index, candidates, rows, where):
    table = write_confidences(table, index, rows, where=where)
    return table, read_confidences(table, index, candidates)


def test_rows_never_written_are_uniform_over_the_candidates():
    candidates = np.array([[True, True, False], [False, False, False]])
    index, rows = np.array([2, 0]), np.float32([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]])
    table, read = step(
        jnp.zeros((4, 3)), index, candidates, rows, np.array([False, False])
    )
    assert not np.any(table)
    np.testing.assert_allclose(read, [[0.5, 0.5, 0], [0, 0, 0]])
    table, read = step(
        jnp.zeros((4, 3)), index, candidates, rows, np.array([True, False])
    )
    np.testing.assert_array_equal(table[2], rows[0])
    assert not np.any(np.delete(table, 2, axis=0))
    np.testing.assert_array_equal(read[0], rows[0])


def test_bad_input_is_refused():
    call = functools.partial(pseudo_labels.disambiguate, LOGITS)
    for arguments, message in (
        ((CANDIDATES[:, :3],), r"candidates has shape \(1, 3\), but logits \(1, 4\)"),
        ((CANDIDATES, "solar"), "rule is 'solar'"),
    ):
        with pytest.raises(ValueError, match=f"disambiguate: {message}"):
            call(arguments[0], rule=(*arguments, "proden")[1])
    with pytest.raises(TypeError, match="disambiguate: candidates have dtype float"):
        call(CANDIDATES / 3)
    with pytest.raises(
        ValueError, match=r"disambiguate: prior|debias: prior|prior has"
    ):
        call(CANDIDATES, prior=PRIOR[:3])
    with pytest.raises(ValueError, match=r"read_confidences: rows have shape \(1, 4\)"):
        read_confidences(jnp.zeros((9, 3)), jnp.zeros(1, int), CANDIDATES)
    with pytest.raises(ValueError, match="write_confidences: index has shape"):
        write_confidences(jnp.zeros((9, 4)), jnp.zeros((1, 1), int), LOGITS)
    with pytest.raises(TypeError, match="write_confidences: rows"):
        words = np.full((1, 4), "a")
        write_confidences(jnp.zeros((9, 4)), jnp.zeros(1, int), words)


def test_rows_never_written_may_start_elsewhere():
    table = jnp.zeros((3, 2)).at[1].set(jnp.array([0.25, 0.75]))
    candidates = jnp.array([[True, True], [True, False]])
    start = jnp.full((2, 2), 0.5)
    rows = read_confidences(table, jnp.array([1, 2]), candidates, start=start)
    assert rows.tolist() == [[0.25, 0.75], [0.5, 0.5]]
