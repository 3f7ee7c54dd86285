"""The global contrastive loss over two steps, against loops over views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import nt_xent, sogclr

IMAGES, RATE, T = 5, 0.3, 0.4
KEEP = np.arange(IMAGES) != 3


def views(seed):
    drawn = np.random.default_rng(seed).normal(size=(2, IMAGES, 3))
    return np.where(KEEP[:, None], drawn, np.nan)


def means(first, second):
    """g of every image that counts, by loops over its negatives."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    rows = np.flatnonzero(KEEP)
    found = np.zeros(IMAGES)
    for i in rows:
        positive = unit[0][i] @ unit[1][i]
        others = [one[j] for one in unit for j in rows if j != i]
        for own in unit:
            terms = [np.exp((own[i] @ other - positive) / T) for other in others]
            found[i] += np.mean(terms) / 2
    return found


@jax.jit
def graded(first, second, averages, rate, where):
    def total(first, second):
        loss = sogclr(
            first, second, averages, temperature=T, rate=rate, where=where, block=3
        )
        return jnp.sum(loss.values), loss

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(first, second)


def test_equals_the_loops(x64):
    state, u = np.full(IMAGES, -np.inf), np.zeros(IMAGES)
    for seed in range(2):
        first, second = views(seed)
        (_, loss), gradient = graded(first, second, state, RATE, KEEP)
        g = means(first, second)
        u = g if seed == 0 else (1 - RATE) * u + RATE * g
        expected = np.where(KEEP, T * np.log(np.where(KEEP, u, 1.0)), 0.0)
        np.testing.assert_allclose(loss.values, expected, rtol=1e-11)
        np.testing.assert_array_equal(loss.monitor, loss.values)
        np.testing.assert_allclose(
            loss.averages[KEEP], np.log(u[KEEP]), rtol=1e-11, atol=1e-13
        )
        assert np.isneginf(loss.averages[3])
        # The gradient is that of T g / u with constant u.
        for which, slopes in enumerate(gradient):
            assert not np.any(slopes[3])
            for place in np.ndindex(first.shape):
                if not KEEP[place[0]]:
                    continue
                ends = []
                for sign in (1, -1):
                    moved = [first.copy(), second.copy()]
                    moved[which][place] += sign * 1e-6
                    ends.append(np.sum(T * means(*moved)[KEEP] / u[KEEP]))
                slope = (ends[0] - ends[1]) / 2e-6
                assert slopes[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)
        state = loss.averages


def test_without_memory_it_is_nt_xent_but_for_its_one(x64):
    first, _ = views(2)
    (_, loss), _ = graded(first, first, np.full(IMAGES, -np.inf), 1.0, KEEP)
    own = nt_xent(first, first, temperature=T, where=KEEP)  # of both views alike
    negatives = 2 * KEEP.sum() - 2
    np.testing.assert_allclose(
        np.exp(loss.averages[KEEP]), np.expm1(own[KEEP]) / negatives, rtol=1e-11
    )


def test_validation_leaves_the_averages(x64):
    first, second = views(4)
    state = np.linspace(-1.0, 0.5, IMAGES)
    (_, loss), _ = graded(first, second, state, 0.0, KEEP)
    np.testing.assert_array_equal(loss.averages, state)
    np.testing.assert_allclose(loss.values, np.where(KEEP, T * state, 0), rtol=1e-12)


def test_a_single_image_has_no_negatives():
    first, second = np.float32(np.nan_to_num(views(0)))
    alone = np.arange(IMAGES) == 1
    state = np.full(IMAGES, 0.2, np.float32)
    (_, loss), gradient = graded(first, second, state, 0.9, alone)
    assert not np.any(loss.values)
    np.testing.assert_array_equal(loss.averages, state)
    assert all(np.isfinite(x).all() and not np.any(x) for x in gradient)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 1.5}, "sogclr: rate is 1.5"),
        ({"temperature": 0.0}, "sogclr: temperature is 0.0"),
        (
            {"log_averages": np.zeros(2)},
            r"log_averages have shape \(2,\), expected \(5",
        ),
        ({"second": np.zeros((5, 2))}, r"sogclr: second has shape \(5, 2\)"),
    ],
)
def test_bad_input_is_named(change, message):
    features = np.ones((IMAGES, 3), np.float32)
    given = {"first": features, "second": features, "log_averages": np.zeros(IMAGES)}
    with pytest.raises(ValueError, match=message):
        sogclr(**given | change)
