r"""Views of a batch: two random ones, or a weak and a strong one.

One key per position, so that a result depends on the step and the position only; all
views of an example read the same input.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, check_rank, is_concrete, shape_of
from ltjax.data import feature_views, signal_ops
from ltjax.data.image_views import CONSISTENCY, CONTRASTIVE, contrastive_view
from ltjax.data.randaugment import BOOSTED, boosted_level, rand_augment
from ltjax.data.transforms import normalize


def signal_view(
    key: jax.Array,
    signal: ArrayLike,
    *,
    crop: ArrayLike = 1.0,
    shift: ArrayLike = 0.5,
    scale: ArrayLike = 0.0,
    warp: ArrayLike = 0.0,
    ramp: ArrayLike = 0.75,
    noise: ArrayLike = 0.25,
    jitter: ArrayLike = 0.0,
    mask: ArrayLike = 0.0,
    strength: ArrayLike = 1.0,
) -> jax.Array:
    """One view of a signal: those transforms of `signal_ops` whose size is not zero.

    In this order: stretched crop, circular shift, scaling, magnitude warp, ramp, smooth
    noise, white noise, mask. The defaults are for contrastive learning of MNIST-1D,
    where any circular shift, ramps and smooth noise keep the classes apart, while
    stretching and scaling remove what tells them apart, and white noise alone teaches
    nothing.

    Args:
        key: of this view.
        signal: [T, C] floating.
        crop: shortest window that is stretched to the whole length, as a fraction.
        shift: largest circular shift, as a fraction of the length.
        scale: deviation of the logarithm of the size.
        warp: deviation of the curve that multiplies the signal.
        ramp: deviation of the rise from end to end.
        noise: deviation of the noise that is correlated over a few samples.
        jitter: deviation of the independent noise.
        mask: fraction of the samples set to zero.
        strength: multiplies all sizes but that of the shift; may be traced, one per
            example.

    Returns:
        [T, C] float32.

    Example:
        >>> ones = jnp.ones((8, 1))
        >>> signal_view(jax.random.key(0), ones, ramp=0, noise=0).sum().item()
        8.0
    """
    x = jnp.asarray(signal).astype(jnp.float32)
    keys = jax.random.split(key, 8)
    if _is_on(1 - crop):
        # A window is never shorter than a tenth.
        smallest = jnp.clip(1 - strength * (1 - crop), 0.1, 1.0)
        x = signal_ops.crop_stretch(keys[0], x, smallest=smallest)
    if _is_on(shift):
        x = signal_ops.shift(keys[1], x, most=shift)
    if _is_on(scale):
        x = signal_ops.scale(keys[2], x, deviation=strength * scale)
    if _is_on(warp):
        x = signal_ops.magnitude_warp(keys[3], x, deviation=strength * warp)
    if _is_on(ramp):
        x = signal_ops.ramp(keys[4], x, deviation=strength * ramp)
    if _is_on(noise):
        x = signal_ops.smooth_noise(keys[5], x, deviation=strength * noise)
    if _is_on(jitter):
        x = signal_ops.jitter(keys[6], x, deviation=strength * jitter)
    if _is_on(mask):
        x = signal_ops.mask(keys[7], x, fraction=strength * mask)
    return x


def _is_on(size: ArrayLike) -> bool:
    """Whether a transform of this size has an effect; a traced size may have one."""
    return not is_concrete(size) or bool(size != 0)


_WEAK_SIGNAL = functools.partial(
    signal_view, shift=0.075, scale=0.1, ramp=0.0, noise=0.0
)
_STRONG_SIGNAL = functools.partial(
    signal_view, shift=0.2, scale=0.3, ramp=0.6, noise=0.2, jitter=0.05, mask=0.15
)


# Weak and strong view of what is no image.
_OTHER_PAIRS = {
    "signal": (_WEAK_SIGNAL, _STRONG_SIGNAL),
    "features": (feature_views.WEAK, feature_views.STRONG),
}


class Boost(NamedTuple):
    """RandAugment on top of both views, by a score of the example.

    Attributes:
        layers: number of operations, each applied with a probability of the score.
        lowest: strength at score 0, on a scale of 30.
        highest: strength at score 1.
        random_factor: the score's part of the strength is multiplied by a number
            uniform in [0, 1], the same for both views.
    """

    layers: int = 1
    lowest: float = 10.0
    highest: float = 30.0
    random_factor: bool = False


_BOOST = Boost()


def two_views(
    key: jax.Array,
    inputs: ArrayLike,
    *,
    recipe: str = "simclr",
    strength: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    boost: Boost = _BOOST,
    **options,
) -> dict[str, jax.Array]:
    r"""Two random views of every example, for contrastive learning.

    Args:
        key: of the batch.
        inputs: [B, H, W, C] uint8, or floating in [0, 1]; for "signal" [B, T, C].
        recipe: name in `CONTRASTIVE`: "simclr" (the paper's ImageNet recipe),
            "simclr_lt" (weaker colors, as in the long-tailed studies), "simclr_cifar"
            (and no blur), "moco_v2" (SimSiam's too), "simsiam_cifar" (and no blur,
            SupCon's too), "byol" (its two views differ); or "signal".
        strength: optional [B] in [0, 1], the memorization scores of Boosted Contrastive
            Learning. Images get RandAugment of the `BOOSTED` pool on top; signals get
            larger transforms, up to 1.5 times at score 1. Score 0 is the plain recipe.
        mean: optional, per channel; with `std`, views are normalized at the end.
        std: likewise.
        boost: how `strength` is used on images; `Boost(2, 5.0, 30.0, True)` with two
            operations.
        **options: of `contrastive_view` or `signal_view`, for both views.

    Returns:
        {"view1", "view2"}, each [B, size, size, C] float32 in [0, 1] before
        normalization, or [B, T, C].

    Raises:
        ValueError: for an unknown recipe, or one of mean and std without the other.

    Example:
        >>> batch = jnp.ones((2, 8, 1))
        >>> views = two_views(jax.random.key(0), batch, recipe="signal", noise=0)
        >>> sorted(views), views["view1"].shape
        (['view1', 'view2'], (2, 8, 1))

    References:
        Chen et al., ICML 2020; Chen et al., "Improved Baselines with Momentum
        Contrastive Learning", 2020; Grill et al., NeurIPS 2020; Zhou et al.,
        "Contrastive Learning with Boosted Memorization", ICML 2022: both views share
        the strength and draw operations and coins by themselves.
    """
    check_choice("two_views", "recipe", recipe, (*CONTRASTIVE, "signal"))
    finish = _finisher("two_views", mean, std)
    signals = recipe == "signal"
    _check_inputs("two_views", inputs, signals, strength)

    def one(key, example, score):
        keys = jax.random.split(key, 3)
        if signals:
            size = 1.0 if score is None else 1 + 0.5 * score
            pair = [signal_view(k, example, strength=size, **options) for k in keys[:2]]
        else:
            image = _in_levels(example)
            factor = jax.random.uniform(keys[2]) if boost.random_factor else 1.0
            pair = []
            for view_key, own in zip(keys[:2], CONTRASTIVE[recipe], strict=True):
                crop_key, boost_key = jax.random.split(view_key)
                view = contrastive_view(crop_key, image, **{**own, **options})
                if score is not None:
                    view = _boosted(boost_key, view, score, boost, factor)
                pair.append(view)
        return {"view1": finish(pair[0]), "view2": finish(pair[1])}

    return _per_position(one, key, inputs, strength)


def weak_strong(
    key: jax.Array,
    inputs: ArrayLike,
    *,
    recipe: str = "fixmatch",
    num_strong: int = 1,
    num_weak: int = 1,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    weak: Mapping[str, Any] | None = None,
    strong: Mapping[str, Any] | None = None,
) -> dict[str, jax.Array]:
    r"""A weak view and strong ones of every example, for consistency training.

    Args:
        key: of the batch.
        inputs: [B, H, W, C] uint8, or floating in [0, 1]; for "signal" [B, T, C], for
            "features" [B, F] floating.
        recipe: name in `CONSISTENCY`: "fixmatch"; "standard" (RandAugment of magnitude
            4 of 30, as DARP, ABC and CoSSL have it); "range" (three operations with
            values uniform in FixMatch's ranges, as in SoLar), "range_resized" (the same
            after resized crops, and a weak view with color distortion, as in RECORDS);
            "signal"; "features" (noise and masks, after normalization).
        num_strong: number of strong views.
        num_weak: number of weak views.
        mean: optional, per channel; with `std`, views are normalized at the end.
        std: likewise.
        weak: options of the weak view that replace the recipe's.
        strong: options of the strong view that replace the recipe's.

    Returns:
        {"weak", "strong"} and "strong2", ..., "weak2", ... for more views; each
        [B, H, W, C] float32 in [0, 1] before normalization, [B, T, C] or [B, F]. Images
        stay uint8 between operations, as in the published pipelines, if they come so.

    Raises:
        ValueError: for an unknown recipe, no strong view, or one of mean and std
            without the other.

    Example:
        >>> batch = jnp.ones((2, 8, 1))
        >>> views = weak_strong(jax.random.key(0), batch, recipe="signal", num_strong=2)
        >>> sorted(views)
        ['strong', 'strong2', 'weak']

    References:
        Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency
        and Confidence", NeurIPS 2020; the other recipes from the released codes named
        above. Those of DARP, ABC and SoLar apply RandAugment before the shift; here, as
        in FixMatch's, it comes after it. DARP's square is the mean color of the data
        set: `strong={"cutout_fill": tuple(255 * mean)}`.
    """
    check_choice("weak_strong", "recipe", recipe, (*CONSISTENCY, *_OTHER_PAIRS))
    check_range("weak_strong", "num_strong", num_strong, low=1)
    check_range("weak_strong", "num_weak", num_weak, low=1)
    finish = _finisher("weak_strong", mean, std)
    images = recipe not in _OTHER_PAIRS
    if recipe == "features":
        check_rank("weak_strong", "inputs", inputs, 2, "[B, F]")
    else:
        _check_inputs("weak_strong", inputs, not images, None)
    pair = CONSISTENCY[recipe] if images else _OTHER_PAIRS[recipe]
    weak_one = functools.partial(pair[0], **(weak or {}))
    strong_one = functools.partial(pair[1], **(strong or {}))
    # In this order, so that more weak views leave the others as they are.
    transforms = {
        "weak": weak_one,
        "strong": strong_one,
        **{f"strong{i}": strong_one for i in range(2, num_strong + 1)},
        **{f"weak{i}": weak_one for i in range(2, num_weak + 1)},
    }

    def one(key, example, _):
        keys = jax.random.split(key, len(transforms))
        if recipe == "features":  # whose noise is in deviations
            x = finish(example)
        else:
            x = _in_levels(example) if images else example
        views = {
            name: transform(view_key, x)
            for (name, transform), view_key in zip(
                transforms.items(), keys, strict=True
            )
        }
        if recipe == "features":
            return views
        if images:
            views = {k: v.astype(jnp.float32) / 255 for k, v in views.items()}
        return {name: finish(view) for name, view in views.items()}

    return _per_position(one, key, inputs, None)


def _boosted(key, view, score, boost: Boost, factor) -> jax.Array:
    """RandAugment of a view in [0, 1], as strong as the score says."""
    level = boosted_level(
        score, lowest=boost.lowest, highest=boost.highest, factor=factor
    )
    changed = rand_augment(
        *(key, 255 * view),
        pool=BOOSTED,
        layers=boost.layers,
        probability=score,
        level=level,
    )
    return changed / 255


def _in_levels(image: jax.Array) -> jax.Array:
    """In [0, 255]: uint8 as it is, floating from [0, 1]."""
    return image if image.dtype == jnp.uint8 else 255 * image


def _finisher(caller: str, mean, std) -> Callable[[jax.Array], jax.Array]:
    """Normalization, if there is a mean and a deviation."""
    if (mean is None) != (std is None):
        raise ValueError(
            f"{caller}: mean is {mean} and std is {std}, expected both or neither"
        )
    if mean is None or std is None:
        return lambda x: x
    return functools.partial(normalize, mean=mean, std=std)


def _check_inputs(caller: str, inputs, signals: bool, strength) -> None:
    if signals:
        check_rank(caller, "inputs", inputs, 3, "[B, T, C]")
    else:
        check_rank(caller, "inputs", inputs, 4, "[B, H, W, C]")
    if strength is not None and shape_of(strength) != shape_of(inputs)[:1]:
        raise ValueError(
            f"{caller}: strength has shape {shape_of(strength)}, expected"
            f" {shape_of(inputs)[:1]} (one number per example)"
        )


def _per_position(one: Callable, key: jax.Array, inputs, scores):
    """`one(key, example, score)` over a batch, with a key for each position."""
    inputs = jnp.asarray(inputs)
    keys = jax.random.split(key, len(inputs))
    if scores is None:
        return jax.vmap(lambda k, x: one(k, x, None))(keys, inputs)
    return jax.vmap(one)(keys, inputs, jnp.asarray(scores, jnp.float32))
