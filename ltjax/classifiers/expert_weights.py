r"""Weights of several experts on a test set without labels, by prediction stability."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_class_vector,
    check_floating,
    check_range,
    check_rank,
    check_whole,
    shape_of,
)
from ltjax._numerics import at_least_float32


def prediction_stability(
    first: ArrayLike, second: ArrayLike, weights: ArrayLike
) -> jax.Array:
    r"""How alike the predictions of weighted experts are on two views.

    .. math:: s_i = \cos\big( \mathrm{softmax}(\textstyle\sum_e w_e z_{ie}),\;
              \mathrm{softmax}(\sum_e w_e z'_{ie}) \big)

    Args:
        first: [N, E, K] float, expert logits on one view.
        second: likewise on another one.
        weights: [E], w.

    Returns:
        [N] float32 in (0, 1].

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floating point.

    Example:
        >>> z = jnp.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> print(prediction_stability(z, z, jnp.array([0.5, 0.5]))[0].round(4))
        1.0

    References:
        Zhang et al., NeurIPS 2022 (SADE), eq. 6.
    """
    _check_views("prediction_stability", first, second)
    check_class_vector(
        "prediction_stability", "weights", weights, shape_of(first)[1], "experts"
    )
    p, q = (
        jax.nn.softmax(jnp.einsum("e,nek->nk", jnp.asarray(weights), z))
        for z in (at_least_float32(first), at_least_float32(second))
    )
    norms = jnp.linalg.norm(p, axis=-1) * jnp.linalg.norm(q, axis=-1)
    return jnp.sum(p * q, axis=-1) / norms


def _check_views(caller: str, first: ArrayLike, second: ArrayLike) -> None:
    check_floating(caller, "first", first)
    check_floating(caller, "second", second)
    if len(shape_of(first)) != 3 or shape_of(second) != shape_of(first):
        raise ValueError(
            f"{caller}: first has shape {shape_of(first)} and second"
            f" {shape_of(second)}, expected [N, E, K] twice"
        )


def stable_expert_weights(
    first: ArrayLike,
    second: ArrayLike,
    *,
    key: jax.Array,
    example_weights: ArrayLike | None = None,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float | ArrayLike = 0.1,
    momentum: float | ArrayLike = 0.9,
    weight_decay: float | ArrayLike = 5e-4,
    least: float | ArrayLike = 0.05,
) -> jax.Array:
    r"""Expert weights that make the predictions on two views alike.

    :math:`w = \mathrm{softmax}(a)` with a from 0, by Nesterov steps on minus the mean
    of `prediction_stability` over batches of N; no label is used. Ends when a weight
    falls below `least`.

    Args:
        first: [N, E, K] float, expert logits on one view of each test example.
        second: likewise on another one.
        key: a typed key, of the batches.
        example_weights: optional [N] non-negative, how often each example occurs in the
            test set; batches are drawn in proportion. None counts all alike.
        epochs: E, at most E ceil(N / batch_size) steps are taken.
        batch_size: of a step.
        learning_rate: of a.
        momentum: likewise.
        weight_decay: likewise; it pulls towards equal weights.
        least: the smallest weight that lets it go on; 0 for no early end.

    Returns:
        [E] float32, sums to 1.

    Raises:
        ValueError: if shapes disagree or a readable number is out of range.
        TypeError: if logits are not floating point.

    Example:
        >>> z = jnp.zeros((4, 2, 3)).at[:, 0, 0].set(1.0)
        >>> found = stable_expert_weights(z, z, key=jax.random.key(0))
        >>> print(found)  # all predictions are stable: nothing to gain
        [0.5 0.5]

    References:
        Zhang et al., NeurIPS 2022 (SADE), section 4.2, and the released code for the
        optimizer and the early end; Yang et al., ICML 2024 (DirMixE) does the same.
        Batches are drawn with replacement here.
    """
    caller = "stable_expert_weights"
    _check_views(caller, first, second)
    shape = shape_of(first)
    if not shape[0]:
        raise ValueError(f"{caller}: first has shape {shape}, expected examples")
    if example_weights is not None:
        check_rank(caller, "example_weights", example_weights, 1, "[N]")
        if shape_of(example_weights) != shape[:1]:
            raise ValueError(
                f"{caller}: example_weights has shape {shape_of(example_weights)},"
                f" expected {shape[:1]}"
            )
    check_whole(caller, "epochs", epochs, low=1)
    check_whole(caller, "batch_size", batch_size, low=1)
    check_range(caller, "least", least, low=0, high=1)
    first, second = jnp.asarray(first), jnp.asarray(second)
    size = shape[0]
    weights = jnp.ones(size)
    if example_weights is not None:
        weights = jnp.asarray(example_weights)
    upto = jnp.cumsum(weights / jnp.sum(weights))
    steps = epochs * -(-size // batch_size)

    def objective(a, rows):
        w = jax.nn.softmax(a)
        return -jnp.mean(prediction_stability(first[rows], second[rows], w))

    def step(carry, key):
        a, velocity = carry
        drawn = jax.random.uniform(key, (batch_size,))
        rows = jnp.minimum(jnp.searchsorted(upto, drawn), size - 1)
        gradient = jax.grad(objective)(a, rows) + weight_decay * a
        moved = momentum * velocity + gradient
        new = a - learning_rate * (gradient + momentum * moved)
        go_on = jnp.min(jax.nn.softmax(a)) >= least
        new, moved = (jnp.where(go_on, x, y) for x, y in ((new, a), (moved, velocity)))
        return (new, moved), None

    zero = jnp.zeros(shape[1], jnp.float32)
    (a, _), _ = jax.lax.scan(step, (zero, zero), jax.random.split(key, steps))
    return jax.nn.softmax(a)
