"""Work between steps: when it is done, what it sees, and that chunks make room."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.method import Method, Refresh
from ltjax.methods.registry import METHODS
from ltjax.methods.supervised.supervised import SupervisedOptions, supervised
from ltjax.options import Component, ConfigError, NoOptions

RUN = {
    "total": "8 steps",
    "eval_every": "0 steps",
    "checkpoint_every": "4 steps",
    "model.norm": "none",
    "method.name": "refreshed",
    "replicas.seeds": (0, 1),
}


def due(step):
    return step in (0, 5)


def method_with(*refreshes, setting) -> Method:
    """Supervised learning that keeps what its refreshes found."""
    base = supervised(SupervisedOptions(), setting)
    size = setting.table_size

    def bare(fn):
        return lambda params, state, *args, **rest: fn(
            params, state.replace(method_state=None), *args, **rest
        )

    def init(key, params, model_state):
        return {"at": jnp.int32(-1), "first": jnp.zeros(size), "mean": jnp.zeros(())}

    return base._replace(
        init=init,
        loss=bare(base.loss),
        prepare=lambda state, batch, *, key, program: (state.method_state, batch),
        update=lambda state, batch, aux: state.method_state,
        refreshes=refreshes,
        tables=("first",),
    )


def on_host(old, gathered, *, step):
    """The first logit of every example, and when."""
    table = np.zeros_like(old["first"])
    table[: len(gathered)] = gathered
    return {**old, "at": np.int32(step), "first": table}


def on_device(state, gathered):
    return {**state.method_state, "mean": jnp.mean(state.params["head"]["kernel"])}


@pytest.fixture
def refreshed(monkeypatch):
    """Registers a method whose refreshes are given."""

    def register(*refreshes, gather=True):
        def make(options, setting):
            network = setting.networks["main"]

            def first_logit(state, batch):
                outputs, _ = network.forward(
                    state.params, state.model_state, batch["inputs"], train=False
                )
                return outputs["logits"][:, 0]

            made = [
                one._replace(gather=first_logit) if one.gather else one
                for one in refreshes
            ]
            return method_with(*made, setting=setting)

        component = Component("refreshed", NoOptions, make)
        monkeypatch.setitem(METHODS, "refreshed", component)

    return register


HOST = Refresh(due, on_host, gather=True)
DEVICE = Refresh(lambda step: step == 5, on_device, on="device")


def test_what_a_refresh_sees_and_leaves(refreshed, train, assert_same, tmp_path):
    refreshed(HOST, DEVICE)
    found = train(RUN, workdir=tmp_path / "whole")
    assert found.traces == {"step": 1, "eval": 1, "refresh": 1}
    memory = found.state.method_state
    assert memory["at"].tolist() == [5, 5]
    assert memory["first"].shape == (2, 256)  # 159 examples, padded
    np.testing.assert_array_equal(memory["first"][:, 159:], 0)

    # They are those of the parameters after five steps.
    five = train(RUN | {"total": "5 steps"}).state
    assert five.method_state["at"].tolist() == [0, 0]
    np.testing.assert_allclose(
        memory["mean"], five.params["head"]["kernel"].mean(axis=(1, 2)), rtol=1e-4
    )

    # A chunk that a refresh falls into is taken apart; nobody sees another number.
    chunks = train(RUN | {"steps_per_call": 4})
    assert_same(chunks.state, found.state, rtol=1e-5, atol=1e-6)
    shared = train(RUN, count=4)
    assert_same(shared.state, found.state, rtol=1e-4, atol=1e-5)


def test_a_resumed_run_repeats_it(
    refreshed, train, assert_same, tmp_path, sigterm_during
):
    from ltjax.train.loop import Preempted

    refreshed(HOST, DEVICE)
    whole = train(RUN)
    for step in (2, 4):  # the second stop is just before a refresh
        with pytest.raises(Preempted):
            train(RUN, workdir=tmp_path, edit=sigterm_during(step))
    again = train(RUN, workdir=tmp_path)
    assert again.start_step == 5
    assert_same(again.state, whole.state)


def test_a_pool_that_the_run_does_not_have(refreshed, train):
    refreshed(HOST._replace(pool="tran"))
    with pytest.raises(
        ConfigError, match="'tran', which the run does not have; did yo"
    ):
        train(RUN)


def test_gathered_rows_are_those_of_the_pool(refreshed, train):
    seen = []

    def keep(old, gathered, *, step):
        seen.append((step, np.array(gathered)))
        return old

    refreshed(Refresh(lambda step: step == 0, keep, gather=True, pool="test"))
    result = train(RUN | {"total": "1 steps", "eval_batch_size": 48})
    assert [step for step, _ in seen] == [0, 0]  # of each replica
    assert all(values.shape == (100,) for _, values in seen)
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert jax.tree.leaves(result.state.params)[0].shape[0] == 2
