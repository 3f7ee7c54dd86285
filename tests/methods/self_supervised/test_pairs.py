"""The temperature that oscillates over the epochs, as an option of every learner."""

import functools
import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.durations import duration_steps
from ltjax.methods.method import Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import ConfigError

TIMING = {"steps_per_epoch": 20, "batch_size": 16, "total_steps": 400 * 20}
SETTING = Setting(
    class_counts=np.array([300, 20]),
    labels=np.zeros(320, np.int32),
    num_examples=320,
    steps=functools.partial(duration_steps, **TIMING),
    **TIMING,
)


@pytest.mark.parametrize("period", ["320 epochs", "80%"])
def test_the_schedule_is_that_of_the_epoch(period):
    options = pairs.TemperatureOptions(
        temperature=0.05,
        temperature_shape="cosine",
        temperature_high=0.8,
        temperature_period=period,
    )
    at = pairs.temperature_of(options, SETTING)
    # Epochs count from 1 and have twenty steps.
    epochs = np.array([1, 40, 80, 120, 160, 240, 320])
    want = 0.375 * (1 + np.cos(2 * np.pi * epochs / 320)) + 0.05
    np.testing.assert_allclose(want[:3], [0.799927715, 0.690165043, 0.425], rtol=1e-8)
    for within in (0, 19):
        steps = (epochs - 1) * 20 + within
        found = [at(types.SimpleNamespace(step=jnp.int32(s), hyper={})) for s in steps]
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_what_replicas_differ_in_is_read_from_the_state():
    options = pairs.TemperatureOptions(temperature=0.2)
    hyper = {"method.temperature": jnp.float32(0.5)}
    state = types.SimpleNamespace(step=jnp.int32(3), hyper=hyper)
    assert float(pairs.temperature_of(options, SETTING)(state)) == 0.5


def test_a_period_without_steps_is_refused():
    options = pairs.TemperatureOptions(
        temperature_shape="step", temperature_period="0 epochs"
    )
    with pytest.raises(ConfigError, match="temperature_period is '0 epochs' = 0 steps"):
        pairs.temperature_of(options, SETTING)


@pytest.mark.parametrize("method", ["simclr", "sdclr", "moclr", "sup_con"])
def test_one_image_has_nothing_to_be_contrasted_with(smoked, method):
    message = f"batch_size is 1, expected at least 2: method '{method}'"
    with pytest.raises(ConfigError, match=message):
        smoked("selfsup_lt", f"method={method},probe=false", "batch_size=1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method.temperature=0", "config.method.temperature is 0"),
        ("augment.name=none", "needs the view 'view2', but config.augment.name 'none'"),
        ("head.name=linear", "but method 'simclr' needs 'projection'"),
    ],
)
def test_one_view_no_temperature_and_no_projection_are_faults(smoked, change, message):
    with pytest.raises(ConfigError, match=message):
        smoked("selfsup_lt", "method=simclr,probe=false", change)
