"""Distribution alignment, sharpening, the buffers of three papers, DASO's blend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import pseudo_labels
from ltjax.pseudo_labels import init_distribution_buffer

# Compiled, so that a test costs one program and not one per operation.
align_distribution = jax.jit(pseudo_labels.align_distribution)
blend_semantic = jax.jit(pseudo_labels.blend_semantic)
running_distribution = jax.jit(pseudo_labels.running_distribution)
sharpen = jax.jit(pseudo_labels.sharpen)
update_distribution_buffer = jax.jit(pseudo_labels.update_distribution_buffer)

ROW = np.array([0.7, 0.2, 0.1])
TARGET = np.array([0.5, 0.3, 0.2])
RUNNING = np.array([0.8, 0.15, 0.05])


def test_alignment_numbers(x64):
    aligned = align_distribution(ROW, TARGET, RUNNING)
    expected = [0.35353762, 0.32323308, 0.32322930]
    np.testing.assert_allclose(aligned, expected, atol=5e-9)
    expected = [0.37427901, 0.31286414, 0.31285684]
    np.testing.assert_allclose(sharpen(aligned), expected, atol=5e-9)
    logits = np.log(ROW) + np.log((TARGET + 1e-6) / (RUNNING + 1e-6))
    np.testing.assert_allclose(aligned, jax.nn.softmax(logits), rtol=1e-12)


def test_alignment_limits(x64):
    # The two epsilons cancel.
    same = align_distribution(ROW, TARGET, TARGET)
    np.testing.assert_allclose(same, ROW, rtol=1e-15)
    # Counts as the target, and many rows.
    rows = np.tile(ROW, (2, 3, 1))
    np.testing.assert_allclose(
        align_distribution(rows, 900 * TARGET, RUNNING),
        np.broadcast_to(align_distribution(ROW, TARGET, RUNNING), (2, 3, 3)),
    )
    empty = align_distribution(ROW, np.array([0.5, 0.5, 0]), np.array([0.5, 0.5, 0]))
    np.testing.assert_allclose(empty, ROW)


def test_sharpening(x64):
    expected = [0.657894737, 0.236842105, 0.105263158]
    np.testing.assert_allclose(sharpen(TARGET), expected, atol=1e-9)
    np.testing.assert_allclose(sharpen(ROW, temperature=1.0), ROW)
    np.testing.assert_array_equal(
        sharpen(np.array([[0.4, 0.4, 0.2]]), temperature=0.0), [[1, 0, 0]]
    )
    np.testing.assert_array_equal(sharpen(np.array([0.0, 1.0])), [0, 1])


def means_of(batches, size):
    return [batch.mean(axis=0) for batch in batches][-size:]


def test_buffers_are_those_of_the_papers():
    rng = np.random.default_rng(0)
    batches = rng.dirichlet(np.ones(3), size=(7, 4)).astype(np.float32)
    update = jax.jit(update_distribution_buffer)
    running = jax.jit(running_distribution)
    uniform = init_distribution_buffer(3, size=4)
    empty = init_distribution_buffer(3, size=4, start="empty")
    for step, batch in enumerate(batches):
        # ReMixMatch reads before it writes; unwritten rows are uniform.
        past = means_of(batches[:step], 4)
        past = [np.full(3, 1 / 3)] * (4 - len(past)) + past
        np.testing.assert_allclose(running(uniform), np.mean(past, axis=0), rtol=1e-5)
        uniform = update(uniform, batch)
        # DARP, ABC and DASO write first and have as many rows as batches.
        empty = update(empty, batch)
        now = np.mean(means_of(batches[: step + 1], 4), axis=0)
        np.testing.assert_allclose(running(empty), now, rtol=1e-5)


def test_masked_rows_do_not_enter_the_buffer():
    buffer = init_distribution_buffer(2, size=3, start="empty")
    rows = jnp.array([[0.75, 0.25], [jnp.nan, 0.0]])
    new = update_distribution_buffer(buffer, rows, where=np.array([True, False]))
    np.testing.assert_allclose(running_distribution(new), [0.75, 0.25])
    same = update_distribution_buffer(new, rows, where=np.array([False, False]))
    assert same.written == 1
    np.testing.assert_allclose(running_distribution(same), [0.75, 0.25])


def test_semantic_blend(x64):
    distribution = np.array([0.6, 0.3, 0.1])
    weights = [1, 0.629960525, 0.302853432]  # (m / max m)^(1 / 1.5)
    semantic = np.array([0.1, 0.1, 0.8])
    for k, v in enumerate(weights):
        p = np.full(3, 0.2)
        p[k] = 0.6
        blend = blend_semantic(p, semantic, distribution)
        np.testing.assert_allclose(blend, (1 - v) * p + v * semantic, atol=1e-9)
    assert np.all(np.isfinite(blend_semantic(ROW, semantic, np.zeros(3))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pseudo_labels.align_distribution(ROW, TARGET[:2], RUNNING),
            r"target has shape",
        ),
        (
            lambda: pseudo_labels.align_distribution(ROW, TARGET, RUNNING[:2]),
            r"running has shape",
        ),
        (
            lambda: pseudo_labels.align_distribution(ROW, TARGET, RUNNING, epsilon=0),
            "epsilon is 0",
        ),
        (lambda: pseudo_labels.sharpen(ROW, temperature=-1), "temperature is -1"),
        (lambda: init_distribution_buffer(3, start="zero"), "start is 'zero'"),
        (lambda: init_distribution_buffer(3, size=0), "size is 0"),
        (
            lambda: pseudo_labels.update_distribution_buffer(
                init_distribution_buffer(3), np.ones((2, 2))
            ),
            "the buffer has 3 classes",
        ),
        (lambda: pseudo_labels.blend_semantic(ROW, ROW[:2], ROW), "semantic has shape"),
        (
            lambda: pseudo_labels.blend_semantic(ROW, ROW, ROW, temperature=0),
            "temperature is 0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
