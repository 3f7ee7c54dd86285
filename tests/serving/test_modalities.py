"""A network of several modalities without its data: arrays by name, files, exports."""

import csv
import json

import jax
import numpy as np
import pytest

import ltjax
from ltjax.cli import main
from ltjax.data import DataError
from ltjax.serving import export
from ltjax.serving.files import read_table


@pytest.fixture
def fused(fresh, shipped):
    """A network at its first step, and its folder."""
    (stage,) = shipped("multimodal_digits.py:method=joint,smoke")
    workdir = fresh(stage.config)
    return ltjax.load(workdir), workdir


def inputs(rows=3):
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(rows, 12, 12, 1)),
        "signal": rng.normal(size=(rows, 40, 1)),
    }


def test_arrays_by_name_files_and_exports_say_the_same(fused, tmp_path):
    predictor, workdir = fused
    assert "'image' [N, 12, 12, 1] float32, 'signal' [N, 40, 1]" in repr(predictor)
    found = predictor(inputs())
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    # A row does not depend on how many there are beside it.
    first = jax.tree.map(lambda x: x[:1], inputs())
    np.testing.assert_allclose(predictor(first), found[:1], rtol=1e-5, atol=1e-6)

    file, out = tmp_path / "new.npz", tmp_path / "out.csv"
    np.savez(file, **inputs())
    assert main(["predict", str(workdir), str(file), "--out", str(out)]) == 0
    with out.open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["path"] for row in rows] == [f"{file}:{k}" for k in range(3)]
    told = [[float(row[name]) for name in predictor.class_names] for row in rows]
    np.testing.assert_allclose(told, found, rtol=1e-4, atol=1e-6)

    pytest.importorskip("flatbuffers")
    from jax import export as jax_export

    path, about = export(predictor, tmp_path / "f", format="stablehlo")
    call = jax_export.deserialize(bytearray(path.read_bytes())).call
    single = jax.tree.map(lambda x: x.astype(np.float32), inputs())
    np.testing.assert_allclose(call(single), found, rtol=1e-5, atol=1e-6)
    shapes = json.loads(about.read_text())["inputs"]["shape"]
    assert shapes == {"image": ["N", 12, 12, 1], "signal": ["N", 40, 1]}


def test_a_missing_modality_is_one_message(fused, tmp_path):
    predictor, _ = fused
    given = inputs()
    with pytest.raises(ValueError, match="lack the modality 'signal', there is only"):
        predictor({"image": given["image"]})
    with pytest.raises(ValueError, match="inputs are one array, expected a dict of"):
        predictor(given["image"])
    with pytest.raises(ValueError, match=r"the modalities have \[2, 3\] rows"):
        predictor({**given, "signal": given["signal"][:2]})
    np.savez(tmp_path / "half.npz", image=given["image"])
    with pytest.raises(DataError, match=r"holds \['image'\], expected 'image' and 's"):
        read_table(tmp_path / "half.npz", predictor.signature)
    np.savez(tmp_path / "odd.npz", **{**given, "signal": given["signal"][:2]})
    with pytest.raises(DataError, match="holds 3 of image, 2 of signal, expected"):
        read_table(tmp_path / "odd.npz", predictor.signature)
    np.save(tmp_path / "one.npy", given["image"])
    with pytest.raises(DataError, match="one array, but this network takes several"):
        read_table(tmp_path / "one.npy", predictor.signature)
