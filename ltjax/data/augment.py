r"""Augmentation on the device: what happens to a batch between feed and model.

Keys are handed out one per position of the global batch, so the result depends on the
step and the position only and not on how many devices or processes share the batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range
from ltjax.data.transforms import (
    center_crop,
    color_jitter,
    cutout,
    flip,
    normalize,
    pad_crop,
    random_resized_crop,
)


class Mixed(NamedTuple):
    """A mixed batch.

    Attributes:
        inputs: [B, ...] float32, lam * inputs + (1 - lam) * inputs[partner].
        partner: int32 [B], the example that each one is mixed with.
        lam: float32 scalar, the weight of the example itself.
    """

    inputs: jax.Array
    partner: jax.Array
    lam: jax.Array


def mixup(key: jax.Array, inputs: ArrayLike, *, alpha: float | ArrayLike) -> Mixed:
    r"""Convex combinations of the examples of a batch with those of a shuffled copy.

    .. math:: \lambda \sim \mathrm{Beta}(\alpha, \alpha), \qquad
        \tilde x_i = \lambda x_i + (1 - \lambda) x_{\pi(i)}

    The loss is :math:`\lambda \ell(\tilde x_i, y_i) + (1 - \lambda)
    \ell(\tilde x_i, y_{\pi(i)})`.

    Args:
        key: of the batch.
        inputs: [B, ...] floating, after augmentation.
        alpha: > 0; may be traced.

    Returns:
        Mixed (inputs, partner, lam); one lam for the batch.

    Example:
        >>> mixed = mixup(jax.random.key(0), jnp.ones((4, 2)), alpha=1.0)
        >>> mixed.inputs.shape, sorted(mixed.partner.tolist())
        ((4, 2), [0, 1, 2, 3])

    References:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; one lam
        per batch, as in the released code.
    """
    check_range("mixup", "alpha", alpha, low=0.0, open_low=True)
    inputs = jnp.asarray(inputs).astype(jnp.float32)
    lam_key, order_key = jax.random.split(key)
    lam = jax.random.beta(lam_key, alpha, alpha, dtype=jnp.float32)
    order = jax.random.permutation(order_key, inputs.shape[0]).astype(jnp.int32)
    return Mixed(lam * inputs + (1 - lam) * inputs[order], order, lam)


class Pipeline(NamedTuple):
    """What happens to a batch between the feed and the model.

    Attributes:
        train: (key, inputs [B, ...]) -> float32; random, one key per position.
        eval: inputs [B, ...] -> float32.
    """

    train: Callable[[jax.Array, jax.Array], jax.Array]
    eval: Callable[[jax.Array], jax.Array]


def _per_example(one: Callable) -> Callable:
    """`one(key, example)` over a batch, with a key for each position."""

    def batch(key, inputs):
        return jax.vmap(one)(jax.random.split(key, len(inputs)), inputs)

    return batch


def _none(*, mean, std) -> Pipeline:
    """Float inputs as they are, pixels scaled to [0, 1]."""

    def unit(inputs):
        inputs = jnp.asarray(inputs)
        return inputs.astype(jnp.float32) / (255 if inputs.dtype == jnp.uint8 else 1)

    return Pipeline(lambda key, inputs: unit(inputs), unit)


def _normalize(*, mean, std) -> Pipeline:
    """Normalization only."""
    evaluate = functools.partial(normalize, mean=mean, std=std)
    return Pipeline(lambda key, inputs: evaluate(inputs), evaluate)


def _shift(*, mean, std, pad: int = 2) -> Pipeline:
    """Pad and crop, normalize: for digits, which a flip would make into others."""

    def one(key, image):
        return normalize(pad_crop(key, image, pad=pad), mean=mean, std=std)

    evaluate = functools.partial(normalize, mean=mean, std=std)
    return Pipeline(_per_example(one), evaluate)


def _cifar(*, mean, std, pad: int = 4, cutout_size: int = 0) -> Pipeline:
    """Pad and crop, flip, Cutout if asked for, normalize (Cao et al. 2019, code)."""

    def one(key, image):
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        image = flip(flip_key, pad_crop(crop_key, image, pad=pad))
        if cutout_size:
            image = cutout(cutout_key, image, size=cutout_size)
        return normalize(image, mean=mean, std=std)

    evaluate = functools.partial(normalize, mean=mean, std=std)
    return Pipeline(_per_example(one), evaluate)


def _imagenet(*, mean, std, size: int = 224, jitter: float = 0.4) -> Pipeline:
    """Random resized crop, flip, color jitter, normalize (Kang et al. 2020)."""

    def one(key, image):
        crop_key, flip_key, color_key = jax.random.split(key, 3)
        image = random_resized_crop(crop_key, image, size=size) / 255
        image = flip(flip_key, image)
        if jitter:
            image = color_jitter(
                color_key,
                image,
                brightness=jitter,
                contrast=jitter,
                saturation=jitter,
            )
        return normalize(image, mean=mean, std=std)

    def evaluate(images):
        return normalize(center_crop(images, size=size), mean=mean, std=std)

    return Pipeline(_per_example(one), evaluate)


PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "none": _none,
    "normalize": _normalize,
    "shift": _shift,
    "cifar": _cifar,
    "cifar_cutout": functools.partial(_cifar, cutout_size=16),
    "imagenet": _imagenet,
    "inaturalist": functools.partial(_imagenet, jitter=0.0),
}


# Of these, training and evaluation are the same function.
DETERMINISTIC = ("none", "normalize")


def build(
    name: str,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    **options,
) -> Pipeline:
    """The augmentation pipeline of a recipe.

    Args:
        name: key of `PIPELINES`:
            "none": float inputs as they are, uint8 scaled to [0, 1];
            "normalize": mean and deviation only;
            "cifar": pad by 4, crop, flip, normalize; "cifar_cutout": and Cutout 16;
            "imagenet": random resized crop to 224, flip, jitter 0.4, normalize, and
            for evaluation the central 224x224 pixels; "inaturalist": without jitter.
        mean: per channel of pixels in [0, 1], as `Source.mean`.
        std: likewise.
        **options: `pad`, `cutout_size` (cifar); `size`, `jitter` (imagenet).

    Returns:
        Pipeline of the training and the evaluation transform.

    Raises:
        ValueError: for an unknown name, or if a pipeline that normalizes gets no mean
            and std.

    Example:
        >>> pipeline = build("cifar", mean=[0.5], std=[0.5])
        >>> images = jnp.zeros((2, 8, 8, 1), jnp.uint8)
        >>> pipeline.train(jax.random.key(0), images).shape
        (2, 8, 8, 1)

    References:
        Cao et al., NeurIPS 2019 (cifar) and Kang et al., ICLR 2020 (imagenet,
        inaturalist), released code.
    """
    check_choice("augment.build", "name", name, PIPELINES)
    if name != "none" and (mean is None or std is None):
        raise ValueError(
            f"augment.build: {name!r} normalizes, but mean is {mean} and std is {std};"
            " expected one number per channel (or use 'none')"
        )
    return PIPELINES[name](mean=mean, std=std, **options)
