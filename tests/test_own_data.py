"""Your own data: one command, or one call, from files to a table with class names."""

import contextlib
import csv
import io
import json
import os
import shlex

import jax
import numpy as np
import PIL.Image
import pytest

import ltjax
from ltjax import own_data
from ltjax.cli import EXIT_USAGE, _parser, main
from ltjax.data import DataError, array_source
from ltjax.data.image_sizes import ImageSizes
from ltjax.options import ConfigError
from ltjax.own_data import choose_sides, measured, own_config
from ltjax.own_places import data_name
from ltjax.report import write_report
from ltjax.train import accelerator
from ltjax.train.check import check
from ltjax.train_arguments import default_workdir

NAMES = ("digit 2", "digit 3", "digit 10", "digit 11")  # in natural order
COUNTS = (60, 30, 15, 10)
# What keeps a run short; everything else is as it is chosen.
SHORT = ("--model", "mlp", "--config.model.hidden=(64,)", "--config.log_every=100%")


@pytest.fixture(autouse=True)
def _one_device(devices):
    with devices(1):
        yield


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A long-tailed folder of 8x8 digits: NAMES, COUNTS."""
    from sklearn.datasets import load_digits

    data = load_digits()
    root = tmp_path_factory.mktemp("data") / "digits"
    for k, (name, count) in enumerate(zip(NAMES, COUNTS, strict=True)):
        (root / name).mkdir(parents=True)
        for i in np.flatnonzero(data.target == k)[:count]:
            pixels = (data.images[i] * 15.9).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(digits, devices, tmp_path_factory):
    """(output, workdir) of one command on that folder."""
    workdir, out = tmp_path_factory.mktemp("trained"), io.StringIO()
    argv = ["train", "--data", digits, "--workdir", workdir, "--no-tensorboard"]
    with devices(1), contextlib.redirect_stdout(out):
        code = main([str(a) for a in (*argv, "--epochs", "40", *SHORT)])
    assert code == 0
    return out.getvalue(), workdir


# --- The command


def test_one_command_trains_and_closes_with_a_table_by_name(trained):
    out, workdir = trained
    info = json.loads((workdir / "run.json").read_text())
    assert tuple(info["class_names"]) == NAMES
    # A fifth of each class is split off: 12, 6, 3, 2.
    assert info["class_counts"] == [48, 24, 12, 8]
    lines = out[out.index("accuracy (%)") :].splitlines()
    rows = {line.split("  ")[1]: line.split() for line in lines if "  digit" in line}
    assert list(rows) == list(NAMES)
    assert [row[2:4] for row in rows.values()] == [
        ["48", "12"],
        ["24", "6"],
        ["12", "3"],
        ["8", "2"],
    ]
    (balanced,) = [line.split() for line in lines if line.startswith("all, balanced")]
    expected = np.mean([float(row[-1]) for row in rows.values()])
    assert float(balanced[-1]) == pytest.approx(expected, abs=0.1)
    assert float(balanced[-1]) > 70
    assert "few < 20 (2 classes)" in out and "medium (2 classes)" in out


def test_names_reach_the_report(trained, tmp_path):
    paths = write_report(trained[1], tmp_path)
    with paths["classes.csv"].open() as file:
        assert tuple(row["Class"] for row in csv.DictReader(file)) == NAMES


def test_what_is_chosen_stands_in_the_config_and_can_be_changed(trained):
    config = json.loads((trained[1] / "config.json").read_text())
    assert config["data"]["profile"] == "none" and config["loss"]["name"] == "la"
    assert config["total"] == "40 epochs" and config["model"]["hidden"] == [64]
    augment = config["augment"]
    assert (augment["name"], augment["pad"], len(augment["mean"])) == ("shift", 1, 3)


def test_options_of_the_command_reach_the_config(digits):
    config = own_config(str(digits), method="ldam_drw", model="resnet20", image_size=16)
    chosen = check(config)
    assert chosen.loss.name == "ldam" and chosen.weights.start == "80%"
    assert chosen.model.name == "resnet20"
    # 16 of round(16 * 8 / 7) = 18 pixels are seen.
    assert (chosen.data.resize, chosen.data.crop, chosen.augment.size) == (18, 18, 16)
    # 92 examples: 92 // 16 = 5, of which the power of two below is 4; at least 8.
    assert chosen.batch_size == 8 and own_config(str(digits), devices=3).batch_size == 9
    # 92 // 8 = 11 steps an epoch; 3000 steps would be 273 epochs, at most 200.
    assert chosen.total == "200 epochs"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--data", "data/photos/"], "runs/photos_la"),
        (["--data", "x/wine.csv", "--method", "ldam"], "runs/wine_ldam"),
        (["--data", "npz:d_{split}.npz"], "runs/d_la"),
        (["--data", "tfds:mnist"], "runs/mnist_la"),
    ],
)
def test_where_a_run_lives_by_default(argv, expected):
    args, _ = _parser().parse_known_args(["train", *argv])
    assert default_workdir(args) == expected.replace("/", os.sep)


# --- The choices


def test_sides_of_images():
    same = ImageSizes((20, 30), (20, 30), 5)
    assert choose_sides(same, 0) == (0, 0)
    assert choose_sides(same, 16) == (18, 16)
    # Of one size, but large; of several small ones the next multiple of eight.
    assert choose_sides(ImageSizes((500, 500), (500, 500), 5), 0) == (256, 224)
    assert choose_sides(ImageSizes((20, 30), (60, 50), 5), 0) == (73, 64)
    assert choose_sides(None, 0) == (256, 224)


def test_statistics_are_those_of_each_channel():
    inputs = np.array([[1.0, 7.0], [3.0, 7.0]], np.float32)
    assert measured(array_source(inputs, [0, 1])) == ((2.0, 7.0), (1.0, 1.0))
    pixels = np.zeros((2, 1, 2, 1), np.uint8)
    pixels[0] = 255
    assert measured(array_source(pixels, [0, 1])) == ((0.5,), (0.5,))


@pytest.mark.parametrize(
    ("counts", "limits"),
    [
        ([200, 50, 10], (100, 20)),  # the usual limits tell them apart
        ([30, 30], (100, 20)),  # nothing to tell apart
        # Thirds of 1000 to 8000 on a logarithmic scale: 2000 and 4000.
        ([8000, 3000, 1000], (4000, 2000)),
    ],
)
def test_limits_of_the_groups(counts, limits):
    from ltjax.train.config import default_config

    config = default_config()
    own_data._choose_groups(config, np.array(counts))
    assert config.many == pytest.approx(limits[0], abs=1)
    assert config.few == pytest.approx(limits[1], abs=1)


def test_length_by_the_number_of_examples():
    from ltjax.train.config import default_config

    config = default_config()
    for size, batch, total in (
        (100_000, 128, "10 epochs"),  # 781 steps an epoch: 3.8 epochs, at least 10
        (5000, 128, "77 epochs"),  # 39 steps an epoch: 3000 / 39 = 76.9
        (300, 16, "167 epochs"),  # 300 // 16 = 18
        (3, 8, "200 epochs"),
    ):
        own_data._choose_length(config, size, 0, 1)
        assert (config.batch_size, config.total) == (batch, total), size


def test_kinds_of_paths(digits, tmp_path):
    assert data_name(str(digits)) == f"folder:{digits}"
    for name in ("x.csv", "x.parquet", "x.npz"):
        (tmp_path / name).touch()
        kind = "npz" if name == "x.npz" else "table"
        assert data_name(str(tmp_path / name)) == f"{kind}:{tmp_path / name}"
    assert data_name("x_{split}.npz") == "npz:x_{split}.npz"
    assert data_name("tfds:mnist") == "tfds:mnist"


def test_files_of_splits_may_have_a_validation_one(tmp_path):
    rows, labels = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    name = f"{tmp_path}/d_{{split}}.npz"
    for split, expected in (("train", None), ("test", ""), ("val", "val")):
        np.savez(tmp_path / f"d_{split}.npz", inputs=rows, labels=labels)
        if expected is not None:
            config = own_config(name)
            assert (config.data.test_split, config.data.val_split) == ("test", expected)
            assert len(check(config).data.make("train")) == 20


def test_prepared_data_sets_without_a_test_split(tmp_path, monkeypatch):
    from ltjax.data import own

    inputs = array_source(np.arange(40.0).reshape(20, 2), np.arange(20) % 2)
    contents = own.Contents(
        inputs.labels, inputs.reader, inputs.shape, inputs.dtype, 2, ("a", "b")
    )
    monkeypatch.setattr(own, "open_records", lambda split, **options: contents)
    for stored, split in (
        (("train", "validation"), "validation"),
        (("test", "train", "val"), "test"),
        (("train",), "test"),
    ):
        for module in (own, __import__("ltjax.data.records", fromlist=["x"])):
            monkeypatch.setattr(module, "stored_splits", lambda *_, s=stored: s)
        monkeypatch.setenv("LTJAX_DATA_DIR", str(tmp_path))
        config = own_config("tfds:flowers")
        assert config.data.test_split == split
        sizes = {s: len(check(config).data.make(s)) for s in ("train", split)}
        assert sizes["train"] == (16 if stored == ("train",) else 20)


# --- One call

QUICK = {
    "model__hidden": (8,),
    "total": "2 steps",
    "log_every": "2 steps",
    "checkpoint_every": "2 steps",
}
ROWS = np.random.default_rng(0).normal(size=(40, 3))
WORDS = np.array(["ant", "bee"] * 20)


def frame(rows=ROWS, words=WORDS):
    import pandas as pd

    return pd.DataFrame(rows, columns=["a", "b", "c"]).assign(target=words)


class Items:
    """Grey pictures of several sizes, as a data set has them."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        size = (9 + index % 3, 12)
        return {"image": PIL.Image.new("L", size, index), "label": WORDS[index]}


@pytest.mark.parametrize(
    ("data", "options", "shape"),
    [
        (lambda: (ROWS, WORDS), {}, (3,)),
        (frame, {"label": "target"}, (3,)),
        (Items, {"image_size": 8, "model": "mlp"}, (8, 8, 3)),
    ],
    ids=["arrays", "frame", "items"],
)
def test_a_call_trains_on_whatever_holds_examples(data, options, shape, tmp_path):
    fitted = ltjax.fit(data(), workdir=tmp_path, **options, **QUICK)
    assert fitted.run.class_names == ("ant", "bee") and fitted.workdir == tmp_path
    assert fitted.run.class_counts.tolist() == [16, 16]
    assert "  bee" in str(fitted) and set(fitted.groups) == {"few"}
    accuracy = fitted.metrics["eval/test/balanced_accuracy"]
    assert 0 <= accuracy <= 1 and accuracy == pytest.approx(fitted.groups["few"])
    # The same call goes on with the same run, whose steps are done.
    again = ltjax.fit(data(), workdir=tmp_path, **options, **QUICK)
    assert again.result.start_step == 2
    assert again.metrics["eval/test/balanced_accuracy"] == pytest.approx(accuracy)


def test_columns_of_a_frame_that_are_not_used_are_named(caplog):
    ltjax.fit(frame().assign(name=WORDS, id=range(40)), label="target", **QUICK)
    assert "the columns ['name', 'id'] are not used" in caplog.text


def test_a_run_says_which_columns_it_was_trained_on(tmp_path):
    ltjax.fit(frame()[["c", "target", "a"]], workdir=tmp_path, label="target", **QUICK)
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["inputs"]["features"] == ["c", "a"] and info["class_names"] == [
        "ant",
        "bee",
    ]


def test_a_call_with_test_data_and_a_path(digits, tmp_path):
    rows = ROWS.copy()
    fitted = ltjax.fit((rows[:30], WORDS[:30]), (rows[30:], WORDS[30:]), **QUICK)
    assert fitted.run.class_counts.sum() == 30
    fitted = ltjax.fit(digits, model="mlp", seed=3, **QUICK)
    assert fitted.run.class_names == NAMES and fitted.run.seeds == (3,)


@pytest.mark.parametrize(
    ("train", "test", "options", "message"),
    [
        (3, None, {}, "train is a int, expected a path, .x, y. arrays, a data frame"),
        (ROWS, None, {}, r"train is a ndarray of shape \(40, 3\), expected a path"),
        (ROWS, WORDS, {}, r"did you mean ltjax.fit\(\(x, y\)\)"),
        ({"x": 1}, None, {}, "train is a dict, expected a path"),
        ((ROWS, WORDS), frame(), {}, "train is a pair and test a data frame"),
        ((ROWS, WORDS[:3]), None, {}, r"shape \(40, 3\) and labels \(3,\)"),
        ((ROWS, WORDS), (ROWS[:, :2], WORDS), {}, "shape|features"),
        ((ROWS, WORDS), (ROWS, ["cat"] * 40), {}, "'cat', which no training example"),
        ((ROWS, WORDS), (ROWS, WORDS), {}, "all 40 examples of the test split are tra"),
        ((ROWS, WORDS), None, {"label": "y"}, "label is 'y', the column of a table"),
        ((ROWS, WORDS), None, {"image_size": 9}, "image_size is 9, but the data are a"),
        ((ROWS, WORDS), None, {"method": "ldma"}, "did you mean 'ldam'"),
        ((ROWS, WORDS), None, {"lr": 1}, "lr is unknown"),
        (
            (ROWS, WORDS),
            None,
            {"loss__tua": 1},
            r"loss.tua is unknown; did you mean 't",
        ),
        ((ROWS, WORDS), None, {"loss__tau": -1.0}, "config.loss.tau is -1.0, expected"),
        (frame(), None, {"label": "traget"}, "no label column 'traget'; did you mean"),
        (frame(ROWS * np.nan), None, {}, "column 'a' is missing or not finite in 40"),
        ("nowhere", None, {}, "no file or folder 'nowhere'"),
    ],
)
def test_mistakes_in_a_call(train, test, options, message):
    with pytest.raises((ConfigError, DataError, TypeError, ValueError), match=message):
        ltjax.fit(train, test, **{**QUICK, **options})


# --- Mistakes on the command line: argument, what came, what was expected


@pytest.fixture(scope="module")
def bad(digits, tmp_path_factory):
    """A folder of data with a mistake each, beside a link to the good ones."""
    root = tmp_path_factory.mktemp("bad")
    (root / "digits").symlink_to(digits)
    image = PIL.Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))

    def folder(name, files):
        for path in files:
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            image.save(root / name / path)
        return root / name

    folder("one", ["a/1.png"])
    folder("zip", ["photos/a/1.png", "photos/b/1.png"])
    folder("loose", ["1.png", "2.png"])
    (folder("hollow", ["a/1.png", "b/1.png"]) / "c").mkdir()
    (folder("broken", ["a/1.png", "b/1.png"]) / "b" / "1.png").write_text("no image")
    moving = folder("moving", ["a/1.png", "b/1.png"]) / "b" / "2.gif"
    image.save(moving, save_all=True, append_images=[PIL.Image.new("L", (8, 8), 9)])
    folder("strange", ["digit 2/1.png", "digt 3/1.png"])
    texts = {
        "good.csv": "a,b,label\n" + "1,2,x\n3,4,y\n" * 8,
        "nolabel.csv": "a,b\n1,2\n3,4\n",
        "labels.csv": "a,label,target\n1,x,y\n3,y,x\n",
        "holes.csv": "a,label\n" + "1,x\n,y\n" * 4,
        "ragged.csv": "a,label\n1,x\n2\n",
        "price.csv": "a,label\n" + "".join(f"{k},{k}.5\n" for k in range(9)),
        "ids.csv": "a,label\n" + "".join(f"{k},user{k}\n" for k in range(9)),
        "words.csv": "name,label\n" + "ann,x\nbob,y\n" * 8,
        "twice.csv": "a,a,label\n1,2,x\n",
        "paths.csv": "file,label\nnone/1.png,x\nnone/2.png,y\n",
        "notes.txt": "hello",
        "other.csv": "b,label\n" + "1,x\n2,y\n" * 8,
    }
    for name, text in texts.items():
        (root / name).write_text(text)
    np.savez(root / "keys.npz", data=np.ones((4, 2)), labels=np.arange(4) % 2)
    (root / "cut.npz").write_bytes(b"PK")
    return root


MISTAKES = [
    ("--data digtis", ["'digtis'", "did you mean 'digits'"]),
    ("--data nowhere/x", ["'nowhere/x'", "nor a folder", "FILE.csv"]),
    ("--data notes.txt", ["data is 'notes.txt'", "DIR, FILE.csv, FILE.parquet"]),
    ("--data=", ["data is ''", "expected DIR"]),
    ("--data godo.csv", ["no file godo.csv", "did you mean 'good.csv'"]),
    ("--data x.npz", ["no file x.npz"]),
    ("--data npz:", ["data is 'npz:'", "a name after the colon"]),
    ("--data cifar10", ["'cifar10'", "benchmark", "'tfds:cifar10'"]),
    ("--data tfds:nothing", ["'nothing' is not prepared", "ltjax prepare nothing"]),
    ("--data digits --method ldma", ["method is 'ldma'", "did you mean 'ldam'"]),
    ("--data digits --model resnet81", ["model is 'resnet81'", "did you mean 'resnet"]),
    ("--data digits --image-size 4", ["image_size is 4", "8 to 2048"]),
    ("--data digits --image-size big", ["--image-size", "invalid int value: 'big'"]),
    ("--data digits --epochs -1", ["epochs is -1", "expected at least 1"]),
    ("--data digits --epochs ten", ["--epochs", "invalid int value: 'ten'"]),
    ("--data digits --label y", ["label is 'y'", "column of a table", "folder"]),
    ("--data good.csv --label lable", ["label column 'lable'", "mean 'label'"]),
    ("--data good.csv --image-size 32", ["image_size is 32", "not image files"]),
    ("--data good.csv --model resnet18", ["'resnet18' does not fit the data"]),
    ("--data digits --test tset", ["'tset'", "no file or folder"]),
    ("--data digits --test good.csv", ["test is 'good.csv'", "two of a kind"]),
    ("--data digits --test strange", ["'digt 3'", "did you mean 'digit 3'"]),
    ("--data digits --test digits", ["all 115 examples of the test", "other data"]),
    ("--data good.csv --test other.csv", ["other.csv has no column 'a'"]),
    ("--data one", ["one has 1 folder(s)", "expected one per class"]),
    ("--data zip", ["zip has 1 folder(s)", "did you mean zip/photos?"]),
    ("--data loose", ["loose has 0 folder(s)", "expected one per class"]),
    ("--data hollow", ["hollow/c holds no image", "1 of 3 classes"]),
    ("--data broken", ["broken/b/1.png cannot identify image", "repair or remove"]),
    ("--data moving", ["moving/b/2.gif is animated", "2 frames"]),
    ("--data nolabel.csv", ["no label column", "label, class, target, y", "'a', 'b'"]),
    ("--data labels.csv", ["2 label columns ['label', 'target']", "--label"]),
    ("--data holes.csv", ["column 'a'", "4 of 8 rows", "row 1"]),
    ("--data ragged.csv", ["line 3 has 1 entries", "expected 2"]),
    ("--data price.csv", ["label 0 is 0.5", "expected a class"]),
    ("--data ids.csv", ["9 labels hold 9 different ones", "expected classes"]),
    ("--data words.csv", ["none beside 'label' is numeric"]),
    ("--data twice.csv", ["the column 'a' more than once"]),
    ("--data paths.csv", ["none/1.png does not exist"]),
    ("--data keys.npz", ["'data'", "expected 'inputs' (or 'images')"]),
    ("--data cut.npz", ["cut.npz is not an .npz archive"]),
    ("--method la", ["--method goes with --data"]),
    ("--data digits --config x.py", ["one of --data and --config"]),
    ("", ["--config FILE (or --data PATH) is missing"]),
    ("--data npz:godo.npz", ["no file godo.npz", "did you mean"]),
    ("--data digits --config.data.reszie=3", ["data.reszie", "did you mean 'resize'"]),
    ("--data digits --config.batch_size=0", ["batch_size is 0", "a number >= 1"]),
    ("--data digits stray", ["unknown argument 'stray'"]),
    ("--data digits --datum x", ["'--datum'"]),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named(arguments, words, bad, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(bad)
    monkeypatch.setenv("LTJAX_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("LTJAX_TRACEBACK", raising=False)
    workdir = tmp_path / "run"
    code = main(["train", "--workdir", str(workdir), *shlex.split(arguments)])
    captured = capsys.readouterr()
    assert code == EXIT_USAGE and captured.out == ""
    assert not workdir.exists()
    assert "error: " in captured.err and "Traceback" not in captured.err
    for word in words:
        assert word in captured.err


# --- A GPU that is not used


def test_an_unused_gpu_is_named_with_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setattr(accelerator, "_DRIVER", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    chosen = jax.config.jax_platforms
    try:
        jax.config.update("jax_platforms", None)
        told = accelerator.unused_gpu()
        assert told and f"jax[cuda13]=={jax.__version__}" in told
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # as asked for
        assert accelerator.unused_gpu() is None
        monkeypatch.delenv("JAX_PLATFORMS")
        monkeypatch.setattr(accelerator, "_DRIVER", tmp_path / "none")
        monkeypatch.setattr(accelerator.shutil, "which", lambda name: None)
        assert accelerator.unused_gpu() is None
        monkeypatch.setattr(accelerator.shutil, "which", lambda name: "/usr/bin/x")
        assert accelerator.unused_gpu()
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert accelerator.unused_gpu() is None
    finally:
        jax.config.update("jax_platforms", chosen)


# --- Several labels per example


TAGS = np.array(["sky|sea", "sea", "sky", "tree|sea", "tree"] * 8)


def test_a_call_with_several_labels_per_example(tmp_path):
    fitted = ltjax.fit(frame(words=TAGS), label="target", workdir=tmp_path, **QUICK)
    assert fitted.run.class_names == ("sea", "sky", "tree")
    assert 0 <= fitted.metrics["eval/test/map"] <= 1
    # The most frequent label comes first, with its average precision.
    lines = [line.split() for line in str(fitted).splitlines()]
    assert [line[0] for line in lines[-3:]] == ["sea", "sky", "tree"]
    assert all(0 <= float(line[2]) <= 100 for line in lines[-3:])
    assert "eval/test/ndcg_at_3" in fitted.metrics
    predictor = ltjax.load(tmp_path)
    found = predictor(ROWS.astype(np.float32))
    assert predictor.multi_label and predictor.class_names == fitted.run.class_names
    assert found.shape == (40, 3) and (found > 0).all() and (found < 1).all()


def test_what_is_chosen_for_several_labels(tmp_path):
    # Sets that are all different are no classes, but their labels are.
    tags = ["sky|sea", "sea", "sky", "tree|sea", "tree", "sky|sea|tree", "sky|tree"]
    rows = "".join(f"{k},{one}\n" for k, one in enumerate(tags))
    (tmp_path / "labels.csv").write_text(f"x,labels\n{rows}")
    config = own_config(str(tmp_path))
    assert config.data.name == f"table:{tmp_path / 'labels.csv'}"
    told = config.method.name, config.loss.name, config.loss.k, config.weights.start
    assert told == ("multi_label", "tkpr", 3, "20%")
    assert config.evaluators.multilabel.k == (1, 3)
    check(config)
    file = str(tmp_path / "labels.csv")
    assert own_config(file, method="sigmoids").loss.name == "sigmoids"
    with pytest.raises(ConfigError, match="'la', unknown for several labels"):
        own_config(file, method="la")
    (tmp_path / "one.csv").write_text("x,label\n" + "1,a\n2,b\n" * 8)
    with pytest.raises(
        ConfigError, match="'tkpr', for several labels per example, but"
    ):
        own_config(str(tmp_path / "one.csv"), method="tkpr")
    (tmp_path / "test.csv").write_text("x,labels\n1,sky\n2,se\n")
    config.data.test = str(tmp_path / "test.csv")
    with pytest.raises(
        DataError, match="test.csv.* label 1 is 'se', which no training"
    ):
        check(config).data.make("test")
    (tmp_path / "hole.csv").write_text("x,labels\n1,sky|sea\n2,\n")
    with pytest.raises(DataError, match=r"hole.csv.* row 1 \(0-based\) has no label"):
        own_config(str(tmp_path / "hole.csv"))
