"""Decoding and sizing of images, against results worked out by hand."""

import io

import numpy as np
import PIL.Image
import pytest

from ltjax.data import DataError
from ltjax.data.readers import Sizing, decode_image


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def coordinates(height, width):
    """Channels: row, column, 0."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(height)[:, None]
    pixels[..., 1] = np.arange(width)
    return pixels


def test_without_sizing_the_pixels_are_kept():
    pixels = coordinates(5, 9)
    assert np.array_equal(decode_image(encode(pixels), Sizing()), pixels)


@pytest.mark.parametrize(
    "height, width, crop, top, left",
    [(10, 20, 6, 2, 7), (21, 8, 8, 6, 0), (9, 12, 4, 2, 4), (6, 6, 6, 0, 0)],
)
def test_center_crop(height, width, crop, top, left):
    # Offsets are half the spare pixels, halves rounded to even: 6.5 -> 6, 2.5 -> 2.
    pixels = coordinates(height, width)
    cut = decode_image(encode(pixels), Sizing(crop=crop))
    assert np.array_equal(cut, pixels[top : top + crop, left : left + crop])


@pytest.mark.parametrize(
    "height, width, resize, expected",
    [(10, 21, 5, (5, 10)), (21, 10, 5, (10, 5)), (4, 6, 8, (8, 12)), (8, 8, 8, (8, 8))],
)
def test_shorter_side(height, width, resize, expected):
    resized = decode_image(encode(coordinates(height, width)), Sizing(resize=resize))
    assert resized.shape == (*expected, 3)


def test_resizing_is_antialiased_bilinear():
    # Halving with a triangle filter of radius 2 gives the weights 1, 3, 3, 1 (over 8);
    # an interior pixel i covers the columns 2i - 1 ... 2i + 2.
    row = np.array([0, 0, 0, 80, 160, 80, 0, 0, 0, 0], np.uint8)
    image = np.broadcast_to(row[None, :, None], (10, 10, 3)).copy()
    small = decode_image(encode(image), Sizing(resize=5))[2, 1:4, 0]
    expected = [
        (0 + 3 * 0 + 3 * 80 + 160) / 8,
        (80 + 3 * 160 + 3 * 80 + 0) / 8,
        (80 + 0 + 0 + 0) / 8,
    ]
    assert np.allclose(small, expected, atol=1)


def test_channels():
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(decode_image(encode(gray), Sizing(), 1)[..., 0], gray)
    rgb = decode_image(encode(gray), Sizing(), 3)
    assert np.array_equal(rgb, np.repeat(gray[..., None], 3, axis=-1))


def test_jpeg():
    flat = np.full((16, 16, 3), 90, np.uint8)
    assert np.allclose(decode_image(encode(flat, "JPEG"), Sizing()), 90, atol=1)


def test_images_smaller_than_the_crop_are_refused():
    with pytest.raises(DataError, match="5x9 pixels is smaller than the crop 6"):
        decode_image(encode(coordinates(5, 9)), Sizing(crop=6))
