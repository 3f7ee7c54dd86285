"""Content shift: edges, alignment of features, and intervals by hand."""

import numpy as np
import pytest

from ltjax import metrics


def test_edges_of_a_step_and_of_nothing():
    image = np.zeros((2, 6, 6, 2), np.float32)
    image[0, :, 3:] = 1  # a vertical step between columns 2 and 3
    found = metrics.sobel_edges(image)
    want = np.zeros((6, 6))
    want[:, 2:4] = 1
    np.testing.assert_allclose(found[0], want)
    assert not found[1].any()


def test_f1_of_edges():
    step, other = (np.zeros((1, 6, 8, 1), np.float32) for _ in range(2))
    step[:, :, 3:], other[:, :, 4:] = 1, 1
    # Columns 2, 3 against 3, 4: one of two is right both ways.
    np.testing.assert_allclose(metrics.edge_f1(step, other), [0.5])
    np.testing.assert_allclose(metrics.edge_f1(0 * step, 0 * other), [1.0])


def test_alignment_against_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 5))
    center = np.eye(20) - 1 / 20
    k, m = center @ x @ x.T @ center, center @ y @ y.T @ center
    want = np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    assert metrics.linear_cka(x, y) == pytest.approx(want, rel=1e-12)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert metrics.linear_cka(x, 5 * x @ turn + 7) == pytest.approx(1, rel=1e-12)
    assert np.isnan(metrics.linear_cka(x, np.ones((20, 2))))


def test_drift_is_zero_for_the_image_itself():
    x = np.array([[3.0, 4.0], [1.0, 0.0]])
    np.testing.assert_allclose(metrics.drift(x, 2 * x), [0, 0], atol=1e-6)
    np.testing.assert_allclose(metrics.drift(x, [[4.0, -3.0], [-1.0, 0.0]]), [1, 2])


def test_a_benefit_is_recommended_if_its_interval_is_above_zero():
    rng = np.random.default_rng(0)
    plain = rng.uniform(size=400)
    better = metrics.gate_benefit(plain, plain - 0.1 + 0.2 * rng.normal(size=400))
    # The standard error is 0.2 / 20 = 0.01; the interval has 1.96 of them a side.
    assert better.mean == pytest.approx(0.1, abs=0.03) and better.recommended
    assert better.high - better.low == pytest.approx(2 * 1.96 * 0.01, rel=0.12)
    nothing = metrics.gate_benefit(plain, plain + 0.2 * rng.normal(size=400) + 0.05)
    assert not nothing.recommended
    assert metrics.gate_benefit(plain, plain) == (0, 0, 0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="others have 2 rows, expected 3"):
        metrics.linear_cka(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(3,\) and \w+ \(2,\)"):
        metrics.gate_benefit(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="draws"):
        metrics.gate_benefit(np.ones(3), np.ones(3), draws=0)


def test_images_without_pixels_have_no_edges():
    with pytest.raises(ValueError, match="images have shape .* at least one pixel"):
        metrics.sobel_edges(np.zeros((2, 0, 3, 1), np.float32))
