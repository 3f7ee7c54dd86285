r"""Which given labels to believe: small losses, distances to prototypes, gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_integers,
    check_range,
    check_rank,
    check_where,
    check_whole,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, class_indices
from ltjax.class_stats import count_labels

# Rounding of (1 - R) B in float32 must not cost an example.
_ROUNDING = 1e-6
# Settings of scikit-learn's GaussianMixture.
_VARIANCE_FLOOR, _GMM_TOLERANCE, _GMM_STEPS = 1e-6, 1e-3, 100


def small_loss(
    losses: ArrayLike,
    *,
    forget_rate: float | ArrayLike,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""The examples of a batch with the smallest losses.

    .. math:: \lfloor (1 - R)\, B \rfloor \text{ of them.}

    Co-teaching trains two networks, each on the examples that the other one selects:
    `small_loss(losses_b)` weighs the losses of network a. The mean is over the kept
    examples. Blind to the tail, whose clean examples have large losses as well.

    Args:
        losses: [B] float; NaN ranks last.
        forget_rate: R in [0, 1], see `forget_rate_schedule`; may be traced.
        where: optional [B] bool; B counts the True ones only, False is never kept.

    Returns:
        [B] bool. Equal losses are ranked by index.

    Raises:
        ValueError: if shapes disagree or a readable rate is out of range.

    Example:
        >>> print(small_loss(jnp.array([0.3, 2.0, 0.1, 0.7]), forget_rate=0.5))
        [ True False  True False]

    References:
        Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely
        Noisy Labels", NeurIPS 2018. The released code divides the mean loss of the kept
        examples by their number once more; we do not.
    """
    caller = "small_loss"
    check_rank(caller, "losses", losses, 1, "[B]")
    check_range(caller, "forget_rate", forget_rate, low=0, high=1)
    check_where(caller, where, shape_of(losses))
    values = at_least_float32(jax.lax.stop_gradient(jnp.asarray(losses)))
    kept = jnp.ones(values.shape, bool) if where is None else jnp.asarray(where)
    rate = jnp.asarray(forget_rate).astype(values.dtype)
    size = jnp.floor((1 - rate) * jnp.sum(kept) + _ROUNDING)
    order = jnp.lexsort((values, ~kept))
    rank = jnp.zeros(values.shape, order.dtype).at[order].set(jnp.arange(values.size))
    return kept & (rank < size)


def forget_rate_schedule(
    epoch: float | ArrayLike,
    *,
    noise_rate: float | ArrayLike,
    ramp: int = 10,
) -> jax.Array:
    r"""Co-teaching's rate of dropped examples, :math:`\rho \min(e / (E_k - 1), 1)`.

    Args:
        epoch: e >= 0, from 0.
        noise_rate: rho, the rate of wrong labels (assumed or known).
        ramp: E_k, epochs until the whole rate is reached, >= 2.

    Returns:
        float32 scalar.

    Raises:
        ValueError: if a readable argument is out of range.

    Example:
        >>> rates = [forget_rate_schedule(e, noise_rate=0.45) for e in (0, 1, 9)]
        >>> [f"{rate:.2f}" for rate in rates]
        ['0.00', '0.05', '0.45']

    References:
        Han et al., NeurIPS 2018: the ten equal steps of the released code, which reach
        rho at e = 9; the paper writes min(e / E_k, 1).
    """
    check_range("forget_rate_schedule", "epoch", epoch, low=0)
    check_range("forget_rate_schedule", "noise_rate", noise_rate, low=0, high=1)
    check_range("forget_rate_schedule", "ramp", ramp, low=2)
    share = jnp.minimum(jnp.asarray(epoch, jnp.float32) / (ramp - 1), 1)
    return jnp.asarray(noise_rate, jnp.float32) * share


def cdr_gradient(gradients: Any, params: Any, *, noise_rate: float | ArrayLike) -> Any:
    r"""CDR's split: only the critical weights follow the gradient.

    A weight is critical if :math:`|g\,\theta|` is among the largest
    :math:`\lfloor (1-\rho) P \rfloor` of all P weights in matrices and convolution
    kernels (of rank 2 or more; ties are kept). Their gradients are multiplied by
    :math:`1 - \rho`, those of the other weights are 0, so that weight decay alone acts
    on them. Biases and normalization follow the plain gradient.

    Args:
        gradients: a pytree of arrays.
        params: of the same structure.
        noise_rate: rho in [0, 1]; 0 changes nothing.

    Returns:
        The new gradients.

    Raises:
        ValueError: if the trees differ or a readable rate is out of range.

    Example:
        >>> params = {"w": jnp.array([[1.0, 2.0], [0.1, 3.0]]), "b": jnp.ones(2)}
        >>> new = cdr_gradient({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, params,
        ...                    noise_rate=0.5)
        >>> new["w"].tolist(), new["b"].tolist()
        ([[0.0, 0.5], [0.0, 0.5]], [1.0, 1.0])

    References:
        Xia et al., "Robust Early-Learning: Hindering the Memorization of Noisy Labels",
        ICLR 2021; the constant rate of the released code, which computes a schedule and
        overwrites it and knows kernels of ranks 2 and 4 only, those of its networks.
    """
    caller = "cdr_gradient"
    check_range(caller, "noise_rate", noise_rate, low=0, high=1)
    leaves, tree = jax.tree.flatten(gradients)
    weights, other = jax.tree.flatten(params)
    if tree != other or any(
        shape_of(g) != shape_of(w) for g, w in zip(leaves, weights, strict=True)
    ):
        raise ValueError(f"{caller}: gradients and params differ in structure or shape")
    scores = [
        jnp.abs(at_least_float32(g) * w) if jnp.ndim(g) > 1 else None
        for g, w in zip(leaves, weights, strict=True)
    ]
    pooled = [score.ravel() for score in scores if score is not None]
    if not pooled:
        return gradients
    flat = jnp.sort(jnp.concatenate(pooled))
    if is_concrete(noise_rate):
        size = int((1 - float(np.asarray(noise_rate))) * flat.size + _ROUNDING)
    else:
        rate = jnp.asarray(noise_rate).astype(flat.dtype)
        size = jnp.floor((1 - rate) * flat.size + _ROUNDING).astype(jnp.int32)
    limit = jnp.where(
        size > 0, flat[jnp.clip(flat.size - size, 0, flat.size - 1)], jnp.inf
    )
    keep = 1 - jnp.asarray(noise_rate)
    split = [
        g if score is None else jnp.where(score >= limit, keep.astype(g.dtype) * g, 0)
        for g, score in zip(map(jnp.asarray, leaves), scores, strict=True)
    ]
    return jax.tree.unflatten(tree, split)


class PrototypeCleaning(NamedTuple):
    """What RoLT finds at the start of an epoch.

    Attributes:
        is_clean: [N] bool, labels that are believed.
        scores: [N, K] float64, minus the squared distances to the class prototypes of
            the clean examples; the logits of the nearest-mean classifier.
    """

    is_clean: np.ndarray
    scores: np.ndarray


def prototype_cleaning(
    features: ArrayLike, labels: ArrayLike, num_classes: int
) -> PrototypeCleaning:
    r"""RoLT's class-aware detection of wrong labels.

    Features are centered by their mean and normalized. Twice, first with all examples
    and then with the clean ones: prototypes are the class means, an example's score is
    minus its squared distance to the prototype of its label, scores are scaled to
    [0, 1] within the class, and the clean ones are those of the upper of two Gaussians
    fitted to them (all, if that has no member). Unlike a bound on the loss this treats
    every class by itself.

    Args:
        features: [N, D] real.
        labels: [N] int, given labels.
        num_classes: K.

    Returns:
        PrototypeCleaning. A class without an example has a score of minus infinity, and
        an example at the mean of all features is at distance 1 from a unit prototype.

    Raises:
        ValueError: if shapes disagree, features are not finite, or a label lies outside
            [0, K).

    Example:
        >>> points = [[4.0, 0.1], [4.0, -0.1], [0.0, 4.0], [0.1, 4.0], [-0.1, 4.0]]
        >>> prototype_cleaning(points, [0, 0, 0, 1, 1], 2).is_clean.tolist()
        [True, True, False, True, True]

    References:
        Wei et al., "Robust Long-Tailed Learning under Label Noise", 2021 (RoLT). The
        mixture is that of scikit-learn with its defaults; k-means starts at the
        extremes instead of at random.
    """
    caller = "prototype_cleaning"
    check_rank(caller, "features", features, 2, "[N, D]")
    counts = np.asarray(count_labels(labels, num_classes))
    points, labels = np.asarray(features, np.float64), np.asarray(labels)
    if len(points) != labels.size or not np.all(np.isfinite(points)):
        raise ValueError(
            f"{caller}: features has shape {points.shape}, expected ({labels.size}, D)"
            " of finite numbers"
        )
    if not labels.size:
        return PrototypeCleaning(np.ones(0, bool), np.zeros((0, num_classes)))
    points = points - points.mean(axis=0)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    points = points / np.where(norms > 0, norms, 1)
    present = np.flatnonzero(counts)
    clean = np.ones(labels.size, bool)
    scores = np.full((labels.size, num_classes), -np.inf)
    for _ in range(2):
        means = np.stack([points[(labels == k) & clean].mean(axis=0) for k in present])
        # |x - c|^2 = |x|^2 - 2 x c + |c|^2 does not cancel at unit scale.
        squares = np.sum(points**2, axis=1)[:, None] + np.sum(means**2, axis=1)
        scores[:, present] = -np.maximum(squares - 2 * points @ means.T, 0)
        clean = np.ones(labels.size, bool)
        for k in present:
            at = np.flatnonzero(labels == k)
            own = scores[at, k]
            span = np.ptp(own)
            upper = upper_component((own - own.min()) / (span if span > 0 else 1))
            clean[at] = upper if upper.any() else True
    return PrototypeCleaning(clean, scores)


def upper_component(values: ArrayLike) -> np.ndarray:
    """Members of the component with the larger mean, of two Gaussians on a line.

    Args:
        values: [n] float.

    Returns:
        [n] bool; all True for fewer than two different values.

    Raises:
        ValueError: if values is not a vector.

    Example:
        >>> upper_component([0.0, 0.1, 0.9, 1.0, 0.95]).tolist()
        [False, False, True, True, True]

    References:
        scikit-learn's GaussianMixture(2): variances with a floor of 1e-6, at most 100
        steps, until the mean log-likelihood moves by less than 1e-3.
    """
    check_rank("upper_component", "values", values, 1, "[n]")
    x = np.asarray(values, np.float64)
    if x.size < 2 or np.ptp(x) == 0:
        return np.ones(x.size, bool)
    share = _two_means(x).astype(np.float64)
    previous = -np.inf
    densities = mean = np.zeros(2)
    for _ in range(_GMM_STEPS):
        weights = np.stack([1 - share, share], axis=1)
        size = weights.sum(axis=0) + 10 * np.finfo(np.float64).eps
        mean = weights.T @ x / size
        away = x[:, None] - mean
        variance = np.sum(weights * away**2, axis=0) / size + _VARIANCE_FLOOR
        densities = np.log(size / x.size) - 0.5 * (
            np.log(2 * np.pi * variance) + away**2 / variance
        )
        total = np.logaddexp(densities[:, 0], densities[:, 1])
        share = np.exp(densities[:, 1] - total)
        likelihood = total.mean()
        if abs(likelihood - previous) < _GMM_TOLERANCE:
            break
        previous = likelihood
    upper = densities[:, 1] > densities[:, 0]
    return upper if mean[1] > mean[0] else ~upper


def _two_means(x) -> np.ndarray:
    """Members of the upper of two clusters on a line, by k-means from the extremes."""
    low, high = x.min(), x.max()
    upper = np.abs(x - low) > np.abs(x - high)
    while True:
        low, high = x[~upper].mean(), x[upper].mean()
        moved = np.abs(x - low) > np.abs(x - high)
        if np.array_equal(moved, upper):
            return upper
        upper = moved


def rolt_targets(
    labels: ArrayLike,
    is_clean: ArrayLike,
    predicted: ArrayLike,
    nearest: ArrayLike,
    *,
    num_classes: int,
) -> jax.Array:
    r"""RoLT's soft targets: given labels where they are clean, a mixture elsewhere.

    .. math:: q = 0.4\, e_{\hat y} + 0.2\, e_{y'} + 0.2\, e_{\tilde y} + 0.2 / K

    Args:
        labels: [B] int, given labels.
        is_clean: [B] bool, from `prototype_cleaning`.
        predicted: [B] int, the classifier's class, of logits averaged over epochs with
            a weight of 0.6 on the past.
        nearest: [B] int, the class of the nearest prototype, of averaged scores.
        num_classes: K.

    Returns:
        [B, K] float32, rows sum to 1.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> labels, clean = jnp.array([0, 1]), jnp.array([True, False])
        >>> guesses = jnp.array([1, 0])
        >>> rows = rolt_targets(labels, clean, guesses, guesses, num_classes=2)
        >>> [f"{p:.1f}" for p in rows.ravel()]
        ['1.0', '0.0', '0.7', '0.3']

    References:
        Wei et al., 2021 (RoLT), from epoch 80 on.
    """
    caller = "rolt_targets"
    check_whole(caller, "num_classes", num_classes, low=1)
    shape = shape_of(labels)
    dtype_of(caller, "is_clean", is_clean)
    for name, values in (("labels", labels), ("predicted", predicted)):
        check_integers(caller, name, values)
    check_integers(caller, "nearest", nearest)
    given = {"is_clean": is_clean, "predicted": predicted, "nearest": nearest}
    for name, values in given.items():
        if shape_of(values) != shape:
            raise ValueError(
                f"{caller}: {name} has shape {shape_of(values)}, expected {shape}"
            )
    own, guess, other = (
        jax.nn.one_hot(class_indices(y), num_classes)
        for y in (labels, predicted, nearest)
    )
    mixed = 0.4 * guess + 0.2 * other + 0.2 * own + 0.2 / num_classes
    return jnp.where(jnp.asarray(is_clean)[..., None], own, mixed)
