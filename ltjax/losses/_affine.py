r"""The one template under the softmax losses.

.. math:: \ell(z, y) = \alpha_y\,
          \mathrm{CE}\big(s(\beta \odot z + \Delta_{y,\cdot}),\, y\big)

Two kernels compute it. `affine_cross_entropy` sums over all classes, with s folded into
beta and Delta. `rival_log_odds` leaves the true class out of the sum,

.. math:: r = \log \sum_{k \ne y} e^{a_k} - a_y, \qquad
          \mathrm{CE} = \mathrm{softplus}(r), \qquad
          \log(1 - p_y) = -\mathrm{softplus}(-r)

which is what margins (r + margin) and focal modulators (log(1 - p)) need: no
cancellation, however confident the network is.

The first is written so that XLA makes one [B, K] temporary, the exponentials, as plain
cross-entropy does: every other pass fuses into a reduction.
"""

import jax
import jax.numpy as jnp

from ltjax._checks import (
    check_counts,
    check_logits_labels,
    check_where,
    is_concrete,
    shape_of,
)
from ltjax._numerics import (
    at_least_float32,
    class_indices,
    class_lookup,
    host,
    mask_rows,
    nan_outside,
)


def prepare(
    caller, logits, labels, where, *, soft=False, name="logits"
) -> tuple[jax.Array, jax.Array]:
    """Checked logits [B, K] (at least float32) and labels, masked rows set to 0.

    Class indices come back as int32, whatever integers they were.
    """
    check_logits_labels(caller, logits, labels, soft=soft, name=name)
    check_where(caller, where, shape_of(logits)[:-1])
    logits, labels = at_least_float32(logits), class_indices(labels)
    if not is_index(labels):
        labels = labels.astype(logits.dtype)
    return mask_rows(where, logits, labels)


def is_index(labels) -> bool:
    """True for class indices, False for distributions over the classes."""
    return jnp.issubdtype(labels.dtype, jnp.integer)


def check_positive_counts(caller, class_counts, num_classes) -> None:
    """Refuses counts of the wrong length and, where readable, empty classes."""
    check_counts(caller, class_counts, num_classes)
    if not num_classes:
        raise ValueError(f"{caller}: class_counts are empty, expected one per class")
    if is_concrete(class_counts):
        empty = (host(class_counts) == 0).nonzero()[0]
        if empty.size:
            raise ValueError(
                f"{caller}: class_counts must be > 0, but class {empty[0]} has 0"
                f" ({empty.size} empty); drop the class or add a pseudo-count"
            )


def over_examples(vector, logits):
    """A class vector [K] (or a scalar) with leading axes of 1, in the logits' dtype."""
    vector = jnp.asarray(vector).astype(logits.dtype)
    return jnp.expand_dims(vector, range(logits.ndim - vector.ndim))


def is_target(logits, labels):
    """[B, K] bool, True at the true class; a row without one if it is out of range."""
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    return jnp.expand_dims(classes, range(labels.ndim)) == labels[..., None]


def _stabilizer(logits, scale, shift):
    """max_k (scale * logits + shift), [B], 0 where it is not finite; no gradient.

    Taken as -min(-scale * logits - shift): with the same product as in the exponential
    XLA would share it between the two, that is, write it to memory.
    """
    fixed = jax.lax.stop_gradient(logits)
    if scale is None and shift is None:
        top = jnp.max(fixed, axis=-1)
    else:
        negated = -fixed if scale is None else -scale * fixed
        negated = negated if shift is None else negated - shift
        top = jax.lax.stop_gradient(-jnp.min(negated, axis=-1))
    return jnp.where(jnp.isfinite(top), top, jnp.zeros_like(top))


def affine_cross_entropy(logits, labels, *, weight=None, scale=None, shift=None):
    """alpha_y CE(scale * z + shift, y), [B].

    Args:
        logits: [B, K].
        labels: [B] int, or [B, K] distributions.
        weight: alpha, [K] or None.
        scale: [K], scalar or None.
        shift: [K] or None.
    """
    factor = None if scale is None else over_examples(scale, logits)
    offset = None if shift is None else over_examples(shift, logits)
    top = _stabilizer(logits, factor, offset)
    # shift - top first: both terms of the loss then round alike, and it stays >= 0.
    low = -top[..., None] if offset is None else offset - top[..., None]
    centered = (logits if factor is None else factor * logits) + low
    log_sum = jnp.log(jnp.sum(jnp.exp(centered), axis=-1))
    if not is_index(labels):
        if weight is not None:
            labels = labels * over_examples(weight, logits)
        # 0 * -inf: a class masked by -inf costs nothing where the label gives it 0.
        cost = jnp.where(labels == 0, jnp.zeros_like(centered), labels * centered)
        return jnp.sum(labels, axis=-1) * log_sum - jnp.sum(cost, axis=-1)
    # From the raw logits, so that the gradient's scatter goes into the final buffer.
    picked = class_lookup(logits, labels)
    if scale is not None:
        picked = picked * at_label(scale, labels, logits.dtype)
    own = -top if shift is None else at_label(shift, labels, logits.dtype) - top
    loss = nan_outside(log_sum - (picked + own), labels, logits.shape[-1])
    return loss if weight is None else loss * at_label(weight, labels, logits.dtype)


def rival_log_odds(logits, labels, *, scale=None, rival_shift=None, own_shift=None):
    """log of (sum over k != y of e^{a_k}) / e^{a_y}, [B]; -inf without a rival.

    Args:
        logits: [B, K].
        labels: [B] int.
        scale: [K], scalar or None; a = scale * z + shift.
        rival_shift: [B, K], the shift of the rivals, or None.
        own_shift: [B], the shift of the true class, or None.
    """
    scaled = logits if scale is None else over_examples(scale, logits) * logits
    if rival_shift is not None:
        scaled = scaled + rival_shift
    rivals = jnp.where(is_target(logits, labels), -jnp.inf, scaled)
    top = jax.lax.stop_gradient(jnp.max(rivals, axis=-1))
    some = top != -jnp.inf  # True for NaN, which must come through
    top = jnp.where(some, top, jnp.zeros_like(top))
    total = jnp.sum(jnp.exp(rivals - top[..., None]), axis=-1)
    log_sum = jnp.log(jnp.where(some, total, jnp.ones_like(total)))
    own = class_lookup(logits, labels)
    if scale is not None:
        own = own * at_label(scale, labels, logits.dtype)
    if own_shift is not None:
        own = own + own_shift
    odds = jnp.where(some, log_sum + (top - own), -jnp.inf - own)
    return nan_outside(odds, labels, logits.shape[-1])


def at_label(table, labels, dtype):
    """table[y] for a class vector [K], or the scalar itself."""
    table = jnp.asarray(table).astype(dtype)
    return table if table.ndim == 0 else class_lookup(table, labels)
