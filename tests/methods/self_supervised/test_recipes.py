"""The recipes of `configs/selfsup_lt.py`: their stages fit together at full size."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.durations import duration_steps
from ltjax.methods.method import Setting
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
