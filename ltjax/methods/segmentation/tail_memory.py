r"""A memory of image regions of tail classes, pasted into images that lack them.

For each of T tail classes the bank keeps up to M images with the pixels of that class.
Everything lives on the device as method state and has a fixed shape.

References:
    Han et al., "AUCSeg: AUC-oriented Pixel-level Long-tail Semantic Segmentation",
    NeurIPS 2024. The released code stores a reference to the image and then pastes into
    it, so that a stored region may hold pixels of another class; here images are stored
    as they came. It has one bank in every loader process; here there is one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class TailMemory(NamedTuple):
    """Images [T, M, H, W, C], their class's pixels [T, M, H, W] and number [T] of them.

    Entries beyond the number are empty.
    """

    images: jax.Array
    pixels: jax.Array
    number: jax.Array


def empty_memory(tail: int, size: int, shape: tuple[int, ...]) -> TailMemory:
    """A bank without entries.

    Args:
        tail: T.
        size: M.
        shape: (H, W, C) of an image.
    """
    images = jnp.zeros((tail, size, *shape), jnp.float32)
    pixels = jnp.zeros((tail, size, *shape[:2]), bool)
    return TailMemory(images, pixels, jnp.zeros(tail, jnp.int32))


def store(
    memory: TailMemory, key: jax.Array, images, targets, mask, tail: np.ndarray
) -> TailMemory:
    """The bank with the tail classes of a batch, image by image.

    A full list loses an entry that is chosen uniformly.

    Args:
        memory: the bank.
        key: a typed key.
        images: [B, H, W, C].
        targets: [B, H, W] int, 255 where a pixel has no class.
        mask: [B] bool; padding is not stored.
        tail: [T] the classes.
    """
    size, rows = memory.images.shape[1], jnp.arange(len(tail))

    def add(memory, one):
        key, image, target, real = one
        own = target[None] == jnp.asarray(tail, target.dtype)[:, None, None]
        present = jnp.any(own, axis=(1, 2)) & real
        drawn = jax.random.randint(key, memory.number.shape, 0, size)
        slot = jnp.where(memory.number < size, memory.number, drawn)
        slot = jnp.where(present, slot, size)  # dropped
        image = jnp.broadcast_to(image[None], (len(tail), *image.shape))
        images = memory.images.at[rows, slot].set(image, mode="drop")
        pixels = memory.pixels.at[rows, slot].set(own, mode="drop")
        number = jnp.minimum(memory.number + present, size)
        return TailMemory(images, pixels, number), None

    keys = jax.random.split(key, len(images))
    return jax.lax.scan(add, memory, (keys, images, targets, mask))[0]


def shrink(image: jax.Array, pixels: jax.Array, height: int, width: int):
    """An entry at another size: image bilinear, pixels by floor(i in / out)."""
    small = jax.image.resize(
        image, (height, width, image.shape[-1]), "bilinear", antialias=False
    )
    down, across = (
        np.arange(out) * full // out
        for out, full in ((height, pixels.shape[0]), (width, pixels.shape[1]))
    )
    return small, pixels[down][:, across]


def paste(
    memory: TailMemory,
    key: jax.Array,
    image,
    target,
    *,
    tail: np.ndarray,
    share: float,
    resize: float,
):
    """One image with regions of tail classes that it lacks.

    Args:
        memory: the bank.
        key: a typed key.
        image: [H, W, C].
        target: [H, W] int.
        tail: [T] the classes.
        share: of the missing classes that are asked for, rounded up; those without an
            entry are skipped.
        resize: size of a region relative to the image.

    Returns:
        (image, target, number of pasted classes).
    """
    order_key, *keys = jax.random.split(key, 1 + math.ceil(share * len(tail)))
    height, width = (max(int(n * resize), 1) for n in target.shape)
    classes = jnp.asarray(tail, target.dtype)
    missing = ~jnp.any(target[None] == classes[:, None, None], axis=(1, 2))
    wanted = jnp.ceil(share * jnp.sum(missing) - 1e-6).astype(jnp.int32)
    # Missing classes first, in random order.
    rank = jax.random.uniform(order_key, missing.shape) + jnp.where(missing, 0.0, 2.0)
    order = jnp.argsort(rank)
    count = jnp.zeros((), jnp.int32)
    for k, key in enumerate(keys):
        pick, down, across = jax.random.split(key, 3)
        row = order[k]
        number = memory.number[row]
        use = (k < wanted) & (number > 0)
        entry = jax.random.randint(pick, (), 0, jnp.maximum(number, 1))
        small, region = shrink(
            memory.images[row, entry], memory.pixels[row, entry], height, width
        )
        region = region & use
        start = (
            jax.random.randint(down, (), 0, target.shape[0] - height + 1),
            jax.random.randint(across, (), 0, target.shape[1] - width + 1),
        )
        zero = jnp.zeros((), start[0].dtype)
        old = jax.lax.dynamic_slice(target, start, (height, width))
        new = jnp.where(region, classes[row], old)
        target = jax.lax.dynamic_update_slice(target, new, start)
        behind = jax.lax.dynamic_slice(image, (*start, zero), small.shape)
        front = jnp.where(region[..., None], small.astype(image.dtype), behind)
        image = jax.lax.dynamic_update_slice(image, front, (*start, zero))
        count = count + use
    return image, target, count
