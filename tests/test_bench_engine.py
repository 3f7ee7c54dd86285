"""The engine's benchmark: both of its loops train the same thing."""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from ltjax.train.build import build

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    """`experiments.bench.engine`, on one device."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(jax, "devices", lambda *args, real=jax.devices: real(*args)[:1])
    return importlib.import_module("experiments.bench.engine")


def tiny(bench, model="conv1d", shape=(40, 1), replicas=2):
    return bench.Case(model, shape, batch=16, replicas=replicas, steps=3)


@pytest.mark.slow
def test_both_loops_end_at_the_same_parameters(bench, tmp_path):
    case = tiny(bench)
    run = build(bench.config_of(case, str(tmp_path)))
    ours = bench.Ours(run, case.steps)
    hand = bench.HandWritten(run, case.steps, lambda r, step: run.plan(step)[0][r])
    sums, losses = ours(), hand()
    assert sums.bad_step.tolist() == [np.iinfo(np.int32).max] * 2
    total, count = sums.metrics["loss"]
    assert count.tolist() == [3.0, 3.0] and total.shape == (2,)
    assert np.isfinite(losses).all() and losses[0] != losses[1]
    for r in range(2):
        one = jax.tree.map(lambda x, r=r: x[r], ours.params)
        assert jax.tree.structure(one) == jax.tree.structure(hand.params[r])
        for own, other in zip(
            jax.tree.leaves(one), jax.tree.leaves(hand.params[r]), strict=True
        ):
            np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)


def test_an_epoch_of_the_hand_written_loop_holds_every_example_once(bench):
    indices = bench.permutations(12, 4)
    epochs = [
        [np.concatenate([indices(r, 3 * e + k) for k in range(3)]) for e in range(2)]
        for r in range(2)
    ]
    for order in (orders := [order for replica in epochs for order in replica]):
        assert sorted(order) == list(range(12))
    assert len({tuple(order) for order in orders}) == 4


def test_rows_tell_what_was_measured(bench):
    case = tiny(bench, replicas=1)
    (row,) = bench.measure(case, repeats=1, torch_python=None)
    assert (row["model"], row["peer"]) == ("conv1d", "hand-written loop")
    assert float(row["ratio"]) > 0 and float(row["ratio_processor_time"]) > 0
    # One pair of measurements: the ratio of times is the ratio of rates.
    rates = float(row["images_per_s"]) / float(row["peer_images_per_s"])
    assert rates == pytest.approx(float(row["ratio"]), rel=5e-3)


def test_images_take_the_recipe_of_cifar(bench, tmp_path):
    case = bench.FULL[0]
    assert (case.model, case.batch, case.replicas) == ("resnet32", 128, 1)
    run = build(bench.config_of(case, str(tmp_path)))
    assert run.info.num_params == 464_154
    optimizer = run.config.optimizer
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 2e-4)
    assert optimizer.decay == "all" and run.config.augment.name == "cifar"
    assert run.feed.arrays["inputs"].dtype == np.uint8


def test_an_interpreter_without_torch_is_refused(bench, interpreter):
    fake = interpreter("print()")
    options = dict(depth=20, batch=2, num_images=4, steps=1)
    with pytest.raises(RuntimeError, match="engine_torch said '', not 'ready'"):
        bench.TorchPeer(fake, **options)
