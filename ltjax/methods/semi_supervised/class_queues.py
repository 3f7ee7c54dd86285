"""The last features of every class, as the averaged network saw them (DASO, CoSSL)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ClassQueues(NamedTuple):
    """The last features of every class.

    Attributes:
        features: [K, Q, D].
        written: int32 [K], features that came in so far.
    """

    features: jax.Array
    written: jax.Array


def enqueue(queues: ClassQueues, features, labels, mask) -> ClassQueues:
    """Puts features [B, D] in the places of the oldest of their classes; B <= Q."""
    classes, size, _ = queues.features.shape
    member = jax.nn.one_hot(labels, classes, dtype=jnp.int32) * mask[:, None]
    earlier = jnp.cumsum(member, axis=0) - member  # of the same class in the batch
    rank = jnp.sum(earlier * member, axis=1)
    place = (queues.written[labels] + rank) % size
    row = jnp.where(mask, labels, classes)
    kept = queues.features.at[row, place].set(features, mode="drop")
    return ClassQueues(kept, queues.written + jnp.sum(member, axis=0))


def empty_queues(classes: int, size: int, width: int) -> ClassQueues:
    """Queues without features."""
    shape = (classes, size, width)
    return ClassQueues(jnp.zeros(shape), jnp.zeros(classes, jnp.int32))


def queue_needs(size: int, config) -> list[str]:
    """Faults of a config whose method keeps `size` averaged features of each class."""
    faults, method = [], config.method.name
    if not config.ema_decay:
        faults.append(
            f"config.ema_decay is 0, but method {method!r} keeps features of the"
            " averaged network, expected 0.999 or the like"
        )
    if size < config.batch_size:
        faults.append(
            f"config.method.queue is {size}, expected at least config.batch_size"
            f" ({config.batch_size}), of which all may be of a class"
        )
    return faults
