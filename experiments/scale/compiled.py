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
QUANTITIES = ("all-reduce", "all-gather", "arguments", "temporaries")


class Subject(NamedTuple):
    """A program that is compiled.

    Attributes:
        changes: of the default config, by dotted name.
        side: of the images.
        classes: K.
        step: what the cost model is told.
        claims: quantities that the model estimates.
    """

    changes: Mapping[str, Any]
    side: int
    classes: int
    step: cost.Step
    claims: tuple[str, ...] = QUANTITIES


def _config(subject: Subject, folder: pathlib.Path):
    """The config of a subject on random images, which are written to `folder`."""
    from ltjax.methods.presets import apply_changes
    from ltjax.train.check import check
    from ltjax.train.config import default_config

    rng, step = np.random.default_rng(0), subject.step
    count = max(subject.classes, step.batch)
    shape = (count, subject.side, subject.side, 3)
    images = rng.integers(0, 256, shape, np.uint8)
    labels = np.arange(count) % subject.classes
    few = slice(subject.classes)
    np.savez(folder / "train.npz", inputs=images, labels=labels)
    np.savez(folder / "test.npz", inputs=images[few], labels=labels[few])
    config = default_config()
    config.data.name = f"npz:{folder}/{{split}}.npz"
    config.data.profile, config.data.feed, config.data.workers = "none", "streaming", 0
    config.batch_size, config.fsdp = step.batch, step.fsdp
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
    # CPUs have no reduce-scatter: XLA writes an all-reduce, of which a part is taken.
    return {
        "all-reduce": moved["all-reduce"] + moved["reduce-scatter"],
        "all-gather": moved["all-gather"],
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def compared(name: str, place: pathlib.Path) -> Iterator[Mapping[str, str]]:
    """The model's quantities of a program beside the compiled ones.

    Args:
        name: a key of `PROGRAMS`.
        place: folder for its data.
    """
    subject = PROGRAMS[name]
    found, guess = measured(compile_step(subject, place)), cost.estimated(subject.step)
    for quantity in subject.claims:
        yield {
            "program": name,
            "quantity": quantity,
            "model": f"{guess[quantity]:.0f}",
            "compiled": f"{found[quantity]:.0f}",
            "ratio": f"{guess[quantity] / found[quantity]:.4f}",
        }


def holds(row: Mapping[str, str]) -> bool:
    """Whether the model is within a tenth of the compiled program."""
    return abs(float(row["ratio"]) - 1) <= CLOSE


# ------------------------------------------------------------------------- programs

_COLORS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# The images of the views are temporaries too, and no part of the model.
_VIEWS = ("all-reduce", "all-gather", "arguments")


def _images(side: int, **model: Any) -> dict[str, Any]:
    """Changes for a network on cropped images."""
    return {"augment": {"name": "imagenet", "size": side, **_COLORS}, "model": model}


def _resnet50() -> Subject:
    network = cost.resnet(*cost.RESNET50, 1000, side=224)
    step = cost.Step(network, 512, DEVICES, 1, cost.input_bytes(224))
    claims = ("all-reduce", "arguments", "temporaries")  # nothing is gathered
    return Subject(_images(224, name="resnet50"), 224, 1000, step, claims)


def _vit(side: int, batch: int, fsdp: int, **sizes: int) -> Subject:
    network = cost.vit(side=side, **sizes)
    step = cost.Step(network, batch, DEVICES, fsdp, cost.input_bytes(side))
    model = {k: v for k, v in sizes.items() if k not in ("heads", "classes")}
    changes = _images(side, name="vit", num_heads=sizes["heads"], **model)
    return Subject(changes, side, sizes["classes"], step)


def _simclr(batch: int, hidden: int, width: int, features: int, block: int) -> Subject:
    """SimCLR of a perceptron on images of 32 x 32, all views against each other."""
    backbone = cost.mlp(32 * 32 * 3, hidden)
    network = cost.projecting(backbone, hidden, width, features)
    changes = {
        "augment": {"name": "two_views", "recipe": "simclr_cifar", **_COLORS},
        "method": {"name": "simclr", "block": block},
        "model": {"name": "mlp", "hidden": (hidden,)},
        "head": {"name": "projection", "width": width, "dim": features},
    }
    step = cost.Step(
        *(network, batch, DEVICES, 1, cost.input_bytes(32)), views=2, features=features
    )
    return Subject(changes, 32, 10, step, _VIEWS)


_VIT_B = {"patch": 16, "width": 768, "depth": 12, "heads": 12, "classes": 1000}
_SMALL_VIT = {"patch": 4, "width": 128, "depth": 1, "heads": 2, "classes": 10}
PROGRAMS = {
    "ResNet-50, batch 512, fsdp 1": _resnet50(),
    "ViT-B/16, batch 512, fsdp 2": _vit(224, 512, 2, **_VIT_B),
    "SimCLR, 16384 views": _simclr(8192, 512, 512, 128, 2048),
    "a small ViT, fsdp 2": _vit(32, 512, 2, **_SMALL_VIT),
    "SimCLR, 256 views": _simclr(128, 64, 64, 32, 32),
}
