"""CTAugment: sampling weights, sequential updates, every operation of the policy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageFilter
import PIL.ImageOps
import pytest

from ltjax.data import ctaugment
from ltjax.data.ctaugment import OPS, Policy, Rates

SIDE = 16
BINS = {name: 17 for name in OPS} | {"posterize": 8, "identity": 0}


def policy(*steps):
    """Policy of one example from (operation, level) or (operation, level, level)."""
    ops = [OPS.index(name) for name, *_ in steps]
    levels = [(*levels, 0.0)[:2] for _, *levels in steps]
    return Policy(jnp.asarray(ops), jnp.asarray(levels, jnp.float32))


def test_there_are_18_operations_with_parameters_and_the_identity():
    rates = np.asarray(ctaugment.init().rates)
    assert rates.shape == (19, 2, 17) and set(np.unique(rates)) == {0.0, 1.0}
    for number, name in enumerate(OPS):
        assert rates[number, 0].sum() == BINS[name]
        assert rates[number, 1].sum() == (6 if name == "rescale" else 0)


def test_bins_are_drawn_by_their_rates_above_the_threshold():
    """Rates (1, .85, .5, ...) and decay .99: weights (1.01, .86, 0, ...) / sum."""
    rates = np.asarray(ctaugment.init().rates).copy()
    rates[:, 0, :] *= np.float32([1.0, 0.85] + [0.5] * 15)
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = jax.jit(
        jax.vmap(functools.partial(ctaugment.sample, depth=1), in_axes=(0, None))
    )
    drawn = draw(keys, Rates(jnp.asarray(rates)))
    op, level = np.asarray(drawn.op)[:, 0], np.asarray(drawn.level)[:, 0]
    frequency = np.bincount(op, minlength=19) / len(op)
    assert np.abs(frequency - 1 / 19).max() < 4 * np.sqrt(1 / 19 / len(op))
    many = np.isin(op, [i for i, name in enumerate(OPS) if BINS[name] == 17])
    bins = np.floor(level[many, 0] * 17).astype(int)
    assert set(bins) == {0, 1}
    share = 1.01 / (1.01 + 0.86)
    assert abs((bins == 0).mean() - share) < 4 * 0.5 / np.sqrt(many.sum())
    inside = level[many, 0] * 17 - bins
    assert abs(inside.mean() - 0.5) < 4 / np.sqrt(12 * many.sum())
    eight = level[op == OPS.index("posterize"), 0]
    assert eight.max() < 2 / 8
    kernels = level[op == OPS.index("rescale"), 1]
    counts = np.bincount(np.floor(kernels * 6).astype(int), minlength=6)
    assert len(counts) == 6 and counts.min() > 0.7 * counts.mean()


def test_probes_are_uniform_whatever_the_rates():
    keys = jax.random.split(jax.random.key(1), 5000)
    rates = Rates(0 * ctaugment.init().rates)
    draw = jax.vmap(lambda key: ctaugment.sample(key, rates, probe=True))
    level = np.asarray(jax.jit(draw)(keys).level)
    counts = np.histogram(level, bins=10, range=(0, 1))[0] / level.size
    assert np.abs(counts - 0.1).max() < 4 * np.sqrt(0.09 / level.size)


def sequential(rates, ops, levels, proximity, decay, kept):
    """The published loop, in float64."""
    rates = np.array(rates, np.float64)
    for one in range(len(ops)):
        for step in range(ops.shape[1]):
            op = ops[one, step]
            name = OPS[op]
            counts = {"rescale": [17, 6], "identity": []}.get(name, [BINS[name]])
            for parameter, count in enumerate(counts):
                if kept[one]:
                    bin_ = int(levels[one, step, parameter] * count * 0.999)
                    old = rates[op, parameter, bin_]
                    new = old * decay + proximity[one] * (1 - decay)
                    rates[op, parameter, bin_] = new
    return rates


@pytest.mark.parametrize("masked", [False, True])
def test_update_is_the_loop_over_the_batch(masked):
    rng = np.random.default_rng(0)
    batch = 60
    # Few operations and low levels, so that most cells are hit several times.
    ops = rng.choice(
        [OPS.index(n) for n in ("rescale", "posterize", "identity")], (batch, 2)
    )
    levels = (0.3 * rng.random((batch, 2, 2))).astype(np.float32)
    levels[0] = 1.0
    proximity = rng.random(batch).astype(np.float32)
    kept = rng.random(batch) < 0.7 if masked else np.ones(batch, bool)
    state = ctaugment.init()
    given = np.where(kept, proximity, np.nan).astype(np.float32)
    new = jax.jit(ctaugment.update)(
        *(state, Policy(jnp.asarray(ops), jnp.asarray(levels)), given),
        decay=0.9,
        where=jnp.asarray(kept) if masked else None,
    )
    expected = sequential(state.rates, ops, levels, proximity, 0.9, kept)
    np.testing.assert_allclose(new.rates, expected, rtol=2e-6)
    assert (np.asarray(new.rates)[np.asarray(state.rates) == 0] == 0).all()


def published(name, picture, level, kernel_level):
    """The operation of the released code on a Pillow image (translations: paper)."""
    blend = lambda other: PIL.Image.blend(picture, other, level)
    enhance = lambda kind: kind(picture).enhance(0.1 + 1.9 * level)
    affine = lambda *m: picture.transform(picture.size, PIL.Image.Transform.AFFINE, m)
    centered = 2 * level - 1
    resampling = PIL.Image.Resampling
    kernels = (resampling.LANCZOS, resampling.BICUBIC, resampling.BILINEAR)
    kernels += (resampling.BOX, resampling.HAMMING, resampling.NEAREST)
    margin = 0.25 * level * SIDE
    box = (margin, margin, SIDE - margin, SIDE - margin)
    move = 0.3 * SIDE * centered
    return {
        "autocontrast": lambda: blend(PIL.ImageOps.autocontrast(picture)),
        "blur": lambda: blend(picture.filter(PIL.ImageFilter.BLUR)),
        "brightness": lambda: enhance(PIL.ImageEnhance.Brightness),
        "color": lambda: enhance(PIL.ImageEnhance.Color),
        "contrast": lambda: enhance(PIL.ImageEnhance.Contrast),
        "equalize": lambda: blend(PIL.ImageOps.equalize(picture)),
        "invert": lambda: blend(PIL.ImageOps.invert(picture)),
        "identity": lambda: picture,
        "posterize": lambda: PIL.ImageOps.posterize(picture, 1 + int(level * 7.999)),
        "rescale": lambda: picture.crop(box).resize(
            picture.size, kernels[int(kernel_level * 5.99)]
        ),
        "rotate": lambda: picture.rotate(int(np.round(centered * 45))),
        "sharpness": lambda: enhance(PIL.ImageEnhance.Sharpness),
        "shear_x": lambda: affine(1, 0.3 * centered, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, 0.3 * centered, 1, 0),
        "smooth": lambda: blend(picture.filter(PIL.ImageFilter.SMOOTH)),
        "solarize": lambda: PIL.ImageOps.solarize(picture, int(level * 255.999)),
        "translate_x": lambda: affine(1, 0, move, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, move),
    }[name]()


@functools.cache
def image():
    return np.random.default_rng(0).integers(20, 230, (SIDE, SIDE, 3)).astype(np.uint8)


@functools.cache
def compiled():
    """Policies of one step on many examples."""
    one = functools.partial(ctaugment.apply, cutout=False)
    return jax.jit(jax.vmap(one, in_axes=(0, None, 0)))


def test_operations_are_the_published_ones():
    picture = PIL.Image.fromarray(image())
    cases = [
        (name, level, kernel)
        for name in OPS
        if name != "erase"
        for level, kernel in ((0.03, 0.9), (0.37, 0.2), (0.81, 0.6))
    ]
    policies = Policy(
        jnp.asarray([[OPS.index(name)] for name, *_ in cases]),
        jnp.asarray([[levels] for _, *levels in cases], jnp.float32),
    )
    keys = jax.random.split(jax.random.key(0), len(cases))
    out = np.asarray(compiled()(keys, image(), policies)).astype(int)
    for (name, level, kernel), result in zip(cases, out, strict=True):
        expected = np.asarray(published(name, picture, level, kernel)).astype(int)
        assert np.abs(result - expected).max() <= 1, (name, level)
        assert (result != expected).mean() < 0.02, (name, level)


def test_squares_are_even_and_steps_follow_each_other():
    """A square of 127, inverted to 128; then FixMatch's own square of 127."""
    count = 200
    level = np.linspace(0, 1, count, endpoint=False, dtype=np.float32)
    levels = np.stack([level, np.ones_like(level)], axis=1)[..., None]
    ops = np.tile([OPS.index("erase"), OPS.index("invert")], (count, 1))
    policies = Policy(jnp.asarray(ops), jnp.asarray(np.repeat(levels, 2, axis=-1)))
    keys = jax.random.split(jax.random.key(0), count)
    both = jax.jit(jax.vmap(ctaugment.apply, in_axes=(0, None, 0)))
    out = np.asarray(both(keys, image(), policies))
    last = (out == 127).all(-1)
    first = (out == 128).all(-1)
    assert (out == 255 - image())[~(first | last)].all()
    # 1 + int(0.499 * 16) is 8: a square of 8 pixels, cut at the border.
    assert set(last.any(2).sum(1)) == set(range(4, 9))
    half = (1 + np.floor(level * SIDE * 0.499)).astype(int) // 2
    rows = first.any(2).sum(1)
    assert (rows <= 2 * half).all()
    assert (rows == 2 * half).mean() > 0.4
    assert not first[half == 0].any()


def test_bad_shapes_are_refused():
    steps = Policy(jnp.zeros((3, 2), jnp.int32), jnp.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match=r"proximity has shape \(2,\)"):
        ctaugment.update(ctaugment.init(), steps, jnp.ones(2))
    with pytest.raises(ValueError, match=r"policy.op has shape \(2,\)"):
        ctaugment.update(ctaugment.init(), policy(("invert", 1.0), ("blur", 0.1)), 1.0)
    with pytest.raises(ValueError, match="depth is 0"):
        ctaugment.sample(jax.random.key(0), ctaugment.init(), depth=0)
