r"""SogCLR: a contrastive loss whose negatives are those of the whole data set.

The normalizer of a contrastive loss is a mean over all other images, of which a batch
sees a few; the logarithm of a mean over a few is biased, which is why batches are made
large. Here it is a moving average for each image, as in
`ltjax.losses.moving_average`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_floating, check_range, shape_of
from ltjax.losses.contrastive import view_losses
from ltjax.losses.moving_average import MovingAverageLoss, moved_logs


def sogclr(
    first: ArrayLike,
    second: ArrayLike,
    log_averages: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.1,
    rate: float | ArrayLike = 0.9,
    where: ArrayLike | None = None,
    block: int | None = None,
) -> MovingAverageLoss:
    r"""Global contrastive loss of two views, with a normalizer for each image.

    With unit rows, the views :math:`a_i, b_i` of image i, and N(i) the 2B - 2 views of
    other images,

    .. math:: g_i = \frac12 \sum_{v \in \{a_i, b_i\}} \frac{1}{|N(i)|} \sum_{z \in N(i)}
              e^{(v \cdot z - a_i \cdot b_i) / T}, \qquad
              u_i \leftarrow (1 - r)\, u_i + r\, g_i

    The value is :math:`T \log u_i`, its gradient that of :math:`T g_i / u_i` for
    constant u. The averages are kept as logarithms.

    Args:
        first: [B, D] float, projections of the first views, any norm.
        second: [B, D] float, of the second views.
        log_averages: [B] log u of the images of this batch; -inf for one not seen yet,
            which then starts at its first mean.
        temperature: T > 0.
        rate: r in [0, 1], weight of the new mean; 0 scores a validation batch.
        where: optional [B] bool; False images cost 0, are nobody's negatives and keep
            their averages.
        block: views whose similarities are in memory at a time; None for all.

    Returns:
        MovingAverageLoss of [B] float32, not reduced, below 0 for an image that is
        easily told from the others; values and monitor are equal. A single image has
        no negatives: it costs 0 and keeps its average.

    Raises:
        ValueError: if shapes disagree, the temperature is not positive, or another
            option is out of range.
        TypeError: if the features are not floating point.

    Example:
        >>> x, unseen = jnp.eye(2), jnp.full(2, -jnp.inf)
        >>> loss = jax.jit(sogclr)(x, x, unseen, temperature=0.5)
        >>> print(f"{loss.values[0]:.4f} {loss.averages[0]:.4f}")
        -1.0000 -2.0000

    Limits: with `rate=1` and the NT-Xent :math:`\ell` of a view,
    :math:`g = (e^\ell - 1) / (2B - 2)`, the mean over both views of an image.

    References:
        Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning:
        Small Batch Does Not Harm Performance", ICML 2022, Algorithm 1, with the
        similarity of the positive inside the mean, as their library has it.
    """
    check_range("sogclr", "rate", rate, low=0.0, high=1.0)
    check_floating("sogclr", "log_averages", log_averages)
    losses = view_losses("sogclr", first, second, temperature, where, block)
    if shape_of(log_averages) != losses.shape[:1]:
        raise ValueError(
            f"sogclr: log_averages have shape {shape_of(log_averages)}, expected"
            f" {losses.shape[:1]}"
        )
    dtype, size = losses.dtype, losses.shape[0]
    temperature, rate = (jnp.asarray(x).astype(dtype) for x in (temperature, rate))
    count = jnp.asarray(size if where is None else jnp.sum(where)).astype(dtype)
    rows = jnp.all(losses > 0, axis=1)
    losses = jnp.where(rows[:, None], losses, 1.0)
    # NT-Xent is log(1 + sum over the negatives): back to the sum, in logarithms.
    log_sum = losses + jnp.log(-jnp.expm1(-losses))
    log_g = jax.nn.logsumexp(log_sum, axis=1) - jnp.log(4 * jnp.maximum(count - 1, 1))
    old = jnp.asarray(log_averages).astype(dtype)
    log_u, stored = moved_logs(old, log_g, rate, rows)
    values = temperature * log_u
    return MovingAverageLoss(values, jax.lax.stop_gradient(values), stored)
