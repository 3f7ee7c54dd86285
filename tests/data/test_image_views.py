"""Views of one image: their steps, their order and how often each is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import image_ops, image_views, photometric, randaugment
from ltjax.data.image_views import (
    contrastive_view,
    resized_view,
    shifted_view,
    strong_view,
)
from ltjax.data.randaugment import Change

SIDE = 24
KEYS = jax.random.split(jax.random.key(0), 400)


@functools.cache
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def over_keys(one, keys=KEYS, x=None, **options):
    x = image() if x is None else x
    mapped = jax.vmap(functools.partial(one, **options), (0, None))
    return np.asarray(jax.jit(mapped)(keys, x))


def same(out, expected, atol=1e-5):
    """[B] bool, which views equal the expected image."""
    return (np.abs(out - np.asarray(expected)) < atol).all((1, 2, 3))


@jax.jit
def chances(keys, options):
    """Views of the whole image, unflipped; all options are traced, for one program."""
    one = lambda key: contrastive_view(
        key, image(), area=(1.0, 1.0), method="bilinear", mirror=False, **options
    )
    return jax.vmap(one)(keys)


def views(keys=KEYS, **options):
    off = dict(jitter_probability=0.0, gray_probability=0.0, blur_probability=0.0)
    off |= dict(solarize_probability=0.0, blur_sigma=(0.1, 2.0))
    off |= dict(jitter=(0.8, 0.0, 0.0, 0.0))
    return np.asarray(chances(keys, jax.tree.map(jnp.float32, {**off, **options})))


def test_without_chances_a_view_is_the_image_in_unit_range():
    out = views()
    assert out.dtype == np.float32 and same(out, image() / 255).all()


def test_probabilities_of_the_steps():
    """Each step alone leaves a mark; 400 draws are within 4 deviations of the rate."""
    unit = image() / np.float32(255)

    def rate(expected, **options):
        out = views(**options)
        made = same(out, expected)
        assert (made | same(out, unit)).all()
        return made.mean()

    gray = photometric.to_gray(unit)
    assert abs(rate(gray, gray_probability=0.2) - 0.2) < 4 * 0.4 / np.sqrt(400)
    solar = np.where(unit < 0.5, unit, 1 - unit)
    assert abs(rate(solar, solarize_probability=0.2) - 0.2) < 4 * 0.4 / np.sqrt(400)
    fixed = dict(blur_sigma=(1.3, 1.3), blur_probability=0.5)
    blurred = photometric.gaussian_blur(unit, 1.3, size=3)  # 2 (24 // 20) + 1
    assert abs(rate(blurred, **fixed) - 0.5) < 4 * 0.5 / np.sqrt(400)


def test_steps_follow_in_order():
    """Distortion, gray and solarization at once: gray of the distorted, inverted."""
    both = dict(jitter_probability=1.0, gray_probability=1.0)
    bright = views(**both)
    gray = np.asarray(photometric.to_gray(image() / np.float32(255)))
    # Brightness multiplies, then clips; the darkest pixel tells the factor.
    unit = image() / np.float32(255)
    row, column = np.unravel_index(unit.max(-1).argmin(), unit.shape[:2])
    factor = (bright / gray)[:, row, column, 0]
    darker = factor * unit.max() < 1
    assert 0.2 < darker.mean() < 0.8
    expected = factor[darker][:, None, None, None] * gray
    np.testing.assert_allclose(bright[darker], expected, rtol=1e-4, atol=1e-4)
    solar = views(solarize_probability=1.0, **both)
    np.testing.assert_allclose(
        solar, np.where(bright < 0.5, bright, 1 - bright), atol=1e-6
    )


def test_crop_of_digits_has_the_size_and_stays_in_range():
    out = over_keys(contrastive_view, KEYS[:50], image()[..., :1], size=8)
    assert out.shape == (50, 8, 8, 1)
    assert out.min() >= 0 and out.max() <= 1  # bicubic overshoots, and is clipped


def test_recipes_are_the_published_ones():
    """Area, jitter, blur and solarization of the two views of each paper."""
    defaults = dict(contrastive_view.__kwdefaults__)
    table = {
        "simclr": ((0.08, 1), (0.8, 0.8, 0.8, 0.2), (0.5, 0.5), (0, 0), "bicubic"),
        "simclr_lt": ((0.08, 1), (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0, 0), "bicubic"),
        "simclr_cifar": ((0.1, 1), (0.4, 0.4, 0.4, 0.1), (0, 0), (0, 0), "bicubic"),
        "moco_v2": ((0.2, 1), (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0, 0), "bilinear"),
        "simsiam_cifar": ((0.2, 1), (0.4, 0.4, 0.4, 0.1), (0, 0), (0, 0), "bilinear"),
        "byol": ((0.08, 1), (0.4, 0.4, 0.2, 0.1), (1, 0.1), (0, 0.2), "bicubic"),
    }
    assert table.keys() == image_views.CONTRASTIVE.keys()
    for name, (area, jitter, blurs, solarize, method) in table.items():
        for number, own in enumerate(image_views.CONTRASTIVE[name]):
            options = {**defaults, **own}
            assert options["area"] == area and options["jitter"] == jitter
            assert options["blur_probability"] == blurs[number]
            assert options["solarize_probability"] == solarize[number]
            assert options["method"] == method
            assert options["jitter_probability"] == 0.8
            assert options["gray_probability"] == 0.2
            assert options["blur_sigma"] == (0.1, 2.0)


@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_shifted_view_is_a_window_of_the_padded_image(border):
    mode = "reflect" if border == "reflect" else "constant"
    padded = np.pad(image(), ((3, 3), (3, 3), (0, 0)), mode=mode)
    windows = {
        (top, left, step): padded[top : top + SIDE, left : left + SIDE][:, ::step]
        for top in range(7)
        for left in range(7)
        for step in (1, -1)
    }
    out = over_keys(shifted_view, border=border)
    seen = set()
    for one in out:
        found = [place for place, window in windows.items() if (window == one).all()]
        assert len(found) == 1
        seen.update(found)
    tops, lefts, steps = map(set, zip(*seen, strict=True))
    assert tops == lefts == set(range(7)) and steps == {1, -1}
    unmirrored = over_keys(shifted_view, KEYS[:50], border=border, mirror=False)
    for one in unmirrored:
        assert any((windows[p] == one).all() for p in windows if p[2] == 1)


@pytest.mark.parametrize("base", [shifted_view, resized_view])
def test_what_comes_before_a_strong_view_is_not_mirrored_either(base):
    options = dict(base=base, pool=(Change("identity"),), cutout=(0.0, 0.0))
    out = over_keys(strong_view, KEYS[:20], mirror=False, **options)
    first = jax.vmap(lambda key: jax.random.split(key, 4)[0])(KEYS[:20])
    np.testing.assert_array_equal(out, over_keys(base, first, mirror=False))


def test_strong_view_is_the_weak_one_changed_and_cut_out():
    base = lambda key, x: x
    pool = (Change("invert"),)
    options = dict(base=base, pool=pool, layers=1, probability=1.0)
    out = over_keys(strong_view, **options)
    assert out.dtype == np.uint8
    kept = 255 - image()
    gone = (out != kept).any(-1)
    assert (out[gone] == 127).all()
    # Squares of 12 around a uniform pixel, cut at the border: 6 to 12 rows and columns.
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert set(rows) == set(columns) == set(range(6, 13))
    np.testing.assert_array_equal(gone.sum((1, 2)), rows * columns)
    inside = np.mean([*range(6, 12), *[12] * 13, *range(11, 6, -1)])
    assert abs(rows.mean() - inside) < 4 * rows.std() / np.sqrt(len(KEYS))


def test_cutout_can_have_a_random_side_and_a_color():
    options = dict(base=lambda key, x: x, probability=0.0, pool=(Change("invert"),))
    out = over_keys(
        strong_view, cutout=(0.0, 0.5), cutout_fill=image_ops.MEAN_COLOR, **options
    )
    gone = (out != image()).any(-1)
    assert (out[gone] == np.array([125, 123, 114])).all()
    sides = np.sqrt(gone.sum((1, 2)))
    assert sides.min() == 0 and sides.max() == 11  # int of a number below 12
    gray = over_keys(
        strong_view,
        KEYS[:3],
        image()[..., :1],
        cutout_fill=image_ops.MEAN_COLOR,
        **options,
    )
    assert gray.shape == (3, SIDE, SIDE, 1)


def test_pairs_of_consistency_training_make_images():
    weak, strong = image_views.CONSISTENCY["range_resized"]
    both = jax.vmap(lambda key, x: (weak(key, x), strong(key, x)), (0, None))
    for out in jax.jit(both)(KEYS[:20], image()):
        assert out.shape == (20, SIDE, SIDE, 3)
        assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 255


def test_published_settings_of_strong_views():
    """Layers, probability, levels and Cutout, as RandAugment's users have them."""

    def settings(name):
        return image_views.CONSISTENCY[name][1].keywords

    standard = settings("standard")
    assert standard["pool"] is randaugment.STANDARD
    assert (standard["layers"], standard["level"] * 30) == (3, 4)
    for name in ("range", "range_resized"):
        own = settings(name)
        assert (own["layers"], own["probability"], own["levels"]) == (3, 1.0, None)
        assert own["cutout"] == (0.0, 0.5) and own["cutout_fill"] == (125, 123, 114)
