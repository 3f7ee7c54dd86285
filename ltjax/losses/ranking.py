r"""Losses over the ranking of the labels of one example: the top K and what is in it.

With :math:`s_{[k]}` the k-th largest score of a row, a label should beat the K + 1
highest scores. Counting how many it beats is the area under the top-k curve, and its
surrogates are sums over those K + 1 competitors: O(K) per label, from one `top_k`.

A label inside the top K + 1 is its own competitor once. That pair costs the constant
:math:`\phi(0)` and has no gradient; it is dropped unless `self_pairs=True`. Only with
it is the value continuous and convex in the scores.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_counts,
    check_floating,
    check_integers,
    check_range,
    check_where,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    host,
    mask_rows,
    mask_values,
)
from ltjax.losses._affine import is_target

SURROGATES = {
    "square": lambda t: jnp.square(1 - t),
    "exp": lambda t: jnp.exp(-t),
    "logistic": lambda t: jax.nn.softplus(-t),
    "hinge": lambda t: jnp.maximum(1 - t, 0.0),
}
NORMALIZERS = ("none", "k", "labels", "capped", "ideal")


def autkc(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    k: int | ArrayLike,
    surrogate: str = "logistic",
    competitors: str = "all",
    self_pairs: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Surrogate of the area under the top-k accuracy curve, for one true class.

    .. math:: \ell = \frac1K \sum_{k=1}^{K+1} \phi\big( s_y - s_{[k]} \big)

    Args:
        scores: [B, K] float: probabilities for square, exp and logistic, logits for the
            hinge. (In this section K is the number of classes, `k` the length of the
            list.)
        labels: [B] int class indices.
        k: length of the list, an int in [1, K] or an int array [B], one per example
            (then clipped to that range).
        surrogate: "square" :math:`(1-t)^2`, "exp" :math:`e^{-t}`, "logistic"
            :math:`\log(1 + e^{-t})` or "hinge" :math:`(1-t)_+`, which is not
            consistent.
        competitors: "all" (the k + 1 highest scores of all classes) or "negatives" (of
            the other classes, as in the released code).
        self_pairs: keeps the pair of the label with itself; see the module.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced; NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, k exceeds the number of classes, or an option is
            unknown.
        TypeError: if scores are not floating point or labels not integers.

    Example:
        >>> scores, labels = jnp.array([[0.5, 0.25, 0.25]]), jnp.array([1])
        >>> print(autkc(scores, labels, k=1, surrogate="square")[0])
        1.5625

    Limits: k = K is the mean over all pairs of the label with another class.

    References:
        Wang et al., "Optimizing Partial Area Under the Top-k Curve: Theory and
        Practice", TPAMI 2023. "all" is the definition; the released code takes the
        k + 1 largest scores of the other classes.
    """
    caller = "autkc"
    check_choice(caller, "surrogate", surrogate, tuple(SURROGATES))
    check_choice(caller, "competitors", competitors, ("all", "negatives"))
    shape = _check_scores(caller, scores, where)
    check_integers(caller, "labels", labels)
    if shape_of(labels) != shape[:1]:
        raise ValueError(
            f"{caller}: labels have shape {shape_of(labels)}, expected {shape[:1]}"
        )
    lengths, longest = _list_length(caller, k, shape, "classes")
    s, y = mask_rows(where, at_least_float32(scores), class_indices(labels))
    own = class_lookup(s, y)
    pool = s
    if competitors == "negatives":
        pool = jnp.where(is_target(s, y), -jnp.inf, s)
        longest = min(longest, shape[1] - 1)
    top, at = jax.lax.top_k(pool, longest)
    inside = jnp.arange(longest)[None, :] <= lengths[:, None]
    counted = inside if self_pairs else inside & (at != y[:, None])
    if competitors == "negatives":
        counted = inside & (at != y[:, None])
    gap = jnp.where(counted, own[:, None] - top, 0.0)
    total = jnp.sum(jnp.where(counted, SURROGATES[surrogate](gap), 0.0), axis=1)
    # A label out of range has no gap to be NaN where nothing is counted.
    return mask_values(total / lengths.astype(s.dtype) + 0 * own, where)


def tkpr(
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    k: int | ArrayLike,
    surrogate: str = "logistic",
    normalizer: str = "labels",
    self_pairs: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Top-K pairwise ranking, for several relevant labels.

    .. math:: \ell = \frac{1}{a K} \sum_{i\,\mathrm{relevant}} \sum_{k=1}^{K+1}
              \phi\big( s_i - s_{[k]} \big)

    Costs O(L K) per row for L labels; a row without a relevant label costs 0.

    Args:
        scores: [B, L] float: sigmoids for square and exp, logits for the logistic.
        relevant: [B, L] bool or 0/1.
        k: K, an int in [1, L] or an int array [B], one per example, such as the number
            of its relevant labels (then clipped to that range).
        surrogate: "square" :math:`(1-t)^2`, "exp" :math:`e^{-t}`, "logistic"
            :math:`\log(1 + e^{-t})` or "hinge" :math:`(1-t)_+`.
        normalizer: a, with N relevant labels: "none" 1; "k" K (like P@K); "labels" N
            (like R@K); "capped" min(N, K) (like AP@K); "ideal" the value of a perfect
            ranking, :math:`m (2K + 1 - m) / (2K)` with m = min(N, K) (like NDCG@K).
        self_pairs: keeps the pairs of a label with itself; see the module.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced. The measure averages over rows with a relevant
        label: hand their mask to `weighted_mean`.

    Raises:
        ValueError: if shapes disagree, k exceeds the number of labels, a readable
            relevance is neither 0 nor 1, or an option is unknown.
        TypeError: if scores are not floating point or relevant is not bool or integer.

    Example:
        >>> scores, relevant = jnp.array([[0.75, 0.5, 0.25]]), jnp.array([[1, 0, 1]])
        >>> print(tkpr(scores, relevant, k=1, surrogate="hinge")[0])
        1.75

    Limits: with one relevant label and "none" it is `autkc`.

    References:
        Wang et al., "Top-K Pairwise Ranking: Bridging the Gap Among Ranking-Based
        Measures for Multi-Label Classification", IJCV 2024. No code is public; the
        self pair is treated as in `autkc`.
    """
    caller = "tkpr"
    check_choice(caller, "surrogate", surrogate, tuple(SURROGATES))
    check_choice(caller, "normalizer", normalizer, NORMALIZERS)
    shape = _check_scores(caller, scores, where)
    _check_relevant(caller, relevant, shape, where)
    lengths, longest = _list_length(caller, k, shape)
    s, y = mask_rows(where, at_least_float32(scores), jnp.asarray(relevant))
    y = (y == 1).astype(s.dtype)
    phi = SURROGATES[surrogate]
    top, at = jax.lax.top_k(s, longest)
    inside = jnp.arange(longest)[None, :] <= lengths[:, None]
    # [B, L, K + 1], which fuses into its sum.
    gap = s[:, :, None] - top[:, None, :]
    gap = jnp.where(inside[:, None, :] & (y > 0)[:, :, None], gap, 0.0)
    counted = y[:, :, None] * inside[:, None, :]
    total = jnp.sum(counted * phi(gap), axis=(1, 2))
    if not self_pairs:
        hits = jnp.sum(jnp.take_along_axis(y, at, axis=1) * inside, axis=1)
        total = total - hits * phi(jnp.zeros((), s.dtype))
    number = jnp.sum(y, axis=1)
    lengths = lengths.astype(s.dtype)
    capped = jnp.minimum(number, lengths)
    a = {
        "none": jnp.ones_like(number),
        "k": lengths,
        "labels": number,
        "capped": capped,
        "ideal": capped * (2 * lengths + 1 - capped) / (2 * lengths),
    }[normalizer]
    some = number > 0
    value = total / (jnp.where(some, a, 1.0) * lengths)
    return mask_values(jnp.where(some, value, jnp.zeros_like(value)), where)


def distribution_balanced(
    logits: ArrayLike,
    relevant: ArrayLike,
    class_counts: ArrayLike,
    *,
    num_examples: float | ArrayLike,
    alpha: float | ArrayLike = 0.1,
    beta: float | ArrayLike = 10.0,
    mu: float | ArrayLike = 0.3,
    negative_scale: float | ArrayLike = 5.0,
    bias_scale: float | ArrayLike = 0.05,
    gamma: float | ArrayLike = 2.0,
    balance: float | ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distribution-balanced loss: re-balanced weights and tolerant negatives.

    With n examples, :math:`n_j` of them with label j, and label j of an example

    .. math:: r_j = \frac{1 / n_j}{\sum_{k\,\mathrm{relevant}} 1 / n_k}, \quad
              \hat r_j = \alpha + \sigma(\beta (r_j - \mu)), \quad
              v_j = z_j - \frac{\kappa}{\lambda} \log(n / n_j - 1)

    .. math:: \ell = \frac{c}{L} \sum_j \hat r_j\, (1 - p^t_j)^\gamma \cdot
              \begin{cases} \log(1 + e^{-v_j}) & \text{relevant} \\
              \frac1\lambda \log(1 + e^{\lambda v_j}) & \text{otherwise} \end{cases}

    where :math:`p^t` is the probability of the right answer under those logits.

    Args:
        logits: [B, L] float.
        relevant: [B, L] bool or 0/1.
        class_counts: [L] positive, training examples with each label.
        num_examples: n, number of training examples; above every count.
        alpha: lower end of the weights.
        beta: slope of their sigmoid.
        mu: its center; 0.3 for VOC-MLT, 0.2 for COCO-MLT.
        negative_scale: lambda; 5 for VOC-MLT, 2 for COCO-MLT.
        bias_scale: kappa.
        gamma: focusing parameter.
        balance: c.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32, the *mean* over labels, so that the mean over the batch is the
        published number. For a row without a relevant label :math:`\hat r` is its
        limit :math:`\alpha + 1`.

    Raises:
        ValueError: if shapes disagree, a readable relevance is neither 0 nor 1, or a
            readable count is not positive or not below num_examples.
        TypeError: if logits are not floating point or relevant is not bool or integer.

    Example:
        >>> logits, relevant = jnp.zeros((1, 2)), jnp.array([[1, 0]])
        >>> values = distribution_balanced(
        ...     logits, relevant, jnp.array([50, 50]), num_examples=100
        ... )
        >>> print(f"{values[0]:.4f}")
        0.2285

    Limits: gamma = 0, kappa = 0, lambda = 1 and beta = 0 is alpha + 1/2 times c / L of
    `sigmoid_cross_entropy`.

    References:
        Wu et al., "Distribution-Balanced Loss for Multi-Label Classification in
        Long-Tailed Datasets", ECCV 2020, and the released code for c and the mean. That
        code shifts the caller's logits in place; nothing is changed here.
    """
    caller = "distribution_balanced"
    check_floating(caller, "logits", logits)
    shape = _check_scores(caller, logits, where, "logits")
    _check_relevant(caller, relevant, shape, where)
    check_counts(caller, class_counts, shape[1])
    check_range(caller, "negative_scale", negative_scale, low=0.0, open_low=True)
    if is_concrete(class_counts, num_examples):
        _check_below(caller, class_counts, num_examples)
    z, y = mask_rows(where, at_least_float32(logits), jnp.asarray(relevant))
    dtype = z.dtype
    options = (alpha, beta, mu, negative_scale, bias_scale, gamma, balance)
    alpha, beta, mu, lam, kappa, gamma, balance = (
        jnp.asarray(x).astype(dtype) for x in options
    )
    rare = 1 / jnp.asarray(class_counts).astype(dtype)
    here = y == 1
    total = jnp.sum(jnp.where(here, rare[None, :], 0.0), axis=1, keepdims=True)
    some = total > 0
    ratio = rare[None, :] / jnp.where(some, total, 1.0)
    weight = jnp.where(some, jax.nn.sigmoid(beta * (ratio - mu)), 1.0) + alpha
    odds = jnp.asarray(num_examples).astype(dtype) * rare - 1
    moved = z - (kappa / lam * jnp.log(odds))[None, :]
    # The logit of the wrong answer; its softplus is the cross-entropy.
    wrong = jnp.where(here, -moved, lam * moved)
    scale = jnp.where(here, 1.0, 1 / lam)
    focus = jnp.exp(gamma * jax.nn.log_sigmoid(wrong))
    each = weight * scale * focus * jax.nn.softplus(wrong)
    return mask_values(balance * jnp.mean(each, axis=1), where)


def _check_scores(caller, scores, where, name="scores") -> tuple[int, ...]:
    check_floating(caller, name, scores)
    shape = shape_of(scores)
    if len(shape) != 2:
        raise ValueError(
            f"{caller}: {name} have shape {shape}, expected [B, L] (labels last)"
        )
    check_where(caller, where, shape[:1])
    return shape


def _check_relevant(caller, relevant, shape, where) -> None:
    dtype = dtype_of(caller, "relevant", relevant)
    if dtype != jnp.bool_ and not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"{caller}: relevant has dtype {dtype}, expected bool or integers 0 and 1"
        )
    if shape_of(relevant) != shape:
        raise ValueError(
            f"{caller}: relevant has shape {shape_of(relevant)}, expected {shape}"
            " (multi-hot)"
        )
    if is_concrete(relevant, where):
        values = host(relevant)
        bad = (values != 0) & (values != 1)
        if where is not None:
            bad &= host(where)[:, None]
        if bad.any():
            raise ValueError(
                f"{caller}: relevant holds {values[bad][0]}, expected 0 or 1"
            )


def _check_below(caller, class_counts, num_examples) -> None:
    for j, count in enumerate(host(class_counts)):
        if not 0 < count < num_examples:
            raise ValueError(
                f"{caller}: label {j} has count {count}, expected one in"
                f" (0, num_examples = {num_examples})"
            )


def _list_length(caller, k, shape, of="labels") -> tuple[jax.Array, int]:
    """K of each row [B], and the static length of the longest list of competitors."""
    batch, size = shape
    if isinstance(k, int):
        if not 1 <= k <= size:
            raise ValueError(
                f"{caller}: k is {k}, expected 1 to {size}, the number of {of}"
            )
        return jnp.full((batch,), k), min(k + 1, size)
    if not jnp.issubdtype(jnp.result_type(k), jnp.integer):
        raise TypeError(
            f"{caller}: k has dtype {jnp.result_type(k)}, expected an int or int [B]"
        )
    if shape_of(k) not in ((), (batch,)):
        raise ValueError(
            f"{caller}: k has shape {shape_of(k)}, expected a scalar or ({batch},)"
        )
    lengths = jnp.clip(jnp.asarray(k), 1, size)
    return jnp.broadcast_to(lengths, (batch,)), size
