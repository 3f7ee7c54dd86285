"""Feeds: resident equals streamed, restarts, parts of a batch, workers."""

import dataclasses
import functools
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time

import cloudpickle
import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.data import array_source, augment, feed, load_source
from ltjax.resampling import class_balanced, instance

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, BATCH = 6, 16


@pytest.fixture(scope="module")
def mnist1d():
    return load_source("mnist1d", train_per_class=20, test_per_class=2)


@pytest.fixture(scope="module")
def mnist(mnist_dir):
    test = load_source("mnist", "test", data_dir=mnist_dir)
    return test.select(np.arange(50, 250))


@pytest.fixture(params=["mnist1d", "mnist"])
def source(request):
    return request.getfixturevalue(request.param)


def pipeline_of(source):
    name = "cifar" if len(source.shape) == 3 else "none"
    return augment.build(name, mean=source.mean, std=source.std)


def plan_of(source):
    return feed.replica_plan(instance(len(source), BATCH, remainder="pad"), seeds=[4])


def one_replica(rows):
    return {name: value[0] for name, value in rows.items()}


@functools.cache
def compiled_batch(which, source):
    built = which(source, pipeline_of(source))
    return jax.jit(functools.partial(built.batch, train=True))


def batches(which, source, plan, start=0, stop=STEPS, **options):
    """The batches of the steps, each as made by the compiled step."""
    built = which(source, pipeline_of(source), **options)
    arrays = jax.device_put(built.arrays)
    make = compiled_batch(which, source)
    key = jax.random.key(0)
    out = []
    for step, rows in enumerate(built.iterate(plan, start, stop), start):
        out.append(make(arrays, one_replica(rows), jax.random.fold_in(key, step)))
    built.close()
    return jax.device_get(out)


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name]), name


def test_batch_is_what_the_plan_says(source):
    plan = plan_of(source)
    built = feed.resident(source, pipeline_of(source))
    batch = batches(feed.resident, source, plan)[3]
    indices, mask = (part[0] for part in plan(3))
    assert np.array_equal(batch["index"], indices) and batch["index"].dtype == np.int32
    assert np.array_equal(batch["mask"], mask) and batch["mask"].dtype == np.bool_
    assert np.array_equal(batch["label"], source.labels[indices])
    assert batch["label"].dtype == np.int32
    key = jax.random.fold_in(jax.random.key(0), 3)
    stored = {"inputs": source.read(indices)}
    expected = jax.jit(pipeline_of(source).train)(key, stored)
    assert np.array_equal(batch["inputs"], expected["inputs"])
    assert batch["inputs"].dtype == np.float32
    assert built.arrays["inputs"].dtype == source.dtype  # augmentation is not stored


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_streaming_equals_resident(source, prefetch):
    plan = plan_of(source)
    expected = batches(feed.resident, source, plan)
    same(batches(feed.streaming, source, plan, prefetch=prefetch), expected)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_equal_resident_also_after_a_restart(mnist, num_workers):
    plan = plan_of(mnist)
    expected = batches(feed.resident, mnist, plan)
    streamed = functools.partial(
        batches, feed.streaming, mnist, plan, num_workers=num_workers
    )
    same(streamed(0, STEPS), expected)
    same(streamed(4, STEPS), expected[4:])


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_restart_in_the_middle(source, which):
    plan = plan_of(source)
    whole = batches(which, source, plan)
    same(batches(which, source, plan, start=2), whole[2:])
    assert batches(which, source, plan, start=3, stop=3) == []


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
@pytest.mark.parametrize("local", ["slices", "indices"])
def test_parts_of_all_processes_are_the_global_rows(source, which, local):
    plan = feed.replica_plan(instance(len(source), BATCH), seeds=[1, 2])
    built = which(source, pipeline_of(source))
    parts = {
        "slices": [slice(0, 10), slice(10, BATCH)],
        "indices": [np.arange(p, BATCH, 3) for p in range(3)],
    }[local]
    read = [list(built.iterate(plan, 1, 3, local=part)) for part in parts]
    for step, whole in enumerate(built.iterate(plan, 1, 3)):
        for name, value in whole.items():
            joined = np.empty_like(value)
            for part, rows in zip(parts, read, strict=True):
                joined[:, part] = rows[step][name]
            assert np.array_equal(joined, value)
            assert value.shape[:2] == (2, BATCH)


def test_sharded_rows_give_the_same_batch(mnist):
    plan = plan_of(mnist)
    built = feed.resident(mnist, pipeline_of(mnist))
    make = compiled_batch(feed.resident, mnist)
    rows = one_replica(next(iter(built.iterate(plan, 2, 3))))
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    sharded = jax.device_put(rows, NamedSharding(mesh, PartitionSpec("data")))
    arrays = jax.device_put(built.arrays, NamedSharding(mesh, PartitionSpec()))
    key = jax.random.key(1)
    same(
        [jax.device_get(make(arrays, sharded, key))],
        [jax.device_get(make(jax.device_put(built.arrays), rows, key))],
    )


@pytest.mark.parametrize(
    "which, name", [(feed.resident, "mnist"), (feed.streaming, "mnist1d")]
)
def test_replicas_under_vmap(request, which, name):
    """[R, B] rows, a key per replica: each equals its own run."""
    source = request.getfixturevalue(name)
    plan = feed.replica_plan(instance(len(source), BATCH), seeds=[7, 4])
    built = which(source, pipeline_of(source))
    rows = built.rows(*plan(1))
    keys = jax.random.split(jax.random.key(0), 2)
    make = functools.partial(built.batch, train=True)
    both = jax.jit(jax.vmap(make, in_axes=(None, 0, 0)))(built.arrays, rows, keys)
    alone = compiled_batch(which, source)
    for r in range(2):
        mine = alone(built.arrays, {k: v[r] for k, v in rows.items()}, keys[r])
        for name, value in mine.items():
            assert np.allclose(both[name][r], value, atol=1e-6)
    assert not np.array_equal(both["index"][0], both["index"][1])


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_evaluation_ignores_the_key(mnist, which):
    built = which(mnist, pipeline_of(mnist))
    rows = built.rows(np.array([3, 0]), np.array([True, False]))
    batch = built.batch(built.arrays, rows, None, train=False)
    expected = (mnist.read([3, 0]) / 255.0 - 0.1307) / 0.3081
    assert np.allclose(batch["inputs"], expected, atol=1e-5)
    assert batch["mask"].tolist() == [True, False]


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_batches_do_not_retrace(mnist1d, which):
    built = which(mnist1d, pipeline_of(mnist1d))
    traces = []

    def make(arrays, rows, key):
        traces.append(1)
        return built.batch(arrays, rows, key, train=True)

    compiled = jax.jit(make)
    for rows in built.iterate(plan_of(mnist1d), 0, STEPS):
        compiled(built.arrays, one_replica(rows), jax.random.key(0))
    assert len(traces) == 1


def test_plans_of_several_steps_are_read_at_once(mnist1d):
    sampler = class_balanced(mnist1d.labels, 10, BATCH)
    single = feed.replica_plan(sampler, seeds=[3, 5])
    assert np.array_equal(single(4)[0][1], sampler(5, 4)[0])

    def chunked(index):
        plans = [single(3 * index + s) for s in range(3)]
        return tuple(np.stack(part) for part in zip(*plans, strict=True))

    indices, _ = chunked(2)
    built = feed.streaming(mnist1d, pipeline_of(mnist1d))
    rows = list(built.iterate(chunked, 2, 3, local=slice(0, 4)))[0]
    assert rows["inputs"].shape == (3, 2, 4, 40, 1)
    flat = mnist1d.read(indices[..., :4].reshape(-1))
    assert np.array_equal(rows["inputs"].reshape(flat.shape), flat)


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
def test_columns_of_the_source_come_along(which):
    columns = {"truth": np.array([1, 0, 1], np.int32), "hot": np.eye(3, 4)}
    plain = array_source(np.ones((3, 2), np.float32), [0, 1, 1])
    known = np.array([0, 1, -1])
    source = dataclasses.replace(plain, labels=known, columns=columns)
    built = which(source, augment.build("none"))
    rows = built.rows(np.array([2, 0]), np.array([True, True]))
    batch = built.batch(built.arrays, rows, None, train=False)
    assert batch["label"].tolist() == [-1, 0] and batch["truth"].tolist() == [1, 1]
    np.testing.assert_array_equal(batch["hot"], columns["hot"][[2, 0]])


def test_hints_reach_the_pipeline():
    def train(key, batch, *, strength):
        return {**batch, "inputs": batch["inputs"] * strength[:, None]}

    pipeline = augment.Pipeline(train, lambda batch: batch)
    source = array_source(np.ones((3, 2), np.float32), [0, 1, 1])
    for which in (feed.resident, feed.streaming):
        built = which(source, pipeline)
        rows = built.rows(np.array([2, 0]), np.array([True, True]))
        hints = {"strength": np.array([2.0, 3.0], np.float32)}
        batch = built.batch(built.arrays, rows, None, train=True, **hints)
        assert batch["inputs"].tolist() == [[2, 2], [3, 3]]


def test_streaming_reads_ahead_but_not_everything(mnist1d):
    asked = []

    def plan(step):
        asked.append(step)
        return np.zeros(4, np.int32), np.ones(4, bool)

    built = feed.streaming(mnist1d, pipeline_of(mnist1d), prefetch=2)
    rows = built.iterate(plan, 10, 1000)
    next(rows)
    rows.close()
    assert 10 in asked and max(asked) < 20
    asked.clear()
    rows = feed.streaming(mnist1d, pipeline_of(mnist1d), prefetch=0).iterate(plan, 5, 9)
    next(rows)
    assert asked == [5]


@pytest.mark.parametrize("leave", ["feed", "iterator"])
def test_close_ends_workers(mnist1d, leave):
    built = feed.streaming(mnist1d, pipeline_of(mnist1d), num_workers=1)
    before = set(multiprocessing.active_children())
    rows = built.iterate(plan_of(mnist1d), 0, 100)
    next(rows)
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 1
    if leave == "feed":
        built.close()
        built.close()  # again, without effect
    else:
        rows.close()
    assert not started & set(multiprocessing.active_children())


def test_a_plan_may_refer_to_the_feed_that_runs_it(mnist1d):
    """As that of a training loop does, by way of the run it belongs to."""
    built = feed.streaming(mnist1d, pipeline_of(mnist1d), num_workers=1)
    inner = plan_of(mnist1d)

    def plan(step):
        assert built.arrays == {}
        return inner(step)

    rows = built.iterate(plan, 3, 100)
    for step in (3, 4):
        assert np.array_equal(next(rows)["index"], inner(step)[0])
    # The copy in the worker has nothing of ours to close; this one has.
    assert len(multiprocessing.active_children()) > 0
    built.close()
    copy = cloudpickle.loads(cloudpickle.dumps(built))
    copy.close()
    assert len(list(copy.iterate(inner, 0, 1))) == 1


KILLED = """
import multiprocessing, time
import numpy as np
from ltjax.data import array_source, augment, feed
from ltjax.resampling import instance

if __name__ == "__main__":
    source = array_source(np.zeros((8, 1000), np.float32), np.zeros(8, int))
    built = feed.streaming(source, augment.build("none"), num_workers=1)
    rows = built.iterate(feed.replica_plan(instance(8, 4), seeds=[0]), 0, 10_000)
    batch = next(rows)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(600)
"""


def shared_memory(pid: int) -> set[pathlib.Path]:
    """What a process has mapped of it: arrays of batches, and semaphores."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    names = {line.split()[-1] for line in lines if "/dev/shm/" in line}
    return {pathlib.Path(name) for name in names}


def runs(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_with_the_process_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        (worker,) = map(int, process.stdout.readline().split())
        left = shared_memory(process.pid) | shared_memory(worker)
        assert runs(worker) and any("psm_" in path.name for path in left)
    finally:  # a process that outlives this test would disturb others
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 30
    while runs(worker) or any(path.exists() for path in left):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def damaged_source():
    inputs = np.zeros((8, 3), np.float32)
    inputs[5] = np.nan
    lazy = array_source(np.zeros((8, 3), np.float32), np.zeros(8, int))
    object.__setattr__(lazy, "reader", inputs.__getitem__)
    return lazy


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_input_is_named(num_workers):
    source = damaged_source()
    plan = feed.replica_plan(instance(8, 8), seeds=[0])
    built = feed.streaming(source, augment.build("none"), num_workers=num_workers)
    with pytest.raises(ValueError, match="input 5 is not finite"):
        list(built.iterate(plan, 0, 2))
    with pytest.raises(ValueError, match="input 5 is not finite"):
        feed.resident(source, augment.build("none"))


@pytest.mark.parametrize("which", [feed.resident, feed.streaming])
@pytest.mark.parametrize(
    "indices, mask, kind, message",
    [
        ([0, 200], [True, True], IndexError, r"index 200, expected \[0, 200\)"),
        ([0, -1], [True, True], IndexError, "index -1"),
        ([0, 1], [True], ValueError, r"indices \(2,\) and a mask .*\(1,\)"),
        ([0, 1], [1, 1], ValueError, "dtype int64"),
    ],
)
def test_bad_plans_are_refused(mnist1d, which, indices, mask, kind, message):
    built = which(mnist1d, pipeline_of(mnist1d))
    plan = lambda step: (np.array(indices), np.array(mask))
    with pytest.raises(kind, match=message):
        list(built.iterate(plan, 0, 1))


def test_plans_that_cannot_travel_are_refused(mnist1d):
    import threading

    lock = threading.Lock()

    def plan(step):
        with lock:
            return np.zeros(2, np.int32), np.ones(2, bool)

    built = feed.streaming(mnist1d, pipeline_of(mnist1d), num_workers=1)
    with pytest.raises(TypeError, match="cannot be pickled.*replica_plan"):
        next(built.iterate(plan, 0, 2))
    threads = feed.streaming(mnist1d, pipeline_of(mnist1d))
    assert len(list(threads.iterate(plan, 0, 2))) == 2


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda s: feed.streaming(s, None, num_workers=-1),
            "num_workers is -1",
        ),
        (
            lambda s: feed.streaming(s, None, num_workers=2, prefetch=0),
            "prefetch 0",
        ),
        (lambda s: feed.replica_plan(instance(8, 4), seeds=[]), "seeds are empty"),
    ],
)
def test_bad_arguments_are_refused(mnist1d, call, message):
    with pytest.raises(ValueError, match=message):
        call(mnist1d)


def test_workers_outside_of_absl_app(tmp_path):
    """A plain script whose absl flags nobody has parsed, as in a notebook."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from ltjax.data import array_source, augment, feed\n"
        "from ltjax.resampling import instance\n"
        "if __name__ == '__main__':\n"
        "    source = array_source(np.arange(8.0)[:, None], np.zeros(8, int))\n"
        "    built = feed.streaming(source, augment.build('none'), num_workers=1)\n"
        "    plan = feed.replica_plan(instance(8, 4), seeds=[0])\n"
        "    rows = list(built.iterate(plan, 0, 2))\n"
        "    seen = np.concatenate([r['inputs'].ravel() for r in rows])\n"
        "    assert sorted(seen) == list(range(8))\n"
        "    built.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)
