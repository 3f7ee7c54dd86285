"""Losses of believed pairs against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import info_nce, pair_similarity, selected_contrast

B, Q, D, T = 4, 6, 3, 0.3


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(3)
    positive = rng.uniform(size=(B, Q)) < 0.5
    positive[1] = False
    return rng.normal(size=(B, D)), rng.normal(size=(Q, D)), positive


def by_hand(queries, bank, positive):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, bank)]
    s = unit[0] @ unit[1].T / T
    log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
    return np.array(
        [
            -row[own].mean() if own.any() else 0.0
            for row, own in zip(log_p, positive, strict=True)
        ]
    )


def test_the_mean_over_the_positives_of_a_row(given):
    got = selected_contrast(*given, temperature=T)
    np.testing.assert_allclose(got, by_hand(*given), rtol=1e-5)
    assert got[1] == 0  # nothing is believed of it


def test_entries_that_do_not_count_are_as_if_they_were_not_there(given):
    queries, bank, positive = given
    counts = np.arange(Q) != 2
    broken = np.where(counts[:, None], bank, np.nan)
    got = selected_contrast(queries, broken, positive, temperature=T, bank_where=counts)
    want = by_hand(queries, bank[counts], positive[:, counts])
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_one_positive_key_is_info_nce(given):
    queries, bank, _ = given
    keys = np.random.default_rng(4).normal(size=(B, D))
    units = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    want = info_nce(queries, keys, units, temperature=T)
    got = [
        selected_contrast(
            queries[i : i + 1],
            np.concatenate([keys[i : i + 1], bank]),
            (np.arange(Q + 1) == 0)[None],
            temperature=T,
        )[0]
        for i in range(B)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_gradients_reach_the_queries_only(given):
    queries, bank, positive = (jnp.asarray(x) for x in given)

    def total(queries, bank):
        return selected_contrast(queries, bank, positive, temperature=T).sum()

    own, others = jax.grad(total, argnums=(0, 1))(queries, bank)
    assert np.isfinite(own).all() and np.abs(own[0]).max() > 0
    assert not np.asarray(others).any() and not np.asarray(own[1]).any()


def test_similarity_is_the_cross_entropy_of_every_pair(given):
    logits = np.random.default_rng(5).normal(size=(B, 3))
    target = np.random.default_rng(6).uniform(size=(B, B))
    where = np.array([True, True, False, True])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    same = p @ p.T
    cost = -(target * np.log(same) + (1 - target) * np.log(1 - same))
    want = [
        np.mean([cost[i, j] for j in range(B) if j != i and where[j]])
        if where[i]
        else 0
        for i in range(B)
    ]
    broken = np.where(where[:, None], logits, np.nan)
    got = pair_similarity(broken, target, where=where)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert pair_similarity(logits[:1], np.ones((1, 1)))[0] == 0


def test_sure_predictions_stay_finite():
    logits = jnp.array([[80.0, 0.0], [0.0, 80.0]])
    slope = jax.grad(lambda z: pair_similarity(z, jnp.ones((2, 2))).sum())(logits)
    assert np.isfinite(slope).all()


def test_bad_input_is_named(given):
    queries, bank, positive = given
    with pytest.raises(ValueError, match="selected_contrast: positive has shape"):
        selected_contrast(queries, bank, positive[:, 1:])
    with pytest.raises(TypeError, match="positive has dtype float32, expected bool"):
        selected_contrast(queries, bank, positive.astype(np.float32))
    with pytest.raises(ValueError, match="selected_contrast.*temperature"):
        selected_contrast(queries, bank, positive, temperature=0.0)
    with pytest.raises(ValueError, match="pair_similarity: target has shape"):
        pair_similarity(queries, np.ones((B, 1)))
    with pytest.raises(TypeError, match="pair_similarity: target is dtype <U1"):
        pair_similarity(queries, np.full((B, B), "x"))
