"""The memory of CVS: the ring bank against a plain list, slopes against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.supervised.cvs_bank import (
    CVSState,
    calibration_slopes,
    init_cvs,
    update_bank,
    update_kappa,
)

COUNTS = np.array([100, 20, 5])
LOGITS = jnp.array([[1.0, 0.5, -0.2], [0.3, -0.1, 0.8]])
LABELS = jnp.array([2, 0])


def rows_of(state, k):
    """The bank's content for class k, oldest first."""
    written, capacity = int(state.written[k]), int(state.capacity[k])
    order = [i % capacity for i in range(max(0, written - capacity), written)]
    return [
        (
            float(state.confidence[k, i]),
            int(state.predicted[k, i]),
            bool(state.correct[k, i]),
        )
        for i in order
    ]


def test_bank_keeps_the_latest_of_every_class():
    # Capacities 6, 3 and 2; batches of 7 overflow the small classes within one batch.
    rng = np.random.default_rng(0)
    state = init_cvs([50, 3, 2], max_items=6)
    assert state.confidence.shape == (3, 6)
    history = {k: [] for k in range(3)}
    update = jax.jit(update_bank)
    for _ in range(5):
        logits = rng.normal(size=(7, 3)).astype(np.float32)
        labels = rng.integers(0, 3, 7)
        where = rng.random(7) < 0.8
        state = update(state, logits, labels, where=where)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
        for i in np.flatnonzero(where):
            top = int(logits[i].argmax())
            history[labels[i]].append((confidence[i], top, top == labels[i]))
    assert [len(history[k]) for k in range(3)] == state.written.tolist()
    assert max(len(v) for v in history.values()) > 6
    for k, capacity in enumerate([6, 3, 2]):
        got, expected = rows_of(state, k), history[k][-capacity:]
        assert [g[1:] for g in got] == [e[1:] for e in expected]
        np.testing.assert_allclose([g[0] for g in got], [e[0] for e in expected], 1e-6)


def test_one_batch_larger_than_a_ring_keeps_its_last_rows():
    logits = jnp.eye(5, 2) + jnp.arange(5.0)[:, None] * jnp.array([[0.0, 1.0]])
    state = update_bank(init_cvs([2, 9]), logits, jnp.zeros(5, int))
    confidences = [row[0] for row in rows_of(state, 0)]
    np.testing.assert_allclose(confidences, 1 / (1 + np.exp([-3.0, -4.0])), rtol=1e-6)


def test_labels_out_of_range_are_not_kept():
    logits = jnp.zeros((3, 3))
    state = update_bank(init_cvs(COUNTS), logits, jnp.array([-1, 3, 1]))
    assert state.written.tolist() == [0, 1, 0]


def bank_of(confidence, predicted, labels, num_classes):
    """A state that holds exactly these predictions."""
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    state = init_cvs(counts)
    confidence, predicted = np.array(confidence), np.array(predicted)
    table = {name: np.array(getattr(state, name)) for name in CVSState._fields}
    for k in range(num_classes):
        rows = np.flatnonzero(labels == k)
        table["confidence"][k, : len(rows)] = confidence[rows]
        table["predicted"][k, : len(rows)] = predicted[rows]
        table["correct"][k, : len(rows)] = predicted[rows] == k
        table["written"][k] = len(rows)
    return CVSState(**{name: jnp.asarray(x) for name, x in table.items()})


def test_perfect_calibration_has_slope_one():
    # Class 0 predicted 20 times: ten at .4, 4 of them right, and ten at .8, 8 right.
    confidence = np.repeat([0.4, 0.8], 10)
    labels = np.concatenate([np.repeat([0, 1], [4, 6]), np.repeat([0, 1], [8, 2])])
    state = bank_of(confidence, np.zeros(20, int), labels, 2)
    slopes, fitted = calibration_slopes(state)
    np.testing.assert_allclose(slopes, [1.0, 1.0], rtol=1e-6)
    assert fitted.tolist() == [True, False]
    kappa = update_kappa(state, phase=0, momentum=0.0).kappa
    # 1 / (1 + 1e-6), and exactly 1 where nothing was predicted or the phase is another.
    assert float(kappa[0, 0]) == pytest.approx(1 / (1 + 1e-6), rel=2e-7)
    assert kappa[0, 1] == 1
    np.testing.assert_array_equal(kappa[1], 1)


def test_slope_against_least_squares():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 300)
    predicted = rng.integers(0, 3, 300)
    confidence = rng.uniform(0.34, 1.0, 300).astype(np.float32)
    slopes, fitted = calibration_slopes(bank_of(confidence, predicted, labels, 3))
    assert fitted.all()
    for c in range(3):
        mine = predicted == c
        edges = np.linspace(0, 1, 21)
        which = np.digitize(confidence[mine], edges, right=True)
        root, x, y = [], [], []
        for b in np.unique(which):
            inside = which == b
            root.append(np.sqrt(inside.sum()))
            x.append(confidence[mine][inside].mean())
            y.append((labels[mine][inside] == c).mean())
        root, x, y = map(np.array, (root, x, y))
        expected = np.linalg.lstsq((root * x)[:, None], root * y, rcond=None)[0][0]
        assert float(slopes[c]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("confidence", "fitted"),
    [
        ([0.52] * 5 + [0.97] * 5, True),
        ([0.52] * 5 + [0.97] * 4, False),  # nine predictions
        ([0.52] * 12, False),  # one bin
        ([0.51, 0.55] * 6, False),  # (.5, .55] is closed above: still one bin
        ([0.55, 0.56] * 6, True),
    ],
)
def test_what_is_fitted(confidence, fitted):
    number = len(confidence)
    state = bank_of(confidence, np.zeros(number, int), np.zeros(number, int), 2)
    slopes, flags = calibration_slopes(state)
    assert flags.tolist() == [fitted, False]
    kappa = update_kappa(state, phase=0, low=1.5, high=2.0, momentum=0.0).kappa[0]
    # All right, so the slope is above 1 and its inverse is clipped; unfitted is 1.
    assert kappa.tolist() == [1.5 if fitted else 1.0, 1.0]


def test_kappa_moves_by_a_tenth_in_its_own_phase_only():
    # Always wrong: slope 0, 1 / 1e-6 clipped to 2; .9 * 1 + .1 * 2 = 1.1, then 1.19.
    state = bank_of([0.5] * 5 + [0.9] * 5, np.zeros(10, int), np.ones(10, int), 2)
    step = jax.jit(update_kappa)
    for phase, expected in [(1, 1.1), (1, 1.19)]:
        state = step(state, phase=phase)
        np.testing.assert_allclose(state.kappa, [[1, 1], [expected, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init_cvs([5, 0]), "smallest class count is 0"),
        (lambda: init_cvs([5, 2], max_items=0), "max_items is 0"),
        (lambda: update_bank(init_cvs([5, 2]), LOGITS, LABELS), r"expected \[B, 2\]"),
        (lambda: update_kappa(init_cvs([5, 2]), phase=2), "phase is 2"),
        (lambda: update_kappa(init_cvs([5, 2]), phase=0, low=3.0), "expected <="),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
