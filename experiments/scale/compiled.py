"""Real train steps, compiled for eight virtual devices and beside the cost model.

Nothing is trained: the programs are compiled from shapes, so that the published batch
fits any machine.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.scale import cost
from experiments.scale.hlo import collective_bytes

DEVICES = 8
CLOSE = 0.10


class Subject(NamedTuple):
    """A program that is compiled.

    Attributes:
        changes: of the default config, by dotted name; names of components first.
        side: of the images.
        classes: K.
        batch: of all devices together.
        fsdp: devices that share one copy of the parameters.
        network: what the cost model knows of it.
        views: of an example that meet in the loss; 0 for a loss of each example.
        features: width of what meets.
        exclude: quantities that the model does not claim for this program.
    """

    changes: Mapping[str, Any]
    side: int
    classes: int
    batch: int
    fsdp: int
    network: cost.Network
    views: int = 0
    features: int = 0
    exclude: tuple[str, ...] = ()


def _config(subject: Subject, folder: pathlib.Path):
    """The config of a subject on random images, which are written to `folder`."""
    from ltjax.methods.presets import apply_changes
    from ltjax.train.check import check
    from ltjax.train.config import default_config

    rng, count = np.random.default_rng(0), max(subject.classes, subject.batch)
    shape = (count, subject.side, subject.side, 3)
    images = rng.integers(0, 256, shape, np.uint8)
    labels = np.arange(count) % subject.classes
    few = slice(subject.classes)
    np.savez(folder / "train.npz", inputs=images, labels=labels)
    np.savez(folder / "test.npz", inputs=images[few], labels=labels[few])
    config = default_config()
    config.data.name = f"npz:{folder}/{{split}}.npz"
    config.data.profile, config.data.feed, config.data.workers = "none", "streaming", 0
    config.batch_size, config.fsdp = subject.batch, subject.fsdp
    config.optimizer.momentum = 0.9
    apply_changes(config, subject.changes)
    return check(config)


def compile_step(subject: Subject, folder: pathlib.Path) -> Any:
    """The train step of a subject, compiled from shapes as the loop compiles it.

    Args:
        subject: of the program.
        folder: for its data.

    Returns:
        `jax.stages.Compiled`.
    """
    from ltjax.train.build import build
    from ltjax.train.lanes import training_lanes
    from ltjax.train.records import zero_sums
    from ltjax.train.step import make_program

    run = build(_config(subject, folder))
    lanes = training_lanes(run.config, count=1)
    layout, shapes = lanes.layout, run.shapes
    shardings = layout.state(shapes, run.method.tables)
    (rows,) = run.feed.iterate(run.plan, 0, 1)
    run.feed.close()
    with jax.set_mesh(layout.mesh):
        zeros = zero_sums(run, lanes, shapes, run.feed.arrays)
        sums = lanes.sums_sharding(zeros)
        program = jax.jit(
            make_program(run, lanes),
            static_argnames="program",
            donate_argnums=(0, 1),
            out_shardings=(shardings, sums),
        )
        lowered = program.lower(
            _abstract(shapes, shardings),
            _abstract(zeros, sums),
            run.feed.arrays,
            _abstract(rows, jax.tree.map(lambda _: layout.rows, rows)),
            program=run.program(0),
        )
        return lowered.compile()


def _abstract(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )


def measured(compiled: Any) -> dict[str, float]:
    """Quantities of a compiled program, in bytes on one device."""
    moved, memory = collective_bytes(compiled.as_text()), compiled.memory_analysis()
    return {
        "all-reduce": moved["all-reduce"] + moved["reduce-scatter"],
        "all-gather": moved["all-gather"],
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


_IMAGENET = {
    "augment": {
        "name": "imagenet",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "size": 224,
    }
}
if __name__ == "__main__":
    import sys, tempfile, time, json
    jax.config.update("jax_num_cpu_devices", 8)
    which, fsdp = sys.argv[1], int(sys.argv[2])
    cifar = {"augment": {"name": "two_views", "recipe": "simclr_cifar", "mean": (0.5,)*3, "std": (0.2,)*3}}
    S = {
      "resnet50": Subject(_IMAGENET | {"model": {"name": "resnet50"}}, 224, 1000, 512, fsdp, None),
      "vit": Subject(_IMAGENET | {"model": {"name": "vit", "patch": 16, "width": 768, "num_heads": 12}}, 224, 1000, 512, fsdp, None),
      "simclr": Subject(cifar | {"method": {"name": "simclr", "block": 2048}, "model": {"name": "mlp", "hidden": (512,)}, "head": {"name": "projection", "dim": 128}}, 32, 10, 8192, fsdp, None),
    }[which]
    t=time.time()
    with tempfile.TemporaryDirectory() as d:
        c = compile_step(S, pathlib.Path(d))
    open(f"/tmp/hlo_{which}_{fsdp}.txt","w").write(c.as_text())
    print(json.dumps({"t": time.time()-t, **measured(c), **collective_bytes(c.as_text())}), c.memory_analysis())
