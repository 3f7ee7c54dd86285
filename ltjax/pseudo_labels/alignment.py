r"""Distribution alignment: predictions scaled towards a class distribution.

The moving distribution of a network's predictions is the mean over its last 128
batches. Papers differ in when a batch enters: ReMixMatch starts with uniform rows and
reads before it writes, DARP, ABC and DASO start empty and write before they read. A
`DistributionBuffer` does both; the caller chooses the order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_classes_last,
    check_floating,
    check_range,
    check_rank,
    check_where,
    check_whole,
    shape_of,
)
from ltjax._numerics import at_least_float32


def align_distribution(
    probabilities: ArrayLike,
    target: ArrayLike,
    running: ArrayLike,
    *,
    epsilon: float | ArrayLike = 1e-6,
) -> jax.Array:
    r"""Scales predictions by the ratio of a target distribution to the running one.

    .. math:: \tilde p_k \propto p_k\, \frac{t_k + \epsilon}{m_k + \epsilon}

    In logits, an adjustment by :math:`\log(t + \epsilon) - \log(m + \epsilon)`. For
    CReST+ the target is `temper(prior, crest_power(g, G))`; thresholds apply to the
    aligned rows.

    Args:
        probabilities: [..., K] float, rows sum to 1.
        target: [K] >= 0, t; counts are normalized.
        running: [K] >= 0, m, from `running_distribution`.
        epsilon: > 0.

    Returns:
        [..., K] float32, rows sum to 1; no gradient.

    Raises:
        ValueError: if shapes disagree or a readable epsilon is not positive.
        TypeError: if probabilities are not floats.

    Example:
        >>> rows = jnp.array([0.7, 0.2, 0.1])
        >>> target, running = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.8, 0.15, 0.05])
        >>> [f"{p:.4f}" for p in align_distribution(rows, target, running)]
        ['0.3535', '0.3232', '0.3232']

    References:
        Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution
        Alignment and Augmentation Anchoring", ICLR 2020. DARP's code passes target
        counts instead of shares, which changes the part of epsilon only; here they are
        normalized. Wei et al., "CReST", CVPR 2021.
    """
    caller = "align_distribution"
    check_classes_last(caller, "probabilities", probabilities)
    check_range(caller, "epsilon", epsilon, low=0, open_low=True)
    rows = at_least_float32(jax.lax.stop_gradient(jnp.asarray(probabilities)))
    check_class_vector(caller, "target", target, rows.shape[-1])
    check_class_vector(caller, "running", running, rows.shape[-1])
    goal, now = (jnp.asarray(x).astype(rows.dtype) for x in (target, running))
    goal = goal / jnp.maximum(jnp.sum(goal), jnp.finfo(rows.dtype).tiny)
    epsilon = jnp.asarray(epsilon).astype(rows.dtype)
    ratio = (goal + epsilon) / (now + epsilon)
    aligned = rows * jnp.expand_dims(ratio, range(rows.ndim - 1))
    total = jnp.sum(aligned, axis=-1, keepdims=True)
    return aligned / jnp.where(total > 0, total, 1)


def sharpen(
    probabilities: ArrayLike, *, temperature: float | ArrayLike = 0.5
) -> jax.Array:
    r"""Sharper predictions, :math:`p_k^{1/T} / \sum_j p_j^{1/T}`.

    Args:
        probabilities: [..., K] float >= 0.
        temperature: T >= 0; a readable 0 gives the one-hot of the largest entry (the
            lowest index of equal ones).

    Returns:
        [..., K] float32, rows sum to 1; no gradient.

    Raises:
        ValueError: if a readable temperature is negative.
        TypeError: if probabilities are not floats.

    Example:
        >>> [f"{p:.4f}" for p in sharpen(jnp.array([0.5, 0.3, 0.2]))]
        ['0.6579', '0.2368', '0.1053']

    References:
        Berthelot et al., "MixMatch", NeurIPS 2019, eq. 7.
    """
    check_classes_last("sharpen", "probabilities", probabilities)
    check_range("sharpen", "temperature", temperature, low=0)
    rows = at_least_float32(jax.lax.stop_gradient(jnp.asarray(probabilities)))
    hot = jax.nn.one_hot(jnp.argmax(rows, axis=-1), rows.shape[-1], dtype=rows.dtype)
    temperature = jnp.asarray(temperature).astype(rows.dtype)
    some = rows > 0
    logs = jnp.log(jnp.where(some, rows, 1)) / jnp.where(
        temperature > 0, temperature, 1
    )
    soft = jax.nn.softmax(jnp.where(some, logs, -jnp.inf), axis=-1)
    return jnp.where(temperature > 0, soft, hot)


class DistributionBuffer(NamedTuple):
    """The mean predictions of the last batches.

    Attributes:
        means: [size, K] float32.
        written: int32 scalar, batches that came in so far.
        start: float32 scalar, 1 if unwritten rows count as uniform, 0 if not at all.
    """

    means: jax.Array
    written: jax.Array
    start: jax.Array


def init_distribution_buffer(
    num_classes: int, *, size: int = 128, start: str = "uniform"
) -> DistributionBuffer:
    """A buffer without batches.

    Args:
        num_classes: K.
        size: batches that are remembered.
        start: "uniform" (ReMixMatch: unwritten rows are uniform) or "empty" (DARP, ABC,
            DASO: the mean is over the batches so far).

    Returns:
        DistributionBuffer.

    Raises:
        ValueError: for an unknown start or a size below 1.

    Example:
        >>> print(running_distribution(init_distribution_buffer(2)))
        [0.5 0.5]

    References:
        The released codes of the papers named above.
    """
    caller = "init_distribution_buffer"
    check_whole(caller, "num_classes", num_classes, low=1)
    check_whole(caller, "size", size, low=1)
    check_choice(caller, "start", start, ("uniform", "empty"))
    means = jnp.full((size, num_classes), 1.0 / num_classes, jnp.float32)
    uniform = jnp.asarray(start == "uniform", jnp.float32)
    return DistributionBuffer(means, jnp.zeros((), jnp.int32), uniform)


def update_distribution_buffer(
    buffer: DistributionBuffer,
    probabilities: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> DistributionBuffer:
    """Puts the mean prediction of a batch in the place of the oldest.

    Args:
        buffer: from `init_distribution_buffer`.
        probabilities: [B, K] float.
        where: optional [B] bool; rows that are False do not count.

    Returns:
        DistributionBuffer; unchanged if no row counts.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> buffer = init_distribution_buffer(2, start="empty")
        >>> buffer = update_distribution_buffer(buffer, jnp.array([[0.75, 0.25]]))
        >>> print(running_distribution(buffer))
        [0.75 0.25]
    """
    caller = "update_distribution_buffer"
    check_rank(caller, "probabilities", probabilities, 2, "[B, K]")
    size, num_classes = buffer.means.shape
    if shape_of(probabilities)[1] != num_classes:
        raise ValueError(
            f"{caller}: probabilities has shape {shape_of(probabilities)}, but the"
            f" buffer has {num_classes} classes"
        )
    check_where(caller, where, shape_of(probabilities)[:1])
    rows = jax.lax.stop_gradient(jnp.asarray(probabilities)).astype(buffer.means.dtype)
    kept = jnp.ones(rows.shape[0], bool) if where is None else jnp.asarray(where)
    count = jnp.sum(kept)
    mean = jnp.sum(jnp.where(kept[:, None], rows, 0), axis=0) / jnp.maximum(count, 1)
    means = buffer.means.at[buffer.written % size].set(mean)
    some = count > 0
    return DistributionBuffer(
        jnp.where(some, means, buffer.means),
        buffer.written + some.astype(jnp.int32),
        buffer.start,
    )


def running_distribution(buffer: DistributionBuffer) -> jax.Array:
    """Mean prediction over the batches of a buffer.

    Args:
        buffer: from `update_distribution_buffer`.

    Returns:
        [K] float32, sums to 1 if predictions do; uniform before the first batch.

    Example:
        >>> print(running_distribution(init_distribution_buffer(4, start="empty")))
        [0.25 0.25 0.25 0.25]
    """
    size, num_classes = buffer.means.shape
    filled = jnp.arange(size) < buffer.written
    weights = jnp.where(filled, 1.0, buffer.start).astype(buffer.means.dtype)
    total = jnp.sum(weights)
    mean = weights @ buffer.means / jnp.maximum(total, 1)
    return jnp.where(total > 0, mean, jnp.full_like(mean, 1.0 / num_classes))


def blend_semantic(
    probabilities: ArrayLike,
    semantic: ArrayLike,
    distribution: ArrayLike,
    *,
    temperature: float | ArrayLike = 1.5,
) -> jax.Array:
    r"""DASO's blend of the linear classifier's pseudo-label with a semantic one.

    .. math:: p' = (1 - v)\, p + v\, q, \qquad v = u_{\arg\max p}, \qquad
              u_k = \frac{m_k^{1/T}}{\max_j m_j^{1/T}}

    where m is the distribution of recent pseudo-labels: the classes that it favors
    listen more to the similarity with class prototypes.

    Args:
        probabilities: [..., K] float, p, of the classifier.
        semantic: [..., K] float, q, from cosine similarities to prototypes.
        distribution: [K] >= 0, m; counts will do.
        temperature: T > 0; 1.5 where labelled and unlabelled distributions agree, 0.3
            where they do not.

    Returns:
        [..., K] float32; no gradient.

    Raises:
        ValueError: if shapes disagree or a readable temperature is not positive.
        TypeError: if probabilities are not floats.

    Example:
        >>> p, q = jnp.array([0.2, 0.8]), jnp.array([0.6, 0.4])
        >>> [f"{x:.4f}" for x in blend_semantic(p, q, jnp.array([8, 1]))]
        ['0.3000', '0.7000']

    References:
        Oh, Kim and Kweon, "DASO: Distribution-Aware Semantics-Oriented Pseudo-label for
        Imbalanced Semi-Supervised Learning", CVPR 2022.
    """
    caller = "blend_semantic"
    check_floating(caller, "semantic", semantic)
    check_classes_last(caller, "probabilities", probabilities)
    check_range(caller, "temperature", temperature, low=0, open_low=True)
    rows = at_least_float32(jax.lax.stop_gradient(jnp.asarray(probabilities)))
    if shape_of(semantic) != rows.shape:
        raise ValueError(
            f"{caller}: semantic has shape {shape_of(semantic)}, expected {rows.shape}"
        )
    check_class_vector(caller, "distribution", distribution, rows.shape[-1])
    other = jax.lax.stop_gradient(jnp.asarray(semantic)).astype(rows.dtype)
    shares = jnp.asarray(distribution).astype(rows.dtype)
    shares = shares / jnp.maximum(jnp.max(shares), jnp.finfo(rows.dtype).tiny)
    weights = shares ** (1 / jnp.asarray(temperature).astype(rows.dtype))
    best = jax.nn.one_hot(jnp.argmax(rows, axis=-1), rows.shape[-1], dtype=rows.dtype)
    blend = (best @ weights)[..., None]
    return (1 - blend) * rows + blend * other
