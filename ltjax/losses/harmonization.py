r"""Geometric harmonization: latent classes with equal shares of the sphere.

K vertices of a fixed frame stand for latent classes. The features of a batch are
assigned to them by optimal transport under *estimated* class proportions, and each view
predicts the other's assignment. Under uniform proportions the tail would be merged to
fill its share; under its own proportions every class keeps a vertex of its own.

    frame = simplex_etf(key, K, D)  # grassmannian_frame for K > D + 1
    loss = nt_xent(z1, z2) + weight * geometric_harmonization(z1, z2, frame, prior)
    table = update_latent_logits(table, seen, harmonized_logits(z1, frame), decay=0.9)
    prior = latent_prior(table_of_all_examples, seen)               # every few epochs

References:
    Zhou, Yao, Hong, Zhang, Han, Wang, "Combating Representation Learning Disparity with
    Geometric Harmonization", NeurIPS 2023, and its code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_classes_last,
    check_floating,
    check_range,
    check_rank,
    check_where,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, l2_normalize, mask_rows, mask_values
from ltjax.losses._features import check_same_rows, float_rows

_HIGHEST = jax.lax.Precision.HIGHEST


def harmonized_logits(features: ArrayLike, frame: ArrayLike) -> jax.Array:
    r"""Similarities to the vertices, :math:`t = z M / \|z M\|`, unit in the class axis.

    They depend neither on the norm of a feature nor on its part outside of the frame.

    Args:
        features: [B, D] float.
        frame: [D, K], unit columns.

    Returns:
        [B, K] float32 in [-1, 1].

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> import numpy as np
        >>> frame = jnp.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
        >>> logits = harmonized_logits(jnp.array([[2.0, 0.0]]), frame)
        >>> print(np.asarray(logits).round(4))
        [[ 0.8165 -0.4082 -0.4082]]

    References:
        The second normalization is in the code only; the paper normalizes z.
    """
    check_rank("harmonized_logits", "features", features, 2, "[B, D]")
    check_floating("harmonized_logits", "features", features)
    check_classes_last("harmonized_logits", "frame", frame)
    if len(shape_of(frame)) != 2 or shape_of(frame)[0] != shape_of(features)[1]:
        raise ValueError(
            f"harmonized_logits: frame has shape {shape_of(frame)}, expected"
            f" [{shape_of(features)[1]}, K]"
        )
    features = at_least_float32(features)
    frame = jax.lax.stop_gradient(jnp.asarray(frame).astype(features.dtype))
    return l2_normalize(jnp.matmul(features, frame, precision=_HIGHEST))


class SurrogateLabels(NamedTuple):
    """Assignments of a batch to latent classes.

    Attributes:
        labels: [B, K], rows sum to 1; zero for masked rows.
        iterations: int32 scalar, sweeps made.
        error: scalar, largest deviation of a column mean from its prior.
    """

    labels: jax.Array
    iterations: jax.Array
    error: jax.Array


def surrogate_labels(
    logits: ArrayLike,
    prior: ArrayLike,
    *,
    strength: float | ArrayLike = 20.0,
    iterations: int = 300,
    tol: float | ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> SurrogateLabels:
    r"""Labels of given proportions that agree best with the logits (Sinkhorn-Knopp).

    .. math:: \hat Q_{ik} = B\, r_k\, e^{\lambda t_{ik}}\, c_i, \qquad
              \sum_k \hat Q_{ik} = 1, \quad \frac1B \sum_i \hat Q_{ik} = \pi_k

    A sweep scales the columns to the prior and then the rows to 1, in the logarithm.
    Rows are exact after every sweep, column means in the limit. No gradient flows.

    Args:
        logits: [B, K] float, `harmonized_logits`.
        prior: [K] >= 0, proportions of the latent classes; a class of 0 gets no label.
        strength: :math:`\lambda`, on the logits themselves.
        iterations: most sweeps.
        tol: stops when no column mean is further than this from its prior; 0 makes all
            sweeps. Features without clusters need 2 to 6 sweeps for 1e-3, well
            clustered ones 50.
        where: optional [B] bool; False rows take no part.

    Returns:
        SurrogateLabels.

    Raises:
        ValueError: if shapes disagree, the prior has a negative value or nothing but
            zeros, the strength is not positive or there is no sweep.

    Example:
        >>> import numpy as np
        >>> t = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> found = surrogate_labels(t, jnp.array([0.5, 0.5]), strength=1.0)
        >>> print(np.asarray(found.labels).round(4))
        [[0.7311 0.2689]
         [0.2689 0.7311]]

    References:
        NeurIPS 2023, eq. 4 and 5. Taken literally the paper raises the softmax at
        temperature .1 to the power :math:`\lambda`; its code has exp(20 t), as here.
        Cuturi, "Sinkhorn Distances", NeurIPS 2013.
    """
    name = "surrogate_labels"
    check_rank(name, "logits", logits, 2, "[B, K]")
    check_floating(name, "logits", logits)
    check_class_vector(name, "prior", prior, shape_of(logits)[1])
    if is_concrete(prior) and not (np.all(np.asarray(prior) >= 0) and np.any(prior)):
        raise ValueError(
            f"{name}: prior is {np.asarray(prior)}, expected values >= 0, of which one"
            " is positive"
        )
    check_range(name, "strength", strength, low=0.0, open_low=True)
    check_where(name, where, shape_of(logits)[:1])
    if is_concrete(iterations) and iterations < 1:
        raise ValueError(f"{name}: iterations is {iterations}, expected at least 1")
    scores = jax.lax.stop_gradient(mask_rows(where, at_least_float32(logits)))
    scores = scores * jnp.asarray(strength).astype(scores.dtype)
    prior = jax.lax.stop_gradient(jnp.asarray(prior)).astype(scores.dtype)
    prior = prior / jnp.sum(prior)
    # A class of proportion 0 has a potential of -inf, and so a label of exactly 0.
    log_prior = jnp.log(prior)
    keep = None if where is None else jnp.asarray(where)
    count = scores.shape[0] if keep is None else jnp.maximum(jnp.sum(keep), 1)
    log_count = jnp.log(jnp.asarray(count).astype(scores.dtype))

    def kept(row):
        return row if keep is None else jnp.where(keep, row, -jnp.inf)

    def column_totals(row):
        total = jax.nn.logsumexp(scores + row[:, None], axis=0)
        return jnp.where(total > -jnp.inf, total, 0.0)

    def sweep(state):
        total, _, _, done = state
        column = log_prior - total
        row = kept(-log_count - jax.nn.logsumexp(scores + column[None, :], axis=1))
        total = column_totals(row)
        error = jnp.max(jnp.abs(jnp.exp(column + total) - prior))
        return total, column, error, done + 1

    def more(state):
        _, _, error, done = state
        return (done < iterations) & (error > tol)

    total = column_totals(kept(jnp.zeros_like(scores[:, 0]) - log_count))
    start = (
        total,
        log_prior,
        jnp.full((), jnp.inf, scores.dtype),
        jnp.zeros((), jnp.int32),
    )
    _, column, error, done = jax.lax.while_loop(more, sweep, start)
    labels = jax.nn.softmax(scores + column[None, :], axis=1)
    labels = labels if keep is None else mask_rows(keep, labels)
    return SurrogateLabels(labels, done, error)


def geometric_harmonization(
    first: ArrayLike,
    second: ArrayLike,
    frame: ArrayLike,
    prior: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.1,
    strength: float | ArrayLike = 20.0,
    iterations: int = 300,
    tol: float | ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of each view to the surrogate labels of the other (GH).

    .. math:: \ell_i = -\sum_k \hat Q^{(1)}_{ik} \log q^{(2)}_{ik}
              - \sum_k \hat Q^{(2)}_{ik} \log q^{(1)}_{ik}, \qquad
              q = \mathrm{softmax}(t / \gamma)

    with the `harmonized_logits` t of each view and their `surrogate_labels`. Added to a
    contrastive loss after a warm-up. No gradient goes into labels, frame and prior.

    Args:
        first: [B, D] float, projections of the first views.
        second: [B, D] float, of the second views.
        frame: [D, K] fixed unit columns of `ltjax.classifiers`: `simplex_etf`, or
            `grassmannian_frame` where K > D + 1. Published runs: K = 100, D = 128.
        prior: [K] >= 0, estimated proportions of the latent classes (`latent_prior`).
        temperature: :math:`\gamma > 0` of the predictions.
        strength: :math:`\lambda` of the surrogate labels.
        iterations: most sweeps of the surrogate labels.
        tol: they stop at this error; 0 makes all sweeps, as published.
        where: optional [B] bool; False images cost 0 and take no part in the labels.

    Returns:
        [B] float32 loss in nats, the *sum* of both directions, not reduced.

    Raises:
        ValueError: if shapes disagree or a hyper-parameter is out of range.
        TypeError: if the features are not floating point.

    Example:
        >>> z, frame = jnp.eye(2), jnp.array([[1.0, -1.0], [0.0, 0.0]])
        >>> loss = geometric_harmonization(z, z, frame, jnp.array([0.5, 0.5]))
        >>> loss.shape
        (2,)

    Limits: about 0.0085, the least there is, for features at the vertices of a simplex
    of K = 100.

    References:
        NeurIPS 2023, eq. 3 and definition 3.1; sum and normalization as in the code.
    """
    name = "geometric_harmonization"
    check_same_rows(name, first=first, second=second)
    check_where(name, where, shape_of(first)[:1])
    check_range(name, "temperature", temperature, low=0.0, open_low=True)
    views = float_rows(where, first, second)
    one, two = (harmonized_logits(view, frame) for view in views)
    options = {"strength": strength, "iterations": iterations, "tol": tol}

    def towards(logits, other):
        labels = surrogate_labels(other, prior, where=where, **options).labels
        scaled = logits / jnp.asarray(temperature).astype(logits.dtype)
        return -jnp.sum(labels * jax.nn.log_softmax(scaled, axis=1), axis=1)

    return mask_values(towards(two, one) + towards(one, two), where)


def update_latent_logits(
    logits: ArrayLike,
    seen: ArrayLike,
    new: ArrayLike,
    *,
    decay: float | ArrayLike,
) -> jax.Array:
    r"""Moving average of the logits of visited examples; the first visit starts it.

    Args:
        logits: [B, K] rows of the table that belong to the batch.
        seen: [B] bool, whether these examples were visited before.
        new: [B, K] `harmonized_logits` of the first view.
        decay: :math:`\beta`, 0.9 during the warm-up and 0.999 afterwards.

    Returns:
        [B, K] the new rows: `new` where not seen, else
        :math:`\beta\, \text{logits} + (1 - \beta)\, \text{new}`.

    Raises:
        ValueError: if shapes disagree or the decay is not in [0, 1].

    Example:
        >>> update_latent_logits(jnp.ones((2, 1)), jnp.array([True, False]),
        ...                      jnp.zeros((2, 1)), decay=0.9).tolist()
        [[0.8999999761581421], [0.0]]

    References:
        NeurIPS 2023, released code, where the table is not initialized and the first
        epoch adds to what memory holds; the first visit here assigns.
    """
    name = "update_latent_logits"
    check_range(name, "decay", decay, low=0.0, high=1.0)
    check_where(f"{name} (seen)", seen, shape_of(new)[:1])
    if shape_of(logits) != shape_of(new):
        raise ValueError(
            f"{name}: logits have shape {shape_of(logits)}, expected {shape_of(new)}"
        )
    new = jax.lax.stop_gradient(at_least_float32(new))
    decay = jnp.asarray(decay).astype(new.dtype)
    old = mask_rows(seen, jnp.asarray(logits).astype(new.dtype))
    return jnp.where(jnp.asarray(seen)[:, None], decay * old + (1 - decay) * new, new)


def latent_prior(
    logits: ArrayLike, seen: ArrayLike, *, floor: float | ArrayLike = 0.0
) -> jax.Array:
    r"""Proportions of the latent classes among the visited examples.

    .. math:: \pi_k = \frac{n_k + f}{\sum_l (n_l + f)}, \qquad
              n_k = |\{i : \arg\max_l t_{il} = k\}|

    Args:
        logits: [N, K] the table of `update_latent_logits`.
        seen: [N] bool, the examples visited so far.
        floor: f, examples added to every class: 0 on CIFAR, 100 on ImageNet-LT and
            Places-LT.

    Returns:
        [K] float32 summing to 1; uniform if nothing was seen and there is no floor.

    Raises:
        ValueError: if shapes disagree or the floor is negative.

    Example:
        >>> import numpy as np
        >>> table = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.2, 0.8], [0.0, 0.0]])
        >>> seen = jnp.array([True, True, True, False])
        >>> print(np.asarray(latent_prior(table, seen)).round(4))
        [0.6667 0.3333]

    References:
        NeurIPS 2023, section 3.3 and released code (the floor; ties go to the lowest
        class).
    """
    check_rank("latent_prior", "logits", logits, 2, "[N, K]")
    check_where("latent_prior (seen)", seen, shape_of(logits)[:1])
    check_range("latent_prior", "floor", floor, low=0.0)
    logits = at_least_float32(logits)
    num_classes = logits.shape[1]
    label = jnp.where(seen, jnp.argmax(logits, axis=1), num_classes)
    counts = jnp.zeros((num_classes,), jnp.int32).at[label].add(1, mode="drop")
    amounts = counts.astype(logits.dtype) + jnp.asarray(floor).astype(logits.dtype)
    total = jnp.sum(amounts)
    return jnp.where(
        total > 0, amounts / jnp.where(total > 0, total, 1), 1 / num_classes
    )
