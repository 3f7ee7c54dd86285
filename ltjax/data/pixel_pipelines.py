"""The pipeline of images whose pixels have classes: both move together."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_rank
from ltjax.data.augment import (
    NormalizeOptions,
    Pipeline,
    PipelineFacts,
    PipelineSetting,
    normalizer,
)
from ltjax.metrics.segmentation import IGNORED
from ltjax.options import Component, option

TARGETS = "targets"


@dataclasses.dataclass(frozen=True)
class ScaleCropOptions(NormalizeOptions):
    """Of random sizes and windows of an image and the classes of its pixels."""

    smallest: float = option(0.5, "size relative to the image", above=0)
    largest: float = option(2.0, "likewise", above=0)
    flip: bool = option(True, "mirrors left and right half of the time")

    def __post_init__(self):
        if self.smallest > self.largest:
            raise ValueError(
                f"smallest is {self.smallest} and largest {self.largest}, expected"
                " smallest <= largest"
            )


def scale_crop(
    key: jax.Array,
    image: ArrayLike,
    targets: ArrayLike,
    *,
    smallest: float = 0.5,
    largest: float = 2.0,
    flip: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """An image at a random size and place in its frame, and its pixels' classes.

    A larger one is seen through a window of the original size; a smaller one lies
    anywhere within it. The image is interpolated bilinearly, classes are those of the
    nearest pixel.

    Args:
        key: of this example.
        image: [H, W, C] floating, normalized: what comes into view is 0.
        targets: [H, W] of an integer dtype that holds 255, the class of what comes
            into view (ignored).
        smallest: the size is uniform between these, relative to the original.
        largest: likewise.
        flip: whether both are mirrored half of the time.

    Returns:
        (image, targets) of the same shapes and dtypes.

    Raises:
        ValueError: if targets are not one per pixel of the image.
        TypeError: if their dtype does not hold 255.

    Example:
        >>> image, targets = jnp.ones((4, 4, 1)), jnp.zeros((4, 4), jnp.int32)
        >>> image, targets = scale_crop(
        ...     jax.random.key(0), image, targets, smallest=0.5, largest=0.5
        ... )
        >>> int(image.sum()), int((targets == 0).sum())
        (4, 4)

    References:
        The segmentation recipe of MMSegmentation, which Han et al., "AUCSeg",
        NeurIPS 2024 train with: sizes 0.5 to 2, a window, a flip. There a small image
        stays in the upper left corner, and photometric distortion follows.
    """
    check_rank("scale_crop", "image", image, 3, "[H, W, C]")
    image, targets = jnp.asarray(image), jnp.asarray(targets)
    if targets.shape != image.shape[:2]:
        raise ValueError(
            f"scale_crop: targets have shape {targets.shape}, but the image"
            f" {image.shape}, expected {image.shape[:2]}"
        )
    whole = jnp.issubdtype(targets.dtype, jnp.integer)
    if not whole or jnp.iinfo(targets.dtype).max < IGNORED:
        raise TypeError(
            f"scale_crop: targets have dtype {targets.dtype}, expected one of integers"
            f" up to {IGNORED} (ignored)"
        )
    size_key, place_key, flip_key = jax.random.split(key, 3)
    scale = jax.random.uniform(size_key, minval=smallest, maxval=largest)
    frame = jnp.asarray(targets.shape, jnp.float32)
    shift = jax.random.uniform(place_key, (2,)) * (1 - scale) * frame
    moved = jax.image.scale_and_translate(
        image,
        image.shape,
        (0, 1),
        jnp.stack([scale, scale]),
        shift,
        method="linear",
        antialias=False,
    )
    down, across = (
        jnp.floor((jnp.arange(size) + 0.5 - start) / scale).astype(jnp.int32)
        for size, start in zip(targets.shape, shift, strict=True)
    )
    # Negative indices would count from the end.
    down, across = (
        jnp.where(i < 0, n, i)
        for i, n in zip((down, across), targets.shape, strict=True)
    )
    classes = targets.at[down[:, None], across[None, :]].get(
        mode="fill", fill_value=IGNORED
    )
    if flip:
        mirrored = jax.random.bernoulli(flip_key)
        moved = jnp.where(mirrored, moved[:, ::-1], moved)
        classes = jnp.where(mirrored, classes[:, ::-1], classes)
    return moved, classes


def _scale_crop(options: ScaleCropOptions, setting: PipelineSetting) -> Pipeline:
    finish = normalizer(options, setting)

    def one(key, image, targets):
        return scale_crop(
            key,
            finish(image),
            targets,
            smallest=options.smallest,
            largest=options.largest,
            flip=options.flip,
        )

    def train(key, batch, **hints):
        keys = jax.random.split(key, len(batch["inputs"]))
        moved = jax.vmap(one)(keys, batch["inputs"], batch[TARGETS])
        return {**batch, "inputs": moved[0], TARGETS: moved[1]}

    def evaluate(batch):
        return {**batch, "inputs": finish(batch["inputs"])}

    return Pipeline(train, evaluate)


SCALE_CROP = Component(
    "random size, window and flip of an image and the classes of its pixels",
    ScaleCropOptions,
    _scale_crop,
    facts=lambda options: PipelineFacts(carries=(TARGETS,)),
)
