"""Our training step beside a hand-written loop of the same model, and beside PyTorch.

    python -m experiments.bench.engine [--quick] [--torch-python PYTHON]

Subjects train on random images with the CIFAR recipe: batch 128, pad-crop and flip, SGD
with momentum and coupled weight decay. "Ours" is what the loop runs per step: the plan,
its transfer, the compiled program with metrics and the non-finite guard. The
hand-written loop gathers, augments and updates in one jitted function and nothing else.
PyTorch runs the same network and recipe in a process of its own, named by
--torch-python, in turn with ours; without it that row is left out.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.common import (
    append_csv,
    argument_parser,
    interleaved_ratios,
    provenance,
)
from ltjax.losses import softmax_cross_entropy
from ltjax.models.registry import build_model
from ltjax.train.build import build
from ltjax.train.config import default_config
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.step import empty_sums, make_program, replica_mode
from ltjax.train.validate import validate

MEAN = np.array((0.4914, 0.4822, 0.4465), np.float32)
STD = np.array((0.2023, 0.1994, 0.2010), np.float32)
IMAGES = 2560


def config_of(model: str, batch_size: int, folder: str):
    rng = np.random.default_rng(0)
    path = pathlib.Path(folder) / "images.npz"
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    np.savez(path, inputs=images, labels=np.arange(IMAGES) % 10)
    config = default_config()
    config.data.name = f"npz:{path}"
    config.data.profile = "none"
    config.data.augment = "cifar"
    with config.unlocked():
        config.data.augment_options = {"mean": MEAN.tolist(), "std": STD.tolist()}
    config.model.name = model
    config.batch_size = batch_size
    config.optimizer.lr = 0.01
    return config


def our_steps(config, steps: int):
    """A function that trains `steps` steps the way the loop does."""
    run = build(validate(config))
    layout = Layout(make_mesh())
    count = len(run.info.replicas)
    mode = replica_mode(config.replicas.layout, count)
    seeds = np.asarray([r["seed"] for r in run.info.replicas])
    names = run.info.replicas[0]["hyper"]
    hyper = {n: np.float32([r["hyper"][n] for r in run.info.replicas]) for n in names}
    state = jax.jit(jax.vmap(run.init))(seeds, hyper)
    program = make_program(
        run.step,
        lambda arrays, rows, key: run.feed.batch(arrays, rows, key, train=True),
        count=count,
        layout=layout,
        mode=mode,
    )
    compiled = jax.jit(program, donate_argnums=(0, 1), static_argnames="program")
    arrays = layout.put(run.feed.arrays, layout.replicated)
    sums = jax.tree.map(
        lambda x: jnp.stack([x] * count),
        empty_sums(("loss", "accuracy", "grad_norm", "lr")),
    )
    carry = {"state": state, "sums": sums, "step": 0}

    def train():
        first = carry["step"]
        for rows in run.feed.iterate(run.plan, first, first + steps):
            carry["state"], carry["sums"] = compiled(
                carry["state"],
                carry["sums"],
                arrays,
                layout.put(rows, layout.rows),
                program=None,
            )
        carry["step"] += steps
        return carry["sums"]

    return train


def hand_written_steps(model: str, batch_size: int, steps: int):
    """The least code that trains the same network on the same recipe."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8))
    labels = jnp.arange(IMAGES) % 10
    net = build_model(model, num_classes=10)
    params, stats = jax.jit(lambda k: net.init(k, jnp.zeros((1, 32, 32, 3))))(
        jax.random.key(0)
    )

    def augment(key, image):
        crop, flip = jax.random.split(key)
        row, column = jax.random.randint(crop, (2,), 0, 9)
        padded = jnp.pad(image, ((4, 4), (4, 4), (0, 0)))
        image = jax.lax.dynamic_slice(padded, (row, column, 0), (32, 32, 3))
        image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
        return (image.astype(jnp.float32) / 255 - MEAN[None, None]) / STD[None, None]

    @jax.jit
    def step(params, stats, velocity, images, labels, index, key):
        x = jax.vmap(augment)(jax.random.split(key, batch_size), images[index])

        def loss(params):
            outputs, new = net.forward(params, stats, x, train=True)
            return softmax_cross_entropy(outputs["logits"], labels[index]).mean(), new

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        velocity = jax.tree.map(
            lambda v, g, p: 0.9 * v + g + 2e-4 * p, velocity, grads, params
        )
        params = jax.tree.map(lambda p, v: p - 0.01 * v, params, velocity)
        return params, stats, velocity, value

    carry = [params, stats, jax.tree.map(jnp.zeros_like, params)]
    key, count = jax.random.key(1), 0

    def train():
        nonlocal count
        for _ in range(steps):
            index = rng.permutation(IMAGES)[:batch_size].astype(np.int32)
            *carry[:], value = step(
                *carry, images, labels, index, jax.random.fold_in(key, count)
            )
            count += 1
        return value

    return train


TORCH = r"""
import sys, time
import torch, torch.nn as nn, torch.nn.functional as F
depth, batch, images = map(int, sys.argv[1:4])
torch.manual_seed(0)

class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.c1 = nn.Conv2d(i, o, 3, s, 1, bias=False)
        self.b1 = nn.BatchNorm2d(o)
        self.c2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.b2 = nn.BatchNorm2d(o)
        self.o, self.s, self.i = o, s, i

    def forward(self, x):
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        if self.s != 1 or self.i != self.o:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.o // 4, self.o // 4))
        return F.relu(x + y)

n = (depth - 2) // 6
layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
width = 16
for o, s in ((16, 1), (32, 2), (64, 2)):
    for k in range(n):
        layers.append(Block(width, o, s if k == 0 else 1))
        width = o
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
x = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
y = torch.arange(images) % 10
mean = torch.tensor((0.4914, 0.4822, 0.4465)).view(3, 1, 1)
std = torch.tensor((0.2023, 0.1994, 0.2010)).view(3, 1, 1)
opt = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=2e-4)
print("ready", torch.__version__, flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        index = torch.randperm(images)[:batch]
        padded = F.pad(x[index], (4, 4, 4, 4))
        out = torch.empty(batch, 3, 32, 32)
        offsets = torch.randint(0, 9, (batch, 2))
        flips = torch.rand(batch) < 0.5
        for i in range(batch):
            a, b = offsets[i]
            one = padded[i, :, a:a + 32, b:b + 32]
            out[i] = one.flip(-1) if flips[i] else one
        out = (out / 255 - mean) / std
        opt.zero_grad()
        F.cross_entropy(net(out), y[index]).backward()
        opt.step()
    print("done", flush=True)
"""


def torch_steps(python: str, depth: int, batch_size: int, steps: int):
    """The same recipe in PyTorch, `steps` steps per call; (function, version)."""
    process = subprocess.Popen(
        [python, "-c", TORCH, str(depth), str(batch_size), str(IMAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ready = process.stdout.readline().split()
    if ready[:1] != ["ready"]:
        raise SystemExit(f"{python} cannot run PyTorch")

    def train():
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "done":
            raise SystemExit("PyTorch stopped")

    return train, ready[1]


def main() -> int:
    parser = argument_parser(__doc__, output="engine.csv")
    parser.add_argument("--torch-python", help="an interpreter that has PyTorch")
    parser.add_argument("--depth", type=int, default=0, help="default: 32, quick: 20")
    args = parser.parse_args()
    depth = args.depth or (20 if args.quick else 32)
    batch, steps = (32, 2) if args.quick else (128, 3)
    repeats = args.repeats or (3 if args.quick else 9)
    model = f"resnet{depth}"
    rows, version = [], ""
    with tempfile.TemporaryDirectory() as folder:
        ours = our_steps(config_of(model, batch, folder), steps)
        peers = {"hand-written loop": hand_written_steps(model, batch, steps)}
        if args.torch_python:
            peers["pytorch"], version = torch_steps(
                args.torch_python, depth, batch, steps
            )
        else:
            print("no --torch-python: PyTorch is left out", file=sys.stderr)
        # Ours is the subject and each peer in turn the baseline: images per second of
        # ours over the peer's is the peer's time over ours.
        for peer, function in peers.items():
            started = time.perf_counter()
            found = interleaved_ratios(
                ours, {peer: function}, repeats=repeats, least_seconds=0.0
            )[peer]
            ours_rate = steps * batch / found.baseline_seconds
            rows.append(
                {
                    "model": model,
                    "batch": str(batch),
                    "peer": peer,
                    "images_per_s_ratio": f"{found.median:.3f}",
                    "ratio_low": f"{found.low:.3f}",
                    "ratio_high": f"{found.high:.3f}",
                    "images_per_s": f"{ours_rate:.1f}",
                    "peer_images_per_s": f"{steps * batch / found.seconds:.1f}",
                    "repeats": str(found.repeats),
                    "torch": version if peer == "pytorch" else "",
                    **provenance(),
                }
            )
            spent = time.perf_counter() - started
            print(
                f"{model} against {peer:<18} {found.median:.3f} ({found.low:.3f} to"
                f" {found.high:.3f}), ours {ours_rate:.0f} images/s, {spent:.0f} s"
            )
    if not args.quick:
        append_csv(args.output, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
