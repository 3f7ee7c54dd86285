"""Views of the features of a table: noise, and features that are left out."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_rank


def feature_view(
    key: jax.Array, features: ArrayLike, *, noise: ArrayLike, mask: ArrayLike
) -> jax.Array:
    r"""One view of normalized features.

    .. math:: \tilde x_j = m_j\, (x_j + \sigma\, \epsilon_j), \qquad
              m_j \sim \mathrm{Bernoulli}(1 - \rho), \quad
              \epsilon_j \sim \mathcal N(0, 1)

    A feature that is left out has the mean of the training set, which is 0.

    Args:
        key: of this view.
        features: [F] floating, of mean 0 and deviation 1 over the training set.
        noise: sigma >= 0, in deviations.
        mask: rho in [0, 1], the probability that a feature is left out.

    Returns:
        [F] float32.

    Raises:
        ValueError: if features is not a vector.

    Example:
        >>> x = jnp.array([1.0, -2.0])
        >>> feature_view(jax.random.key(0), x, noise=0, mask=0).tolist()
        [1.0, -2.0]

    References:
        The masks are those of VIME, with the mean in the place of another example's
        feature: Yoon et al., "VIME: Extending the Success of Self- and Semi-supervised
        Learning to Tabular Domain", NeurIPS 2020.
    """
    check_rank("feature_view", "features", features, 1, "[F]")
    x = jnp.asarray(features, jnp.float32)
    noise_key, mask_key = jax.random.split(key)
    kept = jax.random.uniform(mask_key, x.shape) >= mask
    return jnp.where(kept, x + noise * jax.random.normal(noise_key, x.shape), 0.0)


WEAK = functools.partial(feature_view, noise=0.05, mask=0.0)
STRONG = functools.partial(feature_view, noise=0.2, mask=0.25)
