r"""Decoupled classifiers: the backbone is kept, only the last layer is rebalanced.

Instance-balanced training gives good features and a biased head. These are the ways of
mending the head: rescale its columns by their norm (tau-normalization), learn one scale
per class (LWS), or train a fresh one (cRT).

Weights are kernels [D, K] as in Flax, one *column* per class, so `features @ weights`
are the logits. (PyTorch, and the papers, have the transpose [K, D].)
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_classes_last,
    check_floating,
    check_rank,
    check_whole,
    shape_of,
)
from ltjax._numerics import as_key, at_least_float32, safe_norm

# Columns up to this norm count as zero: never updated, not merely small.
ZERO_NORM = 1e-12


def _check_weights(caller: str, weights: ArrayLike) -> jax.Array:
    check_rank(caller, "weights", weights, 2, "[D, K]")
    check_floating(caller, "weights", weights)
    return at_least_float32(weights)


def _over_classes(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A class vector [K] with leading axes of 1, to meet logits [..., K]."""
    return jnp.expand_dims(vector, range(like.ndim - 1))


def inverse_norm_scale(weights: ArrayLike, *, tau: float | ArrayLike) -> jax.Array:
    r"""Per-class scale :math:`f_k = \|w_k\|^{-\tau}`, and 1 for a zero column.

    The factor of tau-normalization, and a start for learnable weight scaling. A column
    that was never updated stays zero under any factor; with 1 the rounding error of its
    logits stays small too.

    Args:
        weights: [D, K] float kernel, one column per class.
        tau: 0 leaves the head as it is, 1 makes all columns unit vectors.

    Returns:
        [K] float32.

    Raises:
        ValueError: if weights are not a matrix.

    Example:
        >>> inverse_norm_scale(jnp.array([[3.0, 0.0], [4.0, 2.0]]), tau=-1.0).tolist()
        [5.0, 2.0]
    """
    weights = _check_weights("inverse_norm_scale", weights)
    norm = safe_norm(weights, axis=0, floor=ZERO_NORM)
    return jnp.where(norm > ZERO_NORM, norm, 1.0) ** -jnp.asarray(tau)


def tau_normalize(weights: ArrayLike, *, tau: float | ArrayLike) -> jax.Array:
    r"""Rescaled classifier, :math:`\tilde w_k = w_k / \|w_k\|^\tau`.

    After instance-balanced training the norm of a class's weights grows with its number
    of examples; dividing it away moves the boundaries towards the head classes. Drop
    the bias with it (see `tau_normalize_logits` for what a kept one means).

    Args:
        weights: [D, K] float kernel, one column per class.
        tau: strength, usually in [0, 2]; about .7 is typical. May be traced.

    Returns:
        [D, K] float32. A zero column stays zero.

    Raises:
        ValueError: if weights are not a matrix.
        TypeError: if they are not floating point.

    Example:
        >>> weights = jnp.array([[15.0, 0.0], [20.0, 4.0]])
        >>> tau_normalize(weights, tau=0.5).tolist()
        [[3.0, 0.0], [4.0, 2.0]]

    Limits: tau=0 is the identity (without bias, hence not the jointly trained head);
    tau=1 gives cosines times the feature norm.

    References:
        Kang et al., "Decoupling Representation and Classifier for Long-Tailed
        Recognition", ICLR 2020, section 4.3, and its published code. tau belongs to
        validation data; the authors chose it on iNaturalist's test set.
    """
    weights = _check_weights("tau_normalize", weights)
    return weights * inverse_norm_scale(weights, tau=tau)[None, :]


def tau_normalize_logits(
    logits: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    tau: float | ArrayLike,
    bias_mode: str = "drop",
) -> jax.Array:
    r"""Logits of the tau-normalized head, from those of the head as trained.

    .. math:: \tilde z_k = \frac{z_k - b_k}{\|w_k\|^\tau} \; [\, + \, b_k \,]

    No feature is needed, so a sweep over tau costs one multiplication per logit.

    Args:
        logits: [..., K] float, :math:`z = h W + b` of the head as trained.
        weights: [D, K] float kernel of that head.
        bias: [K], its bias; None if it has none.
        tau: strength.
        bias_mode: "drop" (published) or "keep", which adds the bias back unscaled, so
            that tau=0 is the head as trained.

    Returns:
        [..., K] float32.

    Raises:
        ValueError: if shapes disagree or `bias_mode` is unknown.

    Example:
        >>> weights = jnp.array([[3.0, 0.6, 0.0], [4.0, 0.8, 2.0]])
        >>> logits = jnp.array([1.0, 0.5]) @ weights
        >>> tau_normalize_logits(logits, weights, tau=1.0).round(4).tolist()
        [1.0, 1.0, 0.5]

    References:
        Kang et al., ICLR 2020. The published script drops the bias although the head
        was trained with one.
    """
    name = "tau_normalize_logits"
    check_classes_last(name, "logits", logits)
    check_choice(name, "bias_mode", bias_mode, ("drop", "keep"))
    num_classes = shape_of(logits)[-1]
    scale = inverse_norm_scale(weights, tau=tau)
    check_class_vector(name, "the column norms of weights", scale, num_classes)
    logits = at_least_float32(logits)
    if bias is None:
        return logits * _over_classes(scale, logits)
    check_class_vector(name, "bias", bias, num_classes)
    bias = _over_classes(jnp.asarray(bias, logits.dtype), logits)
    scaled = (logits - bias) * _over_classes(scale, logits)
    return scaled + bias if bias_mode == "keep" else scaled


def learnable_weight_scaling(logits: ArrayLike, scale: ArrayLike) -> jax.Array:
    r"""Logits with one learnable scale per class, :math:`f \odot (h W + b)`.

    Only f [K] is trained, by cross-entropy under class-balanced sampling, with W and b
    frozen: logits computed once are all the data it needs. The bias is scaled too.

    Args:
        logits: [..., K] float, of the frozen head.
        scale: [K] float, the trained parameter f.

    Returns:
        [..., K] float32.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> learnable_weight_scaling(
        ...     jnp.array([5.0, 1.0]), init_weight_scaling(jnp.ones((3, 2)))).tolist()
        [5.0, 1.0]

    References:
        Kang et al., ICLR 2020, section 4.4.
    """
    name = "learnable_weight_scaling"
    check_classes_last(name, "logits", logits)
    check_class_vector(name, "scale", scale, shape_of(logits)[-1])
    logits = at_least_float32(logits)
    return logits * _over_classes(jnp.asarray(scale, logits.dtype), logits)


def init_weight_scaling(
    weights: ArrayLike, *, tau: float | ArrayLike = 0.0
) -> jax.Array:
    r"""Start of learnable weight scaling, :math:`f_k = \|w_k\|^{-\tau}`.

    Args:
        weights: [D, K] float kernel of the frozen head.
        tau: 0 starts at ones, as published; .5 starts half-way to unit columns, which
            takes about one epoch to train instead of five.

    Returns:
        [K] float32.

    Raises:
        ValueError: if weights are not a matrix.

    Example:
        >>> init_weight_scaling(jnp.array([[3.0, 0.0], [4.0, 2.0]])).tolist()
        [1.0, 1.0]

    References:
        Kang et al., ICLR 2020: the formula with tau > 0 motivates the method, the
        published code starts from ones.
    """
    return inverse_norm_scale(weights, tau=tau)


def fresh_linear_head(
    key: ArrayLike, dim: int, num_classes: int, *, use_bias: bool = True
) -> dict[str, jax.Array]:
    r"""New parameters of a linear head, :math:`U(-1/\sqrt D, 1/\sqrt D)`.

    Args:
        key: typed key, PRNGKey or int seed.
        dim: feature width D.
        num_classes: K.
        use_bias: whether the head has a bias.

    Returns:
        {"kernel": [D, K]} and, with a bias, "bias": [K]; float32.

    Raises:
        ValueError: if a size is not positive.

    Example:
        >>> jax.tree.map(jnp.shape, fresh_linear_head(jax.random.key(0), 4, 3))
        {'bias': (3,), 'kernel': (4, 3)}

    References:
        Kang et al., ICLR 2020: the published classifier re-training skips the stage-1
        head, so the layer's default initialization (PyTorch's, this one) stays.
    """
    check_whole("fresh_linear_head", "dim", dim, low=1)
    check_whole("fresh_linear_head", "num_classes", num_classes, low=1)
    bound = 1 / math.sqrt(dim)
    kernel_key, bias_key = jax.random.split(as_key("fresh_linear_head", key))

    def draw(key, *shape):
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    head = {"kernel": draw(kernel_key, dim, num_classes)}
    return head | {"bias": draw(bias_key, num_classes)} if use_bias else head


def replace_head(
    params: Mapping[str, Any], head: Mapping[str, Any], *, name: str = "head"
) -> dict[str, Any]:
    """Parameters with another head, everything else untouched (cRT's first act).

    Args:
        params: parameter tree whose top level holds the head under `name`.
        head: the new head's parameters (`fresh_linear_head`, or the "head" of a newly
            initialized model of the same kind).
        name: key of the head.

    Returns:
        A new tree; the other leaves are the very same arrays.

    Raises:
        ValueError: if there is no such head, or the new one differs in names or shapes.

    Example:
        >>> params = {"conv": 1.0, "head": {"kernel": jnp.ones((2, 3))}}
        >>> new = replace_head(params, {"kernel": jnp.zeros((2, 3))})
        >>> float(new["head"]["kernel"].sum()), new["conv"]
        (0.0, 1.0)

    References:
        Kang et al., ICLR 2020, section 4.1 (classifier re-training).
    """
    if name not in params:
        raise ValueError(
            f"replace_head: no {name!r} among the parameters {sorted(params)}"
        )
    old, new = (jax.tree.map(shape_of, dict(tree)) for tree in (params[name], head))
    if old != new:
        raise ValueError(
            f"replace_head: the new head has shapes {new}, expected those of {name!r},"
            f" {old}"
        )
    return {**params, name: dict(head)}
