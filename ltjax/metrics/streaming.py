"""The streaming state of classification metrics: integer counts on the device."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_logits_labels, check_where, shape_of
from ltjax._numerics import class_indices
from ltjax.metrics.calibration import bin_index, top_confidence

# Beyond this many classes three vectors replace the confusion matrix.
MAX_CONFUSION_CLASSES = 1000
# Confidences are summed as integers, in units of 2^-24 (float32's own on [1/2, 1]).
_FRACTION_BITS = 24
# Three 8-bit limbs of that many rows cannot overflow int32.
_MAX_ROWS = 2**22


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassificationState:
    """Streaming counts; every leaf is int32, so no order of batches changes a bit.

    Confidences are fixed-point: whole parts in `bin_confidence`, the rest in
    `bin_fraction` (units of 2^-24). Integers keep the sums exact for as many examples
    as int32 can count, and equal on any number of devices. Leading axes come from
    `jax.vmap`.

    Attributes:
        confusion: [K, K], rows = true class; None for K > 1000, and then
        correct, support, predicted: [K] instead (else None).
        bin_count, bin_correct: [K, bins], per true class.
        bin_confidence, bin_fraction: [K, bins].
        invalid: scalar, unmasked rows whose label is outside [0, K) or whose logits
            hold NaN or +inf. They enter no other count.
    """

    confusion: jax.Array | None
    correct: jax.Array | None
    support: jax.Array | None
    predicted: jax.Array | None
    bin_count: jax.Array
    bin_correct: jax.Array
    bin_confidence: jax.Array
    bin_fraction: jax.Array
    invalid: jax.Array

    @classmethod
    def empty(cls, num_classes: int, *, bins: int = 15) -> "ClassificationState":
        """The state before the first batch.

        Args:
            num_classes: K.
            bins: number of equal confidence bins.

        Returns:
            A state of zeros.

        Raises:
            ValueError: if num_classes or bins < 1.

        Example:
            >>> ClassificationState.empty(3).confusion.shape
            (3, 3)
        """
        if num_classes < 1 or bins < 1:
            raise ValueError(
                f"ClassificationState.empty: num_classes is {num_classes} and bins is"
                f" {bins}, expected at least 1"
            )
        zeros = lambda *shape: jnp.zeros(shape, jnp.int32)  # noqa: E731
        small = num_classes <= MAX_CONFUSION_CLASSES
        vector = lambda: None if small else zeros(num_classes)  # noqa: E731
        return cls(
            confusion=zeros(num_classes, num_classes) if small else None,
            correct=vector(),
            support=vector(),
            predicted=vector(),
            bin_count=zeros(num_classes, bins),
            bin_correct=zeros(num_classes, bins),
            bin_confidence=zeros(num_classes, bins),
            bin_fraction=zeros(num_classes, bins),
            invalid=zeros(),
        )

    def update(
        self,
        outputs: ArrayLike | Mapping[str, ArrayLike],
        labels: ArrayLike,
        mask: ArrayLike | None = None,
    ) -> "ClassificationState":
        """Adds one batch.

        Args:
            outputs: logits [B, K] float, or a dict that holds them as "logits". The
                prediction is their arg-max, the lowest index on ties.
            labels: [B] int class indices.
            mask: optional [B] bool; False rows (padding) count nowhere.

        Returns:
            The new state, of the same structure, shapes and dtypes.

        Raises:
            ValueError: if shapes disagree, or for more than 2^22 rows in one batch.
            TypeError: if logits are not floating or labels not integer.

        Example:
            >>> state = ClassificationState.empty(2)
            >>> state = state.update(jnp.array([[2.0, 0.0], [1.0, 0.0]]),
            ...                      jnp.array([0, 1]))
            >>> state.confusion.tolist()
            [[1, 0], [1, 0]]
        """
        caller = "ClassificationState.update"
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs
        check_logits_labels(caller, logits, labels)
        num_classes, bins = self.bin_count.shape
        if shape_of(logits)[1:] != (num_classes,):
            raise ValueError(
                f"{caller}: logits have shape {shape_of(logits)}, expected"
                f" [B, {num_classes}]"
            )
        rows = shape_of(logits)[0]
        if rows > _MAX_ROWS:
            raise ValueError(
                f"{caller}: {rows} rows in one batch, expected at most {_MAX_ROWS};"
                " update in several batches"
            )
        check_where(caller, mask, (rows,))

        logits, labels = jnp.asarray(logits), class_indices(labels)
        keep = jnp.ones(rows, bool) if mask is None else jnp.asarray(mask)
        confidence = top_confidence(logits)
        valid = (labels >= 0) & (labels < num_classes) & jnp.isfinite(confidence)
        counted = keep & valid
        # Rows that must not count are sent out of range, where "drop" leaves them.
        row = jnp.where(counted, labels, num_classes)
        column = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        right = row == column

        units = jnp.where(jnp.isfinite(confidence), confidence, 0) * 2**_FRACTION_BITS
        units = jnp.round(units).astype(jnp.int32)
        limbs = (units >> 16, (units >> 8) & 255, units & 255)
        columns = jnp.stack([jnp.ones_like(row), right.astype(jnp.int32), *limbs], -1)
        index = bin_index(confidence, bins=bins)
        sums = jnp.zeros((num_classes, bins, columns.shape[-1]), jnp.int32)
        sums = sums.at[row, index].add(columns, mode="drop")
        count, correct, *limbs = (sums[..., i] for i in range(columns.shape[-1]))
        whole, fraction = _carry(*limbs)

        batch: dict[str, Any] = dict(
            bin_count=count,
            bin_correct=correct,
            bin_confidence=whole,
            bin_fraction=fraction,
            invalid=jnp.sum(keep & ~valid, dtype=jnp.int32),
        )
        if self.confusion is not None:
            table = jnp.zeros_like(self.confusion)
            batch["confusion"] = table.at[row, column].add(1, mode="drop")
            batch |= dict(correct=None, support=None, predicted=None)
        else:
            seen = jnp.where(counted, column, num_classes)
            predicted = jnp.zeros(num_classes, jnp.int32).at[seen].add(1, mode="drop")
            batch |= dict(
                confusion=None,
                correct=jnp.sum(correct, axis=-1, dtype=jnp.int32),
                support=jnp.sum(count, axis=-1, dtype=jnp.int32),
                predicted=predicted,
            )
        return self.merge(ClassificationState(**batch))

    def merge(self, other: "ClassificationState") -> "ClassificationState":
        """The state after the batches of both.

        Args:
            other: a state of the same shapes.

        Returns:
            Their sum; merging is exact, associative and commutative.

        Raises:
            ValueError: if the shapes disagree.

        Example:
            >>> state = ClassificationState.empty(2)
            >>> int(state.merge(state).confusion.sum())
            0
        """
        shapes = [[x.shape for x in jax.tree.leaves(s)] for s in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"ClassificationState.merge: shapes {shapes[0]} and {shapes[1]} differ"
            )
        total = jax.tree.map(jnp.add, self, other)
        carry = total.bin_fraction >> _FRACTION_BITS
        return dataclasses.replace(
            total,
            bin_confidence=total.bin_confidence + carry,
            bin_fraction=total.bin_fraction & (2**_FRACTION_BITS - 1),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The state as the arrays of an evaluation file, on the host.

        Returns:
            `confusion` [..., K, K] int64 (or `correct`, `support`, `predicted`
            [..., K]), `bin_count`, `bin_confidence`, `bin_correct` [..., K, bins]
            float64 and `invalid` [...] int64.

        Example:
            >>> sorted(ClassificationState.empty(2).arrays())
            ['bin_confidence', 'bin_correct', 'bin_count', 'confusion', 'invalid']
        """
        names = [f.name for f in dataclasses.fields(self)]
        found = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        found = jax.device_get(found)
        out: dict[str, Any] = {n: np.asarray(x, np.int64) for n, x in found.items()}
        fraction = out.pop("bin_fraction") * 2.0**-_FRACTION_BITS
        out["bin_confidence"] = out["bin_confidence"] + fraction
        for name in ("bin_count", "bin_correct"):
            out[name] = out[name].astype(np.float64)
        return out


def _carry(top: jax.Array, middle: jax.Array, low: jax.Array):
    """Sums of 8-bit limbs as (whole part, rest in units of 2^-24)."""
    middle = middle + (low >> 8)
    top = top + (middle >> 8)
    return top >> 8, ((top & 255) << 16) | ((middle & 255) << 8) | (low & 255)
