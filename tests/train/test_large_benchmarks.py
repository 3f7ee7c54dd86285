"""The large benchmarks' configs: their recipes, and 64-pixel runs on a few images."""

import importlib.util
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from ltjax.durations import duration_steps
from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.stages import check_stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Published names of the lists, by data set and split.
LISTS = {
    "imagenet_lt": {s: f"ImageNet_LT_{s}.txt" for s in ("train", "val", "test")},
    "places_lt": {s: f"Places_LT_{s}.txt" for s in ("train", "val", "test")},
    "inaturalist18": {s: f"iNaturalist18_{s}.txt" for s in ("train", "val")},
}
# 16, 8, 4 and 2 training images of four classes; two of each to evaluate on.
COUNTS = (16, 8, 4, 2)
STEPS_AN_EPOCH = 100
ETF = "recipe=etf,method=etf_dr,backbone=resnet50"


def config_file(name):
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"ltjax_large_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A data directory with the three benchmarks: images of all shapes, and lists."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for benchmark, lists in LISTS.items():
        for split, name in lists.items():
            lines = []
            for label, count in enumerate(COUNTS if split == "train" else (2,) * 4):
                for k in range(count):
                    path = pathlib.Path(split, f"class{label}", f"{k}.png")
                    full = root / benchmark / path
                    full.parent.mkdir(parents=True, exist_ok=True)
                    size = (int(rng.integers(64, 90)), int(rng.integers(64, 90)), 3)
                    pixels = rng.integers(0, 60, size, np.uint8) + np.uint8(60 * label)
                    PIL.Image.fromarray(pixels).save(full)
                    lines.append(f"{path} {label}\n")
            (root / benchmark / name).write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def smoke(images, devices, tmp_path_factory):
    """`smoke(file, argument) -> (workdir, Run, Result)` at 64 pixels."""

    def go(name, argument=""):
        config = config_file(name).get_config(f"smoke,classes=4,workers=0,{argument}")
        config.data.data_dir = str(images)
        with devices(1):
            run = build(check(config))
            workdir = tmp_path_factory.mktemp(name) / "run"
            return workdir, run, loop.run(run, workdir, tensorboard=False)

    return go


@pytest.fixture(scope="module")
def imagenet(smoke):
    return smoke("imagenet_lt", "method=la")


def test_imagenet_lt(imagenet):
    _, run, result = imagenet
    np.testing.assert_array_equal(run.info.class_counts, COUNTS)
    assert run.info.total_steps == 4 and run.info.steps_per_epoch == 3
    assert [split.name for split in run.eval_sets] == ["test", "val"]
    rows = run.feed.rows(*(part[0] for part in run.plan(0)))
    assert rows["inputs"].shape == (8, 64, 64, 3)
    batch = run.feed.batch({}, rows, jax.random.key(0), train=True)
    plain = run.feed.batch({}, rows, None, train=False)
    assert batch["inputs"].shape == plain["inputs"].shape == (8, 64, 64, 3)
    assert np.abs(np.asarray(batch["inputs"] - plain["inputs"])).max() > 0.1
    for split in ("test", "val"):
        assert result.evaluation[split]["confusion"].sum() == 8
        assert np.isfinite(result.metrics[f"eval/{split}/balanced_accuracy"]).all()


@pytest.mark.slow
def test_places_lt_trains_the_last_stage_of_a_pretrained_network(imagenet, smoke):
    workdir, _, before = imagenet
    _, run, after = smoke("places_lt", f"init_from={workdir}")
    assert run.info.name == "CE"
    old, new = (x.state.params["backbone"] for x in (before, after))
    moved = {
        module
        for module in old
        for a, b in zip(
            jax.tree.leaves(old[module]), jax.tree.leaves(new[module]), strict=True
        )
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }
    assert moved == {name for name in old if name.startswith("stage4_")}


@pytest.mark.slow
def test_inaturalist_2018_then_its_second_stage(smoke):
    workdir, run, before = smoke("inat2018", "recipe=cb,method=cb_focal")
    assert [split.name for split in run.eval_sets] == ["test"]
    assert not run.config.keep_best  # the test set is the validation set
    _, _, after = smoke("inat2018", f"method=crt,init_from={workdir}")
    frozen = [x.state.params["backbone"] for x in (before, after)]
    for a, b in zip(*map(jax.tree.leaves, frozen), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def rates(config):
    """The learning rate of each epoch, at a hundred steps an epoch."""
    epochs = int(config.total.split()[0])
    total = epochs * STEPS_AN_EPOCH
    setting = types.SimpleNamespace(
        steps_per_epoch=STEPS_AN_EPOCH,
        total_steps=total,
        steps=lambda text: duration_steps(
            text,
            steps_per_epoch=STEPS_AN_EPOCH,
            batch_size=config.batch_size,
            total_steps=total,
        ),
    )
    factor = config.schedule.make(setting)
    first = np.arange(epochs) * STEPS_AN_EPOCH
    table = jax.vmap(factor)
    ends = table(jnp.asarray(first + STEPS_AN_EPOCH - 1))
    starts = table(jnp.asarray(first))
    np.testing.assert_array_equal(starts, ends)  # held within an epoch
    return config.optimizer.lr * np.asarray(starts, float)


@pytest.mark.parametrize(
    "name, argument, batch, base, decay, epochs",
    [
        ("imagenet_lt", "", 512, 0.2, 5e-4, 90),
        ("imagenet_lt", ETF, 1024, 0.1, 5e-4, 90),
        ("places_lt", "", 256, 0.1, 5e-4, 30),
        ("inat2018", "", 512, 0.2, 1e-4, 90),
        ("inat2018", "epochs=200", 512, 0.2, 1e-4, 200),
        ("imagenet_lt", "method=crt,init_from=x", 512, 0.2, 5e-4, 10),
        ("imagenet_lt", "method=lws,init_from=x", 512, 0.2, 5e-4, 5),
        ("inat2018", "method=crt,init_from=x", 512, 0.2, 1e-4, 30),
        ("places_lt", "method=crt,init_from=x", 256, 0.1, 5e-4, 10),
    ],
)
def test_cosine_recipes(name, argument, batch, base, decay, epochs):
    """Half a cosine, stepped at the start of each epoch, never exactly 0."""
    config = check(config_file(name).get_config(argument))
    assert config.batch_size == batch and config.total == f"{epochs} epochs"
    assert config.optimizer.weight_decay == decay
    epoch = np.arange(epochs)
    expected = base / 2 * (1 + np.cos(np.pi * epoch / epochs))
    np.testing.assert_allclose(rates(config), expected, rtol=1e-5, atol=1e-8)
    assert expected[-1] > 0


@pytest.mark.parametrize(
    "name, argument, batch, base, pieces",
    [
        ("imagenet_lt", "recipe=cb", 1024, 0.8, {30: 0.1, 60: 0.01, 80: 0.001}),
        ("inat2018", "recipe=cb", 1024, 1.6, {30: 0.1, 60: 0.01, 80: 0.001}),
        ("imagenet_lt", "recipe=oltr", 128, 0.1, {10: 0.1, 20: 0.01}),
    ],
)
def test_stepwise_recipes(name, argument, batch, base, pieces):
    config = check(config_file(name).get_config(f"{argument},method=cb_focal"))
    assert config.batch_size == batch
    found = rates(config)
    warmup = 5 if "cb" in argument else 0
    np.testing.assert_allclose(found[:warmup], base * (np.arange(warmup) + 1) / 5)
    for epoch in range(warmup, len(found)):
        passed = [factor for at, factor in pieces.items() if epoch >= at]
        assert found[epoch] == pytest.approx(base * min([1.0, *passed]), rel=1e-5)
    if "cb" in argument:
        assert config.weights.beta == 0.999 and config.loss.gamma == 0.5


def test_etf_recipe_is_the_published_one():
    config = check(config_file("imagenet_lt").get_config(ETF))
    assert config.loss.name == "dot_regression" and config.method.mixup == 0.2
    assert config.loss.class_balance == "batch"
    assert config.model.widths[-1] * 4 == 4096


@pytest.mark.parametrize("name", ["imagenet_lt", "inat2018"])
def test_unknown_recipes_are_refused(name):
    with pytest.raises(ConfigError, match="recipe is 'kangg', unknown; did you mean"):
        config_file(name).get_config("recipe=kangg")


@pytest.mark.parametrize(
    "argument, batch, rate, decay, epochs, network",
    [
        ("cifar100", 512, 0.5, 1e-4, 2000, "resnet18"),
        ("cifar100,method=gh", 512, 0.5, 5e-4, 1000, "resnet18"),
        ("cifar10,method=simsiam", 512, 0.06, 5e-4, 800, "resnet18"),
        ("imagenet", 256, 0.5, 1e-4, 500, "resnet50"),
        ("imagenet,method=moco", 128, 0.015, 1e-4, 200, "resnet50"),
        ("imagenet,method=byol", 4096, 0.3 * 16, 1e-6, 300, "resnet50"),
    ],
)
def test_recipes_without_labels(argument, batch, rate, decay, epochs, network):
    config = check_stages(config_file("selfsup_lt").get_config(f"data={argument}"))[0]
    config = config.config
    assert config.batch_size == batch and config.total == f"{epochs} epochs"
    found = (config.optimizer.options.lr, config.optimizer.options.weight_decay)
    np.testing.assert_allclose(found, (rate, decay))
    assert config.schedule.name == "cosine"
    warmup = "0 epochs" if "simsiam" in argument else "10 epochs"
    assert config.schedule.options.warmup == warmup
    assert config.model.name == network
    small = config.model.options.stem == "small"
    assert small == argument.startswith("cifar")
    assert config.optimizer.name == ("lars" if "byol" in argument else "sgd")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco", "byol", "sdclr"])
def test_imagenet_lt_without_labels(images, devices, tmp_path, method):
    config = config_file("selfsup_lt").get_config(
        f"data=imagenet,method={method},smoke,classes=4,workers=0"
    )
    config.data.data_dir = str(images)
    stages = check_stages(config)
    assert [stage.folder for stage in stages] == ["0_pretrain", "1_probe"]
    with devices(1):
        for stage in stages:
            run = build(stage.config)
            result = loop.run(run, tmp_path / stage.folder, tensorboard=False)
            assert all(
                np.isfinite(value).all()
                for name, value in result.metrics.items()
                if name.startswith("train/loss")
            )
    assert result.evaluation["test"]["confusion"].sum() == 8
