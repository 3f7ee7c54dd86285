"""Second stages on finished runs: what trains, what stays, what features are for."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.features import extract_features, reuses_features
from ltjax.train.lanes import reading_lanes
from ltjax.train.loop import Preempted

SEEDS = {"replicas.seeds": (0, 1), "eval_every": "0 steps"}
CRT = {
    "total": "10 steps",
    "sampler.name": "class_balanced",
    "optimizer.train": "head",
    "init_skip": ("head",),
}
LWS = {
    "total": "10 steps",
    "sampler.name": "class_balanced",
    "optimizer.train": "class_scale",
    "init_skip": ("class_scale",),
    "head.class_scale": "ones",
}


@pytest.fixture(scope="module")
def first(train, tmp_path_factory):
    """(workdir, Result) of a finished run with two seeds."""
    workdir = tmp_path_factory.mktemp("first") / "run"
    return workdir, train(SEEDS, workdir=workdir)


@pytest.fixture(scope="module")
def second(first, train):
    """`second(changes, ...) -> Result` of a run that starts from the first."""

    def go(*changes, **options):
        merged = SEEDS | {"init_from": str(first[0])}
        for change in changes:
            merged |= change
        return train(merged, **options)

    return go


@pytest.fixture(scope="module")
def crt(second):
    return second(CRT)


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_crt_trains_a_fresh_head_and_leaves_every_other_bit(first, crt):
    before, after = first[1].state, crt.state
    assert bits(after.params["backbone"]) == bits(before.params["backbone"])
    assert bits(after.model_state) == bits(before.model_state)
    assert crt.traces == {"step": 1, "eval": 1, "refresh": 0}
    for old, new in zip(
        jax.tree.leaves(before.params["head"]),
        jax.tree.leaves(after.params["head"]),
        strict=True,
    ):
        assert np.abs(np.asarray(old) - np.asarray(new)).max() > 0.05


def test_head_starts_fresh_and_without_momentum(second, first):
    # A rate of 0 leaves the start: not the first stage's head, but one of this seed.
    start = second(CRT, {"optimizer.lr": 0.0, "total": "1 steps"}).state
    kernel = np.asarray(start.params["head"]["kernel"])
    bound = 1 / np.sqrt(kernel.shape[1])
    assert np.abs(kernel).max() <= bound
    assert not np.array_equal(kernel[0], kernel[1])
    old = np.asarray(first[1].state.params["head"]["kernel"])
    assert np.abs(old - kernel).max() > 0.05


def test_features_computed_once_are_those_of_every_step(crt, second, assert_same):
    anew = second(CRT, {"cache_features": False})
    assert_same(anew.state, crt.state, rtol=1e-5, atol=1e-7)
    assert_same(anew.evaluation, crt.evaluation, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas.layout": "vmap", "steps_per_call": 5},
        {"data.feed": "streaming"},
    ],
    ids=["chunks", "streaming"],
)
def test_features_serve_every_way_to_run(crt, second, assert_same, changes):
    assert_same(second(CRT, changes).state, crt.state, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("layout", "count"),
    [("auto", 4), pytest.param("devices", 2, marks=pytest.mark.slow)],
)
def test_features_on_several_devices(crt, second, assert_same, layout, count):
    spread = second(CRT, {"replicas.layout": layout}, count=count)
    assert_same(spread.state, crt.state, rtol=1e-4, atol=2e-6)


def test_an_interrupted_second_stage_goes_on(
    crt, second, tmp_path, sigterm_during, assert_same
):
    workdir = tmp_path / "run"
    with pytest.raises(Preempted):
        second(CRT, workdir=workdir, edit=sigterm_during(4))
    resumed = second(CRT, workdir=workdir)
    assert resumed.start_step == 5
    assert_same(resumed.state, crt.state)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, True),
        ({"optimizer.bn_mode": "update_stats"}, False),
        ({"optimizer.train": "head,backbone/dense1"}, False),
        ({"method.mixup": 1.0}, False),
        ({"cache_features": False}, False),
    ],
)
def test_when_features_are_reused(tiny, first, changes, expected):
    run = build(tiny(SEEDS | CRT | {"init_from": str(first[0])} | changes))
    assert reuses_features(run) is expected


def test_augmented_examples_have_no_features_of_their_own(tiny, first, mnist_dir):
    changes = SEEDS | CRT | {"init_from": str(first[0])}
    digits = {
        "data.name": "mnist",
        "data.data_dir": str(mnist_dir),
    }
    for augment, expected in (("normalize", True), ("shift", False)):
        run = build(tiny(changes | digits | {"augment.name": augment}))
        assert reuses_features(run) is expected


def test_published_batch_statistics_keep_moving(first, second):
    moving = second(CRT, {"optimizer.bn_mode": "update_stats"})
    before, after = first[1].state, moving.state
    assert bits(after.params["backbone"]) == bits(before.params["backbone"])
    old, new = (s.model_state["batch_stats"]["backbone"] for s in (before, after))
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3


def test_no_perturbation_reaches_what_is_frozen(first, second):
    sam = {"gradient.name": "sam", "gradient.rho": 0.5}
    found = second(CRT, sam, {"optimizer.weight_decay": 0.1}).state
    assert bits(found.params["backbone"]) == bits(first[1].state.params["backbone"])
    # Around frozen features and a plain loss, SAM of the head is SAM of a linear model:
    # the ascent has the head's norm alone, so it differs from the plain run.
    plain = second(CRT, {"optimizer.weight_decay": 0.1}).state
    heads = found.params["head"], plain.params["head"]
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *heads)
    assert max(jax.tree.leaves(gap)) > 1e-3


def test_lws_trains_scales_alone_and_starts_at_one(first, second):
    before, after = first[1].state, second(LWS).state
    for name in ("backbone", "head"):
        assert bits(after.params[name]) == bits(before.params[name])
    assert bits(after.model_state) == bits(before.model_state)
    scale = np.asarray(after.params["class_scale"])
    assert scale.shape == (2, 10) and np.abs(scale - 1).max() > 0.02
    still = second(LWS, {"optimizer.lr": 0.0, "total": "1 steps"}).state
    np.testing.assert_array_equal(still.params["class_scale"], 1.0)


def test_lws_may_start_at_the_norms_of_the_loaded_head(first, second):
    changes = {
        "head.class_scale": "inverse_norm",
        "head.class_scale_power": 0.5,
        "optimizer.lr": 0.0,
        "total": "1 steps",
    }
    found = second(LWS, changes).state.params["class_scale"]
    kernel = np.asarray(first[1].state.params["head"]["kernel"], np.float64)
    expected = np.linalg.norm(kernel, axis=1) ** -0.5
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_head_reaches_the_optimum_of_its_convex_problem(
    first, second, tiny, devices
):
    """Within 1e-3 of a quasi-Newton solver on the same features."""
    decay = 1e-2
    changes = {
        "sampler.name": "instance",
        "batch_size": 159,  # the whole training set
        "total": "300 steps",
        "optimizer.lr": 0.5,
        "schedule.name": "cosine",
        "optimizer.weight_decay": decay,
        "log_every": "150 steps",
    }
    trained = second(CRT, changes).state.params["head"]

    run = build(tiny(SEEDS | {"init_from": str(first[0])} | CRT | changes))
    with devices(1):  # where the first run's state lies
        lanes = reading_lanes(run.config, 2)
    feed = extract_features(run, first[1].state, lanes).feed
    features = feed.arrays["features"].reshape(2, 159, 16).astype(np.float64)
    labels = feed.arrays["label"]

    def objective(flat, x):
        kernel, bias = flat[:160].reshape(16, 10), flat[160:]
        logits = x @ kernel + bias
        logits -= logits.max(1, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(1, keepdims=True)
        rows = np.arange(len(x))
        value = -np.log(chance[rows, labels]).mean() + decay / 2 * flat @ flat
        chance[rows, labels] -= 1
        slope = np.concatenate([(x.T @ chance).ravel(), chance.sum(0)]) / len(x)
        return value, slope + decay * flat

    for r, x in enumerate(features):
        kernel, bias = (np.asarray(trained[n][r], float) for n in ("kernel", "bias"))
        ours, _ = objective(np.concatenate([kernel.ravel(), bias]), x)
        start, _ = objective(np.zeros(170), x)
        best = optimize.minimize(
            objective, np.zeros(170), args=(x,), jac=True, options={"gtol": 1e-9}
        ).fun
        assert best - 1e-9 <= ours < best + 1e-3 < start - 0.1


@pytest.mark.slow
def test_crt_improves_few_shot_accuracy_on_mnist1d(config_of, devices, tmp_path):
    """A fifth of the config's steps, one seed: CE, then cRT on top of it."""

    def trained(argument, changes, name):
        with devices(1):
            built = build(config_of("mnist1d_lt", argument, changes))
            return loop.run(built, tmp_path / name, tensorboard=False)

    one = {"replicas.seeds": (0,), "eval_every": "0 steps"}
    ce = trained("method=ce", one | {"total": "600 steps"}, "ce")
    crt = trained(f"method=crt,init_from={tmp_path / 'ce'}", one, "crt")
    assert bits(crt.state.params["backbone"]) == bits(ce.state.params["backbone"])
    assert bits(crt.state.model_state) == bits(ce.state.model_state)
    few, balanced = "eval/test/few", "eval/test/balanced_accuracy"
    assert crt.metrics[few].item() > ce.metrics[few].item() + 0.03
    assert crt.metrics[balanced].item() > ce.metrics[balanced].item()


@pytest.fixture
def config_of():
    """`config_of(file, argument, changes) -> TrainConfig` of a file in configs/."""

    def make(name, argument, changes):
        path = pathlib.Path(__file__).parents[2] / "configs" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"ltjax_config_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(argument)
        for dotted, value in changes.items():
            *sections, last = dotted.split(".")
            place = config
            for section in sections:
                place = place[section]
            place[last] = value
        return check(config)

    return make


def test_modules_and_arrays_that_do_not_exist(first, second, tiny, tmp_path):
    with pytest.raises(ConfigError, match="names 'backbone/stage4', but no parameter"):
        build(tiny({"init_from": "x", "optimizer.train": "head,backbone/stage4"}))
    with pytest.raises(ConfigError, match="init_skip has 'haed', unknown; did you"):
        second(CRT, {"init_skip": ("haed",)})
    with pytest.raises(ConfigError, match="params.class_scale is missing in"):
        second(LWS, {"init_skip": ()})
    with pytest.raises(ConfigError, match=r"head.kernel is of shape \(2, 16, 10\)"):
        second(CRT, {"init_skip": (), "replicas.seeds": (0, 1, 2)})
    with pytest.raises(
        ConfigError, match="init_from: .*does not hold a run|init_from: .*checkpoint"
    ):
        second(CRT, {"init_from": str(tmp_path)})


def test_one_replica_serves_all_and_the_average_starts_with_it(train, tmp_path):
    one = train(SEEDS | {"replicas.seeds": (3,)}, workdir=tmp_path / "one")
    changes = SEEDS | CRT | {"init_from": str(tmp_path / "one"), "ema_decay": 0.5}
    many = train(changes).state
    for kept in (many.params["backbone"], many.ema["params"]["backbone"]):
        for r in range(2):
            own = jax.tree.map(lambda x, r=r: x[r : r + 1], kept)
            np.testing.assert_allclose(
                own["dense1"]["kernel"],
                one.state.params["backbone"]["dense1"]["kernel"],
                rtol=1e-6,
            )
