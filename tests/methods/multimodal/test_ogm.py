"""OGM: factors by hand, and gradients of the encoder that is ahead."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.methods.multimodal.ogm import modulation


def test_the_modality_that_is_ahead_is_slowed():
    # Probabilities of the label: .8 and .2 in one row, .6 and .3 in the other.
    p = np.array([[0.8, 0.2], [0.6, 0.3]])
    logits = np.stack([np.log(p), np.log(1 - p)], axis=-1)
    labels = jnp.array([0, 0])
    found = modulation(jnp.asarray(logits), labels, 0.5)
    np.testing.assert_allclose(found, [1 - np.tanh(0.5 * 1.4 / 0.5), 1.0], rtol=1e-5)
    first = modulation(jnp.asarray(logits), labels, 0.5, where=jnp.array([True, False]))
    np.testing.assert_allclose(first, [1 - np.tanh(0.5 * 4), 1.0], rtol=1e-5)
    assert modulation(jnp.asarray(logits), labels, 0.0).tolist() == [1.0, 1.0]


def test_its_encoder_gets_less_gradient_and_nothing_else_changes(smoked, digit_batch):
    run, state = smoked("multimodal_digits", "method=ogm", "method.alpha=0.4")
    key = jax.random.key(0)
    method_state, batch = jax.jit(
        lambda s, b: run.method.prepare(s, b, key=key, program=run.program(0))
    )(state, digit_batch)
    factors = np.asarray(method_state["factors"])
    assert sorted(factors)[1] == 1 and sorted(factors)[0] < 1
    ones = jax.tree.map(jnp.ones_like, state.params)
    scaled = run.method.gradient(state.replace(method_state=method_state), ones)
    for name, factor in zip(("image", "signal"), factors, strict=True):
        leaves = jax.tree.leaves(scaled["backbone"][name])
        assert all((np.asarray(leaf) == factor).all() for leaf in leaves)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(scaled["head"]))
