"""Processes that watch each other, with a store and a clock of the test's own."""

import jax
import pytest

from ltjax.train.peers import Peers, Watch


class Store:
    """The key-value store of a run, in this process."""

    def __init__(self):
        self.kept = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.kept
        self.kept[key] = value

    def key_value_dir_get(self, folder):
        return [(k, v) for k, v in self.kept.items() if k.startswith(f"{folder}/")]

    def key_value_try_get(self, key):
        if key not in self.kept:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.kept[key]


@pytest.fixture
def three():
    """The watches of three processes that miss each other after 10 seconds."""
    store = Store()
    return [Watch(store, p, 3, 10.0) for p in range(3)]


def test_nobody_is_missed_while_all_give_signs(three):
    for now in range(0, 100, 4):
        assert [watch.look(now) for watch in three] == [None] * 3


def test_whoever_has_gone_is_told_to_all(three):
    first, second, third = three
    for watch in reversed(three):
        watch.look(0)
    assert [first.look(9), second.look(9)] == [None, None]
    assert second.look(12) is None  # it looks at process 0 only
    assert first.look(12) == 2
    assert second.look(12.5) == 2
    assert third.look(13) == 2  # should it only have been slow


def test_the_others_miss_process_0(three):
    for watch in three:
        watch.look(0)
    assert three[1].look(10) is None
    assert three[1].look(10.5) == 0
    assert three[2].look(11) == 0


def test_one_that_is_done_or_has_not_begun_is_not_missed(three):
    first, second, _ = three
    second.look(0)
    first.look(1)
    second.leave()
    for now in (5, 20, 40):
        assert first.look(now) is None
    second.look(41)  # another stage of the same run
    assert first.look(42) is None
    assert first.look(53) == 1


def test_a_process_alone_watches_nobody():
    with Peers(0.01, end=pytest.fail) as peers:
        assert peers._thread is None
