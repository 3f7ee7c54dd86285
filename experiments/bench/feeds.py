"""Batches per second that the feeds hand to the device, against plain numpy.

    python -m experiments.bench.feeds            # appends to results/feeds.csv
    python -m experiments.bench.feeds --quick    # few steps, prints only

Each call reads some steps of 128 images of CIFAR's shape in uint8 and puts their rows
on the device, in the order of an epoch's permutation. `resident` hands over indices
(the step gathers them on the device), `streaming` the images, read ahead by threads.
The baseline is the loop that one writes first: `device_put(images[order[...]])`.
"""

import jax
import numpy as np

from experiments.bench import common
from ltjax.data import array_source, augment
from ltjax.data.feed import replica_plan, resident, streaming
from ltjax.resampling import instance

BATCH = 128


def measure(quick: bool, repeats: int):
    count, steps = (1024, 8) if quick else (50_000, 200)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, count).astype(np.int32)
    source, pipeline = array_source(images, labels), augment.build("none")
    plan = replica_plan(instance(count, BATCH), seeds=[0])
    feeds = {
        "resident": resident(source, pipeline),
        "streaming": streaming(source, pipeline),
    }

    def reads(feed):
        def call():
            for rows in feed.iterate(plan, 0, steps):
                jax.block_until_ready(jax.device_put(rows))

        return call

    def baseline():
        order = np.random.default_rng(0).permutation(count)
        for step in range(steps):
            index = order[step * BATCH : (step + 1) * BATCH]
            jax.block_until_ready(jax.device_put((images[index], labels[index])))

    subjects = {name: reads(feed) for name, feed in feeds.items()}
    found = common.interleaved_ratios(baseline, subjects, repeats=repeats)
    for name, ratio in found.items():
        cells = {
            "batch": str(BATCH),
            "images_per_s": f"{steps * BATCH / ratio.seconds:.0f}",
        }
        yield common.row(f"{name} feed", "numpy and device_put", ratio, **cells)
    for feed in feeds.values():
        feed.close()


if __name__ == "__main__":
    common.command(__doc__, "feeds.csv", measure)
