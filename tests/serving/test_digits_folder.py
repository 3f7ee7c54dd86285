"""From folders of images to a table and to a function; the folders are gone between."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

NAMES = ("=1+1", "one", "two", "three")


def table(path):
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    return head, rows


def test_predict_writes_a_table_with_names(ltjax, digits, tmp_path):
    out = tmp_path / "preds.csv"
    # Classes one by one: a folder lists them by name.
    folders = [digits.test / name for name in NAMES]
    code, printed, err = ltjax("predict", digits.workdir, *folders, "--out", out)
    assert (code, printed) == (0, "")
    assert "160 predicted, 0 failed" in err
    head, rows = table(out)
    assert head == ["path", "predicted", "probability", "'=1+1", *NAMES[1:]]
    assert [row[0] for row in rows[:3]] == [
        str(digits.test / "=1+1" / f"image{n}.png") for n in range(3)
    ]
    every = np.array([row[3:] for row in rows], float)
    np.testing.assert_allclose(every.sum(axis=1), 1, atol=1e-5)
    best = every.argmax(axis=1)
    escaped = ("'=1+1", *NAMES[1:])
    assert [row[1] for row in rows] == [escaped[k] for k in best]
    assert [float(row[2]) for row in rows] == every.max(axis=1).tolist()
    assert np.mean(best == digits.labels) == pytest.approx(digits.accuracy, abs=1e-6)
    assert digits.accuracy > 0.8  # and not that of a network that sees raw pixels


def test_top_k_names_the_most_probable_classes(ltjax, digits, predictor, tmp_path):
    out = tmp_path / "preds.csv"
    image = digits.test / "two" / "image0.png"
    code, _, _ = ltjax("predict", digits.workdir, image, "--out", out, "--top", 2)
    assert code == 0
    head, (row,) = table(out)
    assert head[3:] == ["predicted_2", "probability_2"]
    (probabilities,) = predictor(image)
    first, second = np.argsort(-probabilities)[:2]
    assert [row[1], row[3]] == [NAMES[first], NAMES[second]]
    assert float(row[4]) == pytest.approx(probabilities[second], rel=1e-5)


def test_an_unreadable_image_is_named_and_the_others_go_on(ltjax, digits, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = (digits.test / "one" / "image0.png").read_bytes()
    (folder / "a.png").write_bytes(good)
    (folder / "b.png").write_bytes(good[:60])
    (folder / "c.png").write_bytes(good)
    (folder / "notes.txt").write_text("not an image, and nobody asked")
    out = tmp_path / "preds.csv"
    code, _, err = ltjax("predict", digits.workdir, folder, "--out", out)
    assert code == 1
    assert f"error: image {folder / 'b.png'} cannot be decoded" in err
    assert "2 predicted, 1 failed" in err
    assert [row[0] for row in table(out)[1]] == [
        str(folder / "a.png"),
        str(folder / "c.png"),
    ]


RUN_ALONE = """
import json, sys
import numpy as np
from jax import export

call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
about = json.load(open(sys.argv[1] + ".json"))
images = np.load(sys.argv[2])
found = np.concatenate([call(images[:7]), call(images[7:])])  # any number at a time
assert "ltjax" not in sys.modules
np.save(sys.argv[3], found)
print(about["class_names"][found[0].argmax()])
"""


def test_the_exported_function_runs_without_ltjax(ltjax, digits, images, tmp_path):
    pytest.importorskip("flatbuffers")
    out = tmp_path / "digits.stablehlo"
    code, printed, err = ltjax(
        "export", digits.workdir, "--format", "stablehlo", "--out", out
    )
    assert (code, printed) == (0, f"{out}\n{out}.json\n"), err
    about = json.loads((tmp_path / "digits.stablehlo.json").read_text())
    assert about["inputs"]["shape"] == ["N", 8, 8, 3]
    assert about["inputs"]["dtype"] == "uint8"
    assert about["class_counts"] == [80, 40, 20, 10]
    np.save(tmp_path / "images.npy", images)
    arguments = [out, tmp_path / "images.npy", tmp_path / "found.npy"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALONE, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    accuracy = np.mean(found.argmax(axis=1) == digits.labels)
    assert accuracy == pytest.approx(digits.accuracy, abs=1e-6)
    assert done.stdout.strip() == NAMES[found[0].argmax()]
    logits = digits.logits.astype(np.float64)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
