"""RandAugment and views on the device as ratios to Pillow and to torchvision.

    python -m experiments.bench.augment            # appends to results/augment.csv
    python -m experiments.bench.augment --torch-python PYTHON  # and torchvision
    python -m experiments.bench.augment --quick    # a small batch, prints only

Pillow's baseline is FixMatch's RandAugment as its users write it: an image becomes a
Pillow image, two operations are drawn, each is applied with probability 1/2, and the
result becomes an array again. Ours maps `rand_augment` over the batch; `weak_strong`
also makes the weak view, and shifts and cuts out. `switch` is what `lax.switch` over
the same operations costs, which under `vmap` computes all of them for every image.

torchvision's baseline is its `v2.RandAugment` on uint8 tensors, in a process of the
interpreter that --torch-python names: two of 14 operations, always applied, at one
magnitude. Ours is `rand_augment` with the same operations, magnitude and number of
images. The draws of a call hold for all images that it is given, so that every image
has a call of its own; one call for the batch is faster, but changes all images alike.

Times are processor times of the process that works, all threads together, on a CPU:
what a core does, whatever else runs. On an accelerator they are wall-clock times.
`ratio` is the time over the baseline's; below 1 is faster.
"""

import functools
import random
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps

from experiments.bench import common
from experiments.bench.peer_process import PeerProcess
from ltjax.data import image_ops, photometric
from ltjax.data.randaugment import FIXMATCH, Change, rand_augment
from ltjax.data.views import two_views, weak_strong

SUBJECTS = ("rand_augment", "switch", "weak_strong", "simclr_cifar", "distort_color")
PEERS = {
    "autocontrast": lambda image, _: PIL.ImageOps.autocontrast(image),
    "brightness": lambda image, v: PIL.ImageEnhance.Brightness(image).enhance(v),
    "color": lambda image, v: PIL.ImageEnhance.Color(image).enhance(v),
    "contrast": lambda image, v: PIL.ImageEnhance.Contrast(image).enhance(v),
    "equalize": lambda image, _: PIL.ImageOps.equalize(image),
    "identity": lambda image, _: image,
    "posterize": lambda image, v: PIL.ImageOps.posterize(image, int(v)),
    "rotate": lambda image, v: image.rotate(v),
    "sharpness": lambda image, v: PIL.ImageEnhance.Sharpness(image).enhance(v),
    "shear_x": lambda image, v: _affine(image, (1, v, 0, 0, 1, 0)),
    "shear_y": lambda image, v: _affine(image, (1, 0, 0, v, 1, 0)),
    "solarize": lambda image, v: PIL.ImageOps.solarize(image, int(v)),
    "translate_x": lambda image, v: _affine(image, (1, 0, int(v), 0, 1, 0)),
    "translate_y": lambda image, v: _affine(image, (1, 0, 0, 0, 1, int(v))),
}

MAGNITUDE, HIGHEST = 9, 30  # torchvision's default
# Its signs make an enhancement stronger or weaker; here those are two entries, and all
# others are there twice.
UNSIGNED = (
    Change("autocontrast"),
    Change("equalize"),
    Change("identity"),
    Change("posterize", 8.5, 4.5, whole=True),  # bits are rounded there
    Change("rotate", 0, 30, signed=True),
    Change("shear_x", 0, 0.3, signed=True),
    Change("shear_y", 0, 0.3, signed=True),
    Change("solarize", 255, 0),
    Change("translate_x", 0, 150 / 331, signed=True, whole=True, of_side=True),
    Change("translate_y", 0, 150 / 331, signed=True, whole=True, of_side=True),
)
TORCHVISION = (
    *(2 * UNSIGNED),
    *(
        Change(op, 1, end)
        for op in ("brightness", "color", "contrast", "sharpness")
        for end in (0.1, 1.9)
    ),
)


def _affine(image, matrix):
    return image.transform(image.size, PIL.Image.Transform.AFFINE, matrix)


def pillow_rand_augment(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Two layers of FixMatch's operations on a uint8 image."""
    picture = PIL.Image.fromarray(image)
    for change in rng.choices(FIXMATCH, k=2):
        level = rng.randrange(1, 10) / 10
        value = change.low + level * (change.high - change.low)
        value *= image.shape[0] if change.of_side else 1
        if rng.random() < 0.5:
            sign = -1 if change.signed and rng.random() < 0.5 else 1
            picture = PEERS[change.op](picture, sign * value)
    return np.asarray(picture)


def switch_rand_augment(key: jax.Array, image: jax.Array) -> jax.Array:
    """The same two layers by `lax.switch` over the single operations."""

    def branch(change):
        operation = getattr(image_ops, change.op, None)
        if operation is None:
            return lambda image, value: image
        if change.op in ("autocontrast", "equalize"):
            return lambda image, value: operation(image)
        return operation

    branches = [branch(change) for change in FIXMATCH]
    low, high = (
        jnp.asarray(column, jnp.float32)
        for column in zip(*((c.low, c.high) for c in FIXMATCH), strict=True)
    )
    sides = jnp.asarray([image.shape[0] if c.of_side else 1 for c in FIXMATCH])
    for layer_key in jax.random.split(key, 2):
        draw = jax.random.uniform(layer_key, (3,))
        entry = jnp.floor(draw[0] * len(FIXMATCH)).astype(jnp.int32)
        value = (low[entry] + draw[1] * (high[entry] - low[entry])) * sides[entry]
        changed = jax.lax.switch(entry, branches, image, value)
        image = jnp.where(draw[2] < 0.5, changed, image)
    return image


def clock() -> Callable[[], float]:
    """In seconds; of what this process does, where it does the work."""
    on_cpu = jax.default_backend() == "cpu"
    return time.process_time if on_cpu else time.perf_counter


def images_of(batch: int, size: int) -> np.ndarray:
    """Random uint8 images [B, H, W, 3]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8)


def per_example(one: Callable, images: np.ndarray) -> Callable[[], jax.Array]:
    """A call of `one(key, image)` for every image, compiled."""
    keys = jax.random.split(jax.random.key(0), len(images))
    compiled, on_device = jax.jit(jax.vmap(one)), jnp.asarray(images)
    return lambda: compiled(keys, on_device)


def measure(
    batch: int, size: int, repeats: int, names: Sequence[str] = SUBJECTS
) -> list[dict[str, str]]:
    """Subjects against Pillow."""
    images = images_of(batch, size)
    on_device, root = jnp.asarray(images), jax.random.key(0)

    def batched(views, **options):
        compiled = jax.jit(functools.partial(views, **options))
        return lambda: compiled(root, on_device)

    subjects = {
        "rand_augment": per_example(rand_augment, images),
        "switch": per_example(switch_rand_augment, images),
        "weak_strong": batched(weak_strong),
        "simclr_cifar": batched(two_views, recipe="simclr_cifar"),
        "distort_color": per_example(
            lambda key, image: photometric.distort_color(key, image / 255), images
        ),
    }
    subjects = {name: subjects[name] for name in names}
    draws = random.Random(0)

    def baseline():
        return np.stack([pillow_rand_augment(image, draws) for image in images])

    ratios = common.interleaved_ratios(
        baseline, subjects, repeats=repeats, clock=clock()
    )
    return [row(name, "Pillow", batch, size, ratio) for name, ratio in ratios.items()]


def measure_torchvision(
    batch: int, size: int, repeats: int, python: str
) -> list[dict[str, str]]:
    """`rand_augment` against torchvision's transform; nothing where it does not run."""
    subject = per_example(
        functools.partial(
            rand_augment, pool=TORCHVISION, probability=1.0, level=MAGNITUDE / HIGHEST
        ),
        images_of(batch, size),
    )
    try:
        peer = PeerProcess(python, "augment_torch", batch, size, MAGNITUDE)
    except RuntimeError as error:
        print(f"torchvision is left out: {error}", file=sys.stderr)
        return []
    own, worked = clock(), 0.0

    def baseline():
        nonlocal worked
        worked += peer.ask()

    try:
        (ratio,) = common.interleaved_ratios(
            baseline,
            {"rand_augment": subject},
            repeats=repeats,
            clock=(lambda: own() + worked) if own is time.process_time else own,
        ).values()
    finally:
        peer.close()
    torch, torchvision = peer.told
    name = f"torchvision {torchvision}, torch {torch}"
    return [row("rand_augment", name, batch, size, ratio)]


def row(
    subject: str, baseline: str, batch: int, size: int, ratio: common.Ratio
) -> dict[str, str]:
    """A line of the table."""
    return common.row(
        subject,
        baseline,
        ratio,
        batch=str(batch),
        size=str(size),
        images_per_second=f"{batch / ratio.seconds:.0f}",
        baseline_images_per_second=f"{batch / ratio.baseline_seconds:.0f}",
    )


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="augment.csv")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    args = common.parse_with_torch(parser)
    sizes = 16 if args.quick else args.batch, args.size
    repeats = args.repeats or (2 if args.quick else 9)
    rows = measure(*sizes, repeats)
    if args.torch_python:
        rows += measure_torchvision(*sizes, repeats, args.torch_python)
    for found in rows:
        print(
            f"{found['subject']:14s} {found['images_per_second']:>8s} images/s,"
            f" {found['ratio']} ({found['ratio_low']} to {found['ratio_high']})"
            f" of the time of {found['baseline']}"
        )
    if not args.quick:
        common.append_csv(args.output, rows)
        print(f"appended to {args.output}")


if __name__ == "__main__":
    main()
