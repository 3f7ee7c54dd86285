"""Partial-label losses: numbers by hand, and what the released codes compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses

# Compiled, so that a test costs one program and not one per operation.
proden = jax.jit(losses.proden)
corr = jax.jit(losses.corr)
cavl = jax.jit(losses.cavl)
leveraged_weighted = jax.jit(losses.leveraged_weighted, static_argnames="base")
softmax_cross_entropy = jax.jit(losses.softmax_cross_entropy)

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0]])
STRONG = np.array([[1.0, 1.5, 0.5, -1.0]])
CANDIDATES = np.array([[True, True, False, True]])
UNIFORM = CANDIDATES / 3.0

# e^2 + e + 1 + 1/e = 11.4752, whose logarithm is 2.4401896985.
LOG_SUM = np.log(np.exp([2.0, 1.0, 0.0, -1.0]).sum())


def released_corr(views, confidences, candidates, guard):
    """Both views in one call, with probabilities, as released with RECORDS."""
    total = np.zeros(len(confidences))
    for z in views:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        out = -np.log(np.abs(1 - p) + guard)
        total += np.where(candidates, 0, out).sum(axis=1)
        used = np.where(confidences > 0, confidences, 1)
        total += (confidences * (np.log(used) - np.log(p))).sum(axis=1)
    return total


def test_proden_of_uniform_confidences(x64):
    # The mean over S of log Z - z_k: log Z - (2 + 1 - 1) / 3.
    np.testing.assert_allclose(
        proden(LOGITS, UNIFORM), [LOG_SUM - 2 / 3], rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(proden(LOGITS, UNIFORM), [1.7735230319], atol=1e-9)


def test_proden_gradient_is_prediction_minus_confidence(x64):
    def mean(z):
        return jnp.mean(proden(z, np.tile(UNIFORM, (2, 1))))

    p = np.exp(LOGITS - LOG_SUM)
    gradient = jax.jit(jax.grad(mean))(np.tile(LOGITS, (2, 1)))
    np.testing.assert_allclose(gradient, np.tile((p - UNIFORM) / 2, (2, 1)), atol=1e-12)
    # Confidences equal to the prediction, as after an update with all labels in S.
    own = jax.jit(jax.grad(lambda z: proden(z, jax.nn.softmax(z))[0]))
    np.testing.assert_allclose(own(LOGITS), np.zeros((1, 4)), atol=1e-15)


def test_corr_numbers(x64):
    terms = {
        "consistency": {"consistency_weight": 1.0, "exclusion_weight": 0.0},
        "exclusion": {"consistency_weight": 0.0, "exclusion_weight": 1.0},
        "both": {"consistency_weight": 1.0, "exclusion_weight": 1.0},
    }
    value = {
        name: float(
            sum(corr(z, UNIFORM, CANDIDATES, **hyper)[0] for z in (LOGITS, STRONG))
        )
        for name, hyper in terms.items()
    }
    assert value["exclusion"] == pytest.approx(0.28827155137, abs=1e-9)
    assert value["consistency"] == pytest.approx(1.29730158032, abs=1e-9)
    assert value["both"] == pytest.approx(1.58557313169, abs=1e-9)


def test_corr_with_the_guard_is_the_released_code(x64):
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, 6, 5)) * 4
    candidates = (rng.uniform(size=(6, 5)) < 0.4) | np.eye(6, 5, dtype=bool)
    candidates[5, 0] = True
    confidences = candidates * rng.uniform(size=(6, 5))
    confidences /= confidences.sum(axis=1, keepdims=True)
    values = sum(corr(z, confidences, candidates, guard=1e-9) for z in views)
    expected = released_corr(views, confidences, candidates, 1e-9)
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_corr_limits(x64):
    # All labels are candidates: nothing is excluded.
    everything = np.ones((1, 4), bool)
    quarter = np.full((1, 4), 0.25)
    value = corr(LOGITS, quarter, everything)
    np.testing.assert_allclose(
        value, proden(LOGITS, quarter) - np.log(4), rtol=0, atol=1e-12
    )
    # One candidate: cross-entropy, and -log(1 - p) of each of the others.
    one = np.array([[False, True, False, False]])
    p = np.exp(LOGITS[0] - LOG_SUM)
    expected = -np.log(p[1]) - np.log(1 - p[[0, 2, 3]]).sum()
    np.testing.assert_allclose(corr(LOGITS, one * 1.0, one), [expected], atol=1e-12)


def test_sure_of_an_impossible_label():
    # p_0 = 1 in float32. -log(1 - p_0) = log sum_k e^{z_k} - log sum_{k > 0} e^{z_k}.
    logits = np.float32([[40.0, 0.0, 0.0]])
    impossible = np.array([[False, True, True]])
    half = np.float32(impossible / 2)
    graded = jax.jit(
        jax.value_and_grad(
            lambda z: corr(z, half, impossible, consistency_weight=0.0)[0]
        )
    )
    value, gradient = graded(logits)
    np.testing.assert_allclose(value, 40 - np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1.0, -0.5, -0.5]], rtol=1e-6)
    guarded = corr(logits, half, impossible, guard=1e-9)
    plain = corr(logits, half, impossible, exclusion_weight=0.0)
    np.testing.assert_allclose(guarded - plain, [-np.log(1e-9)], rtol=1e-6)


def test_cavl_chooses_among_the_candidates(x64):
    # Activation values z |1 - z| = (0.24, 2, -3.75, -0.24).
    logits = np.array([[0.6, 2.0, -1.5, -0.2]])
    every = softmax_cross_entropy(np.tile(logits, (4, 1)), np.arange(4))
    for members, winner in (([0, 3], 0), ([0, 1], 1), ([2, 3], 3), ([2], 2)):
        candidates = np.isin(np.arange(4), members)[None]
        np.testing.assert_allclose(cavl(logits, candidates), every[winner, None])
    # Values -0.96 and -0.24 of the candidates: the released code, which multiplies by
    # the candidate mask, would find the 0 of a label that is not one.
    logits = np.array([[-0.6, 2.0, -1.5, -0.2]])
    candidates = np.array([[True, False, False, True]])
    np.testing.assert_allclose(
        cavl(logits, candidates), softmax_cross_entropy(logits, np.array([3]))
    )


def test_cavl_by_other_scores(x64):
    scores = np.array([[0.5, 0.9, 3.0, 2.0]])  # values 0.25, 0.09, 6, 2
    np.testing.assert_allclose(
        cavl(LOGITS, CANDIDATES, scores=scores),
        softmax_cross_entropy(LOGITS, np.array([3])),
    )
    graded = jax.jit(jax.grad(lambda s: cavl(LOGITS, CANDIDATES, scores=s)[0]))
    assert not np.any(graded(scores))


WEN = np.array([[1.0, -0.5, 0.3, -2.0]])
PAIR = np.array([[True, True, False, False]])


@pytest.mark.parametrize(
    ("base", "beta", "loss"),
    [
        ("sigmoid", 1.0, 0.39626154785),
        ("sigmoid", 2.0, 0.56967290756),
        ("softmax", 1.0, 0.66034922594 + 0.08948168949),
        ("softmax", 0.0, 0.66034922594),
    ],
)
def test_leveraged_weighted_numbers(x64, base, beta, loss):
    value = leveraged_weighted(WEN, np.full((1, 4), 0.25), PAIR, beta=beta, base=base)
    np.testing.assert_allclose(value, [loss], rtol=0, atol=1e-9)


def test_leveraged_weighted_after_one_update(x64):
    # Softmax within the candidates and within the others.
    p, q = 1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(-2.3))
    weights = np.array([[p, 1 - p, q, 1 - q]])
    value = leveraged_weighted(WEN, weights, PAIR, beta=2.0)
    np.testing.assert_allclose(value, [1.39935158517], rtol=0, atol=1e-9)


def test_targets_have_no_gradient():
    logits = np.float32(LOGITS)

    @jax.jit
    @jax.grad
    def total(t):
        pairs = corr(logits, t, CANDIDATES), leveraged_weighted(logits, t, CANDIDATES)
        return jnp.sum(proden(logits, t) + sum(pairs))

    assert not np.any(total(np.float32(UNIFORM)))


def test_a_row_without_candidates_is_nan_unless_it_is_masked():
    logits = np.tile(np.float32(LOGITS), (2, 1))
    tables = np.tile(np.float32(UNIFORM), (2, 1))
    candidates = np.array([[True, True, False, True], [False] * 4])
    for loss in (
        lambda w: corr(logits, tables, candidates, where=w),
        lambda w: cavl(logits, candidates, where=w),
        lambda w: leveraged_weighted(logits, tables, candidates, where=w),
    ):
        assert np.isnan(np.asarray(loss(None))).tolist() == [False, True]
        assert loss(np.array([True, False]))[1] == 0


def test_masked_tables_may_hold_nan():
    dirty, off = np.full((1, 4), np.nan, np.float32), np.array([False])

    @jax.jit
    @jax.value_and_grad
    def total(z):
        return jnp.sum(
            proden(z, dirty, where=off)
            + corr(z, dirty, CANDIDATES, where=off)
            + cavl(z, CANDIDATES, scores=dirty, where=off)
            + leveraged_weighted(z, dirty, CANDIDATES, base="softmax", where=off)
        )

    value, gradient = total(dirty)
    assert value == 0 and not np.any(gradient)


def test_integer_candidates_are_the_same():
    np.testing.assert_array_equal(
        cavl(LOGITS, CANDIDATES), cavl(LOGITS, CANDIDATES.astype(np.uint8))
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.proden(LOGITS, CANDIDATES),
            TypeError,
            "confidences has dtype bool",
        ),
        (
            lambda: losses.proden(LOGITS, UNIFORM[0]),
            ValueError,
            r"proden: confidences has shape \(4,\), expected the shape of logits \(1, ",
        ),
        (
            lambda: losses.corr(LOGITS, UNIFORM, UNIFORM),
            TypeError,
            "corr: candidates have dtype float",
        ),
        (
            lambda: losses.corr(LOGITS, UNIFORM, CANDIDATES, exclusion_weight=-1),
            ValueError,
            "corr: exclusion_weight is -1",
        ),
        (
            lambda: losses.cavl(LOGITS, CANDIDATES[:, :3]),
            ValueError,
            r"cavl: candidates has shape \(1, 3\)",
        ),
        (
            lambda: losses.cavl(LOGITS, CANDIDATES, scores=LOGITS[0]),
            ValueError,
            r"cavl: scores has shape \(4,\)",
        ),
        (
            lambda: losses.leveraged_weighted(
                LOGITS, UNIFORM, CANDIDATES, base="hinge"
            ),
            ValueError,
            "base is 'hinge', expected one of",
        ),
        (
            lambda: losses.leveraged_weighted(LOGITS, UNIFORM, CANDIDATES, beta=-2),
            ValueError,
            "leveraged_weighted: beta is -2",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
