"""The recipes of `configs/selfsup_lt.py`: their stages fit together at full size."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.durations import duration_steps
from ltjax.methods.method import Setting
from ltjax.methods.self_supervised import recipes
from ltjax.options import ConfigError
from ltjax.train.schedule import SCHEDULES
from ltjax.train.stages import check_stages

CONFIG = pathlib.Path(__file__).resolve().parents[3] / "configs/selfsup_lt.py"
METHODS = (
    *("simclr", "focal", "ts", "bcl", "gh", "moco", "bcl_d", "sdclr", "simsiam"),
    *("rwsam", "rwsam_moco", "byol", "rotation", "sup_con", "kcl", "paco"),
    *("balanced_contrastive", "moclr", "dnc"),
)
# Training examples of the long-tailed sets.
SIZES = {
    ("mnist1d", 100): 4957,
    ("cifar10", 100): 12406,
    ("cifar10", 10): 20431,
    ("cifar100", 100): 10847,
    ("cifar100", 10): 19573,
    ("imagenet", 100): 115846,
}


def stages(**arguments) -> dict:
    """{name: checked config} of the runs, at full size."""
    text = ",".join(f"{name}={value}" for name, value in arguments.items())
    runs = check_stages(load_config(["--config", f"{CONFIG}:{text}"]))
    return {run.folder.split("_", 1)[-1]: run.config for run in runs}


def timing(config, size: int) -> Setting:
    """What a component learns of the length of a run on `size` examples."""
    known = {
        "steps_per_epoch": max(size // config.batch_size, 1),
        "batch_size": config.batch_size,
    }
    known["total_steps"] = duration_steps(config.total, **known)
    return Setting(
        class_counts=np.array([size]),
        labels=np.zeros(size, np.int32),
        num_examples=size,
        steps=functools.partial(duration_steps, **known),
        **known,
    )


def rates(config, size: int):
    """(function epoch from 1 on -> learning rate in its last step, total epochs)."""
    setting = timing(config, size)
    factor = SCHEDULES[config.schedule.name].make(config.schedule.options, setting)
    epoch = setting.steps_per_epoch

    def rate(number):
        last = jnp.int32(number * epoch - 1)
        return config.optimizer.options.lr * float(factor(last))

    return rate, setting.total_steps // epoch


@pytest.mark.parametrize("data, imf", SIZES)
@pytest.mark.parametrize("methods", [METHODS[::2], METHODS[1::2]], ids=["even", "odd"])
def test_every_stage_has_a_schedule_that_fits_its_length(data, imf, methods):
    for method in methods:
        for name, config in stages(data=data, method=method, imf=imf).items():
            setting = timing(config, SIZES[data, imf])
            warmup = setting.steps(config.schedule.options.warmup)
            assert warmup < setting.total_steps / 2, (method, name)
            factor = SCHEDULES[config.schedule.name].make(
                config.schedule.options, setting
            )
            assert 0 < float(factor(jnp.int32(warmup))) <= 1, (method, name)


@pytest.mark.parametrize("method", METHODS)
def test_a_probe_inherits_nothing_from_what_it_judges(method):
    for data, size in (("cifar10", 128), ("imagenet", 512)):
        probe = stages(data=data, method=method)["probe"]
        assert probe.optimizer.name == "sgd" and probe.batch_size == size
        options = probe.optimizer.options
        assert options.weight_decay == 0 and options.train == "head"
        assert probe.schedule.name == "cosine"
        assert probe.schedule.options.warmup == "0 steps"


@pytest.mark.parametrize("data, width", [("cifar100", 512), ("imagenet", 4096)])
def test_the_distilled_network_has_the_head_of_its_teachers(data, width):
    runs = stages(data=data, method="dnc")
    ours, theirs = runs["pretrain"].head.options, runs["base"].head.options
    assert (ours.width, ours.dim) == (theirs.width, theirs.dim)
    assert ours.regressor_width == width
    assert runs["expert1"].head.options == theirs


# What the papers say, by dotted name of an option.
SAID = {
    ("cifar100", "focal"): {
        "total": "1000 epochs",
        "optimizer.weight_decay": 5e-4,
        "method.joint": False,
    },
    ("cifar100", "ts"): {"method.temperature_period": "20%"},
    ("cifar100", "bcl"): {"augment.boost_layers": 1, "augment.boost_lowest": 10.0},
    ("cifar100", "bcl_d"): {"augment.boost_layers": 2, "augment.boost_lowest": 5.0},
    ("cifar100", "sdclr"): {"method.prune": 0.9, "method.temperature": 0.2},
    ("cifar100", "moco"): {"head.norm": "none", "head.width": 512},
    ("cifar100", "byol"): {
        "head.width": 2048,
        "head.dim": 256,
        "head.predictor_width": 2048,
        "optimizer.lr": 0.5,
    },
    ("cifar100", "moclr"): {"method.momentum": 0.996, "head.dim": 128},
    ("cifar100", "sup_con"): {
        "head.width": 2048,
        "head.dim": 128,
        "head.norm": "none",
        "method.temperature": 0.1,
    },
    ("cifar100", "simsiam"): {
        "head.layers": 2,
        "head.width": 2048,
        "head.predictor_width": 512,
        "schedule.warmup": "0 epochs",
    },
    ("cifar100", "rotation"): {"schedule.warmup": "5 epochs"},
    ("imagenet", "ts"): {"method.temperature_period": "400 epochs"},
    ("imagenet", "bcl"): {
        "augment.boost_layers": 2,
        "augment.boost_lowest": 0.0,
        "augment.boost_highest": 30.0,
        "augment.boost_random": True,
    },
    ("imagenet", "sdclr"): {"method.prune": 0.3, "method.temperature": 0.3},
    ("imagenet", "moco"): {
        "head.norm": "none",
        "head.width": 2048,
        "method.queue": 65536,
        "method.momentum": 0.999,
        "augment.recipe": "moco_v2",
    },
    ("imagenet", "simsiam"): {
        "head.layers": 3,
        "head.dim": 2048,
        "schedule.warmup": "0 epochs",
    },
    ("imagenet", "byol"): {
        "head.width": 4096,
        "head.dim": 256,
        "head.predictor_width": 4096,
        "method.momentum": 0.99,
    },
    ("imagenet", "moclr"): {
        "head.width": 4096,
        "head.dim": 256,
        "method.temperature": 0.1,
        "method.momentum": 0.996,
    },
    ("imagenet", "gh"): {
        "method.harmony_start": "80%",
        "method.harmony_ramp": "30 epochs",
        "method.harmony_floor": 100.0,
    },
}


def value_of(config, path: str):
    *section, name = path.split(".")
    place = getattr(config, section[0]) if section else config
    return getattr(place.options if section else place, name)


@pytest.mark.parametrize("data, method", SAID)
def test_a_recipe_is_the_published_one(data, method):
    config = stages(data=data, method=method)["pretrain"]
    found = {path: value_of(config, path) for path in SAID[data, method]}
    assert found == SAID[data, method]


@pytest.mark.parametrize(
    "data, method, expected",
    [
        # Of 1000 epochs: 0.5 to 0.3 until 500, then to 1e-6; half ways in between.
        ("cifar100", "gh", {5: 0.25, 10: 0.5, 255: 0.4, 500: 0.3, 750: 0.1500005}),
        ("imagenet", "gh", {10: 0.5, 205: 0.3, 400: 0.1, 450: 0.0500005, 500: 1e-6}),
        ("cifar100", "simclr", {10: 0.5, 1005: 0.2500005, 2000: 1e-6}),
        ("cifar100", "rotation", {1: 0.02, 5: 0.1, 160: 0.1, 161: 1e-3, 181: 1e-5}),
        # Without a warm-up epochs count from 0.
        ("cifar100", "simsiam", {1: 0.06, 401: 0.03}),
    ],
)
def test_rates_of_a_recipe(data, method, expected):
    rate, epochs = rates(stages(data=data, method=method)["pretrain"], SIZES[data, 100])
    assert epochs >= max(expected)
    found = [rate(epoch) for epoch in expected]
    np.testing.assert_allclose(found, list(expected.values()), rtol=2e-6, atol=2e-8)


def test_stages_of_recipes():
    for data, epochs in (("cifar10", (800, 800, 400)), ("imagenet", (200, 600, 200))):
        runs = stages(data=data, method="dnc")
        found = tuple(runs[name].total for name in ("base", "expert1", "pretrain"))
        assert found == tuple(f"{number} epochs" for number in epochs)
    for data, radius in (("cifar10", 0.5), ("imagenet", 2.0)):
        for method in ("rwsam", "rwsam_moco"):
            runs = stages(data=data, method=method)
            assert runs["pretrain"].gradient.options.rho == radius
    assert (
        stages(data="cifar10", method="rotation")["pretrain"].model.name == "resnet32"
    )


@pytest.mark.parametrize("data", ["mnist1d", "cifar100"])
def test_harmonization_has_the_shares_of_the_paper(data):
    """Of 1000 epochs a warm-up of 500, a ramp of 10, and a count every 20."""
    config = stages(data=data, method="gh")["pretrain"]
    setting, options = timing(config, SIZES[data, 100]), config.method.options
    lengths = (options.harmony_start, options.harmony_ramp, options.harmony_every)
    found = np.array([setting.steps(text) for text in lengths]) / setting.total_steps
    np.testing.assert_allclose(found, [0.5, 0.01, 0.02], rtol=0.01)


def test_probes_judge_what_was_pre_trained_and_nothing_else():
    wanted = {"probe", "few_shot_probe", "full_probe", "knn", "sphere", "coverage"}
    for method, more in (("simclr", {}), ("dnc", {}), ("simclr", {"then": "ldam_drw"})):
        found = stages(data="mnist1d", method=method, probes="true", **more)
        judged = {name: set(config.judges) for name, config in found.items()}
        assert wanted <= judged.pop("pretrain") and not any(judged.values())
    (alone,) = stages(probes="true", probe="false").values()
    assert wanted <= set(alone.judges)


def test_unknown_data_is_told_what_there_is():
    message = "data is 'cifar1', unknown.*valid: cifar10, .*, imagenet, mnist"
    with pytest.raises(ConfigError, match=message):
        stages(data="cifar1")


def test_no_recipe_is_for_a_method_that_is_not_there():
    for table in (recipes.RECIPES, recipes.DETAILS):
        for images in ("cifar", "imagenet"):
            assert table[images].keys() - {""} <= set(METHODS)
