"""Every named method, and every gradient rule: what all of them promise."""

import json

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from ltjax.config_file import load_config
from ltjax.methods import presets
from ltjax.methods.registry import GRADIENTS
from ltjax.options import options_of
from ltjax.serving.loading import stand_in_splits
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.checkpoint import Checkpoints
from ltjax.train.parts import make_parts, make_predict
from ltjax.train.workdir import facts_of

# Every method with the plain gradient, every rule with a method it may meet.
# Presets that differ from one of these by a loss or a number are slow tests.
KINDS = ("ce", "cb_focal", "rs", "ldam_drw", "ldam_drs", "tla_adrw", "cvs", "crt")
KINDS += ("lws", "etf_dr", "etf_la")
ROWS = [
    pytest.param(
        (method, "plain"),
        id=f"{method}+plain",
        marks=() if method in KINDS else pytest.mark.slow,
    )
    for method in presets.PRESETS
]
# These keep no state of their own, and take steps in tests/methods/test_gradients.py.
ALIKE = ("asam", "focal_sam", "imbsam")
ROWS += [
    pytest.param(
        ("ce" if gradient == "cc_sam" else "ldam_drw", gradient),
        marks=pytest.mark.slow if gradient in ALIKE else (),
    )
    for gradient in GRADIENTS
    if gradient != "plain"
]


def tail_options(gradient) -> dict:
    """Four of the tiny run's classes are tail; a stage of SSE-SAM ends with step 0."""
    wanted = {"switch": "1 steps", "eta": 10}
    known = options_of(GRADIENTS[gradient].options)
    # ASAM's eta is another one: a number that is added to the weights' size.
    kept = wanted.keys() & known.keys() if gradient != "asam" else ()
    return {name: wanted[name] for name in kept}


@pytest.fixture(params=ROWS, ids="+".join)
def config(request, tiny_config, tmp_path):
    """A tiny run of the row, its late phase beginning with step 1."""
    method, gradient = request.param
    chosen = load_config(["--config", str(tiny_config)])
    chosen.total = "4 steps"
    if gradient != "sam":
        chosen.model.norm = "none"  # compiles faster
    if "stages" in presets.PRESETS[method]:  # the second one, on a finished run
        chosen.init_from = str(tmp_path / "finished")
    presets.apply_preset(chosen, method, late="1 steps")
    presets.apply_gradient(chosen, gradient, **tail_options(gradient))
    chosen.total = "4 steps"  # second stages bring their own
    if gradient == "rwsam":
        weights = np.random.default_rng(0).uniform(0.5, 2, 159).astype(np.float32)
        np.save(tmp_path / "weights.npy", weights / weights.mean())
        chosen.gradient.density_weights = str(tmp_path / "weights.npy")
    return check(chosen)


def finite(tree) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_steps_learn_are_finite_and_survive_a_restart(config, devices, tmp_path):
    with devices(1):
        run = build(config)
    traced = []

    def step(state, batch, program):
        traced.append(program)
        return run.step(state, batch, program=program)

    compiled = jax.jit(step, static_argnums=2)

    def advance(state, t):
        indices, mask = (part[0] for part in run.plan(t))
        rows = run.feed.rows(indices, mask)
        key = jax.random.key(t)
        batch = run.feed.batch(run.feed.arrays, rows, key, train=True)
        assert run.program(t) in run.programs
        return compiled(state, batch, run.program(t))

    start = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])
    state = start
    for t in range(2):
        state, metrics = advance(state, t)
        assert finite((state.params, state.model_state, state.method_state))
        loss, count = metrics["loss"]
        assert loss > 0 and count == 1
        assert metrics["accuracy"][1] == 16
    assert int(state.step) == 2
    trained = config.optimizer.train.replace("all", "head").split(",")
    for module in trained:
        if jax.tree.leaves(start.params.get(module, {})):
            assert not same(state.params[module], start.params[module])
    if config.optimizer.train != "all":
        for module in start.params.keys() - set(trained):
            assert same(state.params[module], start.params[module])

    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(2, state, {})
    shardings = jax.tree.map(
        lambda _: SingleDeviceSharding(jax.local_devices()[0]), state
    )
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "run")
    restored = checkpoints.restore(start, shardings).state
    checkpoints.close()
    ours, theirs = advance(restored, 2)[0], advance(state, 2)[0]
    assert same(ours.replace(rng=0), theirs.replace(rng=0))
    assert jax.random.key_data(ours.rng).tolist() == (
        jax.random.key_data(theirs.rng).tolist()
    )
    # One trace for each static program; values and restarts cost none.
    assert sorted(map(str, traced)) == sorted({str(run.program(t)) for t in range(3)})


def test_predictions_are_logits_of_every_class(config, devices):
    with devices(1):
        run = build(config)
    state = jax.eval_shape(run.init, 0, run.info.replicas[0]["hyper"])
    inputs = jax.ShapeDtypeStruct((5, 40, 1), np.float32)
    outputs = jax.eval_shape(run.predict, state, inputs)
    assert outputs["logits"].shape == (5, 10)
    assert outputs["logits"].dtype == np.float32


def test_the_network_is_the_same_without_its_data(config, devices):
    with devices(1):
        run = build(config)
    facts = json.loads(json.dumps(facts_of(run)))
    parts = make_parts(config, stand_in_splits(facts))
    told = jax.eval_shape(run.init, 0, run.info.replicas[0]["hyper"])
    found = jax.eval_shape(parts.init, 0, run.info.replicas[0]["hyper"])
    assert str(told) == str(found)
    inputs = jax.ShapeDtypeStruct((5, 40, 1), np.float32)
    predict = make_predict(parts.method, parts.pipeline, parts.train)
    programs = [jax.make_jaxpr(fn)(told, inputs) for fn in (run.predict, predict)]
    assert str(programs[0]) == str(programs[1])
