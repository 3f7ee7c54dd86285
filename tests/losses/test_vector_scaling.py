"""CDT and VS: numbers and gradients."""

import jax
import numpy as np
import pytest

from ltjax.class_stats import inverse_power_weights
from ltjax.losses import class_dependent_temperature, vector_scaling

COUNTS = np.array([100, 20, 5])
LOGITS = np.array([[1.0, 0.5, -0.2]])
TAIL = np.array([2])


def test_class_dependent_temperature_number(x64):
    value = class_dependent_temperature(LOGITS, TAIL, COUNTS, gamma=0.2)
    np.testing.assert_allclose(value, [1.729443060370], rtol=1e-12)


def test_class_dependent_temperature_gradient(x64):
    def loss(z):
        return class_dependent_temperature(z, TAIL, COUNTS, gamma=0.2)[0]

    temperature = np.array([1, 1.379729661, 1.820564203])
    p = jax.nn.softmax(LOGITS[0] / temperature)
    expected = (p - np.array([0, 0, 1])) / temperature
    np.testing.assert_allclose(jax.grad(loss)(LOGITS)[0], expected, rtol=1e-8)


def test_vector_scaling_number(x64):
    def loss(z):
        return vector_scaling(z, TAIL, COUNTS, gamma=0.2, tau=1.2)[0]

    value, gradient = jax.value_and_grad(loss)(LOGITS)
    np.testing.assert_allclose(value, 4.786931503909, rtol=1e-12)
    np.testing.assert_allclose(
        gradient[0], [0.921090743, 0.051148610, -0.544700371], atol=1e-9
    )


def test_both_hyper_parameters_have_gradients(x64):
    gradient = jax.grad(
        lambda g, t: vector_scaling(LOGITS, TAIL, COUNTS, gamma=g, tau=t)[0],
        argnums=(0, 1),
    )
    step = 1e-6

    def value(g, t):
        return float(vector_scaling(LOGITS, TAIL, COUNTS, gamma=g, tau=t)[0])

    by_gamma = (value(0.2 + step, 1.2) - value(0.2 - step, 1.2)) / (2 * step)
    by_tau = (value(0.2, 1.2 + step) - value(0.2, 1.2 - step)) / (2 * step)
    np.testing.assert_allclose(gradient(0.2, 1.2), (by_gamma, by_tau), rtol=1e-8)


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="vector_scaling: gamma is -0.1"):
        vector_scaling(LOGITS, TAIL, COUNTS, gamma=-0.1, tau=1.0)
    with pytest.raises(ValueError, match="class_dependent_temperature: gamma is -0.1"):
        class_dependent_temperature(LOGITS, TAIL, COUNTS, gamma=-0.1)


def test_numbers_of_the_unified_bound(x64):
    """Counts (100, 30, 10): D and i of VS at (.15, .75), weights of ADRW at .25."""
    counts = np.array([100, 30, 10])
    scaled = np.array([0.4, 1.3, -0.7]) / [1, 1.19793102, 1.41253754]
    scaled += [-0.25235418, -1.15533378, -1.97929300]
    logits = np.array([[0.4, 1.3, -0.7]])
    value = vector_scaling(logits, TAIL, counts, gamma=0.15, tau=0.75)
    expected = np.log(np.sum(np.exp(scaled))) - scaled[2]
    np.testing.assert_allclose(value, [expected], rtol=1e-7)
    weights = inverse_power_weights(counts, power=0.25)
    np.testing.assert_allclose(weights, [0.7264838, 0.98162502, 1.29189118], rtol=1e-7)
