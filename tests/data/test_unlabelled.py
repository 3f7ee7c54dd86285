"""Semi-supervised splits: the published counts, and who is in which part."""

import numpy as np
import pytest

from ltjax.data.unlabelled import (
    SEMI_SUPERVISED_PROTOCOLS,
    UNLABELLED_PROFILES,
    labelled_share,
    semi_supervised_counts,
    semi_supervised_split,
)


@pytest.mark.parametrize(
    ("largest", "gamma", "profile", "expected"),
    [
        (1500, 100, "consistent", [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]),
        (500, 100, "consistent", [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]),
        (4000, 100, "middle", [66, 185, 516, 1437, 4000, 2397, 861, 309, 111, 40]),
        (4000, 100, "head_tail", [2397, 861, 309, 111, 40, 66, 185, 516, 1437, 4000]),
        (1500, 100, "reversed", [15, 25, 41, 69, 116, 193, 323, 539, 899, 1500]),
        (3000, 100, "uniform", [3000] * 10),
    ],
)
def test_published_counts(largest, gamma, profile, expected):
    counts = semi_supervised_counts(10, largest, gamma, profile)
    assert counts.tolist() == expected
    assert counts.dtype == np.int64


def test_step_and_small_numbers_of_classes():
    assert semi_supervised_counts(5, 1000, 100, shape="step").tolist() == (
        [1000, 1000, 10, 10, 10]
    )
    assert semi_supervised_counts(1, 7, 100).tolist() == [7]
    # 1 / 49 in float64 lies below the true value: 4900 * (1 / 49) truncates to 99.
    assert semi_supervised_counts(2, 4900, 49).tolist() == [4900, 100]


@pytest.mark.parametrize("num_classes", [4, 7])
@pytest.mark.parametrize("profile", sorted(set(UNLABELLED_PROFILES) - {"uniform"}))
def test_a_profile_is_an_order_of_the_same_counts(num_classes, profile):
    counts = semi_supervised_counts(num_classes, 900, 30, profile, seed=3)
    falling = semi_supervised_counts(num_classes, 900, 30)
    assert sorted(counts, reverse=True) == falling.tolist()


def test_random_profiles_depend_on_the_seed_only():
    a, b, c = (semi_supervised_counts(10, 900, 30, "random", seed=s) for s in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_labelled_share_rounds_up():
    # 0.1 * 30 = 3.0000000000000004 in float64, and 0.3 * 10 = 3.
    assert labelled_share([5000, 30, 25, 1, 0], 0.1).tolist() == [500, 3, 3, 1, 0]
    assert labelled_share([10], 0.3).tolist() == [3]


def test_parts_are_taken_in_order():
    labels = np.tile(np.arange(3), 10)
    split = semi_supervised_split(labels, [3, 2, 1], [4, 4, 0])
    assert split.labelled.tolist() == [0, 3, 6, 1, 4, 2]
    assert split.unlabelled.tolist() == [9, 12, 15, 18, 7, 10, 13, 16]
    pool = semi_supervised_split(
        labels, [3, 2, 1], [4, 4, 0], unlabelled_includes_labelled=True
    ).unlabelled
    assert sorted(pool) == sorted([*split.labelled, *split.unlabelled])
    rest = semi_supervised_split(labels, [3, 2, 1]).unlabelled
    assert set(rest) == set(range(30)) - set(split.labelled)


def test_shuffled_parts_are_disjoint_and_repeatable():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 50))
    counts = semi_supervised_counts(4, 20, 10), semi_supervised_counts(4, 30, 5)
    split = semi_supervised_split(labels, *counts, seed=1)
    for part, count in zip(split, counts, strict=True):
        assert np.bincount(labels[part], minlength=4).tolist() == count.tolist()
    assert np.unique(np.concatenate(split)).size == sum(c.sum() for c in counts)
    again, other = (semi_supervised_split(labels, *counts, seed=s) for s in (1, 2))
    assert np.array_equal(again.labelled, split.labelled)
    assert not np.array_equal(other.labelled, split.labelled)


def test_a_small_class_is_reported_and_kept_whole():
    with pytest.warns(UserWarning, match=r"class 1 has 3 of 2 \+ 4 examples"):
        split = semi_supervised_split([0] * 9 + [1] * 3, [2, 2], [4, 4])
    assert split.unlabelled.tolist() == [2, 3, 4, 5, 11]


def test_protocols_fit_their_data():
    sizes = {"cifar10": 5000, "cifar100": 500, "svhn": 5000, "stl10": 500}
    for (_, data), protocol in SEMI_SUPERVISED_PROTOCOLS.items():
        assert protocol.labelled + (protocol.unlabelled or 0) <= sizes[data]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semi_supervised_counts(3, 9, 3, "tail"), "profile is 'tail'"),
        (lambda: semi_supervised_counts(3, 9, 0.5), "imbalance_factor is 0.5"),
        (lambda: semi_supervised_counts(3, 9, 3, shape="pareto"), "shape is 'pareto'"),
        (lambda: labelled_share([3], 0), "labelled_share: fraction is 0"),
        (lambda: labelled_share([-3], 0.5), "class_counts are"),
        (lambda: semi_supervised_split([0, 2], [1, 1]), r"must lie in \[0, 2\)"),
        (lambda: semi_supervised_split([0], [1.5]), "labelled_counts are"),
        (
            lambda: semi_supervised_split([0], [1], [1, 1]),
            r"unlabelled_counts has shape \(2,\), expected \(1,\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
