"""One operation per image, chosen by a traced number, at the cost of its family.

RandAugment and CTAugment draw an operation for every image. Under `vmap` a `lax.switch`
computes every branch for every image; here each *family* runs once, with parameters
that make it the identity for images whose operation belongs to another one.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice
from ltjax.data import _image_families as families

OPS = (
    *("identity", "autocontrast", "equalize", "invert", "posterize", "solarize"),
    *("solarize_add", "brightness", "contrast", "color", "sharpness", "smooth"),
    *("blur", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("erase", "rescale"),
)


def apply_one_of(
    x: jax.Array,
    choice: ArrayLike,
    argument: ArrayLike,
    *,
    ops: Sequence[str],
    whole: bool,
    amount: ArrayLike | None = None,
    center: ArrayLike | tuple[int, int] = (0, 0),
    kernel: ArrayLike = 0,
    fill: families.Color = 0.0,
    patch: families.Color = 0.0,
) -> jax.Array:
    """Applies the operation `ops[choice]`.

    Args:
        x: [H, W, C] float32 in [0, 255].
        choice: int scalar, index into `ops`.
        argument: scalar, the operation's own (`ltjax.data.image_ops`).
        ops: names from `OPS`; families that none of them needs are left out.
        whole: whether pixels are whole numbers.
        amount: optional scalar, mixes the result with the image (1: result only).
        center: [2] of the square that "erase" fills.
        kernel: int scalar, index into `families.KERNELS` for "rescale".
        fill: color of what a geometric operation brings into view, scalar or [C].
        patch: color of an erased square, scalar or [C].
    """
    for name in ops:
        check_choice("apply_one_of", "ops", name, OPS)
    if {"contrast", "color"} & set(ops):
        families.check_color("apply_one_of", x)
    chosen = {name: jnp.asarray(choice) == i for i, name in enumerate(ops)}

    def pick(default, options: Mapping[str, ArrayLike]):
        for name, value in options.items():
            if name in chosen:
                default = jnp.where(chosen[name], value, default)
        return default

    argument = jnp.asarray(argument, jnp.float32)
    y = x
    if "equalize" in chosen:
        y = jnp.where(chosen["equalize"], families.equalized(x), y)
    matrices = {
        "rotate": families.rotation(x.shape, argument),
        "shear_x": families.shearing_x(argument),
        "shear_y": families.shearing_y(argument),
        "translate_x": families.translation(argument, 0.0),
        "translate_y": families.translation(0.0, argument),
    }
    if matrices.keys() & chosen:
        matrix = [
            pick(default, {name: m[i] for name, m in matrices.items()})
            for i, default in enumerate(families.IDENTITY)
        ]
        y = families.warp(y, matrix, fill)
    # What follows reads the image itself: an image that is warped is not otherwise
    # changed, and the families do not have to wait for each other.
    slopes, pivots, bases = _tones(x, argument, chosen, whole)
    if slopes:
        slope, pivot, base = pick(1.0, slopes), pick(0.0, pivots), pick(0.0, bases)
        y = families.tone(y, slope, pivot, base)
    if "solarize" in chosen:
        threshold = pick(jnp.inf, {"solarize": argument})
        y = jnp.where(y < threshold, y, 255.0 - y)
    if "solarize_add" in chosen:
        y = jnp.where(y < 128, y + pick(0.0, {"solarize_add": argument}), y)
    if "posterize" in chosen:
        step = pick(1.0, {"posterize": families.posterize_step(argument)})
        y = families.coarse(y, step)
    if "color" in chosen:
        mixed = families.mixed(families.gray(x, whole), x, argument)
        y = jnp.where(chosen["color"], mixed, y)
    if {"sharpness", "smooth"} & chosen.keys():
        weight = pick(argument, {"smooth": 0.0})
        mixed = families.mixed(families.smooth(x, whole), x, weight)
        y = jnp.where(pick(False, {"sharpness": True, "smooth": True}), mixed, y)
    if "blur" in chosen:
        y = jnp.where(chosen["blur"], families.ring_blur(x, whole), y)
    if "rescale" in chosen:
        zoomed = families.zoomed(x, argument, kernel, whole)
        y = jnp.where(chosen["rescale"], zoomed, y)
    # Only one family has changed the image, so it is clipped and rounded once for all.
    y = families.clipped(y, whole)
    if amount is not None:
        y = families.blend(x, y, amount, whole)
    if "erase" in chosen:
        y = families.erased(y, center, pick(0.0, {"erase": argument}), patch)
    return y


def _tones(x, argument, chosen, whole: bool) -> tuple[dict, dict, dict]:
    """(slopes, pivots, bases) of `families.tone` by operation."""
    slopes, pivots, bases = {}, {}, {}
    if "autocontrast" in chosen:
        slopes["autocontrast"], pivots["autocontrast"] = families.stretch(x)
    if "invert" in chosen:
        slopes["invert"], pivots["invert"] = -1.0, 255.0
    if "brightness" in chosen:
        slopes["brightness"] = argument
    if "contrast" in chosen:
        mean = families.mean_gray(x, whole)
        slopes["contrast"], pivots["contrast"], bases["contrast"] = argument, mean, mean
    return slopes, pivots, bases
