"""Image operations against Pillow on uint8 images, and on floating ones by formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageFilter
import PIL.ImageOps
import pytest

from ltjax.data import _image_choice, _image_families, image_ops

SIZE = 32


@functools.cache
def images() -> np.ndarray:
    """[5, SIZE, SIZE, 3]: noise, ramps, low contrast, four colors, one color."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIZE, SIZE, 3))
    ramp = np.linspace(3, 250, SIZE)
    ramps = np.stack([ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None]] * 2, -1)
    dull = rng.normal(90, 12, (SIZE, SIZE, 3)).clip(0, 255)
    colors = rng.integers(0, 256, (4, 3))[rng.integers(0, 4, (SIZE, SIZE))]
    plain = np.full((SIZE, SIZE, 3), (17, 200, 255))
    return np.stack([noise, ramps[..., :3], dull, colors, plain]).astype(np.uint8)


def enhanced(kind):
    return lambda image, factor: kind(image).enhance(factor)


def affine(image, *matrix):
    return image.transform(image.size, PIL.Image.Transform.AFFINE, matrix)


# Operation -> (Pillow's, arguments). None: without an argument.
PILLOW = {
    "autocontrast": (lambda i, _: PIL.ImageOps.autocontrast(i), None),
    "equalize": (lambda i, _: PIL.ImageOps.equalize(i), None),
    "invert": (lambda i, _: PIL.ImageOps.invert(i), None),
    "smooth": (lambda i, _: i.filter(PIL.ImageFilter.SMOOTH), None),
    "blur": (lambda i, _: i.filter(PIL.ImageFilter.BLUR), None),
    "posterize": (PIL.ImageOps.posterize, range(1, 9)),
    "solarize": (PIL.ImageOps.solarize, [0, 1, 44, 128, 255, 256]),
    "brightness": (enhanced(PIL.ImageEnhance.Brightness), [0, 0.05, 0.3, 1, 1.9]),
    "contrast": (enhanced(PIL.ImageEnhance.Contrast), [0, 0.05, 0.3, 1, 1.9]),
    "color": (enhanced(PIL.ImageEnhance.Color), [0, 0.05, 0.3, 1, 1.9]),
    "sharpness": (enhanced(PIL.ImageEnhance.Sharpness), [0, 0.05, 0.3, 1, 1.9]),
    "rotate": (lambda i, a: i.rotate(a), [-45, -30, -7.3, 0, 3, 12, 30, 48, 90, 180]),
    "shear_x": (lambda i, a: affine(i, 1, a, 0, 0, 1, 0), [-0.6, -0.3, 0, 0.12, 0.3]),
    "shear_y": (lambda i, a: affine(i, 1, 0, 0, a, 1, 0), [-0.6, -0.3, 0, 0.12, 0.3]),
    "translate_x": (lambda i, a: affine(i, 1, 0, a, 0, 1, 0), [-9.6, -1, 0, 0.4, 13.3]),
    "translate_y": (lambda i, a: affine(i, 1, 0, 0, 0, 1, a), [-9.6, -1, 0, 0.4, 13.3]),
}
# Within one level of Pillow: a product may cross a whole number when it is rounded once
# rather than twice. Autocontrast's quotients are whole more often, and Pillow's float64
# sum may end just below such a number.
BLENDS = {"autocontrast", "brightness", "contrast", "color", "sharpness"}
RARE = {"autocontrast": 1e-2}


def arguments(name) -> np.ndarray:
    values = PILLOW[name][1]
    return np.zeros(1, np.float32) if values is None else np.float32(list(values))


@functools.cache
def expected(name) -> np.ndarray:
    """[arguments, images, SIZE, SIZE, 3] from Pillow."""
    peer, values = PILLOW[name]
    pictures = [PIL.Image.fromarray(image) for image in images()]
    return np.stack(
        [
            [np.asarray(peer(picture, value)) for picture in pictures]
            for value in ([None] if values is None else values)
        ]
    )


def over_all(one, name, dtype=np.uint8):
    """`one(image, argument)` for all arguments and images, compiled together."""
    outer = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
    return np.asarray(jax.jit(outer)(images().astype(dtype), arguments(name)))


def close_to_pillow(result, name, peer):
    difference = np.abs(result.astype(int) - peer)
    assert difference.max() <= (name in BLENDS), name
    assert (difference > 0).mean() < RARE.get(name, 1e-3), name


@pytest.mark.parametrize("name", PILLOW)
def test_matches_pillow_on_uint8(name):
    operation = getattr(image_ops, name)
    if PILLOW[name][1] is None:
        result = over_all(lambda image, _: operation(image), name)
    else:
        result = over_all(operation, name)
    assert result.dtype == np.uint8
    close_to_pillow(result, name, expected(name))


def test_one_of_many_is_that_operation_alone():
    ops = _image_choice.OPS[: _image_choice.OPS.index("erase")]
    one = jax.jit(
        jax.vmap(
            lambda x, choice, argument: _image_choice.apply_one_of(
                x, choice, argument, ops=ops, whole=True
            ),
            (0, None, None),
        )
    )
    batch = images().astype(np.float32)
    for name in PILLOW:
        for place in {0, len(arguments(name)) - 1}:
            result = one(batch, ops.index(name), arguments(name)[place])
            close_to_pillow(np.asarray(result), name, expected(name)[place])
    np.testing.assert_array_equal(one(batch, ops.index("identity"), 0.7), batch)


@pytest.mark.parametrize("name", ["contrast", "color", "sharpness", "blur"])
def test_floating_images_are_not_rounded(name):
    """Whole floats differ from uint8 by less than the levels that are cut off there."""
    value = () if PILLOW[name][1] is None else (arguments(name)[-1],)
    image = images()[2].astype(np.float32)
    out = np.asarray(jax.jit(getattr(image_ops, name))(image, *value))
    assert out.dtype == np.float32 and (out != np.floor(out)).any()
    assert np.abs(out - expected(name)[-1, 2]).max() < 2


def test_equalize_keeps_fractions_of_channels_that_it_cannot_flatten():
    image = np.float32([[[7.25, 3.5], [7.25, 9.5]]])
    np.testing.assert_array_equal(jax.jit(image_ops.equalize)(image), image)


def test_single_channel_images_match_pillow():
    image = images()[0][..., 0]
    picture = PIL.Image.fromarray(image)
    for name in ("contrast", "color", "equalize"):
        peer, values = PILLOW[name]
        value = 0.3 if values else None
        args = () if value is None else (value,)
        out = jax.jit(getattr(image_ops, name))(image[..., None], *args)
        difference = np.asarray(out)[..., 0].astype(int) - np.asarray(
            peer(picture, value)
        )
        assert np.abs(difference).max() <= (name in BLENDS), name


def test_solarize_add_adds_below_the_threshold():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    out = np.asarray(jax.jit(image_ops.solarize_add)(image, 110)).ravel()
    levels = np.arange(256)
    np.testing.assert_array_equal(
        out, np.where(levels < 128, np.minimum(levels + 110, 255), levels)
    )


@pytest.mark.parametrize("kernel", _image_families.KERNELS)
def test_rescale_matches_crop_and_resize(kernel):
    resampling = PIL.Image.Resampling[kernel.upper()]
    number = list(_image_families.KERNELS).index(kernel)
    margins = np.float32([0, 0.05, 0.13, 0.25])
    one = jax.vmap(
        lambda margin: _image_families.zoomed(
            images()[2].astype(np.float32), margin, number, True
        )
    )
    out = np.asarray(jax.jit(one)(margins))
    picture = PIL.Image.fromarray(images()[2])
    for margin, result in zip(margins, out, strict=True):
        box = (margin * SIZE, margin * SIZE, SIZE * (1 - margin), SIZE * (1 - margin))
        peer = np.asarray(picture.crop(box).resize(picture.size, resampling))
        assert np.abs(result - peer).max() <= 1
        assert (result != peer).mean() < 5e-3


@pytest.mark.parametrize("name", ["autocontrast", "rotate"])
def test_bad_images_are_refused(name):
    operation = getattr(image_ops, name)
    args = (3.0,) if name == "rotate" else ()
    with pytest.raises(ValueError, match=rf"{name}: image has shape \(4, 4\)"):
        operation(jnp.zeros((4, 4)), *args)
    with pytest.raises(TypeError, match=f"{name}: image has dtype int32"):
        operation(jnp.zeros((4, 4, 3), jnp.int32), *args)
    with pytest.raises(ValueError, match="color: image has 2 channels"):
        image_ops.color(jnp.zeros((4, 4, 2)), 0.5)
    with pytest.raises(ValueError, match="ops is 'mirror'"):
        _image_choice.apply_one_of(
            jnp.zeros((4, 4, 3)), 0, 0.0, ops=("mirror",), whole=False
        )
