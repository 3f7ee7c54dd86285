"""What the engine's losses say of themselves: their affine form, heads and options."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.entries import LOSSES, Context

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2], [0.3, -1.0, 2.0]], np.float32)
LABELS = jnp.array([2, 0])
HYPER = {
    name: jnp.float32(value)
    for name, value in {
        "tau": 1.2,
        "tau_late": 0.6,
        "gamma": 0.2,
        "max_margin": 0.5,
        "scale": 30.0,
    }.items()
}
PRIOR = COUNTS / COUNTS.sum()
RELATIVE = COUNTS / COUNTS.max()
KAPPA = np.array([0.5, 1.0, 2.0])


def context(phase=0, **changes):
    known = dict(class_vectors=None, mask=jnp.ones(len(LABELS), bool))
    known["memory"] = {"kappa": jnp.asarray(KAPPA, jnp.float32)}
    return Context(COUNTS, HYPER, jnp.int32(phase), {}, {}, **(known | changes))


def cross_entropy(scale, shift):
    z = np.asarray(LOGITS, np.float64) * scale + shift
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), np.asarray(LABELS)]


# Scale and shift of CE(scale * z + shift, y), from the methods cards 10 to 15.
FORMS = {
    ("ce", 0): (1.0, 0.0),
    ("la", 0): (1.0, 1.2 * np.log(PRIOR)),
    ("balanced_softmax", 0): (1.0, np.log(PRIOR)),
    ("cdt", 0): (RELATIVE**0.2, 0.0),
    ("vs", 0): (RELATIVE**0.2, 1.2 * np.log(PRIOR)),
    ("tla_adrw", 0): (RELATIVE**0.2, 1.2 * np.log(PRIOR)),
    ("tla_adrw", 1): (1.0, 0.6 * np.log(PRIOR)),
    ("cvs", 0): (PRIOR**0.2 / KAPPA, 0.0),
    ("cvs", 1): (1.0, 1.2 * np.log(PRIOR / KAPPA)),
}


@pytest.mark.parametrize("name, phase", FORMS)
def test_affine_form_is_the_loss(name, phase):
    entry, where = LOSSES[name], context(phase)
    scale, shift = (np.broadcast_to(v, (3,)) for v in entry.affine(where))
    expected = FORMS[name, phase]
    np.testing.assert_allclose(scale, np.broadcast_to(expected[0], 3), rtol=1e-5)
    np.testing.assert_allclose(shift, np.broadcast_to(expected[1], 3), atol=1e-5)
    values = entry.fn({"logits": jnp.asarray(LOGITS)}, LABELS, where)
    np.testing.assert_allclose(values, cross_entropy(scale, shift), rtol=1e-5)


def test_every_affine_loss_is_checked():
    stated = {name for name, entry in LOSSES.items() if entry.affine is not None}
    assert stated == {name for name, _ in FORMS}


def test_dot_regression_takes_the_heads_vectors_and_its_balance():
    # Card 23: K = 3, M = 1.2247 (I - 1/3), h = (.6, 0, .8).
    frame = jnp.asarray(1.224744871 * (np.eye(3) - 1 / 3), jnp.float32)
    features = jnp.tile(jnp.array([[0.6, 0.0, 0.8]]), (4, 1))
    section = types.SimpleNamespace(class_balance="none")
    entry = LOSSES["dot_regression"].configured(section)
    where = context(class_vectors=frame, mask=jnp.ones(4, bool))
    labels = jnp.array([2, 0, 0, 0])
    values = entry.fn({"features": features}, labels, where)
    np.testing.assert_allclose(values[:2], [0.175085042869, 0.350034017148], rtol=1e-5)
    mixed = 0.7 * values[0] + 0.3 * values[1]
    assert float(mixed) == pytest.approx(0.227569735153, rel=1e-5)
    # Three of class 0 and one of class 1: lengths^2 4 / (2 * 3) for class 0.
    section.class_balance = "batch"
    balanced = LOSSES["dot_regression"].configured(section).fn
    labels = jnp.array([1, 0, 0, 0])
    values = balanced({"features": features}, labels, where)
    assert float(values[1]) == pytest.approx(0.233356011432, rel=1e-5)
    # Padding is not counted: without its row there is one class, of weight 1.
    padded = context(class_vectors=frame, mask=jnp.array([False, True, True, True]))
    values = balanced({"features": features}, labels, padded)
    np.testing.assert_allclose(values, [0] + [0.350034017148] * 3, rtol=1e-5)
    # Global: N / (K n_k) = 125 / (3 * 100).
    section.class_balance = "global"
    values = (
        LOSSES["dot_regression"]
        .configured(section)
        .fn({"features": features}, labels, where)
    )
    expected = 125 / 300 * 0.350034017148
    assert float(values[1]) == pytest.approx(expected, rel=1e-5)


def test_dot_regression_needs_a_head_with_class_vectors():
    entry, outputs = LOSSES["dot_regression"], {"features": jnp.asarray(LOGITS)}
    with pytest.raises(ValueError, match="does not tell its class vectors"):
        entry.fn(outputs, LABELS, context(), class_balance="none")
