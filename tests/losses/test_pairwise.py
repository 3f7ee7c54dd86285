"""Pairwise losses against a double loop over all pairs, values and gradients.

Every case is compiled once per form of labels, for batches of 24 rows and 5 classes;
smaller problems are padded with masked rows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import auc_exp, auc_hinge, auc_logistic, auc_square
from ltjax.losses._pairs import in_order
from ltjax.reduce import weighted_mean

ROWS, CLASSES = 24, 5


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


# name -> (loss, its option g, surrogate of the margin and g, its derivative)
CASES = {
    "square": (auc_square, "margin", lambda t, g: (g - t) ** 2 / 2, lambda t, g: t - g),
    "hinge": (
        auc_hinge,
        "margin",
        lambda t, g: max(g - t, 0),
        lambda t, g: -1.0 * (t < g),
    ),
    "squared_hinge": (
        functools.partial(auc_hinge, power=2),
        "margin",
        lambda t, g: max(g - t, 0) ** 2,
        lambda t, g: -2 * max(g - t, 0),
    ),
    "exp": (
        auc_exp,
        "scale",
        lambda t, g: np.exp(-g * t),
        lambda t, g: -g * np.exp(-g * t),
    ),
    "logistic": (
        functools.partial(auc_logistic, block=7),
        "scale",
        lambda t, g: np.log(1 + np.exp(-g * t)),
        lambda t, g: -g * sigmoid(-g * t),
    ),
}
# The hinge itself only in the running example: the code is that of its square.
cases = pytest.mark.parametrize("name", [n for n in CASES if n != "hinge"])


def opponents(labels, p, kind):
    """(q, weight) of the opponents of p: a mean over classes, or over rows."""
    others = [q for q in range(len(labels)) if labels[q] != labels[p]]
    if kind == "ovr":
        return [(q, 1 / len(others)) for q in others]
    rivals = set(labels) - {labels[p]}
    return [(q, 1 / (len(rivals) * list(labels).count(labels[q]))) for q in others]


def reference(name, scores, labels, option, kind="ovo"):
    """Values per anchor and the gradient of their mean, by loops over pairs."""
    _, _, surrogate, slope = CASES[name]
    labels = list(labels)
    n, present = len(labels), len(set(labels))
    values, gradient = np.zeros(n), np.zeros_like(scores)
    for p, i in enumerate(labels):
        factor = n / (present * labels.count(i))
        for q, weight in opponents(labels, p, kind):
            gap = scores[p, i] - scores[q, i]
            values[p] += factor * weight * surrogate(gap, option)
            gradient[p, i] += factor * weight * slope(gap, option) / n
            gradient[q, i] -= factor * weight * slope(gap, option) / n
    return values, gradient


def binary_reference(name, scores, labels, option):
    _, _, surrogate, slope = CASES[name]
    up, down = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    values, gradient = np.zeros(len(labels)), np.zeros(len(labels))
    for p in up:
        for q in down:
            gap, weight = scores[p] - scores[q], 1 / (len(up) * len(down))
            values[p] += len(labels) * weight * surrogate(gap, option)
            gradient[p] += weight * slope(gap, option)
            gradient[q] -= weight * slope(gap, option)
    return values, gradient


@functools.cache
def program(name, kind="ovo"):
    """Jitted; fails if it is ever traced twice for one dtype and rank."""
    loss, option, _, _ = CASES[name]
    seen = set()

    def mean(scores, labels, where, value):
        key = (scores.dtype, scores.ndim)
        assert key not in seen, "traced again"
        seen.add(key)
        values = loss(scores, labels, **{option: value}, pairs=kind, where=where)
        return weighted_mean(values, where=where), values

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


def graded(name, scores, labels, option=0.7, where=None, kind="ovo"):
    """Values and gradient for the rows given, the others being padding with NaN."""
    n, dtype = len(scores), scores.dtype
    keep = np.ones(n, bool) if where is None else where
    rows = np.full((ROWS, *((CLASSES,) if scores.ndim == 2 else ())), np.nan, dtype)
    if scores.ndim == 2:
        rows[:n, : scores.shape[1]] = scores
        rows[:n, scores.shape[1] :] = 0.5
    else:
        rows[:n] = scores
    padded_labels, mask = np.full(ROWS, -3, np.int32), np.zeros(ROWS, bool)
    padded_labels[:n], mask[:n] = labels, keep
    out = program(name, kind)(rows, padded_labels, mask, dtype.type(option))
    (_, values), gradient = jax.device_get(out)
    assert values.dtype == dtype and gradient.dtype == dtype
    assert not values[n:].any() and not gradient[n:].any()
    columns = (slice(scores.shape[1]),) if scores.ndim == 2 else ()
    return values[:n], gradient[(slice(n), *columns)]


def batch(seed, n=ROWS):
    """Scores on a grid of 1/16, so that many are tied, and labels of 5 classes."""
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(CLASSES), rng.geometric(0.5, n - CLASSES) % CLASSES)
    return rng.integers(-16, 17, (n, CLASSES)) / 16, labels.astype(np.int32)


def close(got, expected):
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-10, atol=1e-14)


@cases
def test_equals_the_double_loop(name, x64):
    scores, labels = batch(0)
    for n in (ROWS, 17):
        got = graded(name, scores[:n], labels[:n])
        close(got, reference(name, scores[:n], labels[:n], 0.7))
        # A constant added to a column changes nothing.
        np.testing.assert_allclose(got[1].sum(0), 0, atol=1e-14)


@cases
def test_masks_order_and_names(name, x64):
    scores, labels = batch(3)
    keep = np.arange(ROWS) % 4 != 1
    keep[labels == 3] = False  # a whole class
    dirty, wrong = np.where(keep[:, None], scores, np.inf), np.where(keep, labels, 99)
    values, gradient = graded(name, dirty, wrong, where=keep)
    expected = reference(name, scores[keep], labels[keep], 0.7)
    close((values[keep], gradient[keep]), expected)
    assert not values[~keep].any() and not gradient[~keep].any()

    rows, order = np.random.default_rng(0).permutation(ROWS), np.array([3, 1, 4, 0, 2])
    moved = np.argsort(order)[wrong[rows] % 99].astype(np.int32)
    other = graded(name, dirty[rows][:, order], moved, where=keep[rows])
    close(other, (values[rows], gradient[rows][:, order]))

    half = np.repeat(scores[:12], 2, 0), np.repeat(labels[:12], 2)
    once = graded(name, scores[:12], labels[:12])
    close(graded(name, *half), (np.repeat(once[0], 2), np.repeat(once[1], 2, 0) / 2))


@cases
def test_without_a_pair_the_loss_is_zero(name, x64):
    scores, _ = batch(4)
    for result in (
        graded(name, scores, 2),
        graded(name, scores[:1], 4),
        graded(name, scores, 0, where=np.zeros(ROWS, bool)),
        graded(name, scores[:, 0], 0),
        graded(name, scores[:, 0], 1),
    ):
        assert not np.any(result[0]) and not np.any(result[1])
    empty = jax.eval_shape(CASES[name][0], scores[:0], np.zeros(0, np.int32))
    assert empty.shape == (0,)


@cases
def test_binary_equals_the_double_loop(name, x64):
    scores, labels = batch(1)
    binary = (labels == 1).astype(np.int32)
    keep = np.arange(ROWS) % 3 != 1
    got = graded(name, np.where(keep, scores[:, 0], np.nan), binary, where=keep)
    expected = binary_reference(name, scores[keep, 0], binary[keep], 0.7)
    close((got[0][keep], got[1][keep]), expected)
    assert not got[0][~keep].any() and not got[1][~keep].any()


@cases
def test_one_versus_rest(name, x64):
    loss, option, _, _ = CASES[name]
    scores, labels = batch(2)
    values = jax.jit(functools.partial(loss, pairs="ovr", **{option: 0.7}))
    expected = reference(name, scores, labels, 0.7, "ovr")[0]
    np.testing.assert_allclose(values(scores, labels), expected, rtol=1e-11, atol=1e-14)
    assert not np.any(values(scores, np.full(ROWS, 3, np.int32)))


@pytest.mark.parametrize("name", ["squared_hinge", "exp", "logistic"])
def test_float32_is_within_its_rounding(name):
    """Far from zero, too: scores of 20 +- 1 lose nothing but their own rounding."""
    scores, labels = batch(2)
    expected = reference(name, scores, labels, 0.7)
    got = graded(name, np.float32(scores) + np.float32(20), labels)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=1e-6)
    signs = np.where(np.arange(ROWS)[:, None] % 2 == np.arange(2), 1, -1)
    labels = np.arange(ROWS) % 2
    size = 25 if name == "exp" else 1e4
    for sign in (1, -1):
        got = graded(name, np.float32(sign * size * signs), labels)
        assert np.isfinite(got[0]).all() and np.isfinite(got[1]).all()
    # Pairs in the right order by 160 cost nothing, however large the terms themselves.
    got = graded(name, np.float32(80 * signs), labels)
    assert np.isfinite(got[0]).all() and np.isfinite(got[1]).all()


@cases
def test_label_out_of_range_is_nan(name, x64):
    scores, labels = batch(8)
    labels[[3, 9]] = [5, -1]
    values = graded(name, scores, labels)[0]
    np.testing.assert_array_equal(np.isnan(values), (labels < 0) | (labels > 4))
    values = graded(name, scores[:, 0], labels)[0]
    np.testing.assert_array_equal(np.isnan(values), (labels < 0) | (labels > 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_in_the_order_of_floats(dtype, x64):
    tiny, large = np.finfo(dtype).tiny, np.finfo(dtype).max
    rising = [-np.inf, -large, -1.5, -1.0, -tiny, 0.0, tiny, 1.0, 1.5, large, np.inf]
    twins = [-0.0, -np.nan]
    keys = np.asarray(jax.jit(in_order)(np.array([*rising, np.nan, *twins], dtype)))
    assert keys.itemsize == np.dtype(dtype).itemsize
    assert (np.diff(keys[:-2]) > 0).all()
    assert keys[-2] == keys[rising.index(0)] and keys[-1] == keys[len(rising)]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_no_number_is_not_hidden(sign, x64):
    scores, labels = batch(9)
    scores[labels == 2, 1] = sign * np.nan
    values, _ = graded("squared_hinge", scores, labels)
    np.testing.assert_array_equal(np.isnan(values), labels == 1)


@pytest.mark.parametrize("name", ["square", "squared_hinge"])
def test_second_derivatives(name, x64):
    """Of moments around their mean, and of what goes through a sort; off all kinks."""
    loss = CASES[name][0]
    scores, labels = batch(6)
    direction = np.random.default_rng(1).normal(size=scores.shape)

    def mean(scores):
        return jnp.mean(loss(scores, labels, margin=0.98))

    product = jax.jit(lambda s, d: jax.jvp(jax.grad(mean), (s,), (d,))[1])
    ends = [
        graded(name, scores + sign * 1e-6 * direction, labels, 0.98)[1]
        for sign in (1, -1)
    ]
    difference = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(product(scores, direction), difference, atol=1e-7)


EXAMPLE = np.array([[7, 2, 1], [4, 5, 1], [3, 6, 1], [5, 3, 2], [2, 2, 6]]) / 10
EXAMPLE_LABELS = np.array([0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("square", 1.0, 0.26625),
        ("exp", 1.0, 0.75754661),
        ("exp", 2.0, 0.60236878),
        ("hinge", 1.0, 0.7),
        ("hinge", 0.2, 0.05),
        ("squared_hinge", 0.2, 0.0125),
        ("logistic", 1.0, 0.55956845),
    ],
)
def test_running_example(name, option, expected, x64):
    """Five examples of three classes, worked out by hand from the definition."""
    values, _ = graded(name, EXAMPLE, EXAMPLE_LABELS, option)
    assert np.mean(values) == pytest.approx(expected, abs=5e-9)


def test_gradient_and_pairs_of_the_running_example(x64):
    _, gradient = graded("square", EXAMPLE, EXAMPLE_LABELS, 1.0)
    expected = [
        [-0.1, 0.0625, 0.04166667],
        [-0.15, 0.0875, 0.04166667],
        [0.0625, -0.1125, 0.04166667],
        [0.07916667, -0.1625, 0.05],
        [0.10833333, 0.125, -0.175],
    ]
    np.testing.assert_allclose(gradient, expected, atol=5e-9)
    # R_ij from the two classes alone; OVO is their mean.
    risks = {(0, 1): 0.3775, (0, 2): 0.2225, (1, 0): 0.4275}
    risks |= {(1, 2): 0.2925, (2, 0): 0.125, (2, 1): 0.1525}
    for (i, j), risk in risks.items():
        rows = (EXAMPLE_LABELS == i) | (EXAMPLE_LABELS == j)
        values, _ = graded("square", EXAMPLE[rows, i], EXAMPLE_LABELS[rows] == i, 1.0)
        assert np.mean(values) == pytest.approx(risk, abs=1e-12)
    assert np.mean(list(risks.values())) == pytest.approx(0.26625)


@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("square", 1.0, 0.25583333),
        ("logistic", 1.0, 0.54412541),
        ("squared_hinge", 0.6, 0.145),
    ],
)
def test_binary_example(name, option, expected, x64):
    """Positives .9 .4 against negatives .5 .1 .3."""
    scores, labels = np.array([0.9, 0.4, 0.5, 0.1, 0.3]), np.array([1, 1, 0, 0, 0])
    values, _ = graded(name, scores, labels, option)
    assert np.mean(values) == pytest.approx(expected, abs=5e-9)
    # Two classes with a constant first column have that risk in the second.
    two = np.stack([np.zeros(5), scores], axis=1)
    both = graded(name, two, labels, option)[0] * np.array([2, 2, 0, 0, 0])
    assert np.mean(both) == pytest.approx(expected, abs=5e-9)


@pytest.mark.parametrize("loss", [auc_square, auc_hinge, auc_exp, auc_logistic])
def test_bad_input_is_named(loss):
    name, labels = loss.__name__, EXAMPLE_LABELS
    scores, binary = np.zeros((5, 3), np.float32), np.zeros(5, np.float32)
    for call, message in (
        (
            lambda: loss(binary, labels),
            "a label is 2, expected 0 or 1; several cl",
        ),
        (lambda: loss(scores, labels[:2]), r"labels have shape \(2,\), expected \(5,"),
        (lambda: loss(binary, labels[:2]), r"labels have shape \(2,\), expected \(5,"),
        (lambda: loss(scores[None], labels), r"scores have shape \(1, 5, 3\), expect"),
        (lambda: loss(scores, labels, where=np.ones(4, bool)), r"where has shape \(4,"),
        (lambda: loss(scores, labels, pairs="all"), "pairs is 'all', expected one of"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            call()
    with pytest.raises(TypeError, match=f"{name}: scores has dtype int"):
        loss(labels[:, None], labels)
    for given in (scores, binary):
        with pytest.raises(TypeError, match=f"{name}: labels have dtype float32"):
            loss(given, binary)


def test_options_are_checked():
    scores, labels = np.zeros(4, np.float32), np.array([0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"auc_hinge: power is 3, expected one of \[1"):
        auc_hinge(scores, labels, power=3)
    with pytest.raises(ValueError, match="auc_exp: scale is 0.0, expected a number in"):
        auc_exp(scores, labels, scale=0.0)
    with pytest.raises(ValueError, match="auc_logistic: block is 0"):
        auc_logistic(scores, labels, block=0)


def test_half_precision_and_boolean_labels():
    scores = jnp.asarray([0.5, 0.25, 0.75], jnp.bfloat16)
    values = jax.jit(auc_square)(scores, jnp.array([True, False, False]))
    # Gaps .25 and -.25: 3 (.75^2 + 1.25^2) / 4.
    np.testing.assert_allclose(values, [1.59375, 0, 0])
    assert values.dtype == jnp.float32
