"""Comparisons and records that the tests of the engine share."""

import gc
import json
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module", autouse=True)
def _quick(compile_quickly):
    pass


def _raw(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.fixture
def failing_reads():
    """For tests that read a damaged checkpoint; mark them to ignore what it leaves.

    Orbax drops its reads of the other arrays when one fails. They are collected here,
    and not in a test that has nothing to do with them.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def assert_same():
    """`assert_same(a, b, rtol=0, atol=0)`: trees alike; bit for bit by default."""

    def check(a, b, *, rtol=0.0, atol=0.0):
        left = jax.tree_util.tree_flatten_with_path(a)[0]
        right = jax.tree_util.tree_flatten_with_path(b)[0]
        assert [path for path, _ in left] == [path for path, _ in right]
        for (path, x), (_, y) in zip(left, right, strict=True):
            name = jax.tree_util.keystr(path)
            x, y = _raw(x), _raw(y)
            assert x.shape == y.shape and x.dtype == y.dtype, name
            if rtol or atol:
                np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=name)
            else:
                np.testing.assert_array_equal(x, y, err_msg=name)

    return check


@pytest.fixture(scope="session")
def records():
    """`records(workdir) -> [record]` of metrics.jsonl, without what a clock decides."""

    def read(workdir):
        text = pathlib.Path(workdir, "metrics.jsonl").read_text()
        return [without_time(json.loads(line)) for line in text.splitlines()]

    def without_time(record):
        kept = {k: v for k, v in record.items() if not k.startswith("time/")}
        for part in ("std", "replicas"):
            if part in kept:
                kept[part] = without_time(kept[part])
        return kept

    return read


@pytest.fixture
def sigterm_during():
    """`edit = sigterm_during(k)`: a run whose process gets SIGTERM while step k runs.

    For the resident feed, whose plan is asked for just before the step.
    """

    def make(step):
        def edit(run):
            def plan(index):
                if index == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run.plan(index)

            return run._replace(plan=plan)

        return edit

    def survive(signum, frame):  # a run that does not listen must not end the tests
        pass

    previous = signal.signal(signal.SIGTERM, survive)
    yield make
    assert signal.getsignal(signal.SIGTERM) is survive
    signal.signal(signal.SIGTERM, previous)
