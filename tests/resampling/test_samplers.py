"""Class distributions and exact counts, with numbers by hand."""

import numpy as np
import pytest

from ltjax import resampling

# 100,000 draws from 100,000 examples with counts in the ratio 6 : 3 : 1.
MANY = np.repeat(np.arange(3), [60_000, 30_000, 10_000])


def check_distribution(values, probabilities):
    """Chi-square statistic below its 1e-4 quantile for 2 degrees of freedom."""
    observed = np.bincount(values, minlength=3)
    expected = values.size * np.asarray(probabilities)
    assert np.sum((observed - expected) ** 2 / expected) < 18.42


def draw_classes(sampler, step=0):
    return MANY[sampler(seed=5, step=step)[0]]


@pytest.mark.parametrize(
    "power, expected",
    [
        (1.0, (0.6, 0.3, 0.1)),
        (0.5, (0.47273387, 0.33427333, 0.19299280)),
        (0.0, (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_class_power(power, expected):
    sampler = resampling.class_power(MANY, 3, MANY.size, power=power)
    check_distribution(draw_classes(sampler), expected)


def test_named_powers():
    for named, power in [
        (resampling.class_balanced(MANY, 3, 64), 0.0),
        (resampling.square_root(MANY, 3, 64), 0.5),
    ]:
        general = resampling.class_power(MANY, 3, 64, power=power)
        assert np.array_equal(named(1, 2)[0], general(1, 2)[0])


@pytest.mark.parametrize(
    "epoch, expected",
    [
        (0, (0.6, 0.3, 0.1)),
        (45, (0.46516854, 0.31685393, 0.21797753)),
        (89, (1 / 3, 1 / 3, 1 / 3)),
        (120, (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_progressive(epoch, expected):
    sampler = resampling.progressive(MANY, 3, MANY.size, total_epochs=90)
    assert sampler.steps_per_epoch == 1
    check_distribution(draw_classes(sampler, step=epoch), expected)


def test_progressive_holds_within_an_epoch_and_one_epoch_is_instance_balanced():
    sampler = resampling.progressive(MANY, 3, MANY.size // 2, total_epochs=2)
    assert sampler.steps_per_epoch == 2
    for step, expected in [(1, (0.6, 0.3, 0.1)), (2, (1 / 3, 1 / 3, 1 / 3))]:
        check_distribution(draw_classes(sampler, step), expected)
    single = resampling.progressive(MANY, 3, MANY.size, total_epochs=1)
    check_distribution(draw_classes(single, step=4), (0.6, 0.3, 0.1))


def test_class_weighted_is_deferred_resampling_with_effective_numbers():
    # Counts (100, 20, 5), beta = .99: p ~ n / E_n with E_n = (1 - beta^n) / (1 - beta)
    # (Cui et al., 2019).
    labels = np.repeat(np.arange(3), [100, 20, 5])
    effective = np.array([63.396765873, 18.209306240, 4.900995010])
    mass = np.array([100, 20, 5]) / effective
    sampler = resampling.class_weighted(labels, 3, 125, weights=1 / effective)
    drawn = np.concatenate([labels[sampler(2, step)[0]] for step in range(400)])
    check_distribution(drawn, mass / mass.sum())
    # The scale of the weights does not matter.
    scaled = resampling.class_weighted(labels, 3, 125, weights=7 / effective)
    assert np.array_equal(scaled(2, 3)[0], sampler(2, 3)[0])


def test_examples_of_a_class_are_uniform():
    labels = np.array([1, 0, 1, 1, 2, 2])  # class 1 = examples 0, 2, 3
    sampler = resampling.class_power(labels, 3, 6, power=0.0)
    drawn = np.concatenate([sampler(0, step)[0] for step in range(5000)])
    of_class_1 = drawn[labels[drawn] == 1]
    assert set(of_class_1.tolist()) == {0, 2, 3}
    check_distribution(np.searchsorted([0, 2, 3], of_class_1), [1 / 3] * 3)


def test_instance_covers_each_epoch_once():
    sampler = resampling.instance(10, 5)
    orders = []
    for epoch in range(3):
        rows = [sampler(0, 2 * epoch + s)[0] for s in range(2)]
        orders.append(np.concatenate(rows))
        assert sorted(orders[-1].tolist()) == list(range(10))
    assert not np.array_equal(orders[0], orders[1])


def test_instance_drop_leaves_out_the_remainder():
    sampler = resampling.instance(11, 4)
    assert sampler.steps_per_epoch == 2
    left_out = set()
    for epoch in range(20):
        seen = np.concatenate([sampler(1, 2 * epoch + s)[0] for s in range(2)])
        assert np.unique(seen).size == 8
        left_out |= set(range(11)) - set(seen.tolist())
    assert left_out == set(range(11))


def test_instance_pad_covers_everything_and_marks_the_padding():
    sampler = resampling.instance(11, 4, remainder="pad")
    assert sampler.steps_per_epoch == 3
    plans = [sampler(1, 3 + s) for s in range(3)]
    seen = np.concatenate([indices[mask] for indices, mask in plans])
    assert sorted(seen.tolist()) == list(range(11))
    assert plans[-1][1].tolist() == [True, True, True, False]
    assert resampling.instance(3, 8, remainder="pad").steps_per_epoch == 1


def test_class_aware_visits_every_class_once_per_cycle():
    counts = [6, 3, 1, 10]
    labels = np.repeat(np.arange(4), counts)
    sampler = resampling.class_aware(labels, 4, 16)  # one cycle = 4 classes x 4 items
    for step in range(30):
        visits = labels[sampler(9, step)[0]].reshape(4, 4)
        assert np.all(visits == visits[:, :1])
        assert sorted(visits[:, 0].tolist()) == [0, 1, 2, 3]


def test_class_aware_runs_through_each_class_before_repeating():
    counts = [6, 3, 1, 10]
    labels = np.repeat(np.arange(4), counts)
    sampler = resampling.class_aware(labels, 4, 6)  # batches cut through visits
    drawn = np.concatenate([sampler(9, step)[0] for step in range(80)])
    assert np.array_equal(np.bincount(labels[drawn]), [120] * 4)  # K m visits: m each
    for k, count in enumerate(counts):
        laps = drawn[labels[drawn] == k].reshape(-1, count)
        members = np.flatnonzero(labels == k)
        assert np.array_equal(np.sort(laps, axis=1), np.tile(members, (len(laps), 1)))
        assert count < 3 or not np.all(laps == laps[0])


def test_deferred_switches_at_the_step():
    first = resampling.instance(MANY.size, 64)
    second = resampling.square_root(MANY, 3, 64)
    sampler = resampling.deferred(first, second, switch_step=7)
    assert np.array_equal(sampler(3, 6)[0], first(3, 6)[0])
    assert np.array_equal(sampler(3, 7)[0], second(3, 7)[0])
    assert not np.array_equal(first(3, 7)[0], second(3, 7)[0])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: resampling.instance(4, 5), "batch_size 5 exceeds the 4 examples"),
        (lambda: resampling.instance(4, 0), "batch_size 0"),
        (lambda: resampling.instance(4, 2, remainder="keep"), "'keep'.*drop.*pad"),
        (lambda: resampling.class_balanced([0, 1], 2, 3), "class_power: batch_size 3"),
        (lambda: resampling.class_aware([0, 2], 2, 1), r"lie in \[0, 2\)"),
        (lambda: resampling.class_balanced(np.zeros(0, int), 2, 1), "labels are empty"),
        (
            lambda: resampling.class_weighted([0, 1], 2, 1, weights=[1.0]),
            r"weights has shape \(1,\)",
        ),
        (
            lambda: resampling.class_weighted([0, 1], 2, 1, weights=[1.0, -1.0]),
            "finite and >= 0",
        ),
        (
            lambda: resampling.class_weighted([0, 0], 2, 1, weights=[0.0, 1.0]),
            "finite and >= 0",
        ),
        (
            lambda: resampling.progressive([0, 1], 2, 1, total_epochs=0),
            "total_epochs is 0",
        ),
        (
            lambda: resampling.deferred(
                resampling.instance(8, 4), resampling.instance(8, 2), switch_step=1
            ),
            r"\(4, 2\) and \(2, 4\)",
        ),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
