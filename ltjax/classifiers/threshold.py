r"""Threshold moving: decisions and probabilities for other costs and other priors.

Everything here happens after training. With calibrated probabilities :math:`p_k(x)`,
costs :math:`C_{ij}` of predicting j when the truth is i, and class priors,

.. math::
    \text{Bayes: } \arg\min_j \sum_i p_i C_{ij}, \qquad
    \text{other prior: } p'_k \propto p_k\, \pi'_k / \pi_k .

Scaling by class is addition of a class vector in logit space. For the balanced decision
see `plug_in` and `posthoc`. Over-confident networks need temperature scaling first.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_counts,
    check_floating,
    check_range,
    class_axis,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, host, namespace


def move_threshold(probabilities: ArrayLike, cost: ArrayLike) -> jax.Array:
    r"""Threshold moving by the total cost of missing each class.

    .. math:: \hat p_k = p_k \sum_{k'} C_{kk'} \,/\, \zeta, \qquad
              \zeta = \sum_j p_j \sum_{k'} C_{jk'}

    The arg-max of :math:`\hat p` is the decision. It is the Bayes decision for K = 2
    and where the cost depends on the true class only; for other cost matrices use
    `min_expected_cost`. With row sums :math:`\pi_k^{-\tau}` it is `adjust_logits`.

    Args:
        probabilities: [..., K] float, sums to 1.
        cost: [K, K], cost[i, j] >= 0 of predicting j when the truth is i, zero
            diagonal; a common factor does not matter.

    Returns:
        [..., K] float32, sums to 1.

    Raises:
        ValueError: if the cost matrix has the wrong shape, a negative entry, a non-zero
            diagonal, or is zero.

    Example:
        >>> moved = move_threshold(jnp.array([0.8, 0.2]), [[0, 1], [9, 0]])
        >>> [f"{p:.4f}" for p in moved]
        ['0.3077', '0.6923']

    Limits: a probability that underflowed to 0 stays 0; `move_threshold_logits` has no
    such limit.

    References:
        Zhou, Liu, "Training Cost-Sensitive Neural Networks with Methods Addressing the
        Class Imbalance Problem", TKDE 2006.
    """
    check_floating("move_threshold", "probabilities", probabilities)
    probabilities = at_least_float32(probabilities)
    num_classes = class_axis("move_threshold", "probabilities", probabilities)
    totals = _row_sums("move_threshold", cost, num_classes)
    # A common factor does not matter; this one keeps extreme costs in range.
    moved = probabilities * _like(totals / totals.max(), probabilities)
    return moved / jnp.sum(moved, axis=-1, keepdims=True)


def move_threshold_logits(logits: ArrayLike, cost: ArrayLike) -> jax.Array:
    r"""Threshold moving in logit space, :math:`z_k + \log \sum_{k'} C_{kk'}`.

    Args:
        logits: [..., K] float.
        cost: [K, K], see `move_threshold`.

    Returns:
        [..., K] float32 logits; their softmax is `move_threshold` of the softmax.

    Raises:
        ValueError: as `move_threshold`.

    Example:
        >>> moved = move_threshold_logits(jnp.zeros(2), [[0, 1], [9, 0]])
        >>> [f"{z:.4f}" for z in moved]
        ['0.0000', '2.1972']

    References:
        Zhou, Liu, TKDE 2006.
    """
    check_floating("move_threshold_logits", "logits", logits)
    logits = at_least_float32(logits)
    num_classes = class_axis("move_threshold_logits", "logits", logits)
    totals = _row_sums("move_threshold_logits", cost, num_classes)
    with np.errstate(divide="ignore"):  # a class without cost is never predicted
        shift = namespace(totals).log(totals)
    return logits + _like(shift, logits)


def expected_cost(probabilities: ArrayLike, cost: ArrayLike) -> jax.Array:
    r"""Expected cost of every decision, :math:`\sum_i p_i C_{ij}`.

    Args:
        probabilities: [..., K] float, sums to 1.
        cost: [K, K], see `move_threshold`.

    Returns:
        [..., K] float32, in units of the costs.

    Raises:
        ValueError: as `move_threshold`.

    Example:
        >>> costs = expected_cost(jnp.array([0.8, 0.2]), [[0, 1], [9, 0]])
        >>> [f"{c:.1f}" for c in costs]
        ['1.8', '0.8']

    References:
        Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001, eq. 1.
    """
    check_floating("expected_cost", "probabilities", probabilities)
    probabilities = at_least_float32(probabilities)
    num_classes = class_axis("expected_cost", "probabilities", probabilities)
    cost = _check_cost("expected_cost", cost, num_classes)
    return jnp.matmul(
        probabilities,
        jnp.asarray(cost, probabilities.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )


def min_expected_cost(probabilities: ArrayLike, cost: ArrayLike) -> jax.Array:
    r"""The Bayes decision for any cost matrix, :math:`\arg\min_j \sum_i p_i C_{ij}`.

    Differs from the arg-max of `move_threshold` where K > 2 and the cost depends on the
    predicted class as well.

    Args:
        probabilities: [..., K] float, sums to 1.
        cost: [K, K], see `move_threshold`.

    Returns:
        [...] int32 labels; the lowest of equals.

    Raises:
        ValueError: as `move_threshold`.

    Example:
        >>> cost = [[0, 1, 9], [3, 0, 3], [3, 3, 0]]
        >>> int(min_expected_cost(jnp.array([0.5, 0.3, 0.2]), cost))
        1

    References:
        Elkan, IJCAI 2001; Zhou, Liu, "On Multi-Class Cost-Sensitive Learning", AAAI
        2006, for when scaling by row sums fails.
    """
    return jnp.argmin(expected_cost(probabilities, cost), axis=-1).astype(jnp.int32)


def prior_correction(
    probabilities: ArrayLike, source_prior: ArrayLike, target_prior: ArrayLike
) -> jax.Array:
    r"""Probabilities for another class prior than that of training.

    .. math:: p'_k \propto p_k\, \pi'_k / q_k

    What every model trained on resampled data needs before its probabilities are read:
    q is the prior after resampling, :math:`\pi'` that of the data it is used on.

    Args:
        probabilities: [..., K] float, sums to 1.
        source_prior: [K] positive, q; counts will do, only ratios matter.
        target_prior: [K] non-negative, :math:`\pi'`; counts will do.

    Returns:
        [..., K] float32, sums to 1.

    Raises:
        ValueError: if a prior has the wrong length, is negative, or q has a zero.

    Example:
        >>> p = prior_correction(jnp.array([0.5, 0.5]), [1, 1], [9, 1])
        >>> [f"{v:.1f}" for v in p]
        ['0.9', '0.1']

    References:
        Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a
        Priori Probabilities", Neural Computation 2002, eq. 2.4.
    """
    check_floating("prior_correction", "probabilities", probabilities)
    probabilities = at_least_float32(probabilities)
    num_classes = class_axis("prior_correction", "probabilities", probabilities)
    source = _check_prior("source_prior", source_prior, num_classes, positive=True)
    target = _check_prior("target_prior", target_prior, num_classes, positive=False)
    ratio = target / source
    # Relative to the largest, so that tiny priors do not underflow.
    corrected = probabilities * _like(ratio / ratio.max(), probabilities)
    return corrected / jnp.sum(corrected, axis=-1, keepdims=True)


def undersampling_correction(
    probabilities: ArrayLike, *, keep_rate: float | ArrayLike
) -> jax.Array:
    r"""Binary case of `prior_correction` after dropping negatives.

    .. math:: p = \beta p_s / (\beta p_s - p_s + 1)

    Args:
        probabilities: [...] float, P(positive) of the model trained on the remainder.
        keep_rate: beta in (0, 1], the fraction of negatives that was kept.

    Returns:
        [...] float32, P(positive) before the negatives were dropped.

    Raises:
        ValueError: if keep_rate is not in (0, 1].

    Example:
        >>> f"{undersampling_correction(0.5, keep_rate=0.1):.6f}"
        '0.090909'

    References:
        Dal Pozzolo, Caelen, Johnson, Bontempi, "Calibrating Probability with
        Undersampling for Unbalanced Classification", SSCI 2015, eq. 4.
    """
    caller = "undersampling_correction"
    check_range(caller, "keep_rate", keep_rate, low=0.0, high=1.0, open_low=True)
    check_floating(caller, "probabilities", probabilities)
    sampled = at_least_float32(probabilities)
    kept = jnp.asarray(keep_rate).astype(sampled.dtype) * sampled
    return kept / (kept + (1 - sampled))


def shift_threshold_for_costs(
    margin_gap: float | ArrayLike, beta: float | ArrayLike
) -> np.ndarray | jax.Array:
    r"""Where to cut a margin when one kind of error costs more.

    A bound :math:`\beta / d_+^2 + 1 / d_-^2` on the cost of a separating threshold,
    with :math:`d_+ + d_- = D` fixed, is least at

    .. math:: d_+ = D\, \beta^{1/3} / (1 + \beta^{1/3}),

    so the boundary moves away from the expensive class. For separable data of a linear
    head: cut at (smallest positive score) - d_+.

    Args:
        margin_gap: D >= 0, smallest positive minus largest negative score.
        beta: cost of a missed positive over that of a false alarm, > 0.

    Returns:
        d_+, in the units of `margin_gap`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> f"{shift_threshold_for_costs(3.0, 8.0):.4f}"
        '2.0000'

    References:
        Karakoulas, Shawe-Taylor, "Optimizing Classifiers for Imbalanced Training Sets",
        NIPS 1998, for the idea; the closed form is our derivation. LDAM has the same
        trade-off with exponent -1/4 of the class sizes.
    """
    caller = "shift_threshold_for_costs"
    check_range(caller, "margin_gap", margin_gap, low=0.0)
    check_range(caller, "beta", beta, low=0.0, open_low=True)
    root = namespace(margin_gap, beta).cbrt(beta)
    return margin_gap * root / (1 + root)


def cost_sampling_targets(
    class_counts: ArrayLike, cost: ArrayLike, *, mode: str = "over"
) -> np.ndarray:
    r"""Class sizes of cost-sensitive over- or under-sampling.

    .. math:: t_k = \Bigl\lfloor \frac{C_k}{C_\lambda}\, n_\lambda \Bigr\rfloor, \qquad
              C_k = \sum_{k'} C_{kk'}, \qquad
              \lambda = \operatorname*{arg\,min}_j \frac{C_j}{n_j}

    so that sizes are proportional to costs and no class shrinks (arg-max, and no class
    grows, for under-sampling). `random_oversample` and `random_undersample` take them.

    Args:
        class_counts: [K] positive.
        cost: [K, K], see `move_threshold`; every row needs a positive entry.
        mode: "over" or "under".

    Returns:
        [K] int64.

    Raises:
        TypeError: if arguments are traced.
        ValueError: for a wrong shape, an empty class, a class without cost, or an
            unknown mode.

    Example:
        >>> cost_sampling_targets([100, 20], [[0, 1], [10, 0]]).tolist()
        [100, 1000]

    References:
        Zhou, Liu, TKDE 2006, sec. 2.1 and 2.2, where lambda is written with a common
        factor that does not change it.
    """
    caller = "cost_sampling_targets"
    if mode not in ("over", "under"):
        raise ValueError(f"{caller}: mode is {mode!r}, expected 'over' or 'under'")
    if not is_concrete(class_counts, cost):
        raise TypeError(f"{caller}: arguments are traced, expected concrete numbers")
    check_counts(caller, class_counts)
    counts = host(class_counts).astype(np.float64)
    totals = host(_check_cost(caller, cost, len(counts))).sum(axis=1)
    if np.any(counts <= 0) or np.any(totals <= 0):
        raise ValueError(
            f"{caller}: class_counts {counts.tolist()} and costs of missing a class"
            f" {totals.tolist()} must all be positive"
        )
    per_example = totals / counts
    chosen = np.argmin(per_example) if mode == "over" else np.argmax(per_example)
    sizes = totals * counts[chosen] / totals[chosen]
    # Forgive the rounding error of a quotient just below an integer.
    return np.floor(sizes * (1 + 1e-12)).astype(np.int64)


def _row_sums(caller: str, cost: ArrayLike, num_classes: int):
    return _check_cost(caller, cost, num_classes).sum(axis=1)


def _like(class_vector, predictions: jax.Array) -> jax.Array:
    """A class vector [K] with the rank and dtype of predictions [..., K]."""
    vector = jnp.asarray(class_vector, predictions.dtype)
    return jnp.expand_dims(vector, range(predictions.ndim - 1))


def _check_cost(caller: str, cost: ArrayLike, num_classes: int):
    """The cost matrix in float64 on the host, or unchanged where it is traced."""
    dtype_of(caller, "cost", cost)
    if shape_of(cost) != (num_classes, num_classes):
        raise ValueError(
            f"{caller}: cost has shape {shape_of(cost)}, but there are {num_classes}"
            f" classes, expected ({num_classes}, {num_classes})"
        )
    if not is_concrete(cost):
        return jnp.asarray(cost)
    matrix = host(cost).astype(np.float64)
    bad = ~(np.isfinite(matrix) & (matrix >= 0)) | (np.eye(num_classes) * matrix != 0)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        expected = "0 on the diagonal" if row == column else "a number >= 0"
        raise ValueError(
            f"{caller}: cost[{row}, {column}] is {matrix[row, column]},"
            f" expected {expected}"
        )
    if not matrix.any():
        raise ValueError(f"{caller}: cost is zero everywhere, so no class matters")
    return matrix


def _check_prior(name: str, values: ArrayLike, num_classes: int, *, positive: bool):
    check_class_vector("prior_correction", name, values, num_classes)
    if not is_concrete(values):
        values = jnp.asarray(values)
        return values.astype(jnp.promote_types(values.dtype, jnp.float32))
    prior = host(values).astype(np.float64)
    bad = ~(prior > 0) if positive else ~(prior >= 0)
    if bad.any() or not prior.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"prior_correction: {name}[{at}] is {prior[at]},"
            f" expected {'> 0' if positive else '>= 0, and not all zero'}"
        )
    return prior
