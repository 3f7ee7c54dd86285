"""What a user can get wrong: refused before the first step, with one message."""

import pathlib
import re

import numpy as np
import pytest

from ltjax.cli import main
from ltjax.options import ConfigError
from ltjax.train.build import build

CLASSES, PER_CLASS = 3, 12
NPZ = {
    "data.profile": "none",
    "data.max_count": 0,
    "batch_size": 8,
    "total": "4 steps",
}


def write_npz(folder, *, inputs=None, labels=None, test_labels=None):
    """train.npz and test.npz of small float inputs; returns the data set's name."""
    rng = np.random.default_rng(0)
    if labels is None:
        labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    if inputs is None:
        inputs = rng.normal(size=(len(labels), 5)).astype(np.float32)
    np.savez(folder / "train.npz", inputs=inputs, labels=labels)
    other = np.arange(CLASSES) if test_labels is None else np.asarray(test_labels)
    test_inputs = rng.normal(size=(len(other), 5)).astype(np.float32)
    np.savez(folder / "test.npz", inputs=test_inputs, labels=other)
    return f"npz:{folder}/{{split}}.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "supervise"},
            "config.method is 'supervise', unknown; did you mean 'supervised'?",
        ),
        (
            {"loss.name": "ldma"},
            "config.loss.name is 'ldma', unknown; did you mean 'ldam'?",
        ),
        (
            {"model.name": "resnet_cifr"},
            "config.model.name is 'resnet_cifr', unknown; did you mean 'resnet_cifar'?",
        ),
        (
            {"data.name": "cifra10"},
            "unknown data set 'cifra10' (did you mean 'cifar10'?)",
        ),
        ({"sampler.name": "class_balance"}, "did you mean 'class_balanced'?"),
        ({"gradient.name": "sse-sam"}, "did you mean 'sse_sam'?"),
        ({"schedule.name": "cosin"}, "did you mean 'cosine'?"),
        (
            {"replicas.grid": {"learning_rate": (0.1,)}},
            "config.replicas.grid has 'learning_rate', unknown; valid: ",
        ),
        (
            {"replicas.grid": {"optimizer.lr": (0.1, -0.2)}},
            "config.replicas.grid['lr'] holds -0.2, expected at least 0",
        ),
        (
            {"replicas.grid": {"gradient.rho": (float("nan"),)}},
            "config.replicas.grid['rho'] holds nan, expected at least 0",
        ),
        ({"model.kwargs": {"hiden": (3,)}}, "MLP has no option 'hiden', expected some"),
        ({"batch_size": 0}, "config.batch_size is 0, expected at least 1"),
        ({"optimizer.lr": -0.1}, "config.optimizer.lr is -0.1, expected at least 0"),
        ({"optimizer.lr": float("nan")}, "config.optimizer.lr is nan, expected"),
        (
            {"optimizer.momentum": 1.0},
            "config.optimizer.momentum is 1.0, expected in [0, 1)",
        ),
        ({"weights.beta": 1.5}, "config.weights.beta is 1.5, expected in [0, 1)"),
        (
            {"total": "3000"},
            "config.total: '3000' is no duration, expected a number and"
            " a unit such as '200 epochs'",
        ),
        ({"total": "50%"}, "config.total: '50%' is no duration"),
        ({"total": "0 steps"}, "config.total is '0 steps', expected a positive"),
        ({"eval_every": "often"}, "config.eval_every: 'often' is no duration"),
        ({"replicas.seeds": ()}, "config.replicas.seeds is empty"),
        ({"schedule.factors": (0.1,)}, "2 milestones but 1 factors"),
        ({"head.name": "linear", "loss.name": "ldam"}, "loss 'ldam' needs 'cosine'"),
        ({"data.profile": "counts"}, "config.data.counts is empty"),
        ({"data.counts": (3, 2)}, "config.data.counts is set, but data.profile is"),
        ({"evaluate_ema": True}, "config.evaluate_ema is set, but ema_decay is 0"),
        ({"optimizer.accumulate": 3}, "expected a multiple of optimizer.accumulate"),
        ({"gradient.name": "rwsam"}, "config.gradient.density_weights is empty"),
        ({"optimizer.train": "head"}, "config.init_from is empty, but optimizer.train"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_cannot_run(tiny, changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        tiny(changes)
    assert len(refused.value.faults) == 1


def test_wrong_types_are_named():
    from ltjax.train.check import check

    with pytest.raises(ConfigError) as refused:
        check(
            {
                "batch_size": 1.5,
                "total": 100,
                "ema_decay": "0.9",
                "evaluate_ema": 1,
                "optimizer": {"milestones": "all"},
                "data": "mnist1d",
                "model": {"kwargs": 3},
            }
        )
    assert refused.value.faults[:7] == [
        "config.batch_size is 1.5, expected int",
        "config.total is 100, expected str",
        "config.ema_decay is '0.9', expected float",
        "config.evaluate_ema is 1, expected bool",
        "config.optimizer.milestones is 'all', expected a tuple of int",
        "config.data is 'mnist1d', expected a section",
        "config.model.kwargs is 3, expected a dict",
    ]


def test_unknown_keys_name_the_nearest():
    from ltjax.train.check import check

    with pytest.raises(ConfigError) as refused:
        check({"batchsize": 3, "optimizer": {"learning_rate": 0.1, "momentun": 1}})
    text = str(refused.value)
    assert "config.batchsize is unknown; did you mean 'batch_size'?" in text
    assert "config.optimizer.learning_rate is unknown; valid: accumulate" in text
    assert "config.optimizer.momentun is unknown; did you mean 'momentum'?" in text


def test_all_faults_are_listed_at_once(tiny):
    with pytest.raises(ConfigError) as refused:
        tiny({"loss.name": "focl", "batch_size": -1, "total": "soon"})
    text = str(refused.value)
    assert text.startswith("invalid config, 3 fault(s):")
    for part in ("'focl'", "config.batch_size is -1", "'soon' is no duration"):
        assert part in text


def test_no_device_is_touched_by_validation(tiny, monkeypatch):
    import jax

    def forbidden(*args):
        raise AssertionError("a device was asked for")

    monkeypatch.setattr(jax, "devices", forbidden)
    monkeypatch.setattr(jax, "device_put", forbidden)
    tiny()
    with pytest.raises(ConfigError):
        tiny({"loss.name": "none of them"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.counts": (5, 5)}, "expected 3 counts no larger than the available"),
        ({"data.counts": (5, 13, 5)}, "config.data.counts is (5, 13, 5), expected 3"),
        ({"data.counts": (12, 0, 5)}, "class 1 has no training example (1 empty)"),
        ({"data.counts": (12, -1, 5)}, "expected integers >= 0"),
    ],
    ids=["length", "too many", "zero", "negative"],
)
def test_counts_that_do_not_fit(tiny, tmp_path, changes, message):
    config = NPZ | {"data.name": write_npz(tmp_path), "data.profile": "counts"}
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tiny(config | changes))


def test_counts_that_fit_are_those_of_the_run(tiny, tmp_path):
    config = NPZ | {"data.name": write_npz(tmp_path), "data.profile": "counts"}
    run = build(tiny(config | {"data.counts": (12, 7, 2)}))
    assert run.info.class_counts.tolist() == [12, 7, 2]


def test_an_empty_class_is_refused(tiny, tmp_path):
    name = write_npz(tmp_path, labels=np.repeat([0, 2], 12))
    message = "class 1 has no training example"
    with (
        pytest.warns(UserWarning, match="1 of 3 classes have no example, e.g. class 1"),
        pytest.raises(ConfigError, match=message),
    ):
        build(tiny(NPZ | {"data.name": name}))


def test_a_label_outside_the_classes(tiny, tmp_path):
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    labels[7] = CLASSES
    name = write_npz(tmp_path, labels=labels)
    config = NPZ | {"data.name": name, "data.options": {"num_classes": CLASSES}}
    with pytest.raises(ValueError, match=r"lie in \[0, 3\), but labels\[7\] is 3"):
        build(tiny(config))


def test_splits_of_different_classes(tiny, tmp_path):
    name = write_npz(tmp_path, test_labels=[0, 1, 2, 3])
    with pytest.raises(ConfigError, match="train split has 3 classes, test split 4"):
        build(tiny(NPZ | {"data.name": name}))


def test_lengths_that_differ(tiny, tmp_path):
    name = write_npz(tmp_path, inputs=np.zeros((35, 5), np.float32))
    with pytest.raises(ValueError, match=r"shape \(35, 5\), but there are 36 labels"):
        build(tiny(NPZ | {"data.name": name}))


@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_images_that_are_not_finite(train, tmp_path, feed):
    inputs = np.zeros((36, 5), np.float32)
    inputs[[11, 20], 3] = np.nan, np.inf
    name = write_npz(tmp_path, inputs=inputs)
    workdir = tmp_path / "run"
    message = r"input 11 is not finite \(2 such example\(s\)\)"
    with pytest.raises(ValueError, match=message):
        train(NPZ | {"data.name": name, "data.feed": feed}, workdir=workdir)
    assert not workdir.exists()


def test_a_profile_that_empties_a_class(tiny):
    # 40 / 100^(7/9) = 1.11, 40 / 100^(8/9) = 0.67.
    with pytest.raises(ValueError, match="leave class 8 without an example"):
        build(tiny({"data.imbalance_factor": 100.0}))


def test_a_batch_larger_than_the_data(tiny):
    with pytest.raises(ValueError, match="batch_size 160 exceeds the 159 examples"):
        build(tiny({"batch_size": 160}))


def test_a_warm_up_longer_than_the_run(tiny):
    changes = {"schedule.name": "cosine", "schedule.warmup": "30 steps"}
    message = "'30 steps' = 30 steps, expected less than the run's 24"
    with pytest.raises(ConfigError, match=message):
        build(tiny(changes))


def test_missing_data_name_the_command(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("LTJAX_DATA_DIR", raising=False)
    config = {"data.name": "cifar10", "augment.name": "cifar"}
    with pytest.raises(FileNotFoundError, match="set LTJAX_DATA_DIR .*ltjax prepare"):
        build(tiny(config))
    with pytest.raises(FileNotFoundError, match="ltjax prepare cifar10"):
        build(tiny(config | {"data.data_dir": str(tmp_path)}))


def test_an_unwritable_workdir(train, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="workdir .*file/run cannot be written"):
        train(workdir=tmp_path / "file" / "run")


@pytest.fixture
def refused(capsys, tiny_config, tmp_path, monkeypatch):
    """`refused(*flags) -> message` of a `ltjax train` that ends with exit code 2."""
    monkeypatch.delenv("LTJAX_TRACEBACK", raising=False)

    def go(*flags, config=tiny_config, workdir=tmp_path / "run"):
        argv = ["train", "--config", str(config), "--workdir", str(workdir), *flags]
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("error: ") == 1
        assert "Traceback" not in captured.err
        return captured.err.removeprefix("error: ")

    return go


def test_command_line_faults_of_a_config(refused, tmp_path):
    assert "config.optimizer.lrr is unknown; did you mean 'lr'?" in refused(
        "--config.optimizer.lrr=1"
    )
    assert "config.batch_size is -3, expected at least 1" in refused(
        "--config.batch_size=-3"
    )
    both = refused("--config.loss.name=lda", "--config.batch_size=0")
    assert both.startswith("invalid config, 2 fault(s):")
    assert "did you mean 'ldam'?" in both and "config.batch_size is 0" in both
    assert "batch_size" in refused("--config.batch_size=many")
    assert "config.nothing is unknown" in refused("--config.nothing.at_all=1")
    assert not (tmp_path / "run").exists()


def test_command_line_faults_of_a_config_file(refused, tmp_path):
    missing = tmp_path / "missing.py"
    assert f"there is no config file '{missing}'" in refused(config=missing)
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config(arg=''):\n    return 1 +\n")
    assert "broken.py' failed: SyntaxError" in refused(config=broken)
    broken.write_text("config = 3\n")
    assert "AttributeError" in refused(config=broken)
    named = tmp_path / "named.py"
    named.write_text(
        "from ltjax.train.config import default_config, parse_arg\n"
        "def get_config(arg=''):\n"
        "    parse_arg(arg, method='ce', imf=100.0)\n"
        "    return default_config()\n"
    )
    text = refused(config=f"{named}:methd=la,imf=lots")
    assert "config argument 'methd' is unknown; did you mean 'method'?" in text
    assert "config argument imf is 'lots', expected float" in text
    demo = pathlib.Path(__file__).resolve().parents[2] / "configs" / "mnist1d_lt.py"
    text = refused(config=f"{demo}:method=ldma_drw")
    assert "method is 'ldma_drw', unknown; did you mean 'ldam_drw'?" in text
    typo = tmp_path / "typo.py"
    typo.write_text(
        "from ltjax.train.config import default_config\n"
        "def get_config(arg=''):\n"
        "    config = default_config()\n"
        "    config.optimizer.learning_rate = 0.1\n"
        "    return config\n"
    )
    assert "learning_rate" in refused(config=typo)


def test_command_line_faults_of_data_and_places(refused, tmp_path, monkeypatch):
    monkeypatch.delenv("LTJAX_DATA_DIR", raising=False)
    data = ["--config.data.name=mnist", "--config.data.options={}"]
    data += [f"--config.data.data_dir={tmp_path}"]
    assert "ltjax prepare mnist" in refused(*data)
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "run"
    assert f"workdir {place} cannot be written" in refused(workdir=place)
    # Eight devices here; the workdir stays free for a batch that fits.
    text = refused("--config.batch_size=20")
    assert "config.batch_size is 20, expected a multiple of the 8 devices" in text
    assert not (tmp_path / "run").exists()


def test_command_line_faults_of_bad_data(refused, tmp_path):
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    inputs = np.zeros((len(labels), 5), np.float32)
    inputs[30] = np.nan
    name = write_npz(tmp_path, inputs=inputs)
    flags = ["--config.data.profile=none", "--config.data.options={}"]
    text = refused(f"--config.data.name={name}", *flags)
    assert "input 30 is not finite" in text
