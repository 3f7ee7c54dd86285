"""Expert weights by prediction stability: by hand, and on whom they go to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers import prediction_stability, stable_expert_weights

N = 64


def softmax(z):
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


def test_stability_is_the_cosine_of_the_mixed_predictions():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 2, 4))
    w = np.array([0.3, 0.7])
    p, q = (softmax(np.einsum("e,nek->nk", w, z)) for z in (first, second))
    want = (p * q).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(q, axis=1)
    found = prediction_stability(first.astype(np.float32), second.astype(np.float32), w)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.fixture(scope="module")
def views():
    """The first expert is stable on the first half of the examples only."""
    keys = jax.random.split(jax.random.key(0), 4)
    steady, *noise = (2 * jax.random.normal(key, (N, 5)) for key in keys)
    half = (jnp.arange(N) < N // 2)[:, None]
    first = jnp.stack([steady, jnp.where(half, noise[0], steady)], axis=1)
    second = jnp.stack(
        [jnp.where(half, steady, noise[1]), jnp.where(half, noise[2], steady)], axis=1
    )
    return first, second


@pytest.mark.parametrize("expert", [0, 1])
def test_weight_goes_to_the_expert_that_is_stable_where_the_test_set_is(views, expert):
    often = jnp.where((jnp.arange(N) < N // 2) == (expert == 0), 1.0, 0.0)
    weights = stable_expert_weights(
        *views, key=jax.random.key(1), example_weights=often, epochs=40, batch_size=32
    )
    assert weights[expert] > 0.8
    assert float(weights.sum()) == pytest.approx(1)


def test_one_step_by_hand_and_the_early_end(views):
    # From zero momentum a Nesterov step is (1 + mu) times the gradient; every example
    # the same, so that the batch does not matter.
    first, second = (jnp.broadcast_to(z[:1], z.shape) for z in views)
    objective = lambda a: (
        -jnp.mean(prediction_stability(first[:1], second[:1], jax.nn.softmax(a)))
    )
    a = -0.5 * 1.9 * jax.grad(objective)(jnp.zeros(2))
    options = {"key": jax.random.key(0), "epochs": 1, "learning_rate": 0.5}
    found = stable_expert_weights(first, second, batch_size=N, **options)
    np.testing.assert_allclose(found, jax.nn.softmax(a), rtol=1e-5)
    still = stable_expert_weights(first, second, batch_size=N, least=0.51, **options)
    np.testing.assert_allclose(still, 0.5)


def test_shapes_that_disagree_are_refused(views):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"second \(63, 2, 5\), expected"):
        stable_expert_weights(views[0], views[1][1:], key=key)
    with pytest.raises(ValueError, match="example_weights has shape"):
        stable_expert_weights(*views, key=key, example_weights=jnp.ones(3))


def test_views_that_do_not_fit_are_named():
    z = np.zeros((4, 2, 3), np.float32)
    with pytest.raises(ValueError, match="prediction_stability: first has shape"):
        prediction_stability(z, z[:3], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"weights has shape \(3,\), but .* 2 e"):
        prediction_stability(z, z, [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="first has shape .*expected examples"):
        stable_expert_weights(z[:0], z[:0], key=jax.random.key(0))
