"""Label-aware smoothing by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses import label_aware_smoothing


def test_smoothing_of_a_class_in_the_middle():
    """N = (100, 40, 10): share 1/3, sin(pi/6) = 1/2, so epsilon = 0.15."""
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    losses = [
        float(label_aware_smoothing(logits, jnp.array([y]), [100, 40, 10])[0])
        for y in range(3)
    ]
    log_p = np.log([0.5, 0.3, 0.2])
    expected = [
        -(1 - e) * log_p[y] - e * log_p.mean() for y, e in enumerate((0.3, 0.15, 0.0))
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_true_class_keeps_its_share_of_the_smooth_part():
    """The gradient at logit y is p_y - (1 - epsilon + epsilon / K)."""
    logits = jnp.zeros((1, 4))
    gradient = jax.grad(
        lambda z: label_aware_smoothing(z, jnp.array([0]), [9, 5, 2, 1], head=0.4)[0]
    )(logits)
    np.testing.assert_allclose(gradient[0, 0], 0.25 - (1 - 0.4 + 0.1), rtol=1e-6)
    np.testing.assert_allclose(gradient[0, 1:], 0.25 - 0.1, rtol=1e-6)
