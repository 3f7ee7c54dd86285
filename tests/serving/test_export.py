"""Files of weights: read back by other libraries, they make the same network."""

import json

import numpy as np
import pytest

import ltjax
from ltjax.serving import export
from ltjax.train.parts import make_model
from ltjax.train.restore import read_config


def read_safetensors(path):
    numpy = pytest.importorskip("safetensors.numpy")
    tree: dict = {}
    for name, value in numpy.load_file(path).items():
        *parents, leaf = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return tree


def read_msgpack(path):
    import flax.serialization

    return flax.serialization.msgpack_restore(path.read_bytes())


def read_orbax(path):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path)


@pytest.mark.parametrize(
    ("format", "read"),
    [
        ("safetensors", read_safetensors),
        ("msgpack", read_msgpack),
        ("orbax", read_orbax),
    ],
)
def test_weights_make_the_same_network(
    digits, predictor, images, tmp_path, format, read
):
    if format == "safetensors":
        pytest.importorskip("safetensors")
    path, about = export(predictor, tmp_path / "weights", format=format)
    tree = read(path)
    params = tree.pop("params")
    assert set(tree) == {"batch_stats"}
    # Everything else that is needed stands in the JSON.
    told = json.loads(about.read_text())
    inputs = (images / 255 - told["inputs"]["mean"]) / told["inputs"]["std"]
    model = make_model(read_config(digits.workdir), len(told["class_names"]))
    outputs, _ = model.forward(params, tree, inputs.astype(np.float32), train=False)
    np.testing.assert_allclose(outputs["logits"], digits.logits, rtol=1e-4, atol=1e-4)


def test_a_prior_is_part_of_the_function(digits, predictor, images, tmp_path):
    pytest.importorskip("flatbuffers")
    from jax import export as jax_export

    path, about = export(predictor, tmp_path / "f", format="stablehlo", prior="train")
    found = jax_export.deserialize(bytearray(path.read_bytes())).call(images)
    np.testing.assert_allclose(found, predictor(images, prior="train"), atol=1e-6)
    told = json.loads(about.read_text())
    assert told["prior"] == "train"
    # Trained for uniform classes: log(n / N) - log(1 / 4).
    expected = np.log(np.array([80, 40, 20, 10]) / 150 * 4)
    np.testing.assert_allclose(told["logit_shift"], expected, rtol=1e-5)
    assert told["outputs"] == {"shape": ["N", 4], "dtype": "float32"} | {
        "meaning": "softmax"
    }


def test_a_prior_without_some_class_has_a_json(predictor, tmp_path):
    pytest.importorskip("flatbuffers")
    path, about = export(
        predictor, tmp_path / "f", format="stablehlo", prior=[1, 0, 1, 1]
    )
    assert json.loads(about.read_text())["logit_shift"][1] is None


@pytest.mark.parametrize(
    ("format", "module"),
    [("safetensors", "safetensors"), ("stablehlo", "flatbuffers")],
)
def test_a_missing_package_is_named(predictor, tmp_path, monkeypatch, format, module):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = f"'{format}' needs the package {module}.*'ltjax.export.'"
    with pytest.raises(ModuleNotFoundError, match=expected):
        ltjax.serving.export(predictor, tmp_path / "f", format=format)
    assert not list(tmp_path.iterdir())
