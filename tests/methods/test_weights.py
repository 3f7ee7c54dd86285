"""Class weights as components: their tables, and the phase that they start in."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.labelled import class_weights
from ltjax.methods.registry import WEIGHTS
from ltjax.methods.weights import WeightsOptions

COUNTS = np.array([100, 20, 5])


def made(name, **options):
    component = WEIGHTS[name]
    setting = types.SimpleNamespace(class_counts=COUNTS, num_classes=3)
    return component.make(component.options(**options), setting)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("none", {}, np.ones(3)),
        ("batch", {}, np.ones(3)),
        ("inverse_power", {"power": 0.5}, COUNTS**-0.5),
        ("inverse_power", {}, 1 / COUNTS),
        ("class_balanced", {"beta": 0.9}, 0.1 / (1 - 0.9**COUNTS)),
    ],
)
def test_tables_sum_to_the_number_of_classes(name, options, expected):
    weights = made(name, **options)
    found = weights.table(weights.options)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 3 * expected / np.sum(expected), rtol=1e-5)


def test_every_kind_starts_late_and_normalizes_if_asked():
    for name, component in WEIGHTS.items():
        assert issubclass(component.options, WeightsOptions), name
        assert made(name, normalize="weights").normalize == "weights"


def test_weights_of_the_batch_count_what_is_there():
    of_batch = made("batch").of_batch
    labels, mask = jnp.array([0, 0, 0, 2, 1]), jnp.array([1, 1, 1, 1, 0], bool)
    # Three of class 0 and one of class 2: each class present weighs the same.
    np.testing.assert_allclose(of_batch(labels, mask)[jnp.array([0, 2])], [2 / 3, 2])
    component = WEIGHTS["batch"]
    assert component.facts(component.options()).of_batch
    assert all(made(name).of_batch is None for name in WEIGHTS if name != "batch")


def test_they_are_in_force_from_the_late_step_on_and_swept():
    setting = types.SimpleNamespace(
        weights=made("inverse_power", power=1.0), num_classes=3, late_step=4
    )

    @jax.jit
    def at(step, power):
        state = types.SimpleNamespace(step=step, hyper={"weights.power": power})
        return class_weights(setting, state, None, None)

    np.testing.assert_array_equal(at(3, 2.0), np.ones(3))
    expected = COUNTS**-2.0
    found = at(4, 2.0)  # the state's power, not the config's
    np.testing.assert_allclose(found, 3 * expected / expected.sum(), rtol=1e-5)
