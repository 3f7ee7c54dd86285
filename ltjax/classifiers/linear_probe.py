r"""Linear classifiers that judge features: solved to the optimum, not trained.

A probe is a convex problem. Solving it takes seconds on the device, has neither a
learning rate nor a seed, and means the same in every comparison; the published
protocols approximate it with 30 to 500 epochs of SGD or Adam.

    rows = probe_rows(labels, num_classes, per_class=50)      # few-shot; or all rows
    probe = logistic_probe(features[rows], labels[rows], num_classes=100, l2=1e-4)
    logits = probe_logits(probe, test_features)
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_floating,
    check_logits_labels,
    check_range,
    check_rank,
    check_where,
    check_whole,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import (
    class_indices,
    class_lookup,
    host,
    l2_normalize,
    mask_rows,
)
from ltjax.class_stats import count_labels
from ltjax.classifiers._newton import newton_cg

_HIGHEST = jax.lax.Precision.HIGHEST
# Below any sum of weights or curvatures that matters.
_TINY = 1e-30
# Hessian products in one Newton step.
_MAX_PRODUCTS = 200


class LinearProbe(NamedTuple):
    """A solved linear classifier; its logits are `features @ kernel + bias`.

    Attributes:
        kernel: [D, K].
        bias: [K].
        objective: scalar, the minimum.
        gradient_norm: scalar, Euclidean norm of the objective's gradient there.
        iterations: int32 scalar, Newton steps taken.
    """

    kernel: jax.Array
    bias: jax.Array
    objective: jax.Array
    gradient_norm: jax.Array
    iterations: jax.Array


def _checked(caller, features, labels, class_weights, num_classes, where):
    """Features, labels, and weights w / N [N], zero for rows that do not count."""
    check_whole(caller, "num_classes", num_classes, low=1)
    check_rank(caller, "features", features, 2, "[N, D]")
    check_floating(caller, "features", features)
    if not shape_of(features)[1]:
        raise ValueError(f"{caller}: features has shape {shape_of(features)}, D is 0")
    check_logits_labels(caller, features, labels)
    check_where(caller, where, shape_of(labels))
    dtype = jnp.result_type(jnp.float32, jnp.asarray(features))
    labels = class_indices(labels)
    keep = (labels >= 0) & (labels < num_classes)
    keep = keep if where is None else keep & jnp.asarray(where)
    features = mask_rows(keep, jnp.asarray(features).astype(dtype))
    labels = mask_rows(keep, labels)
    weights = keep.astype(dtype)
    if class_weights is not None:
        check_class_vector(caller, "class_weights", class_weights, num_classes)
        weights *= jnp.take(jnp.asarray(class_weights).astype(dtype), labels)
    return features, labels, weights / jnp.maximum(jnp.sum(keep), 1)


def _check_every_class(caller, labels, num_classes, where):
    """Raises ValueError for a class without a row; nothing is known while tracing."""
    if not is_concrete(labels) or not is_concrete(where):
        return
    kept = (
        np.asarray(labels) if where is None else np.asarray(labels)[np.asarray(where)]
    )
    missing = np.setdiff1d(np.arange(num_classes), kept)
    if len(missing):
        raise ValueError(
            f"{caller}: class {missing[0]} has no row ({len(missing)} of {num_classes}"
            " have none), so that nothing tells it from the others, expected a row of"
            " each"
        )


def _inverse(moments, ridge):
    """Map b -> (moments + ridge I)^-1 b, kept positive definite in rounding.

    The inverse is formed, as a preconditioner may: one product in each inner step is
    several times faster than two triangular solves.
    """
    size = moments.shape[0]
    trace = jnp.trace(moments) / size
    slack = 4 * size * jnp.finfo(moments.dtype).eps * trace
    eye = jnp.eye(size, dtype=moments.dtype)
    factor = jax.scipy.linalg.cho_factor(moments + (ridge + slack) * eye)
    inverse = jax.scipy.linalg.cho_solve(factor, eye)
    return lambda b: jnp.matmul(inverse, b, precision=_HIGHEST)


def logistic_probe(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    l2: float | ArrayLike,
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    tol: float | ArrayLike | None = None,
    max_iterations: int = 100,
) -> LinearProbe:
    r"""Multinomial logistic regression with an L2 penalty, solved to the optimum.

    .. math:: \min_{W, b} \; \frac1N \sum_i w_{y_i}\,
              \mathrm{CE}(x_i W + b,\, y_i) + \frac{\lambda}{2} \|W\|_F^2

    by truncated Newton steps on centered features, preconditioned with the Hessian's
    diagonal blocks, averaged over the classes: badly scaled features cost few more
    steps than whitened ones. Shapes and K are static; everything else may be traced,
    and `jax.vmap` over `l2`, `where` or `class_weights` solves a grid or many subsets
    at once.

    Args:
        features: [N, D] float.
        labels: [N] int class indices; rows with others do not count.
        num_classes: K.
        l2: :math:`\lambda > 0`. Scikit-learn's C is 1 / (N l2). The bias is free.
        class_weights: optional [K] w, e.g. `class_stats.class_balanced_weights` for a
            probe that does not favor the head.
        where: optional [N] bool; False rows do not count, as if they were not there.
        tol: the norm of the gradient to reach; default 1e-8 in float64, 1e-5 in
            float32.
        max_iterations: limit of the Newton steps.

    Returns:
        LinearProbe; its `gradient_norm` says how close the optimum is. The biases sum
        to 0.

    Raises:
        ValueError: if shapes disagree, l2 is not positive, or a class has no row
            (unless labels or `where` are traced): its free bias has no optimum.
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> x, y = jnp.array([[-1.0], [0.0], [1.0], [2.0]]), jnp.array([0, 0, 1, 1])
        >>> probe = logistic_probe(x, y, num_classes=2, l2=0.1)
        >>> probe_logits(probe, x).argmax(axis=1).tolist()
        [0, 0, 1, 1]

    References:
        Nocedal and Wright, "Numerical Optimization", 2nd ed. 2006, section 7.1 (the
        solver). The papers train probes by SGD or Adam; the penalty of Zhou et al.,
        "Contrastive Learning with Boosted Memorization", ICML 2022, is l2 = 5e-6.
    """
    name = "logistic_probe"
    check_range(name, "l2", l2, low=0.0, open_low=True)
    checked = _checked(name, features, labels, class_weights, num_classes, where)
    _check_every_class(name, labels, num_classes, where)
    return _fit_logistic(
        *checked,
        l2,
        tol,
        num_classes=num_classes,
        max_iterations=max_iterations,
    )


# Compiled here, as a loop called from Python would be compiled again in every call.
@functools.partial(jax.jit, static_argnames=("num_classes", "max_iterations"))
def _fit_logistic(x, y, weights, l2, tol, *, num_classes, max_iterations):
    l2 = jnp.asarray(l2).astype(x.dtype)
    # What centering adds to the logits, the free bias takes away.
    center = (weights @ x / jnp.maximum(jnp.sum(weights), _TINY))[None, :]
    x = jnp.where(weights[:, None] > 0, x - center, 0.0)

    def objective(parameters):
        logits = jnp.matmul(x, parameters[:-1], precision=_HIGHEST) + parameters[-1:]
        losses = jax.nn.logsumexp(logits, axis=1) - class_lookup(logits, y)
        penalty = 0.5 * l2 * jnp.sum(jnp.square(parameters[:-1]))
        return jnp.sum(weights * losses) + penalty

    def preconditioner(parameters):
        logits = jnp.matmul(x, parameters[:-1], precision=_HIGHEST) + parameters[-1:]
        p = jax.nn.softmax(logits)
        curvature = weights[:, None] * p * (1 - p)
        mean = jnp.mean(curvature, axis=1, keepdims=True)
        moments = jnp.matmul((x * mean).T, x, precision=_HIGHEST)
        solve = _inverse(moments, l2)
        of_bias = jnp.maximum(jnp.sum(curvature, axis=0, keepdims=True), _TINY)
        return lambda gradient: jnp.concatenate(
            [solve(gradient[:-1]), gradient[-1:] / of_bias]
        )

    start = jnp.zeros((x.shape[1] + 1, num_classes), x.dtype)
    found = _minimize(objective, start, preconditioner, tol, max_iterations)
    # A constant in all biases changes nothing; they are made to sum to 0.
    offset = jnp.matmul(center, found.kernel, precision=_HIGHEST)[0]
    bias = found.bias - offset
    return found._replace(bias=bias - jnp.mean(bias))


def _minimize(objective, start, preconditioner, tol, max_iterations) -> LinearProbe:
    if tol is None:
        tol = 1e-8 if start.dtype == jnp.float64 else 1e-5
    found = newton_cg(
        objective,
        start,
        preconditioner,
        tol=tol,
        max_iterations=max_iterations,
        max_products=_MAX_PRODUCTS,
    )
    return LinearProbe(found.x[:-1], found.x[-1], *found[1:])


def svm_probe(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    c: float | ArrayLike = 1.0,
    normalize: bool = True,
    where: ArrayLike | None = None,
    tol: float | ArrayLike | None = None,
    max_iterations: int = 200,
) -> LinearProbe:
    r"""One-vs-rest support vector machine with squared hinge, solved to the optimum.

    .. math:: \min_{W, b} \; \tfrac12 \big(\|W\|_F^2 + \|b\|^2\big) + C \sum_{i, k}
              \max(0,\, 1 - \sigma_{ik} (x_i W + b)_k)^2, \quad
              \sigma_{ik} = \pm 1

    divided by N C. The intercept is penalized too.

    Args:
        features: [N, D] float.
        labels: [N] int class indices; rows with others do not count.
        num_classes: K.
        c: C > 0, may be traced.
        normalize: scales every row to unit norm first; do so with the test features.
        where: optional [N] bool; False rows do not count.
        tol: the norm of the gradient to reach; default 1e-8 in float64, 1e-5 in
            float32.
        max_iterations: limit of the Newton steps.

    Returns:
        LinearProbe.

    Raises:
        ValueError: if shapes disagree, C is not positive or a class has no row.
        TypeError: if the features are not floating point or the labels not integer.

    Example:
        >>> x, y = jnp.array([[-1.0], [0.0], [1.0], [2.0]]), jnp.array([0, 0, 1, 1])
        >>> probe = svm_probe(x, y, num_classes=2, normalize=False)
        >>> probe_logits(probe, x).argmax(axis=1).tolist()
        [0, 0, 1, 1]

    References:
        Kukleva et al., "Temperature Schedules for Self-Supervised Contrastive Methods
        on Long-Tail Data", ICLR 2023 (scikit-learn's LinearSVC on normalized features,
        on the smallest class count per class and on the long-tailed training set).
    """
    name = "svm_probe"
    check_range(name, "c", c, low=0.0, open_low=True)
    checked = _checked(name, features, labels, None, num_classes, where)
    _check_every_class(name, labels, num_classes, where)
    return _fit_svm(
        *checked,
        c,
        tol,
        num_classes=num_classes,
        normalize=normalize,
        max_iterations=max_iterations,
    )


@functools.partial(
    jax.jit, static_argnames=("num_classes", "normalize", "max_iterations")
)
def _fit_svm(x, y, weights, c, tol, *, num_classes, normalize, max_iterations):
    x = l2_normalize(x) if normalize else x
    keep = weights > 0
    count = jnp.maximum(jnp.sum(keep), 1).astype(x.dtype)
    penalty = 1 / (jnp.asarray(c).astype(x.dtype) * count)
    sign = 2 * jax.nn.one_hot(y, num_classes, dtype=x.dtype) - 1
    x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1) * keep[:, None]

    def objective(parameters):
        scores = jnp.matmul(x, parameters, precision=_HIGHEST)
        miss = jnp.maximum(1 - sign * scores, 0.0) * keep[:, None]
        squares = jnp.sum(jnp.square(miss)) / count
        return squares + 0.5 * penalty * jnp.sum(jnp.square(parameters))

    moments = jnp.matmul(x.T, x, precision=_HIGHEST) * (2 / count)
    solve = _inverse(moments, penalty)
    start = jnp.zeros((x.shape[1], num_classes), x.dtype)
    return _minimize(objective, start, lambda _: solve, tol, max_iterations)


def probe_logits(probe: LinearProbe, features: ArrayLike) -> jax.Array:
    """Logits of a solved probe.

    Args:
        probe: of `logistic_probe` or `svm_probe`.
        features: [B, D] float, prepared as those it was solved on.

    Returns:
        [B, K].

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> probe = LinearProbe(jnp.eye(2), jnp.ones(2), *[jnp.zeros(())] * 3)
        >>> probe_logits(probe, jnp.array([[1.0, 2.0]])).tolist()
        [[2.0, 3.0]]
    """
    dim = shape_of(probe.kernel)[0]
    dtype_of("probe_logits", "features", features)
    if len(shape_of(features)) != 2 or shape_of(features)[1] != dim:
        raise ValueError(
            f"probe_logits: features has shape {shape_of(features)}, expected"
            f" [B, {dim}]"
        )
    features = jnp.asarray(features)
    product = jnp.matmul(features, probe.kernel, precision=_HIGHEST)
    return product + probe.bias[None, :]


def probe_rows(
    labels: ArrayLike,
    num_classes: int,
    *,
    per_class: int | str = "smallest",
    seed: int = 0,
) -> np.ndarray:
    """A balanced subset of a labeled set, for a few-shot probe.

    The draws are nested: the rows of a class for m examples are the first m of those
    for more. The full-shot and the long-tailed protocol take all rows.

    Args:
        labels: [N] int class indices.
        num_classes: K.
        per_class: m, rows of every class; "smallest" for the count of the rarest.
        seed: of the draw.

    Returns:
        [K * m] int64 sorted indices.

    Raises:
        ValueError: if a class has fewer than m rows, or none.

    Example:
        >>> probe_rows(np.array([0, 0, 0, 1, 1]), 2).size
        4

    References:
        Jiang et al., ICML 2021 (few-shot: 1 % of the images, balanced); Zhou et al.,
        ICML 2022 (100-shot and 50-shot); Kukleva et al., ICLR 2023 (the smallest
        class count of the long-tailed set).
    """
    check_rank("probe_rows", "labels", labels, 1, "[N]")
    known = host(labels)
    counts = count_labels(known, num_classes)
    if isinstance(per_class, str) and per_class != "smallest":
        raise ValueError(
            f"probe_rows: per_class is {per_class!r}, expected an integer or 'smallest'"
        )
    least = int(np.min(counts))
    take = least if per_class == "smallest" else int(per_class)
    if not 1 <= take <= least:
        short = int(np.argmin(counts))
        raise ValueError(
            f"probe_rows: class {short} has {least} row(s), expected at least"
            f" {max(take, 1)}"
        )
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(known == k))[:take]
        for k in range(num_classes)
    ]
    return np.sort(np.concatenate(chosen))
