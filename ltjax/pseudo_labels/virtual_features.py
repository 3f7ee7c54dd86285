"""What a linear head loses on Gaussian features, without drawing them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_floating,
    check_rank,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32


def virtual_cross_entropy(
    means: ArrayLike,
    roots: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
) -> jax.Array:
    r"""Upper bound of the expected cross-entropy of Gaussian features, in closed form.

    .. math:: E_{z \sim N(\mu_k, \Sigma_k)} \mathrm{CE}(W^\top z + b, k) \le
              \log \sum_j \exp\big( (w_j - w_k)^\top \mu_k + b_j - b_k
              + \tfrac12 (w_j - w_k)^\top \Sigma_k (w_j - w_k) \big)

    by Jensen's inequality, with equality where :math:`\Sigma_k = 0`. Its gradient has
    none of the noise of features that are drawn.

    Args:
        means: [K, D] float, :math:`\mu`.
        roots: [K, D, D], A with :math:`A_k A_k^\top = \Sigma_k`, such as Cholesky
            factors.
        kernel: [D, K], W, the head's own.
        bias: optional [K], b.

    Returns:
        [K] float32, one value for each class.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if means are not floating.

    Example:
        >>> means, roots = jnp.zeros((2, 1)), jnp.ones((2, 1, 1))
        >>> kernel = jnp.array([[1.0, -1.0]])  # log(1 + exp(4 / 2))
        >>> [f"{value:.4f}" for value in virtual_cross_entropy(means, roots, kernel)]
        ['2.1269', '2.1269']

    References:
        Wang et al., "Implicit Semantic Data Augmentation for Deep Networks", NeurIPS
        2019, whose bound it is; here of the calibrated Gaussians of Zhang et al., "When
        Noisy Labels Meet Long Tail Dilemmas", ICCV 2023, who draw features instead.
    """
    caller = "virtual_cross_entropy"
    check_floating(caller, "means", means)
    check_rank(caller, "means", means, 2, "[K, D]")
    classes, dim = shape_of(means)
    for name, value, shape in (
        ("roots", roots, (classes, dim, dim)),
        ("kernel", kernel, (dim, classes)),
    ):
        dtype_of(caller, name, value)
        if shape_of(value) != shape:
            raise ValueError(
                f"{caller}: {name} has shape {shape_of(value)}, expected {shape} for"
                f" means of shape {(classes, dim)}"
            )
    centers = at_least_float32(means)
    weights = jnp.asarray(kernel).astype(centers.dtype)
    logits = centers @ weights
    if bias is not None:
        check_class_vector(caller, "bias", bias, classes)
        logits = logits + jnp.asarray(bias).astype(centers.dtype)[None]
    spread = jnp.einsum("kde,dj->kej", jnp.asarray(roots, centers.dtype), weights)
    own = jnp.einsum("kek->ke", spread)
    squares = jnp.sum((spread - own[:, :, None]) ** 2, axis=1)
    return jax.nn.logsumexp(
        logits - jnp.diagonal(logits)[:, None] + 0.5 * squares, axis=1
    )
