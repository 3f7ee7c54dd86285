"""Priors estimated on the way: RECORDS, SimPro, ACR's evidence, SoLar's histogram."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import pseudo_labels

# Compiled, so that a test costs one program and not one per operation.
class_evidence = jax.jit(pseudo_labels.class_evidence, static_argnames="hard")
debias = jax.jit(pseudo_labels.debias)
dynamic_prior = jax.jit(pseudo_labels.dynamic_prior)
moving_mean = jax.jit(pseudo_labels.moving_mean)
prior_posterior = jax.jit(pseudo_labels.prior_posterior)
update_prior = jax.jit(pseudo_labels.update_prior)

KERNEL = np.array([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
BIAS = np.array([0.2, 0.0, 0.0, -0.2])
LOGITS = np.array([2.0, 1.0, 0.0, -1.0])


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


def test_records_numbers(x64):
    mean, means, priors = jnp.zeros(2), [], []
    for batch in ([[2.0, 1.0]], [[0.0, 2.0], [2.0, 4.0]]):  # means (2, 1), (1, 3)
        mean = moving_mean(mean, np.array(batch))
        means.append(np.asarray(mean))
        priors.append(np.asarray(dynamic_prior(mean, KERNEL, BIAS)))
    np.testing.assert_allclose(means, [[0.2, 0.1], [0.28, 0.39]], rtol=1e-12)
    expected = [
        [0.358909827, 0.265886939, 0.196973889, 0.178229345],
        [0.367025527, 0.335436075, 0.171645517, 0.125892882],
    ]
    np.testing.assert_allclose(priors, expected, atol=1e-9)
    # z - log(pi): 1e-9 inside the logarithm shows in the ninth digit.
    shares = jax.nn.softmax(debias(LOGITS, priors[1]))
    expected = [0.54434903, 0.219113671, 0.157526018, 0.079011281]
    np.testing.assert_allclose(shares, expected, atol=2e-9)
    exact = jax.nn.softmax(debias(LOGITS, priors[1], floor=0.0))
    np.testing.assert_allclose(exact, expected, atol=1e-9)


def test_records_limits(x64):
    # No head, no prior.
    np.testing.assert_allclose(dynamic_prior(np.ones(2), 0 * KERNEL), 0.25)
    # Equal features h: after t steps F = (1 - m^t) h.
    mean, h = jnp.zeros(2), np.array([1.5, -0.5])
    for _ in range(4):
        mean = moving_mean(mean, h[None], decay=0.9)
    expected = softmax((1 - 0.9**4) * h @ KERNEL + BIAS)
    np.testing.assert_allclose(dynamic_prior(mean, KERNEL, BIAS), expected)
    # A constant in the bias is none in the prior.
    moved = dynamic_prior(mean, KERNEL, BIAS + 3)
    np.testing.assert_allclose(moved, expected)
    # With the feature mean itself, exactly its logits are taken out.
    removed = debias(LOGITS, dynamic_prior(h, KERNEL, BIAS), floor=0.0)
    difference = removed - (LOGITS - (h @ KERNEL + BIAS))
    assert np.ptp(difference) < 1e-12


def test_no_gradient_flows_into_priors():
    def total(kernel, features):
        mean = moving_mean(jnp.zeros(2), features)
        prior = dynamic_prior(mean, kernel)
        return jnp.sum(prior[0] + class_evidence(jax.nn.softmax(features))[0])

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(
        jnp.float32(KERNEL), jnp.ones((3, 2))
    )
    assert all(not np.any(g) for g in gradients)


def test_masked_rows_do_not_move_the_mean():
    values = jnp.array([[2.0, 1.0], [jnp.nan, 9.0]])
    mean = moving_mean(jnp.zeros(2), values, where=np.array([True, False]))
    np.testing.assert_allclose(mean, [0.2, 0.1], rtol=1e-6)
    none = moving_mean(jnp.ones(2), values, where=np.array([False, False]))
    np.testing.assert_array_equal(none, [1, 1])


def test_evidence_counts_duplicates():
    # The released code of ACR adds in place and would find one example of class 0.
    rows = np.float32([[0.97, 0.03], [0.96, 0.04], [0.6, 0.4], [0.01, 0.99]])
    np.testing.assert_array_equal(
        class_evidence(rows, threshold=0.95, hard=True), [2, 1]
    )
    np.testing.assert_array_equal(class_evidence(rows, hard=True), [3, 1])
    soft = class_evidence(rows, threshold=0.95, where=np.array([True] * 3 + [False]))
    np.testing.assert_allclose(soft, [1.93, 0.07], rtol=1e-6)


def test_prior_updates_of_four_methods(x64):
    prior, counts = np.array([0.5, 0.3, 0.2]), np.array([6.0, 3.0, 1.0])
    # SoLar: a histogram; it stays a distribution.
    solar = update_prior(prior, counts, decay=0.99)
    np.testing.assert_allclose(solar, 0.99 * prior + 0.01 * counts / 10)
    # SimPro divides by the sum and one more.
    simpro = update_prior(prior, counts, pseudo_count=1.0)
    np.testing.assert_allclose(simpro, 0.9 * prior + 0.1 * counts / 11)
    # Without evidence nothing moves, and nothing is NaN.
    np.testing.assert_array_equal(update_prior(prior, np.zeros(3)), prior)
    np.testing.assert_allclose(
        update_prior(prior, np.zeros(3), pseudo_count=1.0), 0.9 * prior
    )


def test_simpro_and_acr_targets(x64):
    prior, logits = np.array([0.7, 0.2, 0.1]), np.array([1.0, 1.2, 0.5])
    expected = [0.696563422, 0.243081282, 0.060355296]
    np.testing.assert_allclose(prior_posterior(logits, prior), expected, atol=1e-9)
    target = jax.nn.softmax(debias(logits, prior, tau=2.0, floor=0.0))
    expected = [0.021890371, 0.327527753, 0.650581876]
    np.testing.assert_allclose(target, expected, atol=1e-9)
    # One takes out what the other puts in.
    both = debias(np.log(prior_posterior(logits, prior)), prior, floor=0.0)
    np.testing.assert_allclose(both - both[0], logits - logits[0], atol=1e-12)
    empty = prior_posterior(np.stack([logits, logits]), np.array([0.5, 0.0, 0.5]))
    assert np.all(empty[:, 1] == 0) and np.all(np.isfinite(empty))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pseudo_labels.dynamic_prior(np.ones(3), KERNEL),
            r"kernel has shape \(2, 4\)",
        ),
        (
            lambda: pseudo_labels.dynamic_prior(np.ones(2), KERNEL, BIAS[:2]),
            r"bias has shape \(2,\)",
        ),
        (
            lambda: pseudo_labels.moving_mean(np.ones(2), np.ones((4, 3))),
            r"expected \(B, 2\)",
        ),
        (
            lambda: pseudo_labels.moving_mean(np.ones(2), np.ones((4, 2)), decay=2),
            "decay is 2",
        ),
        (
            lambda: pseudo_labels.class_evidence(np.ones(3)),
            r"probabilities has shape \(3,\)",
        ),
        (
            lambda: pseudo_labels.update_prior(np.ones(3), np.ones(2)),
            r"evidence has shape \(2,\)",
        ),
        (
            lambda: pseudo_labels.debias(LOGITS, np.ones(3)),
            r"debias: prior has shape \(3,\)",
        ),
        (lambda: pseudo_labels.debias(LOGITS, np.ones(4), floor=-1), "floor is -1"),
        (
            lambda: pseudo_labels.prior_posterior(LOGITS, np.ones(4), tau=-1),
            "tau is -1",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_empty_class_without_a_floor_stays_finite():
    found = pseudo_labels.debias(
        np.zeros((1, 2), np.float32), np.array([1.0, 0.0]), floor=0.0
    )
    np.testing.assert_allclose(jax.nn.softmax(found), [[0, 1]], atol=1e-30)
