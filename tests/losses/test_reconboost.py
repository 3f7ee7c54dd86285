"""ReconBoost's losses: values and gradients by hand, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    memory_consolidation,
    reconboost,
    reconboost_kl,
    softmax_cross_entropy,
)

LOGITS = np.array([[1.0, 0.0, -1.0]])
OTHERS = np.array([[0.5, 0.5, 0.0]])
LABELS = np.array([1])


def batch(rows=6, classes=4):
    rng = np.random.default_rng(0)
    z, others = rng.normal(size=(2, rows, classes))
    return jnp.asarray(z), jnp.asarray(others), jnp.asarray(rng.integers(0, 4, rows))


def softmax(z):
    e = np.exp(np.asarray(z, np.float64))
    return e / e.sum(-1, keepdims=True)


def value_and_gradient(loss, z, labels, others, **options):
    def total(z):
        return jnp.sum(loss(z, labels, others, **options))

    return jax.value_and_grad(total)(jnp.asarray(z))


def test_the_weighted_form_on_paper(x64):
    # p_y = 1 / (e + 1 + 1/e), q_y = e^.5 / (2 e^.5 + 1), weight 5 - q_y.
    value, gradient = value_and_gradient(reconboost, LOGITS, LABELS, OTHERS)
    assert float(value) == pytest.approx(2.16599979, abs=1e-8)
    want = [[1.02366131, -1.16219881, 0.13853749]]
    np.testing.assert_allclose(gradient, want, atol=1e-8)


def test_the_kl_form_on_paper(x64):
    value, gradient = value_and_gradient(
        reconboost_kl, LOGITS, LABELS, OTHERS, weight=0.25
    )
    assert float(value) == pytest.approx(1.09344327, abs=1e-8)
    want = [[0.59484365, -0.72054071, 0.12569706]]
    np.testing.assert_allclose(gradient, want, atol=1e-8)


def test_the_kl_form_is_cross_entropy_less_a_divergence(x64):
    z, others, labels = batch()
    p, q = softmax(z), softmax(others)
    kl = (q * np.log(q / p)).sum(-1)
    entropy = -(q * np.log(q)).sum(-1)
    ce = -np.log(p[np.arange(6), labels])
    found = reconboost_kl(z, labels, others, weight=0.3)
    np.testing.assert_allclose(found, ce - 0.3 * (kl + entropy), rtol=1e-12)


def test_no_weight_of_the_others_leaves_the_cross_entropy(x64):
    z, others, labels = batch()
    ce = softmax_cross_entropy(z, labels)
    found = reconboost(z, labels, others, label_weight=3.0, ensemble_weight=0.0)
    np.testing.assert_allclose(found, 3.0 * ce / 4, rtol=1e-12)
    np.testing.assert_allclose(
        reconboost_kl(z, labels, others, weight=0.0), ce, rtol=1e-12
    )


def test_nothing_is_left_where_the_others_are_certain_and_right(x64):
    z, _, labels = batch()
    certain = 800.0 * jax.nn.one_hot(labels, 4, dtype=z.dtype)
    value, gradient = value_and_gradient(
        reconboost, z, labels, certain, label_weight=2.0, ensemble_weight=2.0
    )
    assert float(value) == 0 and not np.asarray(gradient).any()


def test_at_full_weight_the_gradient_is_the_residual_of_boosting(x64):
    z, others, labels = batch()
    _, gradient = value_and_gradient(reconboost_kl, z, labels, others, weight=1.0)
    residual = softmax(others) - np.eye(4)[np.asarray(labels)]
    np.testing.assert_allclose(gradient, residual, atol=1e-14)


@pytest.mark.parametrize("loss", [reconboost, reconboost_kl])
def test_the_others_have_no_gradient(loss):
    z, others, labels = batch()
    found = jax.grad(lambda x: jnp.sum(loss(z, labels, x)))(others)
    assert not np.asarray(found).any()


def test_consolidation_moves_the_active_learner_only(x64):
    z, previous, _ = batch()
    p, before = softmax(z), softmax(previous)
    np.testing.assert_allclose(
        memory_consolidation(z, previous), ((p - before) ** 2).mean(-1), rtol=1e-12
    )
    own, other = jax.grad(
        lambda a, b: jnp.sum(memory_consolidation(a, b)), argnums=(0, 1)
    )(z, previous)
    slope = 2 / 4 * (p - before)
    want = p * (slope - (p * slope).sum(-1, keepdims=True))
    np.testing.assert_allclose(own, want, rtol=1e-10, atol=1e-15)
    assert not np.asarray(other).any()


@pytest.mark.parametrize("loss", [reconboost, reconboost_kl])
def test_padding_costs_nothing_whatever_it_holds(loss):
    z, others, labels = batch()
    where = jnp.arange(6) < 4
    spoiled = [jnp.where(where[:, None], x, jnp.nan) for x in (z, others)]
    bad = jnp.where(where, labels, -1)

    def total(z):
        return jnp.sum(loss(z, bad, spoiled[1], where=where))

    value, gradient = jax.value_and_grad(total)(spoiled[0])
    want = jnp.sum(loss(z, labels, others)[:4])
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert np.isfinite(np.asarray(gradient)).all()
    assert np.isnan(loss(z, labels.at[0].set(7), others)[0])


def test_bad_arguments_are_named():
    z, others, labels = batch()
    with pytest.raises(ValueError, match=r"reconboost: ensemble_logits have shape"):
        reconboost(z, labels, others[:, :3])
    with pytest.raises(ValueError, match="reconboost_kl: weight is -1"):
        reconboost_kl(z, labels, others, weight=-1)
    with pytest.raises(ValueError, match="previous_logits have shape"):
        memory_consolidation(z, others[:2])
