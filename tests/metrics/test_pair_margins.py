"""Margins of pairs: a simplex, scale, the loss between its bounds, a bound by hand."""

import numpy as np
import pytest

from ltjax.classifiers import simplex_etf
from ltjax.metrics import (
    margin_bound,
    margin_loss_bounds,
    margin_summary,
    pair_margins,
)

RNG = np.random.default_rng(0)


def test_on_a_simplex_every_normalized_margin_is_the_same():
    frame = np.asarray(simplex_etf(0, 6, 5), np.float64)
    labels = np.array([0, 1, 2, 3, 4, 2])
    margins = pair_margins(3.0 * frame.T[labels], frame, labels)
    np.testing.assert_allclose(margins, np.full((6, 4), 5 / 4), rtol=1e-6)


def test_margins_are_differences_of_logits_and_know_no_scale():
    h, w = RNG.normal(size=(7, 3)), RNG.normal(size=(3, 4))
    y = RNG.integers(0, 4, 7)
    raw = pair_margins(h, w, y, normalize=False)
    for i in range(7):
        want = [(w[:, y[i]] - w[:, c]) @ h[i] for c in range(4) if c != y[i]]
        np.testing.assert_allclose(raw[i], want, rtol=1e-12)
    scaled = pair_margins(h, w, y)
    size = np.linalg.norm(h, axis=1).max() * np.linalg.norm(w, axis=0).max()
    np.testing.assert_allclose(scaled, raw / size, rtol=1e-12)
    np.testing.assert_allclose(pair_margins(5 * h, 0.1 * w, y), scaled, rtol=1e-12)
    found = margin_summary(h, w, y)
    assert found.smallest == scaled.min() and found.smallest_raw == raw.min()
    assert found.low == np.quantile(scaled, 0.05)


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0, 900.0])
def test_the_loss_lies_between_its_bounds(size):
    labels = RNG.integers(0, 6, 40)
    logits = RNG.normal(size=(40, 6))
    logits[np.arange(40), labels] += 4.0
    low, value, high = margin_loss_bounds(size * logits, labels)
    assert low <= value <= high
    z = size * logits
    others = np.arange(6) != labels[:, None]
    q = (z[np.arange(40), labels][:, None] - z)[others].reshape(40, 5)
    assert low == pytest.approx(q.min() - np.log(200))
    if size <= 1:
        ce = np.log1p(np.exp(-q).sum(1))
        assert value == pytest.approx(-np.log(ce.sum()), rel=1e-12)
        assert high == pytest.approx(-np.log(np.log1p(np.exp(-q.min()))), rel=1e-12)
    else:
        # The smallest margin is what the upper bound tends to.
        assert high == pytest.approx(q.min(), abs=1e-9) or q.min() < 30


def test_the_bound_by_hand():
    # Class 0: 1 of 2 and 0 of 2 short; class 1: 1 of 1, 0 of 1; class 2: none.
    margins = [[0.1, 0.9], [0.6, 0.9], [0.2, 0.8], [0.7, 0.7]]
    value = margin_bound(
        margins, [0, 0, 1, 2], gamma=0.5, complexity=[0.1, 0.2, 0.0], confidence=0.7
    )
    slack = np.sqrt(np.log(3 / 0.3) / 2 / np.array([2, 1, 1]))
    each = 2 * (slack + np.array([0.4, 0.8, 0.0])) + [0.5, 1.0, 0.0]
    assert value == pytest.approx((each * [0.5, 0.25, 0.25]).sum())
    wide = margin_bound(margins, [0, 0, 1, 2], gamma=0.05, complexity=0.0)
    assert wide < margin_bound(margins, [0, 0, 1, 2], gamma=0.5, complexity=0.0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"vectors have shape \(3, 2\), expected \[2"):
        pair_margins(np.ones((4, 2)), np.ones((3, 2)), [0] * 4)
    with pytest.raises(ValueError, match=r"labels reach 2, expected \[0, 2\)"):
        pair_margins(np.ones((1, 2)), np.ones((2, 2)), [2])
    with pytest.raises(ValueError, match=r"\[2, 0\] examples of each class"):
        margin_bound([[0.1], [0.2]], [0, 0], gamma=0.1, complexity=0.0)
    with pytest.raises(ValueError, match=r"labels reach -1, expected \[0, 2\)"):
        margin_bound([[0.1], [0.2]], [0, -1], gamma=0.1, complexity=0.0)
    with pytest.raises(ValueError, match=r"complexity has shape \(3,\)"):
        margin_bound([[0.1], [0.2]], [0, 1], gamma=0.1, complexity=[0.0] * 3)
    with pytest.raises(ValueError, match="complexity is nan"):
        margin_bound([[0.1], [0.2]], [0, 1], gamma=0.1, complexity=np.nan)
    with pytest.raises(ValueError, match="features have margins of shape"):
        margin_summary(np.ones((0, 2)), np.ones((2, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="gamma is 0"):
        margin_bound([[0.1], [0.2]], [0, 1], gamma=0, complexity=0.0)
