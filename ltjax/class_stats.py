r"""Class statistics: what a long-tail method needs to know about the training set.

Everything here is a function of `class_counts` [K], the number of *training* examples
of each class. Concrete counts are processed on the host in float64 and come back as
numpy arrays; under tracing the same formulas run in jax.numpy.

.. math:: \pi_k = n_k / N, \qquad N = \sum_k n_k, \qquad \rho = n_{\max} / n_{\min}
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_counts,
    check_integers,
    check_range,
    check_rank,
    check_where,
    check_whole,
    is_concrete,
    shape_of,
)
from ltjax._numerics import class_indices, host, namespace

Array = np.ndarray | jax.Array

# Under tracing a zero count cannot raise; its log-prior is finite and very small.
_TRACED_PRIOR_FLOOR = 1e-30


def _counts(caller: str, class_counts: ArrayLike) -> Any:
    check_counts(caller, class_counts)
    if is_concrete(class_counts):
        return host(class_counts).astype(np.float64)
    counts = jnp.asarray(class_counts)
    return counts.astype(jnp.promote_types(counts.dtype, jnp.float32))


def count_labels(labels: ArrayLike, num_classes: int) -> Array:
    """Number of examples of each class.

    Args:
        labels: [N] int class indices.
        num_classes: K.

    Returns:
        [K] int64 (numpy), or int32 (jax) if `labels` is traced; traced labels outside
        [0, K) are not counted.

    Raises:
        ValueError: if a readable label lies outside [0, K).
        TypeError: if labels are not integers.

    Example:
        >>> count_labels([0, 2, 0], 3)
        array([2, 0, 1])
    """
    check_integers("count_labels", "labels", labels)
    check_rank("count_labels", "labels", labels, 1, "[N]")
    check_whole("count_labels", "num_classes", num_classes)
    if not is_concrete(labels):
        classes = jnp.arange(num_classes, dtype=jnp.int32)
        one_hot = class_indices(labels)[:, None] == classes[None]
        return jnp.sum(one_hot, axis=0, dtype=jnp.int32)
    known = host(labels)
    bad = np.flatnonzero((known < 0) | (known >= num_classes))
    if bad.size:
        raise ValueError(
            f"count_labels: labels must lie in [0, {num_classes}), but labels[{bad[0]}]"
            f" is {known[bad[0]]} ({bad.size} such label(s))"
        )
    return np.bincount(known.astype(np.int64), minlength=num_classes)


# A label this large counts as a class index only if there are as many examples.
_CLASSES_TO_INFER = 2**20


def infer_num_classes(caller: str, labels: ArrayLike, *, name: str = "labels") -> int:
    """The number of classes: the largest label + 1.

    A label that is not a class index (an identifier, a fill value such as 2^31 - 1)
    would otherwise ask for tables of that length.

    Args:
        caller: who asks, for messages.
        labels: [N] int, concrete.
        name: what `caller` calls them.

    Returns:
        K; 0 without labels.

    Raises:
        ValueError: if the largest label is far beyond the number of examples.
        TypeError: if labels are not integers.

    Example:
        >>> infer_num_classes("count", [0, 2, 0])
        3
    """
    check_integers(caller, name, labels)
    known = np.asarray(host(labels))
    largest = int(known.max()) if known.size else -1
    if largest >= max(_CLASSES_TO_INFER, known.size):
        raise ValueError(
            f"{caller}: {name}[{int(np.argmax(known))}] is {largest}, but there are"
            f" {known.size} examples; expected class indices 0 ... K - 1 (number the"
            " classes, or pass num_classes if this is their number)"
        )
    return largest + 1


def prior(class_counts: ArrayLike) -> Array:
    r"""Empirical class prior :math:`\pi_k = n_k / N`.

    Args:
        class_counts: [K] non-negative, number of training examples per class.

    Returns:
        [K] float, sums to 1.

    Raises:
        ValueError: if a count is negative or all of them are zero.

    Example:
        >>> [round(float(p), 2) for p in prior([100, 20, 5])]
        [0.8, 0.16, 0.04]
    """
    counts = _counts("prior", class_counts)
    total = counts.sum()
    if is_concrete(counts) and total <= 0:
        raise ValueError("prior: class_counts are all zero, expected a positive count")
    return counts / total


def log_prior(class_counts: ArrayLike, *, smoothing: float | ArrayLike = 0.0) -> Array:
    r"""Log class prior, :math:`\log\frac{n_k + s}{\sum_j (n_j + s)}`.

    Args:
        class_counts: [K] non-negative.
        smoothing: pseudo-count s >= 0 added to every class (units: examples).

    Returns:
        [K] float in nats. Under tracing a zero count without smoothing gives the
        finite floor log(1e-30) instead of -inf.

    Raises:
        ValueError: for a readable zero count without smoothing.

    Example:
        >>> [round(float(v), 4) for v in log_prior([100, 20, 5])]
        [-0.2231, -1.8326, -3.2189]
    """
    check_range("log_prior", "smoothing", smoothing, low=0.0)
    counts = _counts("log_prior", class_counts)
    xp = namespace(counts, smoothing)
    smoothed = counts + smoothing
    if xp is np:
        empty = np.flatnonzero(smoothed <= 0)
        if empty.size:
            raise ValueError(
                f"log_prior: class {empty[0]} has count 0 ({empty.size} empty),"
                " so its log-prior is -inf; pass smoothing > 0 or drop the class"
            )
        return np.log(smoothed) - np.log(smoothed.sum())
    return jnp.log(jnp.maximum(smoothed / jnp.sum(smoothed), _TRACED_PRIOR_FLOOR))


def effective_number(class_counts: ArrayLike, *, beta: float | ArrayLike) -> Array:
    r"""Effective number of samples :math:`E_n = (1 - \beta^n) / (1 - \beta)`.

    Evaluated as :math:`-\mathrm{expm1}(n \log\beta) / (1-\beta)`; the power cancels for
    :math:`\beta \to 1`.

    Args:
        class_counts: [K] non-negative.
        beta: in [0, 1). 0 gives 1 for every class that has an example. The limit 1 is
            `inverse_power_weights(..., power=1)`, not a value of `beta`. Counts near
            1e5 need beta closer to 1 than 0.9999.

    Returns:
        [K] float (units: examples).

    Raises:
        ValueError: if beta is not in [0, 1).

    Example:
        >>> [round(float(e), 4) for e in effective_number([100, 20, 5], beta=0.99)]
        [63.3968, 18.2093, 4.901]

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR
        2019, eq. 4.
    """
    check_range("effective_number", "beta", beta, low=0.0, high=1.0, open_high=True)
    counts = _counts("effective_number", class_counts)
    xp = namespace(counts, beta)
    counts = xp.asarray(counts)
    base = xp.asarray(beta, counts.dtype)
    log_base = xp.log(xp.where(base > 0, base, xp.ones_like(base)))
    powered = -xp.expm1(counts * log_base) / (1 - base)
    return xp.where(base > 0, powered, xp.where(counts > 0, 1.0, 0.0))


def _sum_to_num_classes(inverse: Array, counts: Array) -> Array:
    """Weights `inverse`, 0 for empty classes, scaled to sum to K."""
    xp = namespace(inverse, counts)
    weights = xp.where(counts > 0, inverse, xp.zeros_like(inverse))
    total = xp.sum(weights)
    if xp is np and total <= 0:
        raise ValueError("class weights: class_counts are all zero")
    return weights * (counts.shape[0] / total)


def class_balanced_weights(
    class_counts: ArrayLike, *, beta: float | ArrayLike
) -> Array:
    r"""Class weights :math:`w_k \propto 1 / E_{n_k}`, scaled to sum to K.

    Args:
        class_counts: [K] non-negative.
        beta: in [0, 1); 0 gives equal weights, values near 1 inverse frequencies.

    Returns:
        [K] float; an empty class has weight 0 and the others still sum to K.

    Raises:
        ValueError: if beta is not in [0, 1) or all counts are zero.

    Example:
        >>> weights = class_balanced_weights([100, 20, 5], beta=0.99)
        >>> [round(float(w), 4) for w in weights]
        [0.1722, 0.5997, 2.2281]

    References:
        Cui et al., CVPR 2019, sec. 4. The normalization to K is the authors'.
    """
    counts = _counts("class_balanced_weights", class_counts)
    effective = effective_number(class_counts, beta=beta)
    xp = namespace(effective)
    safe = xp.where(counts > 0, effective, xp.ones_like(effective))
    return _sum_to_num_classes(1 / safe, counts)


def inverse_power_weights(
    class_counts: ArrayLike, *, power: float | ArrayLike
) -> Array:
    r"""Class weights :math:`w_k \propto n_k^{-p}`, scaled to sum to K.

    p = 1 is inverse frequency, p = 1/2 inverse square root, p = nu the weights of ADRW.

    Args:
        class_counts: [K] non-negative.
        power: p; 0 gives equal weights.

    Returns:
        [K] float; an empty class has weight 0 and the others still sum to K.

    Raises:
        ValueError: if all counts are zero.

    Example:
        >>> weights = inverse_power_weights([100, 20, 5], power=0.25)
        >>> [round(float(w), 4) for w in weights]
        [0.6507, 0.9731, 1.3762]

    References:
        Wang et al., "A Unified Generalization Analysis of Re-Weighting and
        Logit-Adjustment for Imbalanced Learning", NeurIPS 2023, Algorithm 1.
    """
    counts = _counts("inverse_power_weights", class_counts)
    xp = namespace(counts, power)
    safe = xp.where(counts > 0, counts, xp.ones_like(counts))
    return _sum_to_num_classes(xp.exp(xp.negative(power) * xp.log(safe)), counts)


def batch_balanced_weights(
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    r"""Class weights that make every class of a batch count the same.

    .. math:: w_k = \frac{b}{U c_k}

    with the batch's counts c, their sum b and the number U of classes present, so that
    the weights of the batch's examples sum to b.

    Args:
        labels: [B] int class indices.
        num_classes: K.
        where: optional [B] bool; False rows are not counted.
        dtype: of the result.

    Returns:
        [K]; 1 for absent classes.

    Raises:
        ValueError: if labels and `where` disagree in shape.
        TypeError: if labels are not integers.

    Example:
        >>> batch_balanced_weights(jnp.array([0, 0, 0, 0, 1]), 3).tolist()
        [0.625, 2.5, 1.0]
    """
    check_integers("batch_balanced_weights", "labels", labels)
    check_rank("batch_balanced_weights", "labels", labels, 1, "[B]")
    check_where("batch_balanced_weights", where, shape_of(labels))
    check_whole("batch_balanced_weights", "num_classes", num_classes)
    classes = jnp.arange(num_classes, dtype=jnp.int32)
    present = classes[None] == class_indices(labels)[:, None]
    if where is not None:
        present = present & jnp.asarray(where)[:, None]
    counts = jnp.sum(present, axis=0, dtype=dtype)
    share = jnp.sum(counts) / jnp.maximum(jnp.sum(counts > 0, dtype=dtype), 1)
    return jnp.where(counts > 0, share / jnp.maximum(counts, 1), jnp.ones_like(counts))


def shot_groups(
    class_counts: ArrayLike, *, many: int = 100, few: int = 20
) -> dict[str, np.ndarray]:
    """Splits the classes by their number of training examples.

    Args:
        class_counts: [K] concrete.
        many: a class is "many" if it has *more* than this number of examples.
        few: a class is "few" if it has *fewer* than this; the others are "medium".

    Returns:
        {"many", "medium", "few"}, each bool [K]; every class is in exactly one group.

    Raises:
        ValueError: if few > many + 1, where a class could be both.

    Example:
        >>> groups = shot_groups([500, 100, 20, 19])
        >>> {name: members.tolist() for name, members in groups.items()}["medium"]
        [False, True, True, False]

    References:
        Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019;
        boundaries as in facebookresearch/classifier-balancing.
    """
    if few > many + 1:
        raise ValueError(
            f"shot_groups: few is {few}, expected at most many + 1 = {many + 1}"
        )
    counts = _counts("shot_groups", class_counts)
    if not is_concrete(counts):
        raise TypeError(
            "shot_groups: class_counts are traced, expected concrete counts"
        )
    is_many, is_few = counts > many, counts < few
    return {"many": is_many, "medium": ~is_many & ~is_few, "few": is_few}


def third_groups(class_counts: ArrayLike) -> dict[str, np.ndarray]:
    """Splits the classes into thirds by their rank, as done for CIFAR-LT features.

    Args:
        class_counts: [K] concrete, K >= 3. Classes of equal count rank by their index.

    Returns:
        {"many", "medium", "few"}, each bool [K]: few and medium have floor(K / 3)
        classes each, many has the rest.

    Raises:
        ValueError: for fewer than three classes.

    Example:
        >>> groups = third_groups([500, 100, 20, 5])
        >>> {name: members.tolist() for name, members in groups.items()}["many"]
        [True, True, False, False]

    References:
        Jiang et al., "Self-Damaging Contrastive Learning", ICML 2021, released code
        (whose sort does not keep the order of equal counts).
    """
    counts = _counts("third_groups", class_counts)
    if not is_concrete(counts):
        raise TypeError(
            "third_groups: class_counts are traced, expected concrete counts"
        )
    num_classes = len(counts)
    third = num_classes // 3
    if not third:
        raise ValueError(f"third_groups: {num_classes} classes, expected at least 3")
    rank = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    is_few, is_many = rank < third, rank >= 2 * third
    return {"many": is_many, "medium": ~is_many & ~is_few, "few": is_few}


def imbalance_factor(class_counts: ArrayLike) -> float:
    r"""Imbalance factor :math:`\rho = n_{\max} / n_{\min} \ge 1`.

    Some code bases call its inverse by the same name.

    Args:
        class_counts: [K] concrete and positive.

    Returns:
        rho.

    Raises:
        ValueError: for a zero count.

    Example:
        >>> imbalance_factor([100, 20, 5])
        20.0
    """
    counts = _counts("imbalance_factor", class_counts)
    if not counts.size:
        raise ValueError("imbalance_factor: class_counts are empty, expected [K]")
    if np.any(counts <= 0):
        empty = int(np.flatnonzero(counts <= 0)[0])
        raise ValueError(f"imbalance_factor: class {empty} has count 0, expected > 0")
    return float(counts.max() / counts.min())
