"""Your own networks in whole runs: from Python, by import path, and restored later."""

import json
import pathlib
import sys

import flax.linen as nn
import numpy as np
import pytest
from flax import nnx

import ltjax
from ltjax.models import build_model
from ltjax.models.registry import MODELS
from ltjax.models.table import _kept, keep_network, model_name
from ltjax.options import ConfigError
from ltjax.train.check import check
from ltjax.train.config import default_config
from ltjax.train.listing import listing, options_page

MODULE = '''
import flax.linen as nn
import jax.numpy as jnp
from flax import nnx


class Small(nn.Module):
    """Logits; nothing of it was written for this library."""

    num_classes: int
    widths: tuple[int, ...] = (8,)
    act: object = nn.relu
    rate: float = 0.0

    @nn.compact
    def __call__(self, x, train):
        for width in self.widths:
            x = self.act(nn.Dense(width)(x))
            x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


class Body(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(8)(x))


def body():
    return Body()


class Branch(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(6, width, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.first(x))


def broken(width: int = 3):
    raise RuntimeError("no such weights")


THREE = 3
'''


@pytest.fixture(autouse=True)
def _one_device(devices):
    with devices(1):
        yield


@pytest.fixture(scope="module", autouse=True)
def nets(tmp_path_factory):
    """The module `outside.nets` can be imported."""
    root = tmp_path_factory.mktemp("outside")
    (root / "their_nets.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        yield root
        sys.modules.pop("their_nets", None)


@pytest.fixture(scope="module")
def data():
    """Six numbers in three classes, the last one rare."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 20, 10])
    x = rng.normal(size=(70, 6)).astype(np.float32)
    x[np.arange(70), y] += 4
    return x, y


def fit(data, model, **options):
    return ltjax.fit(data, model=model, epochs=3, **options)


@pytest.fixture(scope="module")
def imported(data, tmp_path_factory, devices):
    """A run of a class by its import path, with an option."""
    with devices(1):
        return fit(
            data,
            "their_nets:Small",
            model__widths=(16, 8),
            workdir=tmp_path_factory.mktemp("imported"),
        )


def test_an_import_path_is_kept_and_read_back(imported, data):
    config = json.loads((imported.workdir / "config.json").read_text())["model"]
    assert config == {
        "name": "their_nets:Small",
        "returns": "auto",
        "rows_independent": False,
        "widths": [16, 8],
        "rate": 0.0,
    }
    params = imported.result.state.params
    assert params["backbone"]["Dense_0"]["kernel"].shape == (1, 6, 16)
    assert params["head"]["kernel"].shape == (1, 8, 3)
    predictor = ltjax.load(imported.workdir)
    found = predictor(data[0])
    assert found.shape == (70, 3) and np.allclose(found.sum(1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="run's network is 'their_nets:Small'"):
        ltjax.load(imported.workdir, model=nn.Dense(3))


def test_it_is_exported(imported, data, tmp_path):
    import jax.export

    from ltjax.serving.export import export

    predictor = ltjax.load(imported.workdir)
    file, _ = export(predictor, tmp_path / "net.bin", format="stablehlo")
    function = jax.export.deserialize(bytearray(file.read_bytes()))
    found = function.call(data[0][:5])
    np.testing.assert_allclose(found, predictor(data[0][:5]), atol=1e-6)


@pytest.mark.slow
def test_features_by_import_path_go_with_any_head(data):
    fitted = fit(data, "their_nets:body", method="ldam", optimizer__train="all")
    params = fitted.result.state.params
    assert params["head"]["kernel"].shape == (1, 8, 3)
    assert "bias" not in params["head"]  # LDAM's is a cosine head


def test_a_head_by_itself_trains_by_name(imported, data):
    again = fit(
        data,
        "their_nets:Small",
        model__widths=(16, 8),
        init_from=str(imported.workdir),
        optimizer__train="head",
    )
    for name in ("Dense_0", "Dense_1"):
        np.testing.assert_array_equal(
            again.result.state.params["backbone"][name]["kernel"],
            imported.result.state.params["backbone"][name]["kernel"],
        )
    moved = again.result.state.params["head"]["kernel"]
    assert np.any(moved != imported.result.state.params["head"]["kernel"])


class Here(nn.Module):
    """Not importable under any name that a run could keep, as in a notebook."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(5)(x))


def test_a_module_in_memory_comes_back_with_load(data, tmp_path):
    fitted = fit(data, Here(), workdir=tmp_path)
    name = json.loads((tmp_path / "config.json").read_text())["model"]["name"]
    assert name == "memory:Here"
    here = ltjax.load(tmp_path)(data[0])
    kept = _kept.pop(name)  # as in another process
    with pytest.raises(ConfigError, match=r"given to ltjax.fit in another process"):
        ltjax.load(tmp_path)
    again = ltjax.load(tmp_path, model=kept)(data[0])
    np.testing.assert_array_equal(here, again)
    assert fitted.metrics


@pytest.mark.slow
def test_nnx_by_path_with_an_argument_that_must_be_given(data):
    fitted = fit(data, "their_nets:Branch", model__width=7)
    params = fitted.result.state.params
    assert params["backbone"]["first"]["kernel"].shape == (1, 6, 7)
    with pytest.raises(ConfigError, match="width must be given: their_nets:Branch"):
        fit(data, "their_nets:Branch")


class Given(nnx.Module):
    """An NNX module with values that somebody trained."""

    def __init__(self, rngs):
        self.first = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.first(x))


def test_an_nnx_module_brings_its_values(data):
    module = Given(nnx.Rngs(3))
    fitted = fit(data, module, optimizer__train="head")
    found = fitted.result.state.params["backbone"]["first"]["kernel"][0]
    np.testing.assert_array_equal(found, module.first.kernel[...])


def test_names_of_networks_in_python():
    import their_nets

    assert model_name("resnet18") == "resnet18"
    assert model_name(their_nets.Small) == "their_nets:Small"
    assert model_name(their_nets.body) == "their_nets:body"
    ready = build_model("mlp", num_classes=3)
    first = model_name(ready)
    assert first == model_name(ready) == "memory:model"
    second = model_name(build_model("mlp", num_classes=4))
    assert second == "memory:model-2"
    assert model_name(lambda: None).startswith("memory:<lambda>")
    with pytest.raises(ConfigError, match="model is a int, expected a name, a Flax"):
        model_name(3)
    assert keep_network(ready, "memory:other") in MODELS


def test_pages_show_the_forms_and_the_arguments():
    assert "MODULE:FACTORY" in listing("models")
    page = options_page("models", "their_nets:Small")
    assert "widths = (8,)  argument of their_nets:Small" in page
    assert "act" not in page  # a function cannot be said in a config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_pkg:make", "ModuleNotFoundError: No module named 'no_such_pkg'"),
        ("their_nets:smal", "has no 'smal'; did you mean 'Small'"),
        ("their_nets:THREE", "a int, expected a function or class that makes"),
        ("their_nets:broken", "their_nets:broken: RuntimeError: no such weights"),
        ("their_nets:body:x", "has no 'body:x'"),
        ("resnet_18", "unknown; did you mean 'resnet"),
    ],
)
def test_paths_that_lead_nowhere_are_named(name, message, data):
    with pytest.raises(ConfigError, match=message):
        fit(data, name)


def test_a_file_beside_is_hinted_at(tmp_path, monkeypatch):
    pathlib.Path(tmp_path, "beside_net.py").write_text("make = 3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    config = default_config()
    with pytest.raises(ConfigError, match="beside_net.py is there, but not on PYTHON"):
        config.model.name = "beside_net:make"


def test_options_are_checked_like_any_other(data):
    values = {"name": "their_nets:Small", "rate": "much"}
    with pytest.raises(ConfigError, match="model.rate is 'much', expected float"):
        check({"model": values})
    with pytest.raises(ConfigError, match="model.depth is unknown"):
        fit(data, "their_nets:Small", model__depth=3)


def test_a_cosine_head_needs_features(data):
    with pytest.raises(ConfigError, match="gives logits itself, but another head"):
        fit(data, "their_nets:Small", method="ldam")
