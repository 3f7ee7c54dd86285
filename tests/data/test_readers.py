"""Decoding and sizing of images, against results worked out by hand."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from ltjax.data import DataError
from ltjax.data.readers import Sizing, beside, decode_image


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
    with pytest.raises(DataError, match="5x9 pixels, which is smaller than the crop 6"):
        decode_image(encode(coordinates(5, 9)), Sizing(crop=6))


@pytest.mark.parametrize(
    "stored, kind",
    [
        (np.arange(0, 65536, 257, dtype=np.uint16), "PNG"),
        (np.arange(0, 65536, 257, dtype=np.uint16), "TIFF"),
        (np.arange(0, 65536, 257, dtype=np.int32), "TIFF"),
        (np.linspace(0, 1, 256, dtype=np.float32), "TIFF"),
    ],
)
def test_more_than_eight_bits_keep_all_the_levels(stored, kind):
    # 65535 = 255 * 257, so that level v is stored as 257 v.
    ramp = stored.reshape(16, 16)
    levels = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(
        decode_image(encode(ramp, kind), Sizing(), 1)[..., 0], levels
    )
    rgb = decode_image(encode(ramp, kind), Sizing())
    np.testing.assert_array_equal(rgb, np.repeat(levels[..., None], 3, axis=-1))


def test_the_scale_is_that_of_the_type_and_not_of_the_image():
    dark = np.full((2, 2), 514, np.uint16)
    assert np.all(decode_image(encode(dark), Sizing(), 1) == 2)


@pytest.mark.parametrize(
    "stored, message",
    [
        (np.array([[0, 70000]], np.int32), r"from 0 to 70000 \(mode I\), expected 8"),
        (np.array([[-1, 3]], np.int32), "from -1 to 3"),
        (np.array([[0, 255]], np.float32), r"from 0 to 255 \(mode F\).*in \[0, 1\]"),
        (np.array([[0, np.nan]], np.float32), "from nan to nan"),
    ],
)
def test_numbers_without_a_known_scale_are_refused(stored, message):
    with pytest.raises(DataError, match=message):
        decode_image(encode(stored, "TIFF"), Sizing())


# What EXIF orientation o asks a viewer to do to the stored pixels.
ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_stand_upright(orientation):
    pixels = coordinates(3, 5)
    image = PIL.Image.fromarray(pixels)
    tags = image.getexif()
    tags[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=tags)
    found = decode_image(buffer.getvalue(), Sizing())
    np.testing.assert_array_equal(found, ORIENTATIONS[orientation](pixels))


def test_a_damaged_orientation_is_ignored():
    buffer = io.BytesIO()
    pixels = coordinates(3, 5)
    PIL.Image.fromarray(pixels).save(buffer, "PNG", exif=b"Exif\0\0II*\0\xff\xff")
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), Sizing()), pixels)


def test_a_hint_says_where_a_relative_path_was_looked_for(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert beside("digit") == f" below {tmp_path}; did you mean 'digits'?"
    assert beside(tmp_path / "digit") == "; did you mean 'digits'?"
    assert beside("digits") == ": it is a folder"
    assert beside("a/b") == f", nor a folder {tmp_path / 'a'}"


def bmp(width):
    head = struct.pack("<IHHI", 54, 0, 0, 54)
    return b"BM" + head + struct.pack("<IiiHHIIiiII", 40, width, width, 1, 24, *[0] * 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(coordinates(200, 200))[:200],
        encode(coordinates(9, 9)).replace(b"IDAT", b"\xecDAT"),  # black, says PIL
        encode(coordinates(9, 9)).replace(b"IHDR", b"IHDS"),  # SyntaxError
        bmp(30000),  # DecompressionBombError
        b"P6\n3x 32\n255\n" + b"0" * 3000,  # ValueError
    ],
    ids=["empty", "cut", "no pixels", "chunk", "bomb", "header"],
)
def test_damage_of_every_kind_is_one_error(data):
    with pytest.raises(DataError, match="^cannot be decoded: ."):
        decode_image(data, Sizing())
