"""What the losses' components say of themselves: affine form, heads and options."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses.component import LossContext
from ltjax.methods.registry import LOSSES
from ltjax.options import options_of

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2], [0.3, -1.0, 2.0]], np.float32)
LABELS = jnp.array([2, 0])
VALUES = {"tau": 1.2, "tau_late": 0.6, "gamma": 0.2}
PRIOR = COUNTS / COUNTS.sum()
RELATIVE = COUNTS / COUNTS.max()
KAPPA = np.array([0.5, 1.0, 2.0])


def context(phase=0, **changes):
    known = dict(class_vectors=None, mask=jnp.ones(len(LABELS), bool))
    known["memory"] = {"kappa": jnp.asarray(KAPPA, jnp.float32)}
    return LossContext(COUNTS, jnp.int32(phase), {}, {}, **(known | changes))


def made(name, **values):
    """(Loss, options with these values) of a component."""
    component = LOSSES[name]
    known = options_of(component.options).keys()
    options = component.options(**{k: v for k, v in values.items() if k in known})
    # What CVS keeps between steps is made from a run's lengths; here it is given.
    setting = types.SimpleNamespace(
        class_counts=COUNTS, steps_per_epoch=1, late_step=1, steps=lambda text: 0
    )
    return component.make(options, setting), options


def cross_entropy(scale, shift):
    z = np.asarray(LOGITS, np.float64) * scale + shift
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), np.asarray(LABELS)]


# Scale and shift of CE(scale * z + shift, y), from the papers of the methods.
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
    (loss, options), where = made(name, **VALUES), context(phase)
    scale, shift = (np.broadcast_to(v, (3,)) for v in loss.affine(options, where))
    expected = FORMS[name, phase]
    np.testing.assert_allclose(scale, np.broadcast_to(expected[0], 3), rtol=1e-5)
    np.testing.assert_allclose(shift, np.broadcast_to(expected[1], 3), atol=1e-5)
    outputs = {"logits": jnp.asarray(LOGITS)}
    values = loss.fn(outputs, LABELS, options, where)
    np.testing.assert_allclose(values, cross_entropy(scale, shift), rtol=1e-5)


def test_every_affine_loss_is_checked():
    stated = {name for name in LOSSES if made(name, k=1)[0].affine is not None}
    assert stated == {name for name, _ in FORMS}
    for name, component in LOSSES.items():
        facts = component.facts(component.options())
        assert (facts is not None and facts.affine) == (name in stated), name


def test_dot_regression_takes_the_heads_vectors_and_its_balance():
    # K = 3, M = 1.2247 (I - 1/3), h = (.6, 0, .8): <h, m_2> = .408248 and <h, m_0> =
    # .163299, so the losses are (1 - .408248)^2 / 2 and (1 - .163299)^2 / 2.
    frame = jnp.asarray(1.224744871 * (np.eye(3) - 1 / 3), jnp.float32)
    features = jnp.tile(jnp.array([[0.6, 0.0, 0.8]]), (4, 1))
    where = context(class_vectors=frame, mask=jnp.ones(4, bool))

    def losses(labels, where=where, balance="none"):
        loss, options = made("dot_regression", class_balance=balance)
        return loss.fn({"features": features}, jnp.array(labels), options, where)

    values = losses([2, 0, 0, 0])
    np.testing.assert_allclose(values[:2], [0.175085042869, 0.350034017148], rtol=1e-5)
    mixed = 0.7 * values[0] + 0.3 * values[1]
    assert float(mixed) == pytest.approx(0.227569735153, rel=1e-5)
    # Three of class 0 and one of class 1: lengths^2 4 / (2 * 3) for class 0.
    values = losses([1, 0, 0, 0], balance="batch")
    assert float(values[1]) == pytest.approx(0.233356011432, rel=1e-5)
    # Padding is not counted: without its row there is one class, of weight 1.
    padded = context(class_vectors=frame, mask=jnp.array([False, True, True, True]))
    values = losses([1, 0, 0, 0], padded, "batch")
    np.testing.assert_allclose(values, [0] + [0.350034017148] * 3, rtol=1e-5)
    # Global: N / (K n_k) = 125 / (3 * 100).
    values = losses([1, 0, 0, 0], balance="global")
    expected = 125 / 300 * 0.350034017148
    assert float(values[1]) == pytest.approx(expected, rel=1e-5)


def test_dot_regression_needs_a_head_with_class_vectors():
    (loss, options), outputs = made("dot_regression"), {"features": LOGITS}
    with pytest.raises(ValueError, match="does not expose its class vectors"):
        loss.fn(outputs, LABELS, options, context())


@pytest.mark.parametrize(
    "name, gamma, head",
    [("focal", 2.0, "linear"), ("ldam", None, "cosine"), ("dot_regression", 0, "etf")],
)
def test_heads_and_what_a_loss_is_called_in_its_section(name, gamma, head):
    component = LOSSES[name]
    facts, options = component.facts(component.options()), component.options()
    assert facts.head == head
    if gamma:
        assert options.gamma == gamma
    confidence = component.make(options, None).confidence
    # Logits of LDAM are cosines; the loss multiplies them by 30.
    assert (confidence and confidence(options)) == (30.0 if name == "ldam" else None)


def test_which_losses_couple_the_rows_of_a_batch():
    coupled = {
        (name, balance)
        for name in ("dot_regression",)
        for balance in ("none", "batch", "global")
        if LOSSES[name].facts(LOSSES[name].options(balance)).couples_batch
    }
    assert coupled == {("dot_regression", "batch")}
