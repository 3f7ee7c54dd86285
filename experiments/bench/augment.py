"""RandAugment and views on the device as ratios to Pillow in this process.

    python -m experiments.bench.augment            # appends to results/augment.csv
    python -m experiments.bench.augment --quick    # a small batch, prints only

The baseline is FixMatch's RandAugment as users of Pillow write it: an image becomes a
Pillow image, two operations are drawn, each is applied with probability 1/2, and the
result becomes an array again. Ours maps `rand_augment` over the batch; `weak_strong`
also makes the weak view, and shifts and cuts out. `switch` is what `lax.switch` over
the same operations costs, which under `vmap` computes all of them for every image.

Times are processor times of this process, all threads together, on a CPU: what a core
does, whatever else runs. On an accelerator they are wall-clock times. `ratio` is the
time over Pillow's; below 1 is faster.
"""

import functools
import random
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps

from experiments.bench import common
from ltjax.data import image_ops, photometric
from ltjax.data.randaugment import FIXMATCH, rand_augment
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


def measure(
    batch: int, size: int, repeats: int, names: Sequence[str] = SUBJECTS
) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    on_device = jnp.asarray(images)
    root = jax.random.key(0)

    def per_example(one):
        keys = jax.random.split(root, batch)
        compiled = jax.jit(jax.vmap(one))
        return lambda: compiled(keys, on_device)

    def batched(views, **options):
        compiled = jax.jit(functools.partial(views, **options))
        return lambda: compiled(root, on_device)

    subjects = {
        "rand_augment": per_example(rand_augment),
        "switch": per_example(switch_rand_augment),
        "weak_strong": batched(weak_strong),
        "simclr_cifar": batched(two_views, recipe="simclr_cifar"),
        "distort_color": per_example(
            lambda key, image: photometric.distort_color(key, image / 255)
        ),
    }
    subjects = {name: subjects[name] for name in names}
    draws = random.Random(0)

    def baseline():
        return np.stack([pillow_rand_augment(image, draws) for image in images])

    on_cpu = jax.default_backend() == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    ratios = common.interleaved_ratios(baseline, subjects, repeats=repeats, clock=clock)
    origin = common.provenance()
    return [
        {
            "subject": name,
            "batch": str(batch),
            "size": str(size),
            "images_per_second": f"{batch / ratio.seconds:.0f}",
            "pillow_images_per_second": f"{batch / ratio.baseline_seconds:.0f}",
            **ratio.columns(),
            **origin,
        }
        for name, ratio in ratios.items()
    ]


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="augment.csv")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    args = parser.parse_args()
    batch = 16 if args.quick else args.batch
    rows = measure(batch, args.size, args.repeats or (2 if args.quick else 9))
    for row in rows:
        print(
            f"{row['subject']:14s} {row['images_per_second']:>8s} images/s,"
            f" {row['ratio']} ({row['ratio_low']} to {row['ratio_high']})"
            " of Pillow's time"
        )
    if not args.quick:
        common.append_csv(args.output, rows)
        print(f"appended to {args.output}")


if __name__ == "__main__":
    main()
