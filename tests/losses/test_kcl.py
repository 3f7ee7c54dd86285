"""k-positive contrastive loss: the published variants, and its definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import info_nce, kcl

loss = jax.jit(kcl, static_argnames=("unchosen", "block"))


def one_query(*similarities):
    """A query (1, 0), and unit rows at these cosines."""
    cosines = np.array(similarities)
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


def test_unchosen_positives_by_hand(x64):
    """The key at 0.8; a queue at 0.9 (chosen), 0.3, 0.5 (unchosen) and -0.2."""
    rows = one_query(0.8, 0.9, 0.3, 0.5, -0.2)
    options = {
        "queue": rows[1:],
        "queue_labels": np.array([4, 1, 4, 0]),
        "k": 1,
        "temperature": 0.1,
    }
    call = functools.partial(loss, np.array([[1.0, 0.0]]), rows[:1], np.array([4]))
    masked = call(**options)
    kept = np.exp(np.array([8.0, 9, 3, -2]))
    np.testing.assert_allclose(masked, np.log(kept.sum()) - 8.5, rtol=1e-12)
    np.testing.assert_allclose(masked, 0.81508435, atol=5e-9)
    negatives = call(**options, unchosen="negatives")
    total = np.log(kept.sum() + np.exp(5.0)) - 8.5
    np.testing.assert_allclose(negatives, total, rtol=1e-12)
    np.testing.assert_allclose(negatives, 0.82836124, atol=5e-9)


def ref_kcl(query, key, label, queue, queue_labels, k, temperature, unchosen):
    unit = lambda x: x / np.linalg.norm(x)
    positives, entries = [unit(query) @ unit(key) / temperature], []
    for row, other in zip(queue, queue_labels, strict=True):
        s = unit(query) @ row / temperature
        if other != label:
            entries.append(s)
        elif len(positives) <= k:
            positives.append(s)
        elif unchosen == "negatives":
            entries.append(s)
    return np.log(np.sum(np.exp(positives + entries))) - np.mean(positives)


@pytest.mark.parametrize("unchosen", ["masked", "negatives"])
def test_equals_its_definition(x64, unchosen):
    """Classes with more, fewer and no entries in the queue, and unfilled places."""
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(2, 5, 3))
    queue = rng.normal(size=(17, 3))
    queue /= np.linalg.norm(queue, axis=1, keepdims=True)
    queue_labels = rng.choice([-1, 0, 3, 3, 3, 12], 17)
    filled = np.arange(17) % 6 != 4
    labels = np.array([3, 0, 7, 12, 3])
    dirty = np.where(filled[:, None], queue, np.nan)
    for k in (0, 2, 100):
        found = loss(
            queries,
            keys,
            labels,
            queue=dirty,
            queue_labels=queue_labels,
            queue_where=filled,
            k=k,
            temperature=0.4,
            unchosen=unchosen,
            block=5,
        )
        known = queue[filled], queue_labels[filled]
        expected = [
            ref_kcl(*each, *known, k, 0.4, unchosen)
            for each in zip(queries, keys, labels, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    if unchosen == "negatives":
        plain = loss(
            queries,
            keys,
            labels,
            queue=queue,
            queue_labels=queue_labels,
            k=0,
            temperature=0.4,
            unchosen=unchosen,
        )
        moco = jax.jit(info_nce)(queries, keys, queue, temperature=0.4)
        np.testing.assert_allclose(plain, moco, rtol=1e-12)


def test_a_label_that_int32_does_not_hold():
    """Own key at 0.8, queue at 0.9 and -0.2, whose labels int32 would cut to -1."""
    rows = one_query(0.8, 0.9, -0.2).astype(np.float32)
    wide = jnp.array([2**32 - 1, 2**32 - 1], jnp.uint32)
    options = {"queue": rows[1:], "queue_labels": wide, "temperature": 1.0}
    with pytest.raises(ValueError, match="kcl: labels hold 4294967295"):
        kcl(np.ones((1, 2)), rows[:1], wide[:1], **options)
    # Traced, it cannot be refused: it is of no class, and both entries are negatives.
    found = loss(np.array([[1.0, 0.0]], np.float32), rows[:1], wide[:1], **options)
    expected = np.log(np.exp([0.8, 0.9, -0.2]).sum()) - 0.8
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_bad_input_is_named():
    x, y = np.ones((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match=r"kcl: queue_labels have shape \(2,\)"):
        kcl(x, x, y, queue=x, queue_labels=y[:2])
    with pytest.raises(ValueError, match="kcl: unchosen is 'zero'"):
        kcl(x, x, y, queue=x, queue_labels=y, unchosen="zero")
    with pytest.raises(ValueError, match="kcl: k is -1"):
        kcl(x, x, y, queue=x, queue_labels=y, k=-1)
