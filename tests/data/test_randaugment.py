"""RandAugment: what is drawn, with which arguments, each example's own strength."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from ltjax.data import randaugment
from ltjax.data.randaugment import BOOSTED, FIXMATCH, STANDARD, Change, rand_augment

SIDE = 16
KEYS = jax.random.split(jax.random.key(3), 600)


@functools.cache
def image() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(20, 230, (SIDE, SIDE, 3)).astype(np.uint8)


def over_keys(keys=KEYS, **options):
    one = functools.partial(rand_augment, **options)
    return np.asarray(jax.jit(jax.vmap(one, (0, None)))(keys, image()))


def argument(pool, op, level, sign=1.0, shape=(32, 32, 3)):
    entry = [change.op for change in pool].index(op)
    return float(randaugment._argument(pool, entry, level, sign, shape))


def test_standard_arguments_at_magnitude_4_of_30():
    """value = 4/30 (high - low) + low, for the published ranges."""
    at = functools.partial(argument, STANDARD, level=4 / 30)
    assert at("rotate") == pytest.approx(4.0)
    assert at("color") == pytest.approx(0.34)
    assert at("solarize") == pytest.approx(34.1333, abs=1e-3)
    assert at("translate_x") == pytest.approx(13.3333, abs=1e-3)
    assert at("posterize") == 0  # 0.53 bits; the operation keeps at least one
    assert at("solarize_add") == 14
    assert at("shear_y", sign=0.0) == pytest.approx(-0.04)


@pytest.mark.parametrize(
    ("op", "at_12", "at_24"),
    [
        ("shear_x", 0.24, 0.48),
        ("rotate", 24, 48),
        ("posterize", 5, 7),  # of 5.6 and 7.2
        ("contrast", 0.82, 1.54),
        ("solarize", 44, 88),
        ("translate_y", 0.4 * 0.66 * 32, 0.8 * 0.66 * 32),
        ("erase", 0.16 * 32, 0.32 * 32),
    ],
)
def test_boosted_arguments(op, at_12, at_24):
    assert argument(BOOSTED, op, 12 / 30) == pytest.approx(at_12, rel=1e-5)
    assert argument(BOOSTED, op, 24 / 30) == pytest.approx(at_24, rel=1e-5)


def test_fixmatch_arguments_follow_the_integer_arithmetic_of_its_code():
    for tenths in range(1, 10):
        level = tenths / 10
        assert argument(FIXMATCH, "posterize", level) == 4 + int(tenths * 4 / 10)
        assert argument(FIXMATCH, "solarize", level) == int(tenths * 256 / 10)
        assert argument(FIXMATCH, "rotate", level) == pytest.approx(3 * tenths)
        assert argument(FIXMATCH, "brightness", level) == pytest.approx(
            0.9 * tenths / 10 + 0.05
        )
        moved = argument(FIXMATCH, "translate_x", level, shape=(48, 32, 3))
        assert moved == int(tenths * 0.3 / 10 * 32)
        assert argument(FIXMATCH, "translate_y", level, shape=(48, 32, 3)) == int(
            tenths * 0.3 / 10 * 48
        )


def fixmatch_results() -> dict[str, list[np.ndarray]]:
    """Everything that one layer of FixMatch can make, by Pillow."""
    picture = PIL.Image.fromarray(image())

    def affine(*matrix):
        return picture.transform(picture.size, PIL.Image.Transform.AFFINE, matrix)

    enhancers = {
        "brightness": PIL.ImageEnhance.Brightness,
        "color": PIL.ImageEnhance.Color,
        "contrast": PIL.ImageEnhance.Contrast,
        "sharpness": PIL.ImageEnhance.Sharpness,
    }
    results = {
        "autocontrast": [PIL.ImageOps.autocontrast(picture)],
        "equalize": [PIL.ImageOps.equalize(picture)],
        "identity": [picture],
    }
    for tenths in range(1, 10):
        for name, kind in enhancers.items():
            made = kind(picture).enhance(0.09 * tenths + 0.05)
            results.setdefault(name, []).append(made)
        bits, threshold = 4 + int(0.4 * tenths), int(25.6 * tenths)
        results.setdefault("posterize", []).append(
            PIL.ImageOps.posterize(picture, bits)
        )
        results.setdefault("solarize", []).append(
            PIL.ImageOps.solarize(picture, threshold)
        )
        for sign in (1, -1):
            shear, move = sign * 0.03 * tenths, sign * int(0.03 * tenths * SIDE)
            for name, made in {
                "rotate": picture.rotate(sign * 3 * tenths),
                "shear_x": affine(1, shear, 0, 0, 1, 0),
                "shear_y": affine(1, 0, 0, shear, 1, 0),
                "translate_x": affine(1, 0, move, 0, 1, 0),
                "translate_y": affine(1, 0, 0, 0, 1, move),
            }.items():
                results.setdefault(name, []).append(made)
    return {
        name: [np.asarray(made).astype(int) for made in several]
        for name, several in results.items()
    }


def test_one_layer_makes_what_pillow_would_and_nothing_else():
    candidates = fixmatch_results()
    assert candidates.keys() == {change.op for change in FIXMATCH}
    found = dict.fromkeys(candidates, 0)
    for out in over_keys(layers=1, probability=1.0):
        gaps = {
            name: min(np.abs(out - made).max() for made in several)
            for name, several in candidates.items()
        }
        nearest = min(gaps, key=gaps.__getitem__)
        assert gaps[nearest] <= 1
        found[nearest] += 1
    # Translations by 0 pixels and posterizing to 8 bits look like the identity.
    others = [count for name, count in found.items() if name != "identity"]
    assert min(others) > 600 / 14 / 3 and max(others) < 3 * 600 / 14


def test_probability_0_changes_nothing_and_1_always():
    same = over_keys(pool=(Change("invert"), Change("equalize")), probability=0.0)
    assert (same == image()).all() and same.dtype == np.uint8
    negative = over_keys(pool=(Change("invert"),), layers=1, probability=0.3)
    changed = (negative == 255 - image()).all((1, 2, 3))
    assert ((negative == image()).all((1, 2, 3)) | changed).all()
    assert 0.22 < changed.mean() < 0.38  # 4 standard deviations of 0.019


def test_levels_are_uniform_and_leave_out_the_highest():
    pool = (Change("brightness", 0, 1),)
    white = np.full((2, 2, 3), 250, np.float32)

    def values(**options):
        one = functools.partial(
            rand_augment, pool=pool, layers=1, probability=1.0, **options
        )
        out = jax.jit(jax.vmap(one, (0, None)))(KEYS, white)
        return np.asarray(out)[:, 0, 0, 0] / 250

    drawn = values()
    assert set(np.round(10 * drawn, 3)) == set(range(1, 10))
    counts = np.bincount(np.round(10 * drawn).astype(int), minlength=10)[1:]
    assert counts.min() > 600 / 9 / 2 and counts.max() < 2 * 600 / 9
    continuous = values(levels=None)
    assert len(set(continuous)) > 590
    assert abs(continuous.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 600)


def test_every_example_has_its_own_level_and_probability():
    """As boosted contrastive learning needs it: both may be traced."""
    pool = (Change("brightness", 0, 1),)
    traces = []

    @jax.jit
    def both(keys, images, level, probability):
        traces.append(1)

        def one(key, image, level, probability):
            return rand_augment(
                key, image, pool=pool, layers=1, level=level, probability=probability
            )

        return jax.vmap(one)(keys, images, level, probability)

    batch = jnp.full((4, 2, 2, 3), 200.0)
    keys = KEYS[:4]
    out = both(keys, batch, jnp.array([0.0, 0.25, 0.5, 0.5]), jnp.array([1.0, 1, 1, 0]))
    assert out[:, 0, 0, 0].tolist() == [0.0, 50.0, 100.0, 200.0]
    out = both(keys, batch, jnp.array([1.0, 1, 1, 0.1]), jnp.ones(4))
    np.testing.assert_allclose(out[:, 0, 0, 0], [200, 200, 200, 20], rtol=1e-6)
    assert len(traces) == 1


def test_all_operations_run_on_floating_and_gray_images():
    gray = image()[..., :1].astype(np.float32) + 0.25
    one = functools.partial(
        rand_augment, pool=STANDARD + BOOSTED, layers=2, probability=1.0, level=0.5
    )
    out = np.asarray(jax.jit(jax.vmap(one, (0, None)))(KEYS[:80], gray))
    assert out.dtype == np.float32 and out.shape == (80, SIDE, SIDE, 1)
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 255


def test_erased_squares_have_the_mean_color_and_lie_anywhere():
    pool = (Change("erase", 0, 0.4, of_side=True),)
    out = over_keys(pool=pool, layers=1, probability=1.0, level=1.0)
    gone = (out == np.array([125, 123, 114])).all(-1)
    assert gone.sum((1, 2)).max() == 36  # int(0.4 * 16) squared
    assert gone.any(0).all()


def test_boosted_level_of_a_score():
    """10 + 20 M of 30: M of the second epoch in the derivation of the paper's update.

    Losses (1, 2, 4, 5.5) and then (3, 1, 4, 2) with momentum 0.97 give the averages
    (1.06, 1.97, 4, 5.395), and M = (average - mean) / (2 max|average - mean|) + 1/2.
    """
    momentum = 0.97 * np.array([1, 2, 4, 5.5]) + 0.03 * np.array([3, 1, 4, 2])
    centered = momentum - momentum.mean()
    score = 0.5 * (centered / np.abs(centered).max() + 1)
    np.testing.assert_allclose(
        30 * randaugment.boosted_level(score),
        [11.059530311, 15.035499727, 23.904969962, 30],
        rtol=1e-6,
    )
    two_layers = randaugment.boosted_level(score, lowest=5.0, factor=0.5)
    np.testing.assert_allclose(30 * two_layers, 5 + 25 * score * 0.5, rtol=1e-6)


def test_bad_pools_and_levels_are_refused():
    with pytest.raises(ValueError, match="pool is empty"):
        rand_augment(KEYS[0], image(), pool=())
    with pytest.raises(ValueError, match="levels is 1"):
        rand_augment(KEYS[0], image(), levels=1)
    with pytest.raises(ValueError, match="ops is 'mirror'"):
        rand_augment(KEYS[0], image(), pool=(Change("mirror"),))
