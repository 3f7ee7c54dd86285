"""Companion streams: which rows accompany which, resident as streamed, in a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import array_source, augment, feed
from ltjax.data.companions import Stream, accompanied, part_of
from ltjax.data.unlabelled_streams import COMPANIONS, CompanionFacts, Unlabelled
from ltjax.methods.method import MethodFacts, Part
from ltjax.methods.registry import METHODS
from ltjax.methods.supervised.supervised import SupervisedOptions, supervised
from ltjax.options import Component, NoOptions
from ltjax.resampling import combined, instance


def source_of(count, offset):
    """Inputs that tell their example: offset, offset + 1, ..."""
    values = offset + np.arange(count, dtype=np.float32)
    return array_source(np.stack([values, -values], axis=1), np.arange(count) % 2)


MAIN, WEAK, MORE = source_of(12, 0), source_of(20, 100), source_of(9, 500)
RATIOS = (3, 1)
SAMPLER = combined.accompanied(
    instance(12, 4, remainder="pad"), ((instance(20, 12), 3), (instance(9, 4), 1))
)


def joined(which):
    pipeline = augment.build("none")
    others = {"weak": (WEAK, 3), "more": (MORE, 1)}
    return accompanied(
        which(MAIN, pipeline),
        {
            name: Stream(which(source, pipeline), m)
            for name, (source, m) in others.items()
        },
    )


def test_every_row_comes_with_rows_of_the_others():
    indices, mask = SAMPLER(3, 5)
    assert indices.shape == mask.shape == (4, 5)
    np.testing.assert_array_equal(indices[:, 0], instance(12, 4)(3, 5)[0])
    # Each stream goes through all of its examples, in an order of its own.
    seen = [SAMPLER(3, step)[0] for step in range(5)]
    weak = np.concatenate([part_of(RATIOS, 1, (x, x))[0] for x in seen])
    assert len(set(weak[:12])) == 12 and set(weak) <= set(range(20))
    orders = [SAMPLER(seed, 0)[0][:, 1:4].ravel() for seed in (3, 4)]
    assert not np.array_equal(*orders)


def test_samplers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="draws 5 rows, expected 4 x 2"):
        combined.accompanied(instance(12, 4), ((instance(20, 5), 2),))


def test_parts_of_a_plan_by_stream():
    plan = np.arange(2 * 2 * 5).reshape(2, 2, 5)  # [R, B, C]
    mask = plan % 2 == 0
    main, weak, more = (part_of(RATIOS, k, (plan, mask)) for k in range(3))
    assert main[0].tolist() == [[0, 5], [10, 15]]
    assert weak[0].tolist() == [[1, 2, 3, 6, 7, 8], [11, 12, 13, 16, 17, 18]]
    assert more[0].tolist() == [[4, 9], [14, 19]]
    for indices, real in (main, weak, more):
        np.testing.assert_array_equal(real, indices % 2 == 0)


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_batches_keep_a_row_and_its_companions_together(which):
    built = joined(which)
    plan = feed.replica_plan(SAMPLER, seeds=[3, 8])
    for step, rows in enumerate(built.iterate(plan, 1, 4), start=1):
        indices, mask = plan(step)
        for r in range(2):
            own = jax.tree.map(lambda x, r=r: x[r], rows)
            batch = built.batch(built.arrays, own, jax.random.key(0), train=True)
            assert batch["inputs"].shape == (4, 2)
            assert batch["weak"]["inputs"].shape == (4, 3, 2)
            assert batch["more"]["label"].shape == (4, 1)
            np.testing.assert_array_equal(batch["index"], indices[r, :, 0])
            np.testing.assert_array_equal(batch["mask"], mask[r, :, 0])
            weak = batch["weak"]
            np.testing.assert_array_equal(weak["index"], indices[r, :, 1:4])
            np.testing.assert_array_equal(weak["inputs"][..., 0], 100 + weak["index"])
            np.testing.assert_array_equal(batch["more"]["index"], indices[r, :, 4:])
            np.testing.assert_array_equal(
                batch["more"]["inputs"][..., 1], -500.0 - batch["more"]["index"]
            )
    built.close()


def test_streaming_equals_resident_and_parts_are_the_whole():
    plan = feed.replica_plan(SAMPLER, seeds=[3, 8])
    resident, streaming = joined(feed.resident), joined(feed.streaming)
    whole = list(streaming.iterate(plan, 2, 5))
    for step, rows in enumerate(resident.iterate(plan, 2, 5)):
        for name in ("weak", "more"):
            for key, value in rows[name].items():
                np.testing.assert_array_equal(whole[step][name][key], value)
    # Two processes with two rows each.
    halves = [
        list(streaming.iterate(plan, 2, 5, local=part))
        for part in (slice(0, 2), slice(2, 4))
    ]
    for step, rows in enumerate(whole):
        both = jax.tree.map(
            lambda a, b: np.concatenate([a, b], axis=1),
            halves[0][step],
            halves[1][step],
        )
        jax.tree.map(np.testing.assert_array_equal, both, rows)
    streaming.close()


# ------------------------------------------------------------------------- in a run


def rest(options, setting):
    """The examples that the long-tailed subset left, without their labels."""
    left = np.setdiff1d(np.arange(len(setting.whole)), setting.chosen)
    source = setting.whole.select(left)
    unknown = np.full(len(source), -1)
    return {"rest": Unlabelled(dataclasses.replace(source, labels=unknown), 2)}


def paired(options, setting):
    """Supervised learning beside small logits on the companions."""
    method = supervised(SupervisedOptions(), setting)
    network = setting.networks["main"]

    def loss(params, state, batch, *, key, program):
        losses, aux = method.loss(params, state, batch, key=key, program=program)
        inputs = batch["rest"]["inputs"]
        merged = inputs.reshape(-1, *inputs.shape[2:])
        outputs, _ = network.forward(params, state.model_state, merged, train=False)
        logits = outputs["logits"].reshape(*inputs.shape[:2], -1)
        losses["rest"] = jnp.mean(logits**2, axis=(1, 2))
        return losses, aux

    def terms(state, batch, aux, *, program):
        base = jnp.full(len(batch["label"]), 1 / len(batch["label"]))
        parts = {"label": Part(batch["label"], base), "rest": Part(None, 0.1 * base)}
        return setting.rule.terms(parts, state, batch, program.rule)

    return method._replace(loss=loss, terms=terms)


@pytest.fixture
def with_rest(monkeypatch):
    """Changes of a tiny run that reads the rest of its data."""
    facts = CompanionFacts(("rest",))
    component = Component("the rest", NoOptions, rest, facts=lambda options: facts)
    monkeypatch.setitem(COMPANIONS, "rest", component)
    told = MethodFacts(companions=True)
    component = Component("paired", NoOptions, paired, facts=lambda options: told)
    monkeypatch.setitem(METHODS, "paired", component)
    return {
        "total": "6 steps",
        "eval_every": "0 steps",
        "model.norm": "none",
        "method.name": "paired",
        "unlabelled.name": "rest",
        "replicas.seeds": (0, 1),
    }


@pytest.mark.slow
def test_a_run_with_companions(with_rest, train, assert_same):
    resident = train(with_rest)
    assert resident.traces["step"] == 1
    assert_same(train(with_rest | {"data.feed": "streaming"}).state, resident.state)
    rounding = {"rtol": 1e-4, "atol": 2e-6}
    chunks = train(with_rest | {"steps_per_call": 3, "replicas.layout": "vmap"})
    assert_same(chunks.state, resident.state, **rounding)
    shared = train(with_rest, count=4)
    assert_same(shared.state, resident.state, **rounding)
    micro = train(with_rest | {"optimizer.accumulate": 2})
    assert_same(micro.state.params, resident.state.params, **rounding)
