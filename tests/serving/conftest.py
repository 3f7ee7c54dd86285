"""A network trained by the command line on folders of digits that are gone since."""

import contextlib
import pathlib
import shutil
import sys
from typing import NamedTuple

import numpy as np
import pytest

from ltjax.cli import main
from ltjax.data.components import DATA

# Four classes of scikit-learn's 8x8 digits, one of them with a name that a spreadsheet
# would run, as colour images: a folder of a class holds image0.png, image1.png, ...
NAMES = ("=1+1", "one", "two", "three")
COUNTS = (80, 40, 20, 10)

# Images by the folder they lie in, as a plugin of a project would register them.
PLUGIN = """
import dataclasses
import pathlib

from ltjax.data import Source
from ltjax.data.components import DATA
from ltjax.data.data_options import OwnDataOptions
from ltjax.data.readers import FileReader, Sizing
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class Options(OwnDataOptions):
    root: str = option("", "folder of the folders")


def make(options, split):
    root = pathlib.Path(options.root, split)
    names = [name for name in NAMES if (root / name).is_dir()]
    files = [(k, f) for k, name in enumerate(names) for f in (root / name).iterdir()]
    reader = FileReader(str(root), [str(f.relative_to(root)) for _, f in files],
                        Sizing(8, 8))
    labels = [k for k, _ in files]
    return Source("digits", labels, len(names), (8, 8, 3), "uint8", reader,
                  split=split, class_names=tuple(names),
                  mean=(0.3, 0.3, 0.3), std=(0.2, 0.25, 0.3))


DATA["class_folders"] = Component("a folder for each class", Options, make)
"""


def write_digits(root: pathlib.Path) -> None:
    """root/<split>/<class>/image<n>.png: training counts 80, 40, 20, 10; 40 of test."""
    import PIL.Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    tints = np.array([15.0, 12.0, 9.0])
    for k, (name, count) in enumerate(zip(NAMES, COUNTS, strict=True)):
        images = digits.images[digits.target == k]
        for split, chosen in (("train", images[:count]), ("test", images[-40:])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for n, image in enumerate(chosen):
                pixels = (image[..., None] * tints).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"image{n}.png")


class Digits(NamedTuple):
    """A finished run whose training data are gone.

    Attributes:
        workdir: of the run.
        test: folder of the test images, in a folder for each class.
        labels: [160] of the test images, class by class.
        accuracy: that the run's own evaluation says.
        logits: [160, 4] of the run's own evaluation, of the last checkpoint.
        predicted: [160, 4], logits of `run.predict` on the images as they are stored.
    """

    workdir: pathlib.Path
    test: pathlib.Path
    labels: np.ndarray
    accuracy: float
    logits: np.ndarray
    predicted: np.ndarray


@contextlib.contextmanager
def _registered(folder: pathlib.Path):
    """The plugin can be imported, and is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    sys.modules.pop("class_folders", None)
    DATA._more.pop("class_folders", None)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory, tiny_config, devices):
    """Trained with logit adjustment on normalized images; see `digits`."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "data")
    (folder / "class_folders.py").write_text(f"NAMES = {NAMES!r}\n{PLUGIN}")
    flags = {
        "plugins": "class_folders",
        "data.name": "class_folders",
        "data.root": str(folder / "data"),
        "augment.name": "normalize",
        "model.name": "mlp",
        "model.hidden": "(32,)",
        "loss.name": "la",
        "total": "60 steps",
        "eval_every": "0 steps",
        "checkpoint_every": "30 steps",
    }
    with _registered(folder), devices(1):
        config = ["--config", str(tiny_config)]
        config += [f"--config.{name}={value}" for name, value in flags.items()]
        workdir = folder / "run"
        rest = ["--workdir", str(workdir), "--no-tensorboard"]
        assert main(["train", *config, *rest]) == 0
        return _finished(workdir, folder / "data")


@pytest.fixture(scope="module")
def digits(_trained):
    """A run on digits whose training data are gone."""
    with _registered(_trained.workdir.parent):
        yield _trained


def _finished(workdir: pathlib.Path, data: pathlib.Path) -> Digits:
    """What the run says of its test images; then its data are deleted."""
    import jax

    from ltjax.train.restore import evaluate_run, restore_run, split_outputs

    accuracy = float(evaluate_run(workdir)["eval/test/accuracy"][0])
    run, state, _ = restore_run(workdir)
    outputs, labels = split_outputs(run, state, "test")
    # The source lists a folder in the order of the disk, `predict` by name.
    files = run.sources["test"].reader.paths
    number = {name: place for place, name in enumerate(files)}
    order = [number[f"{name}/image{n}.png"] for name in NAMES for n in range(40)]
    stored = run.sources["test"].read(np.array(order))
    predicted = run.predict(jax.tree.map(lambda x: x[0], state), stored)["logits"]
    test = workdir.parent / "test"
    shutil.move(data / "test", test)
    shutil.rmtree(data)
    logits = outputs["logits"][0][order]
    predicted = np.asarray(predicted)
    return Digits(workdir, test, labels[order], accuracy, logits, predicted)


@pytest.fixture
def fresh(tmp_path, devices):
    """`fresh(config) -> workdir` of a run that has saved its first state.

    `judged` are the values of the metric at steps 0, 1, ... that are saved, `diverged`
    the step of each replica that did.
    """
    import jax

    from ltjax.train.build import build
    from ltjax.train.checkpoint import Checkpoints
    from ltjax.train.state import NEVER
    from ltjax.train.workdir import prepare_workdir

    def make(config, folder="run", judged=(0.5,), diverged=(None,)):
        workdir = tmp_path / folder
        with devices(1):
            run = build(config)
            info = run.info
            state = jax.jit(jax.vmap(run.init))(info.seeds, info.hypers)
            lost = np.array([NEVER if at is None else at for at in diverged], np.int32)
            state = state.replace(diverged=lost + 0 * state.diverged)
            prepare_workdir(workdir, run)
            checkpoints = Checkpoints(workdir)
            for step, value in enumerate(judged):
                told = {"key": "eval/val/accuracy", "best": "max", "value": value}
                now = state.replace(step=state.step + step)
                checkpoints.save(step, now, {"judged": told})
            checkpoints.close()
        return workdir

    return make


@pytest.fixture
def shipped():
    """`shipped("experts_lt.py:method=sade,smoke") -> [Stage]` of a config file."""
    from ltjax.config_file import load_config
    from ltjax.train.stages import check_stages

    configs = pathlib.Path(__file__).resolve().parents[2] / "configs"
    return lambda spec: check_stages(load_config(["--config", f"{configs}/{spec}"]))


@pytest.fixture(scope="module")
def predictor(digits):
    """The network of the run's first seed."""
    import ltjax

    return ltjax.load(digits.workdir)


@pytest.fixture(scope="module")
def images(digits):
    """The test images as they are stored, [160, 8, 8, 3], class by class."""
    import PIL.Image

    files = [digits.test / c / f"image{n}.png" for c in NAMES for n in range(40)]
    return np.stack([np.asarray(PIL.Image.open(file)) for file in files])
