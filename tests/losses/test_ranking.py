"""Ranking losses against loops over labels, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import autkc, distribution_balanced, tkpr

PHI = {
    "square": lambda t: (1 - t) ** 2,
    "exp": lambda t: np.exp(-t),
    "logistic": lambda t: np.log(1 + np.exp(-t)),
    "hinge": lambda t: max(1 - t, 0),
}
SCORES = np.array([[0.9, 0.2, 0.7, 0.5, 0.1]])
RELEVANT = np.array([[1, 0, 0, 1, 0]])


def one_row(s, relevant, k, phi, a, self_pairs):
    """Sum over relevant labels and the k + 1 highest scores, over a and k."""
    order = np.argsort(-s, kind="stable")[: k + 1]
    total = sum(
        phi(s[i] - s[j])
        for i in np.flatnonzero(relevant)
        for j in order
        if self_pairs or i != j
    )
    return total / (a * k)


def normalizer(name, number, k):
    m = min(number, k)
    return {
        "none": 1,
        "k": k,
        "labels": number,
        "capped": m,
        "ideal": m * (2 * k + 1 - m) / (2 * k),
    }[name]


def batch(seed, rows=6, labels=7):
    rng = np.random.default_rng(seed)
    relevant = (rng.random((rows, labels)) < 0.4).astype(np.int32)
    relevant[0] = 0
    relevant[1] = 1
    scores = np.tile(np.linspace(-0.97, 0.97, labels), (rows, 1))
    return rng.permuted(scores, axis=1), relevant


def graded(loss):
    def total(scores, labels):
        values = loss(scores, labels)
        return jnp.sum(values), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def masked(loss):
    def total(scores, labels, where):
        values = loss(scores, labels, where=where)
        return jnp.sum(values), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def check_gradient(gradient, scores, row_value, step=1e-6):
    for i in range(scores.shape[0]):
        for j in range(scores.shape[1]):
            ends = []
            for sign in (1, -1):
                moved = scores.copy()
                moved[i, j] += sign * step
                ends.append(row_value(moved[i], i))
            difference = (ends[0] - ends[1]) / (2 * step)
            assert gradient[i, j] == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("surrogate", "name", "k", "self_pairs"),
    [
        ("square", "labels", 1, False),
        ("exp", "ideal", 3, True),
        ("logistic", "capped", 7, False),
        ("hinge", "k", 6, True),
    ],
)
def test_tkpr_equals_the_definition(surrogate, name, k, self_pairs, x64):
    scores, relevant = batch(0)
    loss = functools.partial(
        tkpr, k=k, surrogate=surrogate, normalizer=name, self_pairs=self_pairs
    )
    (_, values), gradient = graded(loss)(scores, relevant)

    def row(s, i):
        number = relevant[i].sum()
        if number == 0:
            return 0.0
        a = normalizer(name, number, k)
        return one_row(s, relevant[i], k, PHI[surrogate], a, self_pairs)

    expected = [row(s, i) for i, s in enumerate(scores)]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
    check_gradient(gradient, scores, row)
    assert values[0] == 0 and not np.any(gradient[0])


def test_tkpr_numbers(x64):
    """Ranks 1 4 2 3 5, relevant 1 and 4, K = 3: competitors .9 .7 .5 .2."""
    expected = {"exp": 2.47989393, "square": 2.32666667, "logistic": 1.72204797}
    loss = functools.partial(tkpr, k=3, normalizer="none", self_pairs=True)
    values = jax.jit(lambda s, y: [loss(s, y, surrogate=phi)[0] for phi in expected])
    np.testing.assert_allclose(
        values(SCORES, RELEVANT), list(expected.values()), atol=5e-9
    )


def test_k_may_differ_between_rows(x64):
    scores, relevant = batch(1)
    lengths = np.array([1, 2, 7, 3, 6, 9])  # 9 is clipped to the 7 labels
    function = jax.jit(lambda s, y, k: tkpr(s, y, k=k, surrogate="exp"))
    values = function(scores, relevant, lengths)
    for i, k in enumerate(np.minimum(lengths, 7)):
        number = max(relevant[i].sum(), 1)
        expected = one_row(scores[i], relevant[i], k, PHI["exp"], number, False)
        assert values[i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("competitors", ["all", "negatives"])
def test_autkc_equals_the_definition(competitors, x64):
    scores, _ = batch(2)
    labels = np.array([0, 6, 3, 2, 2, 5], np.int32)
    loss = functools.partial(autkc, k=3, surrogate="square", competitors=competitors)
    (_, values), gradient = graded(loss)(scores, labels)

    def row(s, i):
        y = labels[i]
        if competitors == "all":
            return one_row(s, np.arange(7) == y, 3, PHI["square"], 1, False)
        others = np.sort(np.delete(s, y))[::-1][:4]
        return np.mean([PHI["square"](s[y] - t) for t in others]) * 4 / 3

    expected = [row(s, i) for i, s in enumerate(scores)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    check_gradient(gradient, scores, row)


def test_autkc_is_tkpr_of_one_label(x64):
    scores, _ = batch(3)
    labels = np.array([0, 6, 3, 2, 2, 5], np.int32)
    hot = (labels[:, None] == np.arange(7)).astype(np.int32)
    for self_pairs in (False, True):
        options = {"k": 2, "surrogate": "exp", "self_pairs": self_pairs}
        single = jax.jit(functools.partial(autkc, **options))(scores, labels)
        several = jax.jit(functools.partial(tkpr, **options))(scores, hot)
        np.testing.assert_allclose(single, several, rtol=1e-12)
    # All K classes: every other class is a competitor, whatever the form.
    options = {"k": 7, "surrogate": "exp"}
    both = [
        jax.jit(functools.partial(autkc, competitors=c, **options))(scores, labels)
        for c in ("all", "negatives")
    ]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-12)


def test_order_of_rows_and_labels_does_not_matter():
    scores, relevant = batch(4)
    scores = np.float32(scores)
    function = jax.jit(functools.partial(tkpr, k=3))
    rows, order = np.array([5, 3, 1, 0, 2, 4]), np.array([6, 2, 0, 1, 5, 3, 4])
    moved = function(scores[rows][:, order], relevant[rows][:, order])
    expected = function(scores, relevant)
    np.testing.assert_allclose(moved, np.asarray(expected)[rows], rtol=1e-6)


COUNTS = np.array([400, 150, 10])
VOC = {"num_examples": 1000, "negative_scale": 5.0, "mu": 0.3}


def ref_balanced(z, y, counts, n, alpha, beta, mu, lam, kappa, gamma, balance):
    total = 0.0
    for j in range(len(z)):
        relevant = [1 / counts[k] for k in range(len(z)) if y[k]]
        weight = alpha + 1.0
        if relevant:
            r = (1 / counts[j]) / sum(relevant)
            weight = alpha + 1 / (1 + np.exp(-beta * (r - mu)))
        v = z[j] - kappa / lam * np.log(n / counts[j] - 1)
        p = 1 / (1 + np.exp(-v if y[j] else lam * v))  # of the right answer
        scale = 1 if y[j] else 1 / lam
        total += weight * scale * (1 - p) ** gamma * -np.log(p)
    return balance * total / len(z)


def test_distribution_balanced_numbers(x64):
    logits, relevant = np.array([[0.5, -0.3, 0.2]]), np.array([[1, 0, 1]])
    loss = functools.partial(distribution_balanced, **VOC)
    value = jax.jit(loss)(logits, relevant, COUNTS)
    assert float(value[0]) == pytest.approx(0.10400773, abs=5e-9)
    rare = 1 / COUNTS / (1 / 400 + 1 / 10)
    np.testing.assert_allclose(rare, [0.02439024, 0.06504065, 0.97560976], atol=5e-9)
    bias = -0.05 / 5 * np.log(1000 / COUNTS - 1)
    np.testing.assert_allclose(bias, [-0.00405465, -0.01734601, -0.0459512], atol=5e-9)


def test_distribution_balanced_equals_the_definition(x64):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(4, 3))
    relevant = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0]])
    options = (0.2, 8.0, 0.4, 3.0, 0.1, 1.5, 1.7)
    names = ("alpha", "beta", "mu", "negative_scale", "bias_scale", "gamma", "balance")
    given = dict(zip(names, options, strict=True))
    loss = functools.partial(
        distribution_balanced, class_counts=COUNTS, num_examples=1000, **given
    )
    (_, values), gradient = graded(loss)(logits, relevant)

    def row(z, i):
        return ref_balanced(z, relevant[i], COUNTS, 1000, *options)

    expected = [row(z, i) for i, z in enumerate(logits)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    check_gradient(gradient, logits, row)
    # Half of sigmoid(0) and alpha = .1, times c = 2 over three labels.
    full = np.logaddexp(0, np.where(relevant, -logits, logits)).sum(axis=1)
    neutral = (0.1, 0.0, 0.3, 1.0, 0.0, 0.0, 2.0)
    plain = np.array(
        [
            ref_balanced(z, y, COUNTS, 1000, *neutral)
            for z, y in zip(logits, relevant, strict=True)
        ]
    )
    np.testing.assert_allclose(plain[1:], 0.4 * full[1:], rtol=1e-12)


def test_masks_and_extreme_scores():
    keep = np.array([True, False, True, True, False, True])
    scores, relevant = batch(6)
    labels = np.array([0, 99, 3, 2, -1, 5], np.int32)
    for loss, second in (
        (functools.partial(autkc, k=2), labels),
        (functools.partial(tkpr, k=2), relevant),
        (
            functools.partial(
                distribution_balanced,
                class_counts=np.arange(1, 8),
                num_examples=50,
            ),
            relevant,
        ),
    ):
        dirty = np.where(keep[:, None], np.float32(1e4 * scores), np.nan)
        function = masked(loss)
        (_, values), gradient = jax.device_get(function(dirty, second, keep))
        assert np.isfinite(values).all() and np.isfinite(gradient).all()
        assert not values[~keep].any() and not gradient[~keep].any()
        clean = np.float32(1e4 * scores)
        (_, every), _ = function(clean, second, np.ones(6, bool))
        np.testing.assert_array_equal(values[keep], every[keep])
        bad = ~keep if second is labels else np.zeros(6, bool)
        np.testing.assert_array_equal(np.isnan(every), bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: tkpr(s, y, k=6), "tkpr: k is 6, expected 1 to 5, the number of"),
        (lambda s, y: tkpr(s, y, k=0), "tkpr: k is 0, expected 1 to 5"),
        (lambda s, y: tkpr(s, y[:, :3], k=1), r"relevant has shape \(1, 3\)"),
        (lambda s, y: tkpr(s[0], y[0], k=1), r"scores have shape \(5,\)"),
        (
            lambda s, y: tkpr(s, y, k=np.array([1, 2])),
            r"k has shape \(2,\), expected a",
        ),
        (lambda s, y: tkpr(s, 2 * y, k=1), "tkpr: relevant holds 2, expected 0 or 1"),
        (lambda s, y: tkpr(s, y, k=1, normalizer="n"), "normalizer is 'n'"),
        (lambda s, y: tkpr(s, y, k=1, surrogate="abs"), "surrogate is 'abs'"),
        (
            lambda s, y: tkpr(s, y, k=1, where=np.ones(2, bool)),
            r"tkpr: where has shape \(2,\), expected \(1,\)",
        ),
        (lambda s, y: autkc(s, y[0, :2], k=1), r"labels have shape \(2,\)"),
        (
            lambda s, y: autkc(s, y[0, :1], k=6),
            "autkc: k is 6, expected 1 to 5, the number of classes",
        ),
        (lambda s, y: autkc(s, y[0, :1], k=1, competitors="top"), "competitors is"),
        (
            lambda s, y: distribution_balanced(s, y, COUNTS, num_examples=1000),
            r"class_counts has shape \(3,\), but logits have 5 classes",
        ),
        (
            lambda s, y: distribution_balanced(
                s[:, :3], y[:, :3], COUNTS, num_examples=9
            ),
            r"label 0 has count 400, expected one in \(0, num_examples = 9\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.float32(SCORES), RELEVANT)


def test_types_are_named():
    scores = np.float32(SCORES)
    with pytest.raises(TypeError, match="tkpr: k has dtype float32, expected an int"):
        tkpr(scores, RELEVANT, k=np.float32(2))
    with pytest.raises(TypeError, match="tkpr: relevant has dtype float32"):
        tkpr(scores, scores, k=2)
    with pytest.raises(TypeError, match="autkc: labels have dtype float32"):
        autkc(scores, scores[:, 0], k=2)
