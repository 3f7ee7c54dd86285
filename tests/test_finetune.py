"""Fine-tuning converted networks on long-tailed digits: what trains, what does not."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

import ltjax
from ltjax.config_file import load_config
from ltjax.finetune import apply_finetune
from ltjax.models.pretrained import read_weights
from ltjax.models.registry import MODELS
from ltjax.options import ConfigError
from ltjax.own_data import own_config
from ltjax.serving.export import export
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.config import default_config

CLASSES, COUNTS = 4, (60, 40, 20, 12)


@pytest.fixture(autouse=True)
def _one_device(devices):
    with devices(1):
        yield


@pytest.fixture(scope="module")
def digits():
    """(train, test) of gray 16x16 digits: COUNTS, and 20 of each class."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * 15.9).astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None]
    parts = []
    for first, counts in ((0, COUNTS), (100, (20,) * CLASSES)):
        rows = [
            np.flatnonzero(data.target == k)[first : first + count]
            for k, count in enumerate(counts)
        ]
        rows = np.concatenate(rows)
        parts.append((images[rows], data.target[rows]))
    return parts


def resnet_arrays(rng):
    """One basic block of width 8, then one of 16; a head of 1000 classes."""
    sizes = {"conv1.weight": (8, 3, 7, 7), "bn1": 8, "fc.weight": (1000, 16)}
    sizes |= {"fc.bias": (1000,), "layer2.0.downsample.0.weight": (16, 8, 1, 1)}
    sizes["layer2.0.downsample.1"] = 16
    for s, (into, out) in enumerate(((8, 8), (8, 16)), 1):
        sizes[f"layer{s}.0.conv1.weight"] = (out, into, 3, 3)
        sizes[f"layer{s}.0.conv2.weight"] = (out, out, 3, 3)
        sizes |= {f"layer{s}.0.bn1": out, f"layer{s}.0.bn2": out}
    arrays = {}
    for name, shape in sizes.items():
        if isinstance(shape, int):
            arrays[f"{name}.weight"] = np.ones(shape)
            arrays[f"{name}.bias"] = rng.normal(0, 0.1, shape)
            arrays[f"{name}.running_mean"] = rng.normal(0, 0.1, shape)
            arrays[f"{name}.running_var"] = rng.uniform(0.5, 1.5, shape)
        else:
            arrays[name] = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
    return arrays


def vit_arrays(rng, width=16):
    """Two blocks on 4x4 patches of images of 16 x 16, as timm names them."""
    sizes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 17, width),
        "patch_embed.proj.weight": (width, 3, 4, 4),
    }
    for k in range(2):
        sizes[f"blocks.{k}.attn.qkv.weight"] = (3 * width, width)
        sizes[f"blocks.{k}.attn.proj.weight"] = (width, width)
        sizes[f"blocks.{k}.mlp.fc1.weight"] = (2 * width, width)
        sizes[f"blocks.{k}.mlp.fc2.weight"] = (width, 2 * width)
    arrays = {n: rng.normal(0, np.prod(s[1:]) ** -0.5, s) for n, s in sizes.items()}
    for name in [name for name in arrays if name.endswith("weight")]:
        arrays[name.replace("weight", "bias")] = np.zeros(len(arrays[name]))
    norms = ["norm", *(f"blocks.{k}.norm{n}" for k in range(2) for n in (1, 2))]
    for name in norms:
        arrays |= {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}
    return arrays


MAKERS = {"resnet": resnet_arrays, "vit": vit_arrays}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Kind of network -> file of its random weights."""
    found = {}
    for kind, make in MAKERS.items():
        arrays = make(np.random.default_rng(0))
        found[kind] = tmp_path_factory.mktemp(kind) / f"{kind}.safetensors"
        save_file(
            {n: np.asarray(x, np.float32) for n, x in arrays.items()}, found[kind]
        )
        told = {"num_attention_heads": 2, "mean": [0.2, 0.3, 0.4], "std": [0.3] * 3}
        (found[kind].parent / "config.json").write_text(json.dumps(told))
    return found


@pytest.fixture(scope="module")
def tune(digits, published, tmp_path_factory, devices):
    """`tune(kind, route, **options) -> Fitted`."""

    def go(kind, route, **options):
        train, test = digits
        with devices(1):
            return ltjax.fit(
                train,
                test,
                pretrained=published[kind],
                finetune=route,
                workdir=tmp_path_factory.mktemp(f"{kind}_{route[:4]}"),
                **{"epochs": 60, "optimizer__lr": 0.01, "batch_size": 22, **options},
            )

    return go


class Fitted(NamedTuple):
    """As much of `ltjax.fit`'s result as is asked below."""

    result: Any
    workdir: pathlib.Path


def given(fitted, file):
    """The converted arrays, by the names of the state."""
    state = fitted.result.state
    own = {"params": state.params, "model_state": state.model_state}
    shapes = {k: x.shape[1:] for k, x in flatten_dict(own, sep=".").items()}
    component = MODELS[file.stem]
    backbone = component.make(component.options(**model_options(fitted)), {})
    return read_weights(file, backbone, shapes).arrays


def changed(fitted, file):
    """(modules and leaves of the backbone that are as they were, those that moved)."""
    state = fitted.result.state
    own = flatten_dict(
        {"params": state.params, "model_state": state.model_state}, sep="."
    )
    before = given(fitted, file)
    assert before
    same = {n for n, x in before.items() if np.array_equal(own[n][0], x)}
    return same, before.keys() - same


ROUTES = [
    ("resnet", "probe", {"params.backbone": False, "model_state": False}),
    ("resnet", "last:1", {"params.backbone.stage2_block1": True}),
    ("vit", "lora:4", {}),
]
# The other network of each.
LONG = [
    ("resnet", "lora:2", {}),
    ("vit", "last:1", {"params.backbone.block2": True, "params.backbone.norm": True}),
    ("vit", "full:0.7", {"params.backbone": True}),
]


@pytest.mark.parametrize(
    ("kind", "route", "trains"),
    [*ROUTES, *(pytest.param(*row, marks=pytest.mark.slow) for row in LONG)],
)
def test_a_route_learns_and_touches_only_its_own(kind, route, trains, tune, published):
    fitted = tune(kind, route)
    same, moved = changed(fitted, published[kind])
    names = [name for name, does in trains.items() if does]
    for name in moved:
        assert any(name.startswith(f"{one}.") for one in names), name
    for name in names:
        assert any(name_.startswith(name) for name_ in moved), name
    kept = [n for n in same if not any(n.startswith(f"{one}.") for one in names)]
    assert bool(kept) == (not route.startswith("full"))
    assert fitted.metrics["eval/test/balanced_accuracy"] > 0.5  # chance is 0.25


@pytest.mark.slow  # three times the 70,000 images
@pytest.mark.parametrize(
    ("kind", "route", "trains"),
    [
        ("resnet", "full", ("params.backbone.", "model_state.")),
        ("resnet", "last:1", ("params.backbone.stage2_block1.",)),
        ("vit", "lora:2", ()),
    ],
)
def test_the_shipped_config_tunes_on_long_tailed_mnist(
    kind, route, trains, published, mnist_dir, tmp_path
):
    spec = f"mnist_finetune:pretrained={published[kind]},finetune={route},imf=10,smoke"
    flags = [f"--config.data.data_dir={mnist_dir}", "--config.eval_every=0 steps"]
    run = build(check(load_config(["--config", spec, *flags])))
    # 40 / 10^(k / 9)
    assert list(run.info.class_counts) == [40, 30, 23, 18, 14, 11, 8, 6, 5, 4]
    result = loop.run(run, tmp_path, tensorboard=False)
    same, moved = changed(Fitted(result, tmp_path), published[kind])
    assert same | moved and all(name.startswith(trains) for name in moved)
    assert bool(moved) == bool(trains)
    # The factor B of every update was zero.
    assert all(np.any(x) for x in jax.tree.leaves(result.state.params.get("lora", {})))
    assert result.metrics["eval/test/accuracy"].shape == (1,)


def test_the_normalization_of_the_file_is_the_runs(tune, published):
    fitted = tune("vit", "probe", epochs=1)
    config = json.loads((fitted.workdir / "config.json").read_text())
    # Gray images have the mean over the channels.
    assert config["augment"]["mean"] == pytest.approx([0.3])
    assert config["augment"]["std"] == pytest.approx([0.3])
    model = config["model"]
    assert (model["name"], model["activation"], model["num_heads"]) == (
        "vit",
        "gelu",
        2,
    )
    assert config["init_from"] == str(published["vit"])


@pytest.fixture(scope="module")
def adapted(tune):
    """Low-rank updates and a cosine head."""
    return tune("vit", "lora:2", head__name="cosine", epochs=4)


@pytest.fixture(scope="module")
def composed(tune):
    """Low-rank updates with logit adjustment, a cosine head, SAM, averages, seeds."""
    return tune(
        "vit",
        "lora:2",
        method="la",
        head__name="cosine",
        gradient__name="sam",
        ema_decay=0.9,
        evaluate_ema=True,
        replicas__seeds=(0, 1),
        epochs=4,
    )


@pytest.mark.slow
def test_low_rank_updates_go_with_everything_else(composed, published):
    state = composed.result.state
    before = given(composed, published["vit"])
    own = flatten_dict({"params": state.params}, sep=".")
    averages = flatten_dict({"params": state.ema["params"]}, sep=".")
    for name, value in before.items():
        for replica in (0, 1):
            np.testing.assert_array_equal(own[name][replica], value)
            # Sums of equal numbers, weighted by shares that sum to one.
            np.testing.assert_allclose(averages[name][replica], value, rtol=1e-5)
    update = own["params.lora.block1.attention.query.kernel.b"]
    assert np.any(update[0]) and np.any(update[0] != update[1])
    assert set(composed.run.groups)


def test_an_export_is_a_plain_network(adapted, digits, tmp_path):
    predictor = ltjax.load(adapted.workdir)
    file, _ = export(predictor, tmp_path / "net.safetensors", format="safetensors")
    names = load_file(file)
    assert not any("lora" in name for name in names)
    merged = predictor.model.merge(predictor.params)
    query = merged["backbone"]["block1"]["attention"]["query"]["kernel"]
    stored = names["params/backbone/block1/attention/query/kernel"]
    np.testing.assert_array_equal(stored, query)
    # The plain network: the same one without the adapter.
    plain = MODELS["vit"]
    backbone = plain.make(plain.options(**model_options(adapted)), {})
    inputs = ((digits[1][0][:8] / 255.0 - 0.3) / 0.3).astype(np.float32)
    features = backbone.apply({"params": merged["backbone"]}, inputs, train=False)
    head = names["params/head/kernel"]
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    cosines = unit @ (head / np.linalg.norm(head, axis=0))
    logits = predictor.logits(digits[1][0][:8])
    scale = np.abs(logits).max() / np.abs(cosines).max()
    np.testing.assert_allclose(logits, scale * cosines, atol=1e-4 * scale)


def model_options(fitted):
    """The options of its network, as its config has them."""
    options = json.loads((fitted.workdir / "config.json").read_text())["model"]
    del options["name"]
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def test_an_export_starts_another_run(adapted, digits, tmp_path):
    predictor = ltjax.load(adapted.workdir)
    file, _ = export(predictor, tmp_path / "net.safetensors", format="safetensors")
    train, test = digits
    options = {f"model__{k}": v for k, v in model_options(adapted).items()}
    fitted = ltjax.fit(
        train, test, model="vit", pretrained=file, finetune="probe", epochs=1, **options
    )
    stored = load_file(file)["params/backbone/norm/scale"]
    np.testing.assert_array_equal(
        fitted.result.state.params["backbone"]["norm"]["scale"][0], stored
    )


# --- Options


def chosen(name, route):
    config = default_config()
    config.model.name, config.init_from = name, "weights.safetensors"
    apply_finetune(config, route)
    return config


def test_last_blocks_and_what_follows_them():
    config = chosen("resnet18", "last:3")
    assert config.optimizer.train == (
        "head,backbone/stage3_block2,backbone/stage4_block1,backbone/stage4_block2"
    )
    assert config.model.norm == "frozen"
    assert chosen("vit_b16", "last").optimizer.train == (
        "head,backbone/block12,backbone/norm"
    )


def test_rates_that_decay_with_the_depth_by_hand():
    config = chosen("vit_b16", "full:0.5")
    factors = config.optimizer.lr_factors
    # A tenth at the last normalization, half of that a block further down, ...
    assert factors["backbone/norm"] == 0.1
    assert factors["backbone/block12"] == 0.05
    assert factors["backbone/block1"] == pytest.approx(0.1 * 0.5**12)
    for name in ("patches", "token", "positions"):
        assert factors[f"backbone/{name}"] == pytest.approx(0.1 * 0.5**13)
    assert dict(chosen("vit_b16", "full").optimizer.lr_factors) == {"backbone": 0.1}
    check(config)


@pytest.mark.parametrize(
    ("name", "route", "message"),
    [
        ("vit_b16", "lorra", "finetune is 'lorra', unknown; did you mean 'lora'"),
        ("vit_b16", "probe:2", "expected 'probe' without a number"),
        ("vit_b16", "last:0", "finetune is 'last:0', expected a whole number >= 1"),
        ("vit_b16", "lora:x", "finetune is 'lora:x', expected a whole number"),
        ("vit_b16", "full:2", r"finetune is 'full:2', expected a number in \(0, 1\]"),
        ("resnet18", "last:9", "'last:9', but model 'resnet18' has 8"),
        ("mlp", "last", "model 'mlp' does not name its blocks"),
        ("mlp", "full:0.5", "model 'mlp' does not name its blocks"),
    ],
)
def test_routes_that_cannot_be_are_named(name, route, message):
    with pytest.raises(ConfigError, match=message):
        chosen(name, route)


def test_weights_must_come_from_somewhere(published, digits):
    config = default_config()
    with pytest.raises(ConfigError, match="no weights to start from; expected pretr"):
        apply_finetune(config, "probe")
    with pytest.raises(
        ConfigError, match="finetune is 'lora', but pretrained is empty"
    ):
        own_config("memory:none", finetune="lora")
    with pytest.raises(ConfigError, match="pretrained: there is no file"):
        own_config("memory:none", pretrained="none.safetensors")


def test_another_network_than_the_files_is_refused(digits, published):
    with pytest.raises(ConfigError, match="timm ViT.*is of a network with patch = 4"):
        ltjax.fit(
            digits[0], digits[1], model="vit", pretrained=published["vit"],
            model__patch=2, model__width=16, epochs=1,
        )  # fmt: skip
    jax.clear_caches()
