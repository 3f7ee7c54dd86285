"""Rotation prediction, and a supervised run on what it learned (SSP)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.methods.method import Program
from ltjax.methods.self_supervised.rotation import turned
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.checkpoint_files import restore_params
from ltjax.train.loop import _fresh
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.stages import check_stages, train_stages

CONFIG = pathlib.Path(__file__).resolve().parents[3] / "configs/selfsup_lt.py"


def test_a_quarter_turn_is_counter_clockwise_and_four_are_none():
    image = jnp.array([[1, 2], [3, 4]])[None, :, :, None]
    once = turned(image, jnp.array([1]))
    assert once[0, :, :, 0].tolist() == [[2, 4], [1, 3]]
    again = once
    for _ in range(3):
        again = turned(again, jnp.array([1]))
    assert again.tolist() == image.tolist()


@pytest.fixture(scope="module")
def stepped(smoked):
    run, state = smoked("selfsup_lt", "method=rotation,probe=false", "model.norm=none")
    batch = {
        "inputs": jax.random.normal(jax.random.key(1), (16, 40, 1)),
        "mask": jnp.arange(16) < 13,
        "label": jnp.zeros(16, jnp.int32),
        "index": jnp.arange(16),
    }
    return run, state, batch, jax.jit(run.step)(state, batch)[1]


@pytest.mark.parametrize("rows", [16, 13])
def test_each_turn_is_as_frequent_as_it_can_be(stepped, rows):
    run, state, batch, _ = stepped
    some = jax.tree.map(lambda x: x[:rows], batch)
    seen = [
        run.method.prepare(state, some, key=jax.random.key(k), program=Program())[1]
        for k in range(8)
    ]
    counts = np.stack([np.bincount(one["turns"], minlength=4) for one in seen])
    # The list holds each turn rows // 4 + 1 times, and is cut off.
    assert counts.max() <= rows // 4 + 1 and np.all(counts.sum(axis=1) == rows)
    assert len({tuple(one["turns"].tolist()) for one in seen}) == 8
    first = seen[0]
    want = turned(some["inputs"], first["turns"])
    np.testing.assert_array_equal(first["turned"], want)


def test_it_starts_near_the_entropy_of_four_turns(stepped):
    run, state, batch, metrics = stepped
    flat = jax.tree.map(jnp.zeros_like, state.params["head"])
    blank = state.replace(params={**state.params, "head": flat})
    _, even = jax.jit(run.step)(blank, batch)
    assert float(even["loss"][0]) == pytest.approx(1.386294361, rel=1e-6)
    hits, count = metrics["rotation_accuracy"]
    assert 0 <= hits <= count == 13


def test_then_all_but_the_classifier_goes_on(devices, tmp_path):
    spec = f"{CONFIG}:method=rotation,then=ldam_drw,smoke"
    first, second = check_stages(load_config(["--config", spec]))
    assert second.config.loss.name == "ldam" and second.config.head.name == "cosine"
    assert second.config.weights.name == "class_balanced"
    assert second.config.total == "6 steps"
    with devices(1):
        train_stages([first], tmp_path, tensorboard=False)
        run = build(second.config)
        shardings = Layout(make_mesh()).state(run.shapes, run.method.tables)
        state = _fresh(run, shardings, tmp_path / second.folder)
    params, model_state, _ = restore_params(tmp_path / first.folder)
    for name, own, old in (
        ("params", state.params, params),
        ("statistics", state.model_state["batch_stats"], model_state["batch_stats"]),
    ):
        same = jax.tree.map(np.array_equal, own["backbone"], old["backbone"])
        assert all(jax.tree.leaves(same)), name
    assert set(state.params["head"]) != set(params["head"])


def test_a_preset_with_stages_cannot_follow():
    with pytest.raises(ConfigError, match="then is 'crt', which has stages of its own"):
        load_config(["--config", f"{CONFIG}:method=simclr,then=crt"])
