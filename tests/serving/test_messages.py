"""Plausible mistakes: what each message names, always with exit code 2."""

import json
import re

import numpy as np
import PIL.Image
import pytest

import ltjax as library


@pytest.fixture(scope="module")
def places(digits, tmp_path_factory):
    """Words of the commands below -> what they stand for."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty").mkdir()
    (folder / "new").mkdir()
    for name, array in {
        "floats": np.zeros((3, 8, 8, 3)),
        "gray": np.zeros((3, 8, 8), np.uint8),
        "prior3": np.ones(3),
        "prior-": np.array([1, 1, -1, 1]),
    }.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "taken").write_text("something of mine")
    (folder / "features.csv").write_text("1,2,3\n")
    (folder / "prior.csv").write_text("=1+1,1\none,1\ntow,1\nthree,1\n")
    (folder / "bad.csv").write_text("=1+1;1\n")
    (folder / "broken.npz").write_bytes(b"PK not really")
    np.savez(folder / "labels.npz", labels=np.zeros(3, np.int32))
    PIL.Image.new("L", (8, 8)).save(folder / "image.png")
    return {
        "RUN": str(digits.workdir),
        "DATA": str(digits.test),
        "OUT": str(folder / "new" / "out.csv"),
        "AT": str(folder),
    }


IMAGES = ("RUN", "DATA", "--out", "OUT")
HLO = ("RUN", "--format", "stablehlo", "--out", "OUT")
MISTAKES = [
    # The run.
    (
        ("predict", "AT/new", "DATA", "--out", "OUT"),
        "load: run_dir AT/new is a folder without config.json; expected the workdir",
    ),
    (
        ("predict", "RUNS", "DATA", "--out", "OUT"),
        "load: run_dir RUNS is missing; did you mean 'run'?",
    ),
    (
        ("predict", "AT/taken", "DATA", "--out", "OUT"),
        "run_dir AT/taken is not a folder; expected the workdir of a run",
    ),
    (
        ("predict", *IMAGES, "--checkpoint", "latest"),
        "--checkpoint: it is 'latest', expected 'last', 'best' or a training step",
    ),
    (
        ("predict", *IMAGES, "--checkpoint", "45"),
        "there is no checkpoint of step 45, only of [30, 60]",
    ),
    (
        ("predict", *IMAGES, "--replica", "2"),
        "load: replica is 2, but the run has 1, expected [0, 1)",
    ),
    (
        ("predict", *IMAGES, "--batch-size", "0"),
        "load: batch_size is 0, expected",
    ),
    # What is predicted.
    (
        ("predict", "RUN", "--out", "OUT"),
        "the following arguments are required: PATH",
    ),
    (("predict", "RUN", "DATA"), "the following arguments are required: --out"),
    (
        ("predict", "RUN", "AT/nowhere.png", "--out", "OUT"),
        "path AT/nowhere.png does not exist, expected an image, a folder of images, or",
    ),
    (
        ("predict", "RUN", "AT/empty", "--out", "OUT"),
        "the folder AT/empty holds no image, expected files with the endings .png,",
    ),
    (
        ("predict", "RUN", "AT/floats.npy", "--out", "OUT"),
        "AT/floats.npy holds inputs of shape (3, 8, 8, 3) and dtype float64, expected"
        " [N, 8, 8, 3] of uint8",
    ),
    (
        ("predict", "RUN", "AT/gray.npy", "--out", "OUT"),
        "AT/gray.npy holds inputs of shape (3, 8, 8) and dtype uint8, expected [N, 8,",
    ),
    (
        ("predict", "RUN", "AT/features.csv", "--out", "OUT"),
        "AT/features.csv holds features, but this network takes images of shape (8, 8,",
    ),
    (
        ("predict", "RUN", "AT/broken.npz", "--out", "OUT"),
        "AT/broken.npz is not an .npz archive, or it is damaged",
    ),
    (
        ("predict", "RUN", "AT/labels.npz", "--out", "OUT"),
        "AT/labels.npz holds ['labels'], expected 'inputs' (or 'images')",
    ),
    # How.
    (
        ("predict", "RUN", "DATA", "--out", "AT/nowhere/out.csv"),
        "--out is 'AT/nowhere/out.csv', expected a file in a folder that exists",
    ),
    (
        ("predict", *IMAGES, "--top", "5"),
        "--top is 5, expected 1 to 4, the number of classes",
    ),
    (
        ("predict", *IMAGES, "--prior", "unifrom"),
        "--prior is 'unifrom'; did you mean 'uniform'?",
    ),
    (
        ("predict", *IMAGES, "--prior", "AT/prior3.npy"),
        "prior has shape (3,) and dtype float64, expected 4 numbers, one for each",
    ),
    (
        ("predict", *IMAGES, "--prior", "AT/prior-.npy"),
        "prior is -1.0 for class 'two', expected numbers >= 0",
    ),
    (
        ("predict", *IMAGES, "--prior", "AT/prior.csv"),
        "prior names the class 'tow', unknown; did you mean 'two'?",
    ),
    (
        ("predict", *IMAGES, "--prior", "AT/bad.csv"),
        "--prior AT/bad.csv has the line '=1+1;1', expected 'class,number'",
    ),
    (
        ("predict", *IMAGES, "--trained-prior", "train"),
        "trained_prior is given without a prior, expected both",
    ),
    (("predict", *IMAGES, "--pior", "train"), "unknown argument '--pior'"),
    # Export.
    (
        ("export", "RUN", "--format", "onnx", "--out", "OUT"),
        "format is 'onnx', expected one of",
    ),
    (
        ("export", "RUN", "--format", "msgpack", "--out", "AT/taken"),
        "AT/taken exists already; choose another name",
    ),
    (
        ("export", "RUN", "--format", "msgpack", "--out", "AT/nowhere/net"),
        "path is AT/nowhere/net, but there is no folder AT/nowhere",
    ),
    (
        ("export", "RUN", "--format", "msgpack", "--out", "OUT", "--prior", "train"),
        "prior is given, but msgpack holds the weights alone; expected format",
    ),
    (("export", "RUN", "--out", "OUT"), "arguments are required: --format"),
    (("export", "RUN", "--format", "msgpack"), "arguments are required: --out"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_every_mistake_is_named(ltjax, places, command, message):
    def filled(text):
        return re.sub(r"RUN|DATA|OUT|\bAT\b", lambda m: places[m[0]], text)

    code, out, err = ltjax(*(filled(word) for word in command))
    assert code == 2
    assert out == ""
    assert err.startswith("error: ") and "Traceback" not in err
    assert filled(message) in err
    assert not re.search("out.csv", " ".join(_files(places["OUT"])))


def _files(out):
    import pathlib

    return [path.name for path in pathlib.Path(out).parent.iterdir()]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"\(8, 8, 3\), .* inputs\[None\]"),
        (
            np.zeros((2, 3, 8, 8), np.uint8),
            ValueError,
            "channels are the last axis",
        ),
        (
            np.zeros((2, 9, 8, 3), np.uint8),
            ValueError,
            r"expected \[N, 8, 8, 3\] of uin",
        ),
        (
            np.zeros((2, 8, 8, 3)),
            TypeError,
            "float64, .*scales and normalizes them itse",
        ),
        (np.zeros((2, 8, 8, 3), int), TypeError, "dtype int64, expected .* 0 to 255"),
        ("nowhere.png", ValueError, "image nowhere.png cannot be read: No such file"),
    ],
)
def test_inputs_that_are_not_what_the_network_takes(predictor, inputs, error, message):
    with pytest.raises(error, match=message):
        predictor(inputs)


def test_a_feature_that_is_not_finite_is_named(fresh, tiny):
    predictor = library.load(fresh(tiny()))
    inputs = np.zeros((3, 40, 1))
    inputs[1, 7] = np.nan
    with pytest.raises(ValueError, match="probabilities: input 1 is not finite"):
        predictor(inputs)
    with pytest.raises(TypeError, match="dtype uint8, expected .* float32"):
        predictor(np.zeros((3, 40, 1), np.uint8))


def test_a_trained_prior_without_some_class_is_refused(predictor, images):
    priors = {"prior": "train", "trained_prior": [1, 1, 0, 1]}
    with pytest.raises(ValueError, match="trained_prior is 0 for class 'two', .* > 0"):
        predictor.probabilities(images, **priors)


def test_a_word_that_is_no_checkpoint(digits):
    with pytest.raises(ValueError, match="checkpoint is 'lats', expected one of"):
        library.load(digits.workdir, checkpoint="lats")


def test_a_replica_that_diverged_does_not_predict(fresh, tiny):
    workdir = fresh(tiny({"replicas.seeds": (0, 1)}), diverged=(7, None))
    with pytest.raises(ValueError, match=r"replica 0 diverged at step 7, .* \[1\]"):
        library.load(workdir)
    assert library.load(workdir, replica=1).step == 0


def test_a_damaged_run_json_is_named(fresh, tiny):
    workdir = fresh(tiny())
    text = (workdir / "run.json").read_text()
    (workdir / "run.json").write_text(text.replace('"float32"', '"float64"'))
    with pytest.raises(ValueError, match="run.json is damaged"):
        library.load(workdir)
    (workdir / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="has begun .no run.json."):
        library.load(workdir)
    assert json.loads((workdir / "config.json").read_text())
