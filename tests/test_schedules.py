"""Schedules: the published numbers, and one trace for all steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.schedules import (
    constant,
    cosine,
    linear_decay,
    partial_cosine,
    phase,
    ramp_up,
    target_decay,
    temperature_schedule,
    warmup_multistep,
)


@pytest.mark.parametrize(
    ("boundaries", "steps", "phases"),
    [
        ((), (0, 100), (0, 0)),
        ((160,), (0, 159, 160, 319, 320, 10_000), (0, 0, 1, 1, 1, 1)),
        ((3, 5), (2, 3, 4, 5), (0, 1, 1, 2)),
        ((0,), (0,), (1,)),
    ],
)
def test_phase_counts_the_boundaries_passed(boundaries, steps, phases):
    values = [phase(step, boundaries) for step in steps]
    assert [int(v) for v in values] == list(phases)
    assert values[0].dtype == jnp.int32


def test_constant():
    assert (float(constant(7)), constant(7).dtype) == (1.0, jnp.float32)


def test_warmup_multistep_of_the_long_tail_recipe():
    epochs = (0, 4, 5, 159, 160, 179, 180, 199)
    rates = [0.1 * float(warmup_multistep(e, steps_per_epoch=1)) for e in epochs]
    expected = [0.02, 0.1, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_warmup_multistep_is_constant_within_an_epoch():
    per_epoch = 82
    steps = np.arange(200 * per_epoch)
    factors = jax.vmap(lambda s: warmup_multistep(s, steps_per_epoch=per_epoch))(steps)
    by_epoch = np.asarray(factors).reshape(200, per_epoch)
    np.testing.assert_array_equal(by_epoch.min(axis=1), by_epoch.max(axis=1))
    expected = [warmup_multistep(e, steps_per_epoch=1) for e in range(200)]
    np.testing.assert_array_equal(by_epoch[:, 0], expected)


def test_factor_and_phase_change_in_the_same_step():
    per_epoch = 82
    before, after = 160 * per_epoch - 1, 160 * per_epoch
    factors = [
        float(warmup_multistep(s, steps_per_epoch=per_epoch)) for s in (before, after)
    ]
    np.testing.assert_allclose(factors, [1.0, 0.01], rtol=1e-6)
    assert [int(phase(s, (160 * per_epoch,))) for s in (before, after)] == [0, 1]


def test_warmup_by_step_before_a_multistep_decay():
    # Cui et al.: 0 to 0.1 over 5 epochs of 100 steps, x 0.01 at 160, x 0.0001 at 180.
    def rate(step):
        return 0.1 * float(
            warmup_multistep(step, steps_per_epoch=100, warmup_by="step")
        )

    steps = (0, 1, 250, 499, 500, 15999, 16000, 17999, 18000)
    expected = (0, 0.0002, 0.05, 0.0998, 0.1, 0.1, 1e-3, 1e-3, 1e-5)
    np.testing.assert_allclose([rate(s) for s in steps], expected, rtol=1e-5)
    # Menon et al. on CIFAR-10: up to epoch 20, then x 0.1 at 604, 926 and 1128.
    google = [
        float(
            warmup_multistep(
                epoch * 97,
                steps_per_epoch=97,
                warmup_epochs=20,
                milestones=(604, 926, 1128),
                factors=(0.1, 0.01, 0.001),
                warmup_by="step",
            )
        )
        for epoch in (10, 20, 603, 604, 926, 1128)
    ]
    np.testing.assert_allclose(google, [0.5, 1, 1, 0.1, 0.01, 0.001], rtol=1e-5)


def test_a_warmup_by_step_may_end_within_an_epoch():
    factors = [
        float(
            warmup_multistep(s, steps_per_epoch=4, warmup_epochs=1.5, warmup_by="step")
        )
        for s in (3, 6)
    ]
    assert factors == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"warmup_epochs is 1\.5, expected whole"):
        warmup_multistep(0, steps_per_epoch=4, warmup_epochs=1.5)
    with pytest.raises(ValueError, match="warmup_by is 'batch'"):
        warmup_multistep(0, steps_per_epoch=4, warmup_by="batch")


def test_warmup_can_be_left_out():
    factors = [
        float(
            warmup_multistep(
                e, steps_per_epoch=1, warmup_epochs=0, milestones=(2,), factors=(0.5,)
            )
        )
        for e in range(4)
    ]
    assert factors == [1.0, 1.0, 0.5, 0.5]
    with pytest.raises(ValueError, match="2 milestones but 1 factors"):
        warmup_multistep(0, steps_per_epoch=1, milestones=(1, 2), factors=(0.1,))


def test_cosine_by_epoch_starts_at_one_and_never_reaches_zero():
    # lr(e) = (1 + cos(pi e / T)) / 2 for e = 0 ... T - 1, held within an epoch.
    per_epoch, epochs = 10, 90
    steps = np.arange(per_epoch * epochs)
    factors = jax.vmap(
        lambda s: cosine(s, total_steps=per_epoch * epochs, steps_per_epoch=per_epoch)
    )(steps)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(epochs) / epochs))
    np.testing.assert_allclose(factors, np.repeat(expected, per_epoch), atol=1e-6)
    assert factors[-1] > 0


def test_cosine_after_a_warmup():
    # Update s = 1 ... S: s / W for s < W, then (1 + cos(pi (s - W) / (S - W))) / 2.
    factors = [
        float(cosine(s, total_steps=14, warmup_steps=4, final=0.1)) for s in range(15)
    ]
    np.testing.assert_allclose(factors[:4], [0.25, 0.5, 0.75, 1.0], rtol=1e-6)
    t = np.arange(1, 11)
    expected = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * t / 10))
    np.testing.assert_allclose(factors[4:14], expected, rtol=1e-5)
    assert factors[13] == factors[14] == pytest.approx(0.1)


def test_cosine_after_a_warmup_by_epoch():
    # Epoch e = 1 ... E: e / 10 for e < 10, then half a cosine from 1 to 1e-6 / 0.4.
    per_epoch, epochs = 3, 410
    final = 1e-6 / 0.4
    steps = np.arange(per_epoch * epochs)
    factors = jax.jit(
        jax.vmap(
            lambda s: cosine(
                s,
                total_steps=per_epoch * epochs,
                warmup_steps=10 * per_epoch,
                steps_per_epoch=per_epoch,
                final=final,
            )
        )
    )(steps)
    by_epoch = np.asarray(factors).reshape(epochs, per_epoch)
    np.testing.assert_array_equal(by_epoch.min(axis=1), by_epoch.max(axis=1))
    rate = dict(zip(range(1, epochs + 1), 0.4 * by_epoch[:, 0], strict=True))
    assert rate[5] == pytest.approx(0.2) and rate[10] == pytest.approx(0.4)
    assert rate[210] == pytest.approx(0.2 + 0.5e-6, rel=1e-5)  # half way, cos = 0
    assert rate[410] == pytest.approx(1e-6, rel=1e-3)


def test_cosine_stays_at_its_end():
    assert float(cosine(1000, total_steps=10, final=0.2)) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="cosine: total_steps is 5"):
        cosine(0, total_steps=5, warmup_steps=5)
    with pytest.raises(ValueError, match="cosine: middle_steps is 1, expected"):
        cosine(0, total_steps=5, warmup_steps=2, middle_steps=1)


@pytest.mark.parametrize(
    "schedule",
    [
        constant,
        lambda s: warmup_multistep(s, steps_per_epoch=3, milestones=(2, 4)),
        lambda s: cosine(s, total_steps=20, warmup_steps=5, steps_per_epoch=2),
        lambda s: phase(s, (3, 9)),
    ],
    ids=["constant", "multistep", "cosine", "phase"],
)
def test_traced_steps_give_the_same_numbers_from_one_trace(schedule):
    traced = jax.jit(schedule)
    for step in range(15):
        np.testing.assert_allclose(traced(jnp.int32(step)), schedule(step), rtol=1e-6)
    assert traced._cache_size() == 1
    assert traced(jnp.int32(0)).shape == ()


def test_temperature_of_a_published_case():
    """0.05 to 0.8 over 320 epochs; epoch t is step t - 1."""
    epochs = np.array([0, 1, 40, 80, 120, 160, 240, 320])
    expected = [0.8, 0.799927715, 0.690165043, 0.425, 0.159834957, 0.05, 0.425, 0.8]

    @jax.jit
    @jax.vmap
    def tau(epoch):
        options = {"period": 320, "low": 0.05, "high": 0.8}
        return temperature_schedule(epoch - 1, steps_per_epoch=1, **options)

    np.testing.assert_allclose(tau(epochs), expected, rtol=2e-6)
    period = np.asarray(tau(np.arange(1, 321)))
    np.testing.assert_allclose(period.mean(), 0.425, rtol=1e-6)
    np.testing.assert_allclose(period[:159], period[318:159:-1], rtol=1e-5)
    np.testing.assert_allclose(tau(np.arange(1, 321) + 1600), period, rtol=1e-6)


def test_temperature_within_an_epoch_limits_and_steps():
    tau = lambda step, **options: float(
        temperature_schedule(step, steps_per_epoch=10, **options)
    )
    assert len({tau(step, period=7) for step in range(30, 40)}) == 1
    assert tau(123, low=0.2, high=0.2) == pytest.approx(0.2)
    assert tau(123, period=1e9) == pytest.approx(1.0)
    square = [tau(10 * (e - 1), period=4, shape="step") for e in range(1, 10)]
    np.testing.assert_allclose(square, [1, 1, 0.1, 0.1, 1, 1, 0.1, 0.1, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="temperature_schedule: shape is 'linear'"):
        tau(0, shape="linear")
    with pytest.raises(ValueError, match="temperature_schedule: low is 0"):
        tau(0, low=0.0)


def test_decay_of_a_momentum_network():
    """1 - 0.01 (cos(pi k / 200) + 1) / 2."""
    steps = np.array([0, 50, 100, 150, 200, 300])
    decay = jax.vmap(lambda k: target_decay(k, total_steps=200, base=0.99))(steps)
    expected = [0.99, 0.991464466, 0.995, 0.998535534, 1.0, 1.0]
    np.testing.assert_allclose(decay, expected, rtol=1e-7)


def test_partial_cosine_of_the_published_rates():
    """0.03 cos(7 pi / 32) and 0.03 cos(7 pi / 16); CReST's level 1 ends at 0.029424."""
    rates = [0.03 * float(partial_cosine(k, total_steps=200)) for k in (0, 100, 200)]
    np.testing.assert_allclose(rates, [0.03, 0.0231903, 0.00585271], rtol=1e-6)
    flat = 0.03 * float(partial_cosine(200, total_steps=200, level=1))
    assert flat == pytest.approx(0.029424, abs=5e-7)
    with pytest.raises(ValueError, match="partial_cosine: level is 9"):
        partial_cosine(0, total_steps=2, level=9)


def test_linear_decay_holds_and_then_falls():
    """Co-teaching, 200 epochs, from the 80th on: (200 - e) / 120."""
    found = [float(linear_decay(e, total_steps=200, start_step=80)) for e in (0, 80)]
    assert found == [1.0, 1.0]
    late = [float(linear_decay(e, total_steps=200, start_step=80)) for e in (110, 199)]
    np.testing.assert_allclose(late, [0.75, 1 / 120], rtol=1e-5)
    assert float(linear_decay(300, total_steps=200, start_step=80)) == 0
    with pytest.raises(ValueError, match="linear_decay: total_steps is 3"):
        linear_decay(0, total_steps=3, start_step=3)


def test_ramps_of_unlabelled_weights():
    """exp(-5 / 4) = 0.286505 half-way, exp(-5) at first, 1 in the end."""
    found = [float(ramp_up(k, steps=8, shape="sigmoid")) for k in (0, 4, 8, 99)]
    np.testing.assert_allclose(found, [np.exp(-5), 0.286505, 1, 1], rtol=2e-6)
    assert [float(ramp_up(k, steps=8)) for k in (0, 2, 8, 9)] == [0, 0.25, 1, 1]
    assert float(ramp_up(1, steps=0)) == 1
    with pytest.raises(ValueError, match="shape is 'cubic'"):
        ramp_up(1, steps=2, shape="cubic")
