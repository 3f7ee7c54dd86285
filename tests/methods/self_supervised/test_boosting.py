"""Boosted contrastive learning: the table of losses and the scores that guide."""

import functools
import types

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.durations import duration_steps
from ltjax.methods.method import Method, Setting
from ltjax.methods.self_supervised.boosting import BoostOptions, boosted

TIMING = {"steps_per_epoch": 2, "batch_size": 3, "total_steps": 8}
SETTING = Setting(
    class_counts=np.array([3, 2]),
    labels=np.zeros(5, np.int32),
    num_examples=5,
    steps=functools.partial(duration_steps, **TIMING),
    **TIMING,
)
NOTHING = Method(loss=lambda: None, terms=lambda: None, predict=lambda: None)
ROWS = {"index": jnp.array([3, 0, 1, 2, 4])}


def state_of(method_state):
    return types.SimpleNamespace(method_state=method_state, hyper={})


def epoch(method, state, losses):
    """The state after examples 0 to 3 had these losses, and its refresh."""
    for index, mask in (([0, 1, 2], [1, 1, 1]), ([3, 0, 4], [1, 0, 0])):
        batch = {"index": jnp.array(index), "mask": jnp.array(mask, bool)}
        values = jnp.array([*losses, 99.0])[jnp.array(index)]
        # What padding rows say must not reach the table.
        values = jnp.where(batch["mask"], values, jnp.nan)
        aux = {"rows": {"loss": values}}
        state = state_of(method.update(state, batch, aux))
    (refresh,) = method.refreshes
    return state_of(refresh.fn(state, None))


def test_scores_follow_the_losses_of_every_epoch():
    """By hand; example 4 is never seen and gets no augmentation."""
    method = boosted(NOTHING, BoostOptions(boost=True), SETTING, standardize=False)
    (refresh,) = method.refreshes
    assert [s for s in range(6) if refresh.due(s)] == [2, 4]
    state = state_of(method.init(None, None, None))
    assert not np.any(method.guide(state, ROWS)["strength"])
    state = epoch(method, state, [1.0, 2.0, 4.0, 5.5])
    want = [1.0, 0.052631579, 0.263157895, 0.684210526, 0.0]
    found = method.guide(state, ROWS)["strength"]
    np.testing.assert_allclose(found, want, atol=1e-6)
    state = epoch(method, state, [3.0, 1.0, 4.0, 2.0])
    table = state.method_state["boost"]
    np.testing.assert_allclose(table["average"][:4], [1.06, 1.97, 4, 5.395], rtol=1e-6)
    want = [1.0, 0.052976516, 0.251774986, 0.695248498, 0.0]
    found = method.guide(state, ROWS)["strength"]
    np.testing.assert_allclose(found, want, atol=1e-6)
    assert not np.any(table["visited"])


@pytest.mark.parametrize("standardize", [True, False])
def test_under_a_moving_temperature_the_scale_of_an_epoch_does_not_matter(standardize):
    method = boosted(
        NOTHING, BoostOptions(boost=True), SETTING, standardize=standardize
    )
    losses = np.array([1.0, 2.0, 4.0, 5.5])
    state = epoch(method, state_of(method.init(None, None, None)), losses)
    first = state.method_state["boost"]
    state = epoch(method, state, 10 * losses[::-1])
    state = epoch(method, state, losses)
    again = epoch(method, state_of(method.init(None, None, None)), losses)
    again = epoch(method, again, losses[::-1])
    again = epoch(method, again, losses).method_state["boost"]["score"]
    same = np.allclose(state.method_state["boost"]["score"], again, atol=1e-5)
    assert same == standardize
    assert np.all(first["seen"][:4]) and not np.any(first["seen"][4:])
