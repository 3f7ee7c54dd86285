"""BYOL, SimSiam and the distillation of experts: by hand, and who gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import byol, dnc_distillation, simsiam

P1, P2 = np.array([[3.0, 4.0]]), np.array([[1.0, 1.0]])
T1, T2 = np.array([[0.0, 2.0]]), np.array([[1.0, 0.0]])


def value_and_gradients(loss, *arrays):
    total = lambda *arrays: jnp.sum(loss(*arrays))
    return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))(*arrays)


def test_simsiam_by_hand(x64):
    """cos(p1, t2) = 0.6 and cos(p2, t1) = 1 / sqrt 2.

    d(-cos / 2) / dp1 = -(t - cos u) / (2 |p1|), with u = (.6, .8) and t = (1, 0).
    """
    value, gradients = value_and_gradients(simsiam, P1, P2, T1, T2)
    np.testing.assert_allclose(value, -0.3 - 0.5 / np.sqrt(2), rtol=1e-13)
    np.testing.assert_allclose(value, -0.653553391, atol=5e-10)
    np.testing.assert_allclose(gradients[0], [[-0.064, 0.048]], rtol=1e-12)
    assert not np.any(gradients[2]) and not np.any(gradients[3])


def test_byol_by_hand(x64):
    value, gradients = value_and_gradients(byol, P1, P2, T1, T2)
    np.testing.assert_allclose(value, 4 - 1.2 - np.sqrt(2), rtol=1e-13)
    np.testing.assert_allclose(value, 1.385786438, atol=5e-10)
    np.testing.assert_allclose(gradients[0], [[-0.256, 0.192]], rtol=1e-12)
    assert not np.any(gradients[2]) and not np.any(gradients[3])


def test_relation_range_and_scale(x64):
    views = np.random.default_rng(0).normal(size=(4, 6, 3))
    one, two = jax.jit(lambda v: (byol(*v), simsiam(*v)))(views)
    np.testing.assert_allclose(one, 4 + 4 * two, rtol=1e-12)
    scaled = simsiam(3 * views[0], views[1], views[2] / 7, views[3])
    np.testing.assert_allclose(scaled, two, rtol=1e-12)
    same = views[0]
    assert np.all(byol(same, same, same, same) == 0)
    assert np.all(simsiam(same, same, same, same) == -1)
    np.testing.assert_allclose(byol(same, same, -same, -same), 8, rtol=1e-13)


def test_distillation_by_hand(x64):
    """Targets (.6, .8): half of 0.36 + 0.04, and half of 0.16 + 0.64."""
    regressions = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    value, gradients = value_and_gradients(dnc_distillation, *regressions, P1, 5 * P1)
    np.testing.assert_allclose(value, 0.5 * 0.4 + 0.5 * 0.8, rtol=1e-13)
    np.testing.assert_allclose(gradients[0], [[-0.6, 0.2]], rtol=1e-12)
    np.testing.assert_allclose(gradients[1], [[0.4, -0.8]], rtol=1e-12)
    assert not np.any(gradients[2]) and not np.any(gradients[3])
    # Half of 0.01 + 0.09, and half of 1 + 1.
    regressions = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    published = dnc_distillation(*regressions, P1, np.array([[0.0, -2.0]]))
    np.testing.assert_allclose(published, [1.05], rtol=1e-13)
    unit = P1 / 5
    exact, longer = (dnc_distillation(r, unit, P1, 2 * P1) for r in (unit, 2 * unit))
    # The regression is not normalized: twice its length is an error of 1.
    np.testing.assert_allclose((exact, longer), [[0.0], [0.5]], atol=1e-15)


@pytest.mark.parametrize("loss", [byol, simsiam, dnc_distillation])
def test_zero_vectors_and_masked_rows(loss):
    x = jnp.zeros((2, 3)).at[1].set(jnp.nan)
    where = np.array([True, False])
    total = lambda x: jnp.sum(loss(x, x, jnp.ones((2, 3)), x, where=where))
    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    assert not np.any(gradient[1])
    with pytest.raises(ValueError, match=f"{loss.__name__}: .* has shape"):
        loss(x, x, x, x[:1])
