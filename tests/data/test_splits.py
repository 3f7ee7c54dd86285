"""Splits of a run: the subset, what is held out, clean labels and what is left over."""

import dataclasses
import types

import numpy as np
import pytest

from ltjax.data import array_source
from ltjax.data.data_options import DataOptions
from ltjax.data.splits import load_splits, two_classes
from ltjax.data.unlabelled_streams import Unlabelled
from ltjax.options import ConfigError

# Two classes of 20 and 12 examples; an input tells its position.
LABELS = np.repeat([0, 1], [20, 12])
WHOLE = array_source(np.arange(32, dtype=np.float32)[:, None], LABELS)
TEST = array_source(np.zeros((4, 1), np.float32), [0, 1, 0, 1])


def data(*, other=TEST, whole=WHOLE, **options):
    """A section "data" whose splits are these sources."""
    made = {"train": whole, "test": other, "val": other}
    return types.SimpleNamespace(options=DataOptions(**options), make=made.get)


def labels(change=lambda source: source):
    return types.SimpleNamespace(make=change)


def companions(found=lambda setting: {}):
    return types.SimpleNamespace(make=found)


def hidden(source):
    """The source without its labels."""
    return dataclasses.replace(source, labels=np.full(len(source), -1))


def hidden_from_the_method(source):
    """The source with labels that are wrong, and the truth for measurement."""
    return dataclasses.replace(
        source, labels=1 - source.labels, columns={"truth": source.labels}
    )


def positions(source):
    return source.read(np.arange(len(source)))[:, 0].astype(int)


def test_a_subset_with_the_counts_that_are_asked_for():
    section = data(profile="counts", counts=(9, 3))
    splits = load_splits(section, labels(), companions())
    assert splits.train.class_counts.tolist() == [9, 3]
    assert splits.evaluated == {"test": TEST} and splits.companions == {}
    again = load_splits(section, labels(), companions())
    np.testing.assert_array_equal(positions(again.train), positions(splits.train))
    other = data(profile="counts", counts=(9, 3), subset_seed=1)
    other = load_splits(other, labels(), companions())
    assert not np.array_equal(positions(other.train), positions(splits.train))


def test_without_a_largest_count_the_smallest_class_is_it():
    splits = load_splits(data(imbalance_factor=4.0), labels(), companions())
    assert splits.train.class_counts.tolist() == [12, 3]
    splits = load_splits(data(profile="none"), labels(), companions())
    assert splits.train is WHOLE


LONG_TAIL = array_source(np.zeros((60, 1), np.float32), np.repeat([0, 1], [50, 10]))


def test_a_profile_on_imbalanced_data_says_what_it_leaves(caplog):
    section = data(whole=LONG_TAIL, imbalance_factor=5.0)
    splits = load_splits(section, labels(), companions())
    assert splits.train.class_counts.tolist() == [10, 2]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the data are imbalanced already (50 to 10 training examples of a class), and"
        " config.data.profile='exp' leaves 12 of the 60; 'none' uses all"
    )
    caplog.clear()
    load_splits(data(imbalance_factor=4.0), labels(), companions())
    section = data(whole=LONG_TAIL, profile="none")
    assert load_splits(section, labels(), companions()).train is LONG_TAIL
    section = data(whole=LONG_TAIL, profile="counts", counts=(10, 2))
    load_splits(section, labels(), companions())
    assert not caplog.records


def test_a_class_too_small_for_a_profile_says_that_none_is_meant():
    section = data(whole=LONG_TAIL, imbalance_factor=100.0)
    with pytest.raises(ConfigError) as refused:
        load_splits(section, labels(), companions())
    disagree, remedy = refused.value.faults
    assert "max_count and imbalance_factor disagree" in disagree
    assert remedy == (
        "the data are imbalanced already (50 to 10 training examples of a class);"
        " expected config.data.profile='none'"
    )
    # Balanced data have no such remedy.
    section = data(whole=TEST, imbalance_factor=100.0)
    with pytest.raises(ConfigError) as refused:
        load_splits(section, labels(), companions())
    assert len(refused.value.faults) == 1


def test_a_share_of_every_class_is_held_out():
    section = data(profile="none", holdout=0.25)
    splits = load_splits(section, labels(), companions())
    assert splits.train.class_counts.tolist() == [15, 9]
    assert splits.evaluated["val"].class_counts.tolist() == [5, 3]
    both = np.concatenate([positions(splits.train), positions(splits.evaluated["val"])])
    assert sorted(both) == list(range(32))


def test_the_pool_is_all_that_is_stored_but_for_what_is_held_out():
    section = data(profile="counts", counts=(9, 3), holdout=0.34)
    splits = load_splits(section, labels(hidden_from_the_method), companions())
    pool, held = splits.pool(), positions(splits.evaluated["val"])
    assert len(held) == 4
    np.testing.assert_array_equal(positions(pool), np.setdiff1d(np.arange(32), held))
    np.testing.assert_array_equal(pool.labels, LABELS[positions(pool)])
    assert {*positions(splits.train)} < {*positions(pool)}
    bare = load_splits(data(whole=BARE, profile="none"), labels(), companions()).pool()
    assert (positions(bare) % 4 > 0).all() and len(bare) == 24
    partial = load_splits(data(whole=PARTIAL, profile="none"), labels(), companions())
    assert (partial.pool().labels >= 0).all() and partial.pool().columns == {}


def test_a_stored_validation_split():
    splits = load_splits(data(profile="none", val_split="val"), labels(), companions())
    assert set(splits.evaluated) == {"test", "val"}


def test_companions_are_made_from_what_the_subset_left():
    asked = []

    def rest(setting):
        asked.append(setting)
        left = np.setdiff1d(np.arange(len(setting.whole)), setting.chosen)
        return {"rest": Unlabelled(hidden(setting.whole.select(left)), 2)}

    section = data(profile="counts", counts=(9, 3), holdout=0.34)
    splits = load_splits(section, labels(), companions(rest))
    left = positions(splits.companions["rest"].source)
    held = positions(splits.evaluated["val"])
    trained = positions(splits.train)
    # Nothing is in two of them; the subset is that of before examples are held out.
    everything = np.concatenate([left, held, trained])
    assert sorted(everything) == list(range(32))
    assert len(asked[0].chosen) == 12


def test_changed_labels_leave_the_truth_for_the_counts():
    def noisy(source):
        """Every label becomes 0; the clean ones stay known."""
        return dataclasses.replace(
            source,
            labels=np.zeros(len(source), int),
            columns={"truth": source.labels},
        )

    splits = load_splits(data(profile="none"), labels(noisy), companions())
    assert splits.train.class_counts.tolist() == [32, 0]  # what a method sees
    np.testing.assert_array_equal(splits.train.truth, LABELS)
    np.testing.assert_array_equal(splits.evaluated["test"].labels, TEST.labels)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            data(profile="counts", counts=(9,)),
            "expected 2 counts no larger than the av",
        ),
        (
            data(profile="counts", counts=(9, 13)),
            "counts is .9, 13., expected 2 counts",
        ),
        (
            data(profile="counts", counts=(9, 0)),
            "class 1 has no training example .1 em",
        ),
        (data(profile="none", holdout=0.01), "config.data.holdout: "),
        (
            data(other=array_source(np.zeros((3, 1)), [0, 1, 2])),
            "train split has 2 classes, test split 3",
        ),
    ],
)
def test_splits_that_cannot_be_made(section, message):
    with pytest.raises(ConfigError, match=message):
        load_splits(section, labels(), companions())


# --- Examples without a label, candidates and clean labels

BARE = dataclasses.replace(
    WHOLE, labels=np.where(np.arange(32) % 4 == 0, -1, LABELS), columns={}
)
SETS = np.eye(2, dtype=bool)[LABELS] | (np.arange(32) % 3 == 0)[:, None]
PARTIAL = dataclasses.replace(
    WHOLE, labels=np.full(32, -1), columns={"candidates": SETS}
)


def test_a_subset_is_one_of_the_examples_with_a_label():
    asked = []

    def stored(setting):
        asked.append(setting)
        return {}

    section = data(whole=BARE, profile="counts", counts=(9, 3))
    splits = load_splits(section, labels(), companions(stored))
    assert splits.train.class_counts.tolist() == [9, 3]
    assert asked[0].bare.tolist() == list(range(0, 32, 4))
    section = data(whole=BARE, profile="none", holdout=0.25)
    splits = load_splits(section, labels(), companions(stored))
    # 15 and 9 labels, a quarter of them rounded.
    held = splits.evaluated["val"].class_counts
    assert (splits.train.class_counts + held).tolist() == [15, 9]
    assert (splits.train.labels >= 0).all() and held.min() > 0


def test_candidates_are_held_out_where_the_class_is_known():
    section = data(whole=PARTIAL, profile="none", holdout=0.25)
    splits = load_splits(section, labels(), companions())
    held = splits.evaluated["val"]
    assert held.columns == {} and (positions(held) % 3 > 0).all()
    np.testing.assert_array_equal(held.labels, LABELS[positions(held)])
    assert len(held) + len(splits.train) == 32
    with pytest.raises(ConfigError, match="'exp', which goes by classes, but arrays"):
        load_splits(data(whole=PARTIAL), labels(), companions())


def test_two_classes_of_clean_labels_too():
    four = array_source(np.zeros((8, 1), np.float32), np.arange(8) % 4)
    noisy = dataclasses.replace(
        four, labels=(four.labels + 1) % 4, columns={"truth": four.labels}
    )
    found = two_classes(noisy, 2)
    assert found.labels.tolist() == [0, 1, 1, 0] * 2
    assert found.truth.tolist() == [0, 0, 1, 1] * 2
    with pytest.raises(ConfigError, match="2 classes and candidates of them"):
        two_classes(PARTIAL, 1)
