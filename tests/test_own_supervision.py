"""Your own data with missing labels, candidates or wrong labels, by one command."""

import json

import numpy as np
import PIL.Image
import pytest

import ltjax
from ltjax import fitting
from ltjax.cli import EXIT_USAGE, main
from ltjax.methods.weak_presets import PARTIAL_LABEL, SEMI_SUPERVISED, WEAK
from ltjax.options import ConfigError
from ltjax.own_data import own_config
from ltjax.train.build import build
from ltjax.train.check import check

Y = np.repeat([0, 1, 2], [40, 24, 16])
NAMES = np.array(["ant", "bee", "cat"])
RNG = np.random.default_rng(0)
ROWS = (RNG.normal(size=(80, 3)) + Y[:, None]).round(3)
SETS = np.eye(3, dtype=bool)[Y] | (RNG.random((80, 3)) < 0.4)
HALF = np.where(np.arange(80) % 2, NAMES[Y], "")
QUICK = ("--config.model.hidden=(8,)", "--config.total=2 steps")
QUICK += ("--config.log_every=2 steps", "--config.checkpoint_every=2 steps")


@pytest.fixture(autouse=True)
def _one_device(devices):
    with devices(1):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table for each kind of labels."""
    root = tmp_path_factory.mktemp("tables")
    sets = ["|".join(NAMES[row]) for row in SETS]
    for name, labels in {
        "full": NAMES[Y],
        "half": HALF,
        "sets": sets,
        "wrong": NAMES[np.where(RNG.random(80) < 0.2, (Y + 1) % 3, Y)],
    }.items():
        lines = [
            ",".join(map(str, (*row, label, truth)))
            for row, label, truth in zip(ROWS, labels, NAMES[Y], strict=True)
        ]
        (root / f"{name}.csv").write_text("\n".join(["a,b,c,label,truth", *lines]))
    return root


def told(place, name, **options):
    return check(own_config(str(place / f"{name}.csv"), **options))


@pytest.mark.parametrize("name", WEAK)
def test_a_name_stands_for_the_method_on_data_that_it_learns_from(name, place):
    table = "sets" if name in PARTIAL_LABEL else "wrong"
    if name in SEMI_SUPERVISED:
        table = "half"
    if name == "remixmatch":
        with pytest.raises(ConfigError, match="turns its inputs, but .* features"):
            told(place, table, method=name)
        return
    config = told(place, table, method=name)
    assert config.label == name
    # What treats guesses treats FixMatch's.
    assert config.method.name == WEAK[name].get("method", {"name": "fixmatch"})["name"]
    assert config.pseudo_labels.name == (name if "method" not in WEAK[name] else "none")
    streams = config.unlabelled.name == "stored"
    assert streams == (name in SEMI_SUPERVISED) == config.evaluate_ema
    assert config.data.options.candidates == (name in PARTIAL_LABEL)
    if streams:
        # 32 labelled and 40 other rows are trained on, eight at a time: 40 // 8.
        assert (config.batch_size, config.unlabelled.ratio) == (8, 5)
        assert config.augment_unlabelled.recipe == "features"
        assert len(config.augment_unlabelled.mean) == 3


def test_what_the_labels_ask_for(place):
    assert told(place, "full").loss.name == "la"
    assert told(place, "half").method.name == "fixmatch"
    assert told(place, "sets").method.name == "multi_label"  # all names are true
    text = (place / "sets.csv").read_text().replace("label", "candidates", 1)
    (place / "named.csv").write_text(text)
    config = told(place, "named")
    assert config.method.name == "proden"
    # Beside candidates, the label column that is named holds the clean labels.
    config = told(place, "named", label="truth", method="cavl")
    assert (
        config.data.make("train").truth.tolist()
        == Y[config.data.make("train").origin].tolist()
    )


def test_clean_labels_are_for_measurement_only(place):
    run = build(told(place, "wrong", method="coteaching"))
    train, test = run.sources["train"], run.sources["test"]
    assert 0 < (train.labels != train.truth).mean() < 0.4
    np.testing.assert_array_equal(train.truth, Y[train.origin])
    np.testing.assert_array_equal(test.labels, Y[test.origin])
    assert run.info.class_counts.tolist() == np.bincount(train.truth).tolist()
    run = build(told(place, "half", method="fixmatch"))
    stream = run.sources["unlabelled"]
    assert len(stream) == 40 and (stream.labels == -1).all()
    np.testing.assert_array_equal(stream.truth, Y[stream.origin])
    # A fifth of 20, 12 and 8 labelled rows is tested on.
    assert run.info.class_counts.tolist() == [16, 10, 6] and run.info.num_test == 8


REFUSED = [
    ("half", "la", ["method is 'la'", "the 40 of 72", "row 0 (0-based)", "fixmatch"]),
    ("half", "coteaching", ["method is 'coteaching'", "leave out the 40 of 72"]),
    ("half", "proden", ["method is 'proden'", "have one label per example"]),
    ("full", "proden", ["learns from candidate sets", "'candidates'", "between |"]),
    ("full", "fixmatch", ["all 64 training examples have one", "an empty label"]),
    ("sets", "la", ["method is 'la'", "several labels", "one of them is true: proden"]),
    ("sets", "fixmatch", ["unknown for several labels", "proden, lw, cavl"]),
    ("full", "fixmtach", ["method is 'fixmtach'", "did you mean 'fixmatch'"]),
]


@pytest.mark.parametrize(("table", "method", "words"), REFUSED)
def test_a_method_that_does_not_learn_from_such_labels(
    table, method, words, place, capsys, monkeypatch, tmp_path
):
    monkeypatch.delenv("LTJAX_TRACEBACK", raising=False)
    data = str(place / f"{table}.csv")
    argv = ["train", "--data", data, "--method", method, "--workdir", str(tmp_path)]
    assert main(argv) == EXIT_USAGE
    message = capsys.readouterr().err
    for word in words:
        assert word in message


def test_rows_without_a_label_are_refused_by_a_config_too(place):
    config = own_config(str(place / "half.csv"), method="fixmatch")
    config.method.choose("supervised")
    config.unlabelled.choose("none")
    config.augment.choose("none")
    config.ema_decay, config.evaluate_ema = 0.0, False
    with pytest.raises(ConfigError, match="40 of the 72 .*'none', which would leave"):
        build(check(config))
    config = own_config(str(place / "sets.csv"), method="proden")
    config.method.choose("supervised")
    with pytest.raises(ConfigError, match="'supervised', which needs the class of"):
        check(config)


@pytest.mark.parametrize(
    ("table", "method"),
    [
        ("half", "fixmatch"),
        pytest.param("sets", "proden", marks=pytest.mark.slow),
    ],
)
def test_one_command_trains_and_predicts(table, method, place, tmp_path, capsys):
    argv = ["train", "--data", str(place / f"{table}.csv"), "--method", method]
    argv += ["--workdir", str(tmp_path), "--no-tensorboard", *QUICK]
    assert main(argv) == 0
    assert "bee" in capsys.readouterr().out
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["class_names"] == NAMES.tolist()
    probabilities = ltjax.load(tmp_path)(ROWS.astype(np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "recipe"), [((12, 12, 3), "fixmatch"), ((20, 1), "signal")]
)
def test_views_are_those_of_the_inputs(shape, recipe, tmp_path):
    inputs = RNG.random((80, *shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", inputs=inputs, labels=np.where(HALF == "", -1, Y))
    config = check(own_config(str(tmp_path / "x.npz"), method="remixmatch"))
    assert config.augment.recipe == config.augment_unlabelled.recipe == recipe
    np.savez(tmp_path / "x.npz", inputs=inputs, candidates=SETS)
    config = check(own_config(str(tmp_path / "x.npz"), method="corr"))
    assert config.augment.name == "weak_strong" and config.augment.recipe == recipe
    # Nobody knows the classes: 2 of 3 candidates count 1/2 each, and so on.
    counts = np.ceil((SETS / SETS.sum(axis=1, keepdims=True)).sum(axis=0) - 1e-9)
    test = check(config_with_test(tmp_path, inputs))
    assert build(test).info.class_counts.tolist() == counts.tolist()


def test_images_are_read_as_large_as_the_views_are(tmp_path):
    for k, folder in enumerate(["ant", "bee", "unlabelled"] * 9):
        file = tmp_path / folder / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        PIL.Image.new("L", (20 + k % 3, 18), k).save(file)
    config = check(own_config(str(tmp_path), image_size=16))
    assert config.method.name == "fixmatch" and config.augment.recipe == "fixmatch"
    # Without a crop there is nothing to cut: not 18 pixels, of which 16 are seen.
    assert config.data.resize == config.data.crop == 16
    assert config.data.make("train").shape == (16, 16, 3)


def config_with_test(folder, inputs):
    """The same arrays with a test file of known classes."""
    np.savez(folder / "t.npz", inputs=inputs[::2] + 1, labels=Y[::2])
    return own_config(
        str(folder / "x.npz"), test=str(folder / "t.npz"), method="proden", model="mlp"
    )


def test_arrays_and_frames_in_memory(place):
    import pandas as pd

    def of(data, method="auto"):
        given = {"label": "", "image_size": 0, "method": method}
        return check(own_config(fitting._data(data, None, **given)[0], method=method))

    missing = np.where(HALF == "", None, HALF)
    assert of((ROWS, missing)).method.name == "fixmatch"
    assert of(pd.read_csv(place / "half.csv")).unlabelled.name == "stored"
    frame = pd.read_csv(place / "sets.csv")
    assert of(frame).method.name == "multi_label"
    config = of(frame, "lw")
    assert config.method.name == "lw" and config.data.options.candidates
    train = config.data.make("train")
    np.testing.assert_array_equal(train.columns["candidates"], SETS[train.origin])
