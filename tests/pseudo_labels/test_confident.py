"""Sel-CL's selection, against loops over all pairs."""

import numpy as np
import pytest

from ltjax.pseudo_labels import (
    confident,
    confident_examples,
    neighbor_votes,
    similarity_limit,
)

K = 3


@pytest.fixture(scope="module")
def cloud():
    """Three directions, every fifth label wrong: (features [40, 3], labels, truth)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, K, 40)
    features = np.eye(K)[truth] * 3 + rng.normal(size=(40, K))
    labels = np.where(np.arange(40) % 5 == 0, (truth + 1) % K, truth)
    return features.astype(np.float32), labels, truth


def cosines(features):
    x = np.asarray(features, np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_votes_are_those_of_the_nearest_others(cloud, monkeypatch):
    features, labels, truth = cloud
    monkeypatch.setattr(confident, "CHUNK", 16)  # the last chunk is shorter
    got = neighbor_votes(features, labels, K, k=7)
    s = cosines(features)
    np.fill_diagonal(s, -np.inf)
    near = np.argsort(-s, axis=1)[:, :7]
    corrected = [np.bincount(labels[row], minlength=K).argmax() for row in near]
    np.testing.assert_array_equal(got.corrected, corrected)
    second = np.asarray(corrected)[near]
    shares = [np.bincount(row, minlength=K) / 7 for row in second]
    np.testing.assert_allclose(got.shares, shares)
    assert (got.corrected == truth).mean() > (labels == truth).mean()


def test_no_more_neighbors_vote_than_there_are():
    votes = neighbor_votes(np.eye(3), [0, 0, 1], 2, k=250)
    # The last one's neighbors are both given 0; the others see one of each.
    assert votes.corrected.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(votes.shares[:, 0], [1, 1, 1])


@pytest.mark.parametrize(("quantile", "size"), [(0.0, 1), (0.5, 2), (1.0, 3)])
def test_every_class_keeps_as_many_and_a_small_one_all(quantile, size):
    # Agreeing: 3 of class 0, 2 of class 1, 1 of class 2.
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    own = np.array([0.9, 0.7, 0.8, 0.3, 0.6, 0.4, 0.9, 0.9, 0.2])
    shares = np.zeros((9, K))
    shares[np.arange(9), labels] = own
    shares[np.arange(9), (labels + 1) % K] = 1 - own
    kept = confident_examples(shares, labels, quantile=quantile)
    for c in range(K):
        members = np.flatnonzero(labels == c)
        best = members[np.argsort(-own[members])][:size]
        np.testing.assert_array_equal(
            np.flatnonzero(kept & (labels == c)), np.sort(best)
        )


def test_the_limit_is_a_quantile_of_the_pairs_of_kept_examples(cloud, monkeypatch):
    features, labels, _ = cloud
    monkeypatch.setattr(confident, "CHUNK", 5)
    kept = np.arange(40) % 3 > 0
    s, values = cosines(features), []
    for i in range(40):
        for j in range(i + 1, 40):
            if labels[i] == labels[j] and kept[i] and kept[j]:
                values.append(s[i, j])
    for quantile in (0.0, 0.25, 1.0):
        got = similarity_limit(features, labels, kept, quantile=quantile)
        want = np.quantile(values, quantile, method="inverted_cdf")
        assert got == pytest.approx(want, abs=3e-5)


def test_without_pairs_nothing_is_alike(cloud):
    features, labels, _ = cloud
    assert similarity_limit(features, labels, np.zeros(40, bool)) == np.inf


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="neighbor_votes: labels have shape"):
        neighbor_votes(np.eye(3), [0, 1], 2)
    with pytest.raises(ValueError, match="confident_examples: labels have shape"):
        confident_examples(np.eye(3), [0, 1])
    with pytest.raises(ValueError, match="confident_examples.*quantile"):
        confident_examples(np.eye(2), [0, 1], quantile=1.5)


def test_a_label_that_is_no_class_is_refused():
    """-1 would count from the end: it is the last class of a row of shares."""
    shares = np.full((4, K), 1 / K)
    for wrong in (-1, K):
        with pytest.raises(ValueError, match=f"labels must lie in .* is {wrong}"):
            confident_examples(shares, [0, 1, 2, wrong])
        with pytest.raises(ValueError, match=f"labels must lie in .* is {wrong}"):
            neighbor_votes(np.eye(4), [0, 1, 2, wrong], K, k=1)
    with pytest.raises(TypeError, match="kept has dtype"):
        similarity_limit(np.eye(3), [0, 0, 1], [1, 1, 1])
