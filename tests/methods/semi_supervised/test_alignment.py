"""Distribution alignment as a treatment: what is read when, and towards what."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.method import Setting
from ltjax.methods.semi_supervised.alignment import AlignOptions, align
from ltjax.options import ConfigError

COUNTS = np.array([6, 3, 1])


def treatment_of(**options):
    setting = Setting(
        class_counts=COUNTS,
        labels=np.zeros(10, np.int32),
        num_examples=10,
        batch_size=2,
        steps_per_epoch=5,
        total_steps=10,
        steps=lambda text: 0,
    )
    return align(AlignOptions(**options), setting)


def aligned(p, target, running):
    rows = p * (target + 1e-6) / (running + 1e-6)
    return rows / rows.sum(-1, keepdims=True)


@pytest.mark.parametrize("order", ["read", "write"])
def test_guesses_are_scaled_towards_the_tempered_labelled_distribution(order):
    treatment = treatment_of(order=order, power=0.5, batches=2)
    target = np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()
    rng = np.random.default_rng(0)
    mask = np.array([[True, True], [True, False]])
    batch = {"unlabelled": {"mask": jnp.asarray(mask)}}
    kept, means = treatment.init(), []
    for _ in range(4):
        p = rng.dirichlet(np.ones(3), (2, 2))
        state = types.SimpleNamespace(method_state=kept, hyper={})
        kept, found = treatment.apply(
            state, jnp.asarray(p, jnp.float32), batch, features=None
        )
        # Two batches are remembered; those that never came count as uniform, or not.
        past = means[-2:] if order == "read" else [*means, p[mask].mean(0)][-2:]
        if order == "read":
            past = past + [np.full(3, 1 / 3)] * (2 - len(past))
        means.append(p[mask].mean(0))
        want = aligned(p, target, np.mean(past, axis=0))
        np.testing.assert_allclose(found, want, rtol=1e-5)
    np.testing.assert_allclose(
        treatment.estimate(kept), np.mean(means[-2:], axis=0), rtol=1e-5
    )


def test_the_counts_may_be_others_than_the_labelled_ones():
    treatment = treatment_of(counts=(1.0, 1.0, 2.0))
    p = np.array([[[0.5, 0.3, 0.2]]])
    state = types.SimpleNamespace(method_state=treatment.init(), hyper={})
    batch = {"unlabelled": {"mask": jnp.ones((1, 1), bool)}}
    _, found = treatment.apply(state, jnp.asarray(p, jnp.float32), batch, features=None)
    want = aligned(p, np.array([0.25, 0.25, 0.5]), np.full(3, 1 / 3))
    np.testing.assert_allclose(found, want, rtol=1e-5)
    with pytest.raises(ConfigError, match="counts is .*expected 3 numbers"):
        treatment_of(counts=(1.0, 2.0))
