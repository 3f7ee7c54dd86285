r"""RandAugment on the device, with a strength and a probability of every example's own.

A pool is a tuple of `Change`s. A layer draws one of them, its level in [0, 1] and its
sign; the argument of the operation follows from the level. Three pools are published
under the one name: `FIXMATCH`, `STANDARD` and `BOOSTED`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range
from ltjax.data import _image_families as families
from ltjax.data._image_choice import apply_one_of
from ltjax.data.image_ops import MEAN_COLOR


class Change(NamedTuple):
    """One entry of a pool.

    Attributes:
        op: function of `ltjax.data.image_ops`, or "identity".
        low: argument at level 0.
        high: argument at level 1.
        signed: the argument is negated with probability 1/2.
        whole: the fraction of the argument is cut off.
        of_side: the argument is a fraction of the image's width ("translate_x"), or of
            its height, and is turned into pixels.
    """

    op: str
    low: float = 0.0
    high: float = 0.0
    signed: bool = False
    whole: bool = False
    of_side: bool = False


FIXMATCH = (
    Change("autocontrast"),
    Change("brightness", 0.05, 0.95),
    Change("color", 0.05, 0.95),
    Change("contrast", 0.05, 0.95),
    Change("equalize"),
    Change("identity"),
    Change("posterize", 4, 8, whole=True),
    Change("rotate", 0, 30, signed=True),
    Change("sharpness", 0.05, 0.95),
    Change("shear_x", 0, 0.3, signed=True),
    Change("shear_y", 0, 0.3, signed=True),
    Change("solarize", 0, 256, whole=True),
    Change("translate_x", 0, 0.3, signed=True, whole=True, of_side=True),
    Change("translate_y", 0, 0.3, signed=True, whole=True, of_side=True),
)
"""FixMatch's 14 operations, whose enhancements only weaken."""

STANDARD = (
    Change("autocontrast"),
    Change("equalize"),
    Change("invert"),
    Change("rotate", 0, 30, signed=True),
    Change("posterize", 0, 4, whole=True),
    Change("solarize", 0, 256),
    Change("solarize_add", 0, 110, whole=True),
    Change("color", 0.1, 1.9),
    Change("contrast", 0.1, 1.9),
    Change("brightness", 0.1, 1.9),
    Change("sharpness", 0.1, 1.9),
    Change("shear_x", 0, 0.3, signed=True),
    Change("shear_y", 0, 0.3, signed=True),
    Change("erase", 0, 40),
    Change("translate_x", 0, 100, signed=True),
    Change("translate_y", 0, 100, signed=True),
)
"""The widespread list of 16; translations and squares are in pixels of any image."""

BOOSTED = (
    Change("shear_x", 0, 0.6, signed=True),
    Change("shear_y", 0, 0.6, signed=True),
    Change("translate_x", 0, 0.66, signed=True, of_side=True),
    Change("translate_y", 0, 0.66, signed=True, of_side=True),
    Change("rotate", 0, 60, signed=True),
    Change("autocontrast"),
    Change("invert"),
    Change("equalize"),
    Change("solarize", 0, 110),
    Change("posterize", 4, 8, whole=True),
    Change("contrast", 0.1, 1.9),
    Change("color", 0.1, 1.9),
    Change("brightness", 0.1, 1.9),
    Change("sharpness", 0.1, 1.9),
    Change("erase", 0, 0.4, of_side=True),
)
"""The 15 operations of Boosted Contrastive Learning. The higher the level, the weaker
"solarize" and "posterize"; the enhancements do nothing at level 1/2."""


def rand_augment(
    key: jax.Array,
    image: ArrayLike,
    *,
    pool: Sequence[Change] = FIXMATCH,
    layers: int = 2,
    probability: ArrayLike = 0.5,
    level: ArrayLike | None = None,
    levels: int | None = 10,
    fill: families.Color = 0.0,
    patch: families.Color = MEAN_COLOR,
) -> jax.Array:
    r"""Applies a few random operations, one after the other.

    The defaults are FixMatch's. RandAugment of a fixed magnitude m of 30 is
    `rand_augment(key, image, pool=STANDARD, layers=n, probability=1.0, level=m / 30)`;
    values uniform in FixMatch's ranges are `layers=3, probability=1.0, levels=None`.

    Args:
        key: of this example.
        image: [H, W, C], 3 channels or one, uint8 or floating in [0, 255].
        pool: what a layer chooses from, with equal probabilities and replacement.
        layers: number of operations.
        probability: scalar, that a chosen operation is applied; may be traced.
        level: optional scalar in [0, 1], the level of all layers; may be traced. None
            draws one for every layer.
        levels: if level is None, it is 1 / levels to (levels - 1) / levels with equal
            probabilities; None draws it uniformly from [0, 1].
        fill: color of what geometric operations bring into view, scalar or [C].
        patch: color of squares that "erase" fills, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Raises:
        ValueError: for an empty pool, or fewer than two levels.

    Example:
        >>> image = jnp.full((8, 8, 3), 100, jnp.uint8)
        >>> rand_augment(jax.random.key(0), image, probability=0.0).mean().item()
        100.0

    References:
        Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced
        Search Space", NeurIPS 2020. Sohn et al., "FixMatch", NeurIPS 2020, app. D; the
        levels and the probability are those of its released code, which never draws the
        highest level.
    """
    if not pool:
        raise ValueError("rand_augment: pool is empty, expected at least one Change")
    if levels is not None:
        check_range("rand_augment", "levels", levels, low=2)
    x, whole = families.pixels("rand_augment", image)
    if x.shape[-1] == 1 and not isinstance(patch, (int, float)):
        patch = jnp.mean(jnp.asarray(patch, jnp.float32))
    ops = tuple(dict.fromkeys([*(change.op for change in pool), "identity"]))
    numbers = jnp.asarray([ops.index(change.op) for change in pool])
    # One draw for everything: entry, coin, level, sign, and a place for "erase".
    draws = jax.random.uniform(key, (layers, 6))

    def layer(x, draw):
        entry = jnp.floor(draw[0] * len(pool)).astype(jnp.int32)
        value = _argument(pool, entry, _level(draw[2], level, levels), draw[3], x.shape)
        choice = jnp.where(draw[1] < probability, numbers[entry], ops.index("identity"))
        center = jnp.floor(draw[4:6] * jnp.asarray(x.shape[:2])).astype(jnp.int32)
        changed = apply_one_of(
            *(x, choice, value),
            ops=ops,
            whole=whole,
            center=center,
            fill=fill,
            patch=patch,
        )
        return changed, None

    # A scan compiles one layer.
    x, _ = jax.lax.scan(layer, x, draws)
    return families.image_like(x, whole)


def _level(draw, level, levels) -> jax.Array:
    if level is not None:
        return jnp.asarray(level, jnp.float32)
    if levels is None:
        return draw
    return (1 + jnp.floor(draw * (levels - 1))) / levels


def _argument(pool, entry, level, sign, shape) -> jax.Array:
    """Argument of the pool's entry: its range, unit, whole part and sign."""
    height, width = shape[:2]
    sides = [width if change.op == "translate_x" else height for change in pool]
    units = [side if c.of_side else 1 for c, side in zip(pool, sides, strict=True)]
    columns = [
        [change.low * unit for change, unit in zip(pool, units, strict=True)],
        [change.high * unit for change, unit in zip(pool, units, strict=True)],
        [change.whole for change in pool],
        [change.signed for change in pool],
    ]
    low, high, cut, signed = jnp.asarray(columns, jnp.float32)[:, entry]
    # 0.7 * 10 is 6.9999998 in float32, hence the small excess before cutting off.
    value = low + level * (high - low)
    value = jnp.where(cut > 0, jnp.floor(value + 1e-4), value)
    return jnp.where((signed > 0) & (sign < 0.5), -value, value)


def boosted_level(
    score: ArrayLike,
    *,
    lowest: float = 10.0,
    highest: float = 30.0,
    factor: ArrayLike = 1.0,
) -> jax.Array:
    r"""Level of Boosted Contrastive Learning's RandAugment, of a memorization score.

    .. math:: v_i = (a + (b - a) M_i u_i) / 30

    Args:
        score: [...] in [0, 1], M; high for examples that are memorized late.
        lowest: a, on a scale of 30. The paper has 0; the code 10 with one layer and 5
            with two.
        highest: b, on a scale of 30.
        factor: u in [0, 1], 1 with one layer and one uniform draw per image with two.

    Returns:
        [...] float32 in [0, 1].

    Example:
        >>> (30 * boosted_level(jnp.array([0.0, 0.5, 1.0]))).tolist()
        [10.0, 20.0, 30.0]

    References:
        Zhou et al., "Contrastive Learning with Boosted Memorization", ICML 2022; the
        strengths of the released code, which made the published numbers.
    """
    score = jnp.asarray(score, jnp.float32)
    return (lowest + (highest - lowest) * score * factor) / 30
