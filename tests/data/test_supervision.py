"""Labels as components: numbers of the published settings, options that do not fit."""

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.data.candidates import CIFAR100_SUPERCLASSES
from ltjax.data.supervision import LABELS
from ltjax.options import ConfigError, read


def source(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return array_source(np.zeros((len(labels), 1), np.float32), labels)


def made(name, data, **options):
    found, faults = read("labels", {"name": name, **options}, LABELS)
    assert not faults
    return found.make(data)


def flips(found):
    """{(clean, given)} of the labels that were changed."""
    changed = found.labels != found.truth
    pairs = zip(found.truth[changed], found.labels[changed], strict=True)
    return {tuple(map(int, pair)) for pair in pairs}


def test_superclasses_of_cifar100_are_known():
    found = made("hierarchical_candidates", source(*[4] * 100), within=1.0)
    sets = found.columns["candidates"]
    assert (sets.sum(axis=1) == 5).all()  # twenty superclasses of five
    groups = np.asarray(CIFAR100_SUPERCLASSES)
    np.testing.assert_array_equal(sets, groups[found.truth][:, None] == groups)
    mixed = made("hierarchical_candidates", source(*[4] * 100), within=0.0, across=1.0)
    assert (mixed.columns["candidates"].sum(axis=1) == 96).all()


def test_sets_of_one_get_a_second_label():
    alone = made("uniform_candidates", source(30, 30, 30), ambiguity=0.0, at_least=2)
    assert (alone.columns["candidates"].sum(axis=1) == 2).all()


def test_confusions_are_those_that_are_given():
    found = made("asymmetric_noise", source(40, 40, 40), confusions=(2, 1, 0), rate=0.5)
    assert flips(found) == {(0, 2), (2, 0)}
    found = made("asymmetric_noise", source(40, 40, 40), rate=0.5)
    assert flips(found) == {(0, 1), (1, 2), (2, 0)}
    assert (found.labels != found.truth).sum() == 60  # one rate: exactly half


def test_look_alikes_of_cifar10():
    found = made("cifar10_noise", source(*[60] * 10), rate=0.5)
    # Truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog.
    assert flips(found) == {(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)}


def test_groups_are_confused_within():
    found = made("group_noise", source(*[60] * 10), rate=0.5)
    assert flips(found) == {(1, 9), (9, 1), (3, 5), (5, 3)}
    found = made("group_noise", source(60, 60, 60), groups=((0, 2),), rate=0.5)
    assert flips(found) == {(0, 2), (2, 0)}


def test_proportional_noise_keeps_the_sizes():
    found = made("proportional_noise", source(3000, 1000), rate=0.3)
    # 0.3 of 4000 labels are wrong, 4.5 deviations of a binomial at most away.
    wrong = (found.labels != found.truth).mean()
    assert abs(wrong - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / 4000)
    assert abs(found.class_counts[0] - 3000) < 4.5 * np.sqrt(4000 * 0.75 * 0.25)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hierarchical_candidates", {}, r"superclasses is \(\), expected 3 numbers"),
        ("asymmetric_noise", {"confusions": (1, 0)}, r"confusions is \(1, 0\), expect"),
        ("asymmetric_noise", {"confusions": (1, 0, 7)}, "confusions has 2 -> 7, expec"),
        ("cifar10_noise", {}, "the data have 3 classes, expected CIFAR-10"),
        ("group_noise", {}, r"groups is \(\), the published ones .* there are 3"),
        ("group_noise", {"groups": ((0, 5),)}, r"groups are \(\(0, 5\),\), expected"),
        ("proportional_noise", {"rate": 0.9}, "proportional_noise: rate is 0.9, expe"),
        ("label_dependent_candidates", {}, "expected fewer than 3 numbers"),
    ],
)
def test_options_that_do_not_fit_the_classes(name, options, message):
    with pytest.raises(ConfigError, match=f"config.labels: .*{message}"):
        made(name, source(9, 6, 3), **options)
