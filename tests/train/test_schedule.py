"""Schedules of the learning rate: each factor by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.durations import duration_steps
from ltjax.options import ConfigError
from ltjax.train.schedule import SCHEDULES


def factor_of(name, *, total, epoch=96, **options):
    """The factor of a schedule's options at steps."""
    setting = types.SimpleNamespace(
        steps_per_epoch=epoch,
        total_steps=total,
        steps=lambda text: duration_steps(
            text, steps_per_epoch=epoch, batch_size=128, total_steps=total
        ),
    )
    component = SCHEDULES[name]
    return jax.vmap(component.make(component.options(**options), setting))


def test_warm_up_of_a_constant_rate():
    factor = factor_of("constant", total=100, warmup="4 steps")
    found = factor(jnp.arange(6))
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(factor_of("constant", total=9)(jnp.arange(6)), 1)


def test_cosine_by_step_and_by_epoch():
    steps = np.arange(12)
    factor = factor_of("cosine", total=12, epoch=4)
    expected = (1 + np.cos(np.pi * steps / 12)) / 2
    np.testing.assert_allclose(factor(jnp.asarray(steps)), expected, atol=1e-6)
    factor = factor_of("cosine", total=12, epoch=4, per_epoch=True)
    held = np.repeat(expected[::4], 4)
    np.testing.assert_allclose(factor(jnp.asarray(steps)), held, atol=1e-6)


def test_cosines_that_do_not_end_at_zero():
    steps = np.arange(9)
    factor = factor_of("cosine", total=8, final=0.001)
    expected = 0.001 + 0.999 * (1 + np.cos(np.pi * steps / 8)) / 2
    np.testing.assert_allclose(factor(jnp.asarray(steps)), expected, rtol=1e-5)
    factor = factor_of("partial_cosine", total=8, warmup="2 steps")
    expected = np.cos(7 * np.pi / 16 * steps / 8)
    expected[0] /= 2
    np.testing.assert_allclose(factor(jnp.asarray(steps)), expected, rtol=1e-5)


def test_a_linear_decay_begins_where_it_is_told_to():
    factor = factor_of("linear", total=12, epoch=2, start="4 epochs")
    want = [1] * 9 + [0.75, 0.5, 0.25]
    np.testing.assert_allclose(factor(jnp.arange(12)), want, rtol=1e-6)
    with pytest.raises(ConfigError, match="'9 epochs' = 18 steps, expected less than"):
        factor_of("linear", total=12, epoch=2, start="9 epochs")


def test_two_cosines_by_epoch_after_a_warmup():
    """Schedule B of geometric harmonization: 0.4 to 0.2 to 1e-6 in 410 epochs."""
    factor = factor_of(
        "cosine",
        **dict(total=820, epoch=2, per_epoch=True, warmup="10 epochs"),
        **dict(final=2.5e-6, middle_at="210 epochs", middle=0.5),
    )
    epochs = np.array([5, 10, 110, 210, 310, 410])
    expected = [0.2, 0.4, 0.3, 0.2, 0.1000005, 1e-6]
    for within in (2, 1):  # both steps of an epoch
        rates = 0.4 * factor(jnp.asarray(2 * epochs - within))
        np.testing.assert_allclose(rates, expected, rtol=2e-6, atol=2e-8)


def test_steps_down_at_milestones():
    factor = factor_of(
        "warmup_multistep", total=600, milestones=(3, 5), factors=(0.1, 0.02)
    )
    at = jnp.array([0, 3 * 96 - 1, 3 * 96, 5 * 96 - 1, 5 * 96])
    np.testing.assert_allclose(factor(at), [1, 1, 0.1, 0.1, 0.02], rtol=1e-6)


def test_a_warm_up_by_step_climbs_from_zero_within_an_epoch():
    factor = factor_of(
        "warmup_multistep",
        total=960,
        warmup="120 steps",  # an epoch and a quarter
        warmup_by="step",
        milestones=(3,),
        factors=(0.1,),
    )
    got = factor(jnp.array([0, 30, 119, 120, 287, 288]))
    np.testing.assert_allclose(got, [0, 0.25, 119 / 120, 1, 1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "warmup", "message"),
    [
        ("warmup_multistep", "20 steps", "20 steps, .* multiple of the 96 steps"),
        ("constant", "960 steps", "= 960 steps, expected less than the run's 960"),
        ("cosine", "100%", "'100%' = 960 steps, expected less"),
    ],
)
def test_warm_ups_that_make_no_sense(name, warmup, message):
    with pytest.raises(ConfigError, match=message):
        factor_of(name, total=960, warmup=warmup)


@pytest.mark.parametrize("middle", ["5 steps", "960 steps"])
def test_a_middle_lies_between_warm_up_and_end(middle):
    message = "middle_at is .* expected at least the 10 .* less than the run's 960"
    with pytest.raises(ConfigError, match=message):
        factor_of("cosine", total=960, warmup="10 steps", middle_at=middle)
