"""Every shipped config as it is, not its smoke variant: up to its first step.

Only the data are made, and batches of photographs are smaller, since a whole one needs
an accelerator's memory. Networks, dtypes and worker processes are the config's.
"""

import math
import pathlib
import signal

import numpy as np
import PIL.Image
import pytest

from ltjax.config_file import load_config
from ltjax.data.catalog import DATASETS
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.stages import check_stages

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(p.stem for p in CONFIGS.glob("*.py") if p.stem != "__init__")
pytestmark = pytest.mark.slow

# Images of the shape that the named data set has, 500 of each class.
ARRAYS = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
LISTS = {
    "imagenet_lt": {s: f"ImageNet_LT_{s}.txt" for s in ("train", "val", "test")},
    "places_lt": {s: f"Places_LT_{s}.txt" for s in ("train", "val", "test")},
    "inaturalist18": {s: f"iNaturalist18_{s}.txt" for s in ("train", "val")},
}
PHOTOGRAPHS = 12


class Witness:
    """A sink of records that asks the run to stop at the first one."""

    record = None

    def write(self, record):
        if self.record is None:
            self.record = record
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(config)` gives the config data of the shape that it asks for."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)

    def give(config):
        name = config.data.name
        if name in ARRAYS:
            labels = np.repeat(np.arange(100 if name == "cifar100" else 10), 500)
            for split in ("train", "test"):
                path = root / f"{name}-{split}.npz"
                pixels = rng.integers(0, 256, (len(labels), *ARRAYS[name]), np.uint8)
                np.savez(path, inputs=pixels, labels=labels)
            config.data.name = f"npz:{root}/{name}-{{split}}.npz"
            known = DATASETS[name]
            config.augment.mean, config.augment.std = known.mean, known.std
        if name in LISTS:
            for file in LISTS[name].values():
                lines = []
                for row in range(PHOTOGRAPHS):
                    size = (int(rng.integers(200, 300)), int(rng.integers(200, 300)), 3)
                    pixels = rng.integers(0, 256, size, np.uint8)
                    path = root / name / f"{file}-{row}.jpg"
                    path.parent.mkdir(exist_ok=True)
                    PIL.Image.fromarray(pixels).save(path)
                    lines.append(f"{path.name} {row % 3}\n")
                (root / name / file).write_text("".join(lines))
            config.data.data_dir, config.batch_size = str(root), 4
            config.data.num_classes = 3

    return give


@pytest.mark.parametrize("file", FILES)
def test_it_takes_its_first_step(file, made, devices, tmp_path):
    config = load_config(["--config", str(CONFIGS / f"{file}.py")])
    made(config)
    config.log_every = "1 steps"
    first, witness = check_stages(config)[0], Witness()
    with devices(1), pytest.raises(loop.Preempted):
        run = build(first.config)
        loop.run(run, tmp_path / "run", tensorboard=False, writers=[witness])
    assert run.config.data.workers == config.data.workers
    losses = [v for key, v in witness.record.items() if key.endswith("loss")]
    assert witness.record["step"] == 1 and losses
    assert all(math.isfinite(value) for value in np.ravel(losses))
