r"""What CVS keeps of training: the latest predictions of every class, and kappa.

Kappa is the inverse slope of accuracy against confidence among the predictions *for* a
class, so that an overconfident class (slope below 1) gets kappa above 1.
`ltjax.methods.supervised.cvs` makes a loss of it, and has the references.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_counts,
    check_logits_labels,
    check_range,
    check_where,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, host, mask_rows
from ltjax.metrics.calibration import bin_index


class CVSState(NamedTuple):
    """Bank of predictions and the factors of both phases.

    Attributes:
        confidence: [K, C] float32, largest softmax probability of the raw logits.
        predicted: [K, C] int32, the class it belongs to.
        correct: [K, C] bool, whether that is the row's class.
        written: [K] int32, number of predictions ever written into a row.
        capacity: [K] int32, size of the row's ring, at most C.
        kappa: [2, K] float32, moving averages of phase 1 and phase 2.
    """

    confidence: jax.Array
    predicted: jax.Array
    correct: jax.Array
    written: jax.Array
    capacity: jax.Array
    kappa: jax.Array


def init_cvs(class_counts: ArrayLike, *, max_items: int = 1000) -> CVSState:
    """Empty bank and kappa = 1.

    Args:
        class_counts: [K] concrete and positive.
        max_items: largest number of predictions kept per class; smaller classes keep as
            many as they have examples.

    Returns:
        `CVSState`; its memory is 9 bytes times K times the largest ring.

    Raises:
        ValueError: for empty classes or max_items < 1.
        TypeError: if the counts are traced: they set the shapes.

    Example:
        >>> init_cvs([5000, 40]).capacity.tolist()
        [1000, 40]
    """
    check_counts("init_cvs", class_counts)
    if not is_concrete(class_counts):
        raise TypeError("init_cvs: class_counts are traced, expected concrete counts")
    counts = host(class_counts)
    if counts.min() < 1 or max_items < 1:
        raise ValueError(
            f"init_cvs: the smallest class count is {counts.min()} and max_items is"
            f" {max_items}, expected at least 1 each"
        )
    capacity = np.minimum(counts, max_items).astype(np.int32)
    shape = (len(counts), int(capacity.max()))
    return CVSState(
        confidence=jnp.zeros(shape, jnp.float32),
        predicted=jnp.zeros(shape, jnp.int32),
        correct=jnp.zeros(shape, bool),
        written=jnp.zeros(shape[0], jnp.int32),
        capacity=jnp.asarray(capacity),
        kappa=jnp.ones((2, shape[0]), jnp.float32),
    )


def _rank_in_class(labels: jax.Array) -> jax.Array:
    """How many earlier entries of `labels` [B] are equal to each of them, [B]."""
    order = jnp.argsort(labels, stable=True)
    ordered = labels[order]
    position = jnp.arange(labels.shape[0])
    is_first = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    start = jax.lax.cummax(jnp.where(is_first, position, 0))
    return jnp.zeros_like(position).at[order].set(position - start)


def update_bank(
    state: CVSState,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> CVSState:
    """Writes a batch of training-mode predictions, the oldest going first.

    Args:
        state: so far.
        logits: [B, K] float, raw.
        labels: [B] int class indices; rows with a label outside [0, K) are not kept.
        where: optional [B] bool; False rows are not kept.

    Returns:
        `CVSState` with the bank moved on.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if dtypes are wrong.

    Example:
        >>> state = update_bank(
        ...     init_cvs([2, 2]), jnp.array([[4.0, 0.0]]), jnp.array([1]))
        >>> state.written.tolist(), bool(state.correct[1, 0])
        ([0, 1], False)
    """
    name = "update_bank"
    check_logits_labels(name, logits, labels)
    num_classes, slots = state.confidence.shape
    if shape_of(logits)[1:] != (num_classes,):
        raise ValueError(
            f"{name}: logits have shape {shape_of(logits)}, expected [B, {num_classes}]"
        )
    check_where(name, where, shape_of(labels))
    logits = mask_rows(where, at_least_float32(logits))
    labels = jnp.asarray(labels)
    kept = (labels >= 0) & (labels < num_classes)
    if where is not None:
        kept = kept & where
    row = jnp.where(kept, labels, num_classes).astype(jnp.int32)
    arrived = jax.ops.segment_sum(kept.astype(jnp.int32), row, num_classes + 1)
    padded = [
        jnp.concatenate([x, jnp.ones(1, x.dtype)])
        for x in (state.written, state.capacity)
    ]
    written, capacity = (x[row] for x in padded)
    rank = _rank_in_class(row).astype(jnp.int32)
    # A class with more arrivals than slots keeps the last ones; the others would be
    # written to the same slots in an order that a scatter does not promise.
    is_late = rank >= arrived[row] - capacity
    slot = jnp.where(kept & is_late, (written + rank) % capacity, slots)
    probabilities = jax.nn.softmax(logits)
    predicted = jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def write(bank, values):
        return bank.at[row, slot].set(values.astype(bank.dtype), mode="drop")

    return state._replace(
        confidence=write(state.confidence, jnp.max(probabilities, axis=-1)),
        predicted=write(state.predicted, predicted),
        correct=write(state.correct, predicted == row),
        written=state.written + arrived[:-1],
    )


def calibration_slopes(
    state: CVSState, *, bins: int = 20, min_predicted: int = 10
) -> tuple[jax.Array, jax.Array]:
    r"""Slope of accuracy against confidence among the predictions for each class.

    Predictions for class c fall into equal confidence bins (open below, closed above);
    with mean confidence :math:`q_b`, accuracy :math:`a_b` and size :math:`w_b` the line
    through the origin has

    .. math:: s_c = \frac{\sum_b w_b q_b a_b}{\sum_b w_b q_b^2}.

    Args:
        state: bank.
        bins: number of bins.
        min_predicted: smallest number of predictions that are fitted.

    Returns:
        (slopes [K], fitted [K] bool). A class with fewer predictions than
        `min_predicted`, or all of them in one bin, is not fitted; its slope is 1.

    Example:
        >>> slopes, fitted = calibration_slopes(init_cvs([20, 20]))
        >>> slopes.tolist(), fitted.tolist()
        ([1.0, 1.0], [False, False])
    """
    num_classes, slots = state.confidence.shape
    filled = jnp.minimum(state.written, state.capacity)
    valid = jnp.arange(slots)[None, :] < filled[:, None]
    cell = state.predicted * bins + bin_index(state.confidence, bins=bins)
    cell = jnp.where(valid, cell, num_classes * bins).ravel()

    def per_bin(values):
        summed = jax.ops.segment_sum(values.ravel(), cell, num_classes * bins + 1)
        return summed[:-1].reshape(num_classes, bins)

    size = per_bin(jnp.ones_like(state.confidence))
    confidence = per_bin(state.confidence)
    correct = per_bin(state.correct.astype(jnp.float32))
    safe_size = jnp.maximum(size, 1.0)
    # w q a = (sum of confidences) (number correct) / w, and 0 for an empty bin.
    cross = jnp.sum(confidence * correct / safe_size, axis=1)
    square = jnp.sum(confidence * confidence / safe_size, axis=1)
    fitted = (jnp.sum(size, axis=1) >= min_predicted) & (jnp.sum(size > 0, axis=1) >= 2)
    slope = cross / jnp.where(fitted, square, 1.0)
    return jnp.where(fitted, slope, 1.0), fitted


def update_kappa(
    state: CVSState,
    *,
    phase: int | ArrayLike,
    low: float | ArrayLike = 0.5,
    high: float | ArrayLike = 2.0,
    momentum: float | ArrayLike = 0.9,
    bins: int = 20,
    min_predicted: int = 10,
) -> CVSState:
    r"""Moves the current phase's kappa, once per epoch (warm-up included).

    .. math:: \kappa \leftarrow m\,\kappa + (1-m)\,\kappa^{new}, \qquad
              \kappa^{new}_c = \mathrm{clip}\bigl(1 / (s_c + 10^{-6}), l, h\bigr)

    and :math:`\kappa^{new}_c = 1`, unclipped, for classes that are not fitted.

    Args:
        state: bank and factors.
        phase: 0 or 1; only that phase's factors move.
        low: smallest fitted value.
        high: largest fitted value. The published run has [.05, .2].
        momentum: m.
        bins: see `calibration_slopes`.
        min_predicted: see `calibration_slopes`.

    Returns:
        `CVSState`.

    Raises:
        ValueError: if a parameter is out of range.

    Example:
        >>> update_kappa(init_cvs([20, 20]), phase=0).kappa[0].tolist()
        [1.0, 1.0]
    """
    check_range("update_kappa", "low", low, low=0.0, open_low=True)
    check_range("update_kappa", "momentum", momentum, low=0.0, high=1.0)
    check_range("update_kappa", "phase", phase, low=0, high=1)
    if is_concrete(low, high) and float(host(low)) > float(host(high)):
        raise ValueError(f"update_kappa: low is {low} and high {high}, expected <=")
    slope, fitted = calibration_slopes(state, bins=bins, min_predicted=min_predicted)
    new = jnp.where(fitted, jnp.clip(1 / (slope + 1e-6), low, high), 1.0)
    moved = momentum * state.kappa + (1 - momentum) * new[None, :]
    current = jnp.arange(2)[:, None] == phase
    return state._replace(kappa=jnp.where(current, moved, state.kappa))
