"""Profiles and subsets, with the counts of the published files."""

import numpy as np
import pytest

from ltjax.class_stats import count_labels, shot_groups
from ltjax.data.long_tail import long_tail_counts, long_tail_indices, long_tail_subset


@pytest.mark.parametrize(
    "num_classes, max_count, factor, profile, expected",
    [
        (3, 90, 9, "exp", [90, 30, 10]),
        (3, 90, 9, "step", [90, 10, 10]),
        (3, 90, 9, "balanced", [90, 90, 90]),
        (1, 90, 9, "exp", [90]),
        (10, 5000, 30, "exp", [5000, 3426, 2348, 1609, 1102, 755, 517, 354, 243, 166]),
        (10, 5000, 30, "step", [5000] * 5 + [166] * 5),
        (10, 5000, 150, "exp", [5000, 2865, 1642, 941, 539, 309, 177, 101, 58, 33]),
        (9, 100, 10, "step", [100] * 4 + [10] * 5),
        (10, 500, 100, "exp", [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]),  # STL-10
        # 1 / 49 in float64 lies below the true value, so the end point is 99, not 100.
        (2, 4900, 49, "exp", [4900, 99]),
    ],
)
def test_counts(num_classes, max_count, factor, profile, expected):
    counts = long_tail_counts(num_classes, max_count, factor, profile)
    assert counts.tolist() == expected
    assert counts.dtype == np.int64


@pytest.mark.parametrize(
    "num_classes, max_count, factor, profile, total",
    [
        (10, 5000, 30, "exp", 15520),
        (10, 5000, 30, "step", 25830),
        (10, 5000, 150, "exp", 11665),
        (100, 500, 150, "exp", 10019),
        (20, 2500, 40, "exp", 13863),
        (10, 500, 100, "exp", 1236),
        # CIFAR of SDCLR, BCL and TS, which keep a tenth for validation, and of GH.
        (10, 4500, 100, "exp", 11165),
        (100, 450, 100, "exp", 9754),
        (100, 500, 100, "exp", 10847),
        (100, 500, 50, "exp", 12608),
        (100, 500, 10, "exp", 19573),
        (10, 5000, 100, "exp", 12406),
    ],
)
def test_totals(num_classes, max_count, factor, profile, total):
    assert long_tail_counts(num_classes, max_count, factor, profile).sum() == total


def test_cifar100_ends_and_shot_groups():
    counts = long_tail_counts(100, 500, 150)
    assert counts[:6].tolist() == [500, 475, 451, 429, 408, 388]
    assert counts[-6:].tolist() == [4, 4, 3, 3, 3, 3]
    groups = shot_groups(counts)
    assert [int(groups[g].sum()) for g in ("many", "medium", "few")] == [32, 32, 36]
    assert long_tail_counts(20, 2500, 40)[-1] == 62


@pytest.mark.parametrize(
    "power, expected",
    [
        (1, [5000, 416, 217, 147, 111, 89, 74, 64, 56, 50]),
        (2, [5000, 1250, 555, 312, 200, 138, 102, 78, 61, 50]),
        (6, [5000, 2423, 1270, 708, 416, 255, 162, 106, 72, 50]),
    ],
)
def test_pareto(power, expected):
    counts = long_tail_counts(10, 5000, 100, "pareto", pareto_power=power)
    assert counts.tolist() == expected


@pytest.mark.parametrize("power", [1e6, 1e9])
def test_pareto_tends_to_the_exponential_profile(power):
    counts = long_tail_counts(10, 5000, 100, "pareto", pareto_power=power)
    assert counts.tolist() == long_tail_counts(10, 5000, 100, "exp").tolist()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((49, 49, 49, "exp"), "leave class 48 without an example"),
        ((10, 50, 100, "step"), "leave class 5 without an example"),
        ((10, 50, 0.01, "exp"), "imbalance_factor is 0.01"),
        ((10, 0, 10, "exp"), "max_count is 0"),
        ((0, 50, 10, "exp"), "num_classes is 0"),
        ((10, 50, 10, "linear"), "'linear'.*exp.*step.*pareto.*balanced"),
        ((10, float("nan"), 10, "exp"), "max_count is nan"),
        ((10, 50, float("inf"), "exp"), "imbalance_factor is inf"),
    ],
)
def test_bad_profiles_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        long_tail_counts(*arguments)


def published_selection(targets, counts, seed):
    """The selection as the published CIFAR-LT code runs it, on the global generator."""
    np.random.seed(seed)  # noqa: NPY002
    chosen = []
    for k, count in zip(np.unique(targets), counts, strict=True):
        members = np.where(targets == k)[0]
        np.random.shuffle(members)  # noqa: NPY002
        chosen.append(members[:count])
    return np.concatenate(chosen)


@pytest.mark.parametrize("seed", [0, 5])
def test_indices_are_bit_exact_and_leave_the_global_generator_alone(seed):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 50))
    counts = long_tail_counts(10, 50, 10)
    expected = published_selection(labels, counts, seed)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    chosen = long_tail_indices(labels, counts, seed=seed)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.array_equal(chosen, expected)
    assert np.array_equal(labels[chosen], np.repeat(np.arange(10), counts))
    assert np.unique(chosen).size == chosen.size


def test_subsets_are_nested():
    labels = np.tile(np.arange(10), 100)
    small = long_tail_indices(labels, long_tail_counts(10, 100, 100), seed=3)
    large = long_tail_indices(labels, long_tail_counts(10, 100, 10), seed=3)
    assert set(small) < set(large)


def test_seeds_differ():
    labels = np.tile(np.arange(10), 100)
    counts = long_tail_counts(10, 100, 10)
    a, b = (long_tail_indices(labels, counts, seed=s) for s in (0, 1))
    assert not np.array_equal(a, b)


def test_short_class_is_kept_whole_and_reported():
    labels = np.repeat([0, 1, 2], [10, 70, 70])
    with pytest.warns(UserWarning, match="class 0 has 10 of 50 examples"):
        subset = long_tail_subset(labels, 3, imbalance_factor=25)
    assert subset.requested.tolist() == [50, 10, 2]
    assert subset.class_counts.tolist() == [10, 10, 2]
    assert count_labels(labels[subset.indices], 3).tolist() == [10, 10, 2]


def test_min_class_makes_the_profile_exact():
    labels = np.repeat([0, 1, 2], [16, 70, 70])
    subset = long_tail_subset(labels, 3, imbalance_factor=4, max_count="min_class")
    assert subset.class_counts.tolist() == subset.requested.tolist() == [16, 8, 4]


def test_subset_agrees_with_its_parts():
    labels = np.tile(np.arange(4), 30)
    subset = long_tail_subset(
        labels, 4, imbalance_factor=3, profile="step", max_count=12, seed=2
    )
    assert subset.class_counts.tolist() == [12, 12, 4, 4]
    expected = long_tail_indices(labels, np.array([12, 12, 4, 4]), seed=2)
    assert np.array_equal(subset.indices, expected)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: long_tail_indices([0, 1], [1.0, 1.0]), "expected integers"),
        (lambda: long_tail_indices([0, 1], [1, -1]), "expected integers >= 0"),
        (lambda: long_tail_indices([0, 2], [1, 1]), r"lie in \[0, 2\)"),
        (
            lambda: long_tail_subset([0, 0], 2, imbalance_factor=1),
            "class 1 has no example",
        ),
        (
            lambda: long_tail_subset([0, 1], 2, imbalance_factor=1, max_count="max"),
            "'max'.*mean_class.*min_class",
        ),
    ],
)
def test_bad_selections_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
