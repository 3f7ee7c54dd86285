"""Distillation: the numbers of DiVE, the definition, gradient routing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import distillation

STUDENT, TEACHER = np.array([[2.0, 1.0, 0.0, -1.0]]), np.array([[3.0, 0.0, -1.0, 2.0]])


def softmax(z):
    return np.exp(z) / np.sum(np.exp(z))


def test_numbers_of_dive(x64):
    """Power .5 at temperature 2 is a teacher of temperature 4."""
    target = softmax(TEACHER[0] / 4)
    expected = [0.3818183, 0.1803582, 0.1404631, 0.29736039]
    np.testing.assert_allclose(target, expected, atol=5e-9)
    soft = functools.partial(distillation, temperature=2.0, power=0.5)
    loss = jax.jit(soft)(STUDENT, TEACHER)
    assert float(loss[0]) == pytest.approx(0.60455676, abs=5e-9)
    total = 0.5 * -np.log(softmax(STUDENT[0])[1]) + 0.5 * float(loss[0])
    assert total == pytest.approx(1.02237323, abs=5e-9)


def test_value_and_gradient(x64):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    keep = np.array([[True, False, True], [True, True, False]])
    dirty = np.where(keep[..., None], student, np.nan)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def graded(s, t):
        values = distillation(s, t, temperature=1.7, power=0.6, where=keep)
        return jnp.sum(values), values

    (_, values), (gradient, none) = graded(dirty, teacher)
    assert not np.any(none)
    for b in np.ndindex(2, 3):
        p, q = softmax(0.6 / 1.7 * teacher[b]), softmax(student[b] / 1.7)
        expected = 1.7**2 * np.sum(p * np.log(p / q)) if keep[b] else 0
        assert values[b] == pytest.approx(expected, rel=1e-11)
        slope = 1.7 * (q - p) if keep[b] else np.zeros(5)
        np.testing.assert_allclose(gradient[b], slope, rtol=1e-10, atol=1e-14)


def test_limits():
    student, teacher = np.float32(STUDENT), np.float32(TEACHER)
    loss = jax.jit(distillation)
    assert loss(student, student)[0] == pytest.approx(0, abs=1e-6)
    gap = STUDENT - TEACHER
    hot = loss(student, teacher, temperature=200.0)[0]
    assert hot == pytest.approx(np.var(gap) / 2, rel=0.02)
    extreme = jax.jit(jax.grad(lambda s: loss(s, -s)[0]))(np.float32([[1e4, -1e4]]))
    assert np.isfinite(extreme).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: distillation(s, t[:, :3]), r"teacher_logits have shape \(1, 3\)"),
        (lambda s, t: distillation(s, t, temperature=0.0), "temperature is 0.0"),
        (lambda s, t: distillation(s, t, power=-1.0), "power is -1.0"),
        (lambda s, t: distillation(s, t, where=np.ones(2, bool)), "where has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=f"distillation: {message}"):
        call(np.float32(STUDENT), np.float32(TEACHER))
    with pytest.raises(TypeError, match="distillation: student_logits has dtype int"):
        distillation(np.zeros((1, 4), int), np.float32(TEACHER))
