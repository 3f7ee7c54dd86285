"""Transforms of signals: exact effects, and moments of the random ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import signal_ops

LENGTH = 40
COUNT = 4000
KEYS = jax.random.split(jax.random.key(0), COUNT)


def signal() -> np.ndarray:
    """[LENGTH, 2], every sample different from the others and from 0."""
    line = np.arange(1, LENGTH + 1, dtype=np.float32)
    return np.stack([line, -line], axis=1)


def over_keys(one, x=None, **options):
    x = signal() if x is None else x
    mapped = jax.vmap(functools.partial(one, **options), (0, None))
    return np.asarray(jax.jit(mapped)(KEYS, x))


def test_shift_wraps_by_every_offset_up_to_its_reach_equally_often():
    out = over_keys(signal_ops.shift, most=3 / LENGTH)
    offsets = np.concatenate([[np.argmax(one[:, 0] == 1)] for one in out])
    for one, offset in zip(out[:50], offsets[:50], strict=True):
        np.testing.assert_array_equal(one, np.roll(signal(), offset, axis=0))
    offsets, counts = np.unique((offsets + 10) % LENGTH - 10, return_counts=True)
    assert offsets.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert np.abs(counts - COUNT / 7).max() < 4 * np.sqrt(COUNT * 6 / 49)


def test_shift_can_bring_in_zeros():
    out = over_keys(signal_ops.shift, most=0.1, edge="zero")
    for one in out[:50]:
        kept = one[:, 0] != 0
        offset = LENGTH - kept.sum() if kept[-1] else kept.sum() - LENGTH
        expected = np.roll(signal(), offset, axis=0)
        expected[slice(0, offset) if offset > 0 else slice(LENGTH + offset, None)] = 0
        np.testing.assert_array_equal(one, expected)


def test_crop_stretch_reads_a_straight_line_on_a_part_of_it():
    """A window of a line, stretched, is a line: its ends say which window it was."""
    out = over_keys(signal_ops.crop_stretch, smallest=0.5)
    first, last = out[:, 0, 0], out[:, -1, 0]
    np.testing.assert_allclose(
        out[..., 0], np.linspace(first, last, LENGTH).T, rtol=1e-5
    )
    np.testing.assert_array_equal(out[..., 1], -out[..., 0])
    part = (last - first) / (LENGTH - 1)
    assert part.min() < 0.51 and part.max() > 0.99
    assert first.min() >= 1 - 1e-4 and last.max() <= LENGTH + 1e-4
    # Uniform lengths: mean 3/4, deviation 1/2 / sqrt(12).
    assert abs(part.mean() - 0.75) < 4 * 0.5 / np.sqrt(12 * COUNT)


def test_scale_is_log_normal_and_one_factor():
    out = over_keys(signal_ops.scale, deviation=0.3)
    ratio = out / signal()
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * np.ones_like(ratio), rtol=1e-5)
    logs = np.log(ratio[:, 0, 0])
    assert abs(logs.mean()) < 4 * 0.3 / np.sqrt(COUNT)
    assert abs(logs.std() / 0.3 - 1) < 4 / np.sqrt(2 * COUNT)


def test_ramp_is_a_line_through_zero_in_the_middle():
    added = over_keys(signal_ops.ramp, deviation=0.75) - signal()
    rise = added[:, -1, 0] - added[:, 0, 0]
    line = np.linspace(-0.5, 0.5, LENGTH)[None, :, None]
    np.testing.assert_allclose(
        added, (rise[:, None, None] * line).repeat(2, 2), atol=1e-5
    )
    assert abs(rise.std() / 0.75 - 1) < 4 / np.sqrt(2 * COUNT)


def test_jitter_is_white():
    noise = over_keys(signal_ops.jitter, np.zeros((4, 2), np.float32), deviation=0.5)
    flat = noise.reshape(COUNT, -1)
    np.testing.assert_allclose(
        flat.T @ flat / COUNT, 0.25 * np.eye(8), atol=4 * 0.25 * np.sqrt(2 / COUNT)
    )


def test_smooth_noise_has_its_deviation_everywhere_and_its_correlation():
    """White noise under a Gaussian window of width w: correlation exp(-d^2 / 4 w^2)."""
    zeros = np.zeros((8, 1), np.float32)
    noise = over_keys(signal_ops.smooth_noise, zeros, deviation=0.5, width=2.0)[..., 0]
    distance = np.abs(np.arange(8)[:, None] - np.arange(8))
    expected = 0.25 * np.exp(-(distance**2) / 16)
    np.testing.assert_allclose(
        noise.T @ noise / COUNT, expected, atol=5 * 0.25 * np.sqrt(2 / COUNT)
    )


def test_magnitude_warp_is_a_smooth_curve_of_each_channel():
    """With as many knots as samples the curve is the knots themselves."""
    ones = np.ones((LENGTH, 2), np.float32)
    rough = over_keys(signal_ops.magnitude_warp, ones, deviation=0.2, knots=LENGTH) - 1
    assert abs(rough.std() / 0.2 - 1) < 0.02
    assert abs(np.mean(rough[..., 0] * rough[..., 1])) < 4 * 0.04 / np.sqrt(COUNT)
    smooth = over_keys(signal_ops.magnitude_warp, ones, deviation=0.2) - 1
    steps = np.abs(np.diff(smooth[..., 0], axis=1)).mean()
    assert steps < 0.15 * np.abs(np.diff(rough[..., 0], axis=1)).mean()


def test_mask_zeroes_one_window_of_every_place():
    out = over_keys(signal_ops.mask, fraction=0.15)
    gone = out[..., 0] == 0
    assert (gone.sum(1) == 6).all()  # 0.15 * 40
    np.testing.assert_array_equal(out, np.where(gone[..., None], 0, signal()))
    borders = (gone != np.roll(gone, 1, axis=1)).sum(1)
    assert (borders == 2).all()
    counts = gone.sum(0)
    assert np.abs(counts - 0.15 * COUNT).max() < 5 * np.sqrt(COUNT * 0.15 * 0.85)


@pytest.mark.parametrize(
    ("name", "option", "nothing"),
    [
        ("shift", "most", 0.0),
        ("crop_stretch", "smallest", 1.0),
        ("scale", "deviation", 0.0),
        ("ramp", "deviation", 0.0),
        ("jitter", "deviation", 0.0),
        ("smooth_noise", "deviation", 0.0),
        ("magnitude_warp", "deviation", 0.0),
        ("mask", "fraction", 0.0),
    ],
)
def test_strengths_are_traced_and_zero_changes_nothing(name, option, nothing):
    one = getattr(signal_ops, name)
    both = jax.jit(
        jax.vmap(
            lambda key, x, size: one(key, x, **{option: size}), in_axes=(0, None, 0)
        )
    )
    out = both(KEYS[:2], signal(), jnp.array([nothing, 0.5]))
    np.testing.assert_array_equal(out[0], signal())
    assert (np.asarray(out[1]) != signal()).any()


def test_bad_signals_are_refused():
    with pytest.raises(ValueError, match=r"shift: signal has shape \(4,\)"):
        signal_ops.shift(KEYS[0], jnp.ones(4), most=0.1)
    with pytest.raises(ValueError, match="edge is 'mirror'"):
        signal_ops.shift(KEYS[0], jnp.ones((4, 1)), most=0.1, edge="mirror")
    with pytest.raises(ValueError, match="smallest is 0"):
        signal_ops.crop_stretch(KEYS[0], jnp.ones((4, 1)), smallest=0)
    with pytest.raises(ValueError, match="width is 0"):
        signal_ops.smooth_noise(KEYS[0], jnp.ones((4, 1)), deviation=1.0, width=0)
