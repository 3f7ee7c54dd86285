"""The host's plan: which rows, in which order, for which program."""

import cloudpickle
import numpy as np

from ltjax.methods.method import Program
from ltjax.sharpness.compaction import default_buckets
from ltjax.train.build import build

COMPACT = {
    "model.norm": "group",
    "gradient.name": "sse_sam",
    "gradient.eta": 10,
    "gradient.switch": "12 steps",
    "gradient.compaction": True,
    "replicas.seeds": (0, 1),
}


def test_a_plan_does_not_know_how_many_devices_there_are(tiny, devices):
    plans = []
    for count in (1, 8):
        with devices(count):
            run = build(tiny({"sampler.name": "class_balanced"}))
            plans.append([run.plan(step) for step in (0, 8, 9, 23)])
    for (indices, mask), (others, other_mask) in zip(*plans, strict=True):
        assert indices.shape == (1, 16)
        np.testing.assert_array_equal(indices, others)
        np.testing.assert_array_equal(mask, other_mask)


def test_each_seed_has_an_order_of_its_own(tiny):
    indices, _ = build(tiny({"replicas.seeds": (0, 1), "seed": 5})).plan(3)
    np.testing.assert_array_equal(indices[1], build(tiny({"seed": 6})).plan(3)[0][0])
    assert not np.array_equal(indices[0], indices[1])


def test_tail_rows_come_first_and_decide_the_program(tiny):
    """Compaction moves the rows of tail classes to the front of the same batch."""
    compacted = build(tiny(COMPACT))
    ordinary = build(tiny(COMPACT | {"gradient.compaction": False}))
    counts = compacted.info.class_counts
    labels, buckets = compacted.train_set.feed.arrays["label"], default_buckets(16)
    for step in (0, 5, 11, 12, 20):
        (indices, mask), (plain, _) = compacted.plan(step), ordinary.plan(step)
        assert indices.shape == mask.shape == (2, 16) and mask.all()
        largest = 0
        for mine, theirs in zip(indices, plain, strict=True):
            assert sorted(mine) == sorted(theirs)
            is_tail = counts[labels[mine]] < 10
            assert not (np.diff(is_tail.astype(int)) > 0).any()  # tail, then head
            largest = max(largest, is_tail.sum())
        rows = min(size for size in buckets if size >= largest)
        stage = 1 if step < 12 else 2
        assert compacted.program(step) == Program(None, (stage, rows))
        assert compacted.program(step) in compacted.programs
        assert ordinary.program(step) == Program(None, stage)


def test_a_plan_travels_to_worker_processes(tiny):
    for changes in ({}, COMPACT):
        plan = build(tiny(changes)).plan
        again = cloudpickle.loads(cloudpickle.dumps(plan))
        for step in (0, 9, 17):
            for a, b in zip(again(step), plan(step), strict=True):
                np.testing.assert_array_equal(a, b)
