"""Images per second of our training step, as ratios to a hand-written loop and PyTorch.

    python -m experiments.bench.engine                        # ResNet-32, conv1d
    python -m experiments.bench.engine --torch-python PYTHON  # and PyTorch
    python -m experiments.bench.engine --quick                # small, prints only

All train on the same random images with the CIFAR recipe: uint8 images on the device,
pad by 4, crop, flip, normalize, batch 128, SGD with momentum and coupled weight decay.
"Ours" is what the loop runs per step: the plan, its transfer, the compiled program with
metrics and the non-finite guard, and one fetch of the metrics per measurement. The
hand-written loop gathers, augments and updates in one jitted, donated function, and
does nothing else. PyTorch runs the same network and recipe in a process of its own,
with the interpreter that --torch-python names, in turn with ours.

A ratio is our images per second over the peer's: 1 is as fast, 0.9 is slower. Beside
the ratio of times stands that of processor time, which the load of other programs
touches less. The demo's network shows the fixed cost of a step, as it has so little
else to do; with R replicas the hand-written loop makes R separate steps.
"""

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import common
from experiments.bench.engine_torch import TorchPeer
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.config import TrainConfig, default_config
from ltjax.train.lanes import training_lanes
from ltjax.train.records import zero_sums
from ltjax.train.run import Run
from ltjax.train.step import make_program

NUM_CLASSES = 10
NUM_IMAGES = 2560
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 2e-4


class Case(NamedTuple):
    """What is trained, and how many steps make one measurement."""

    model: str
    shape: tuple[int, ...]  # of an example; images are augmented, signals are not
    batch: int
    replicas: int
    steps: int

    @property
    def images(self) -> bool:
        return len(self.shape) == 3


FULL = (
    Case("resnet32", (32, 32, 3), 128, 1, 2),
    Case("conv1d", (40, 1), 128, 1, 100),
    Case("conv1d", (40, 1), 128, 3, 50),
)
QUICK = (
    Case("resnet20", (32, 32, 3), 16, 1, 2),
    Case("conv1d", (40, 1), 128, 1, 20),
    Case("conv1d", (40, 1), 128, 3, 10),
)


def config_of(
    case: Case,
    folder: str,
    *,
    num_images: int = NUM_IMAGES,
    dtype: str = "float32",
    total: str = "3000 steps",
) -> TrainConfig:
    """A run on random examples, which are written to `folder`."""
    rng = np.random.default_rng(0)
    shape = (num_images, *case.shape)
    if case.images:
        inputs = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        inputs = rng.normal(size=shape).astype(np.float32)
    labels = np.arange(num_images) % NUM_CLASSES
    place = pathlib.Path(folder) / case.model
    np.savez(f"{place}_train.npz", inputs=inputs, labels=labels)
    few = slice(NUM_CLASSES)  # nothing is evaluated
    np.savez(f"{place}_test.npz", inputs=inputs[few], labels=labels[few])
    config = default_config()
    config.data.name = f"npz:{place}_{{split}}.npz"
    config.data.profile = "none"
    if case.images:
        config.augment.choose("cifar", mean=MEAN, std=STD)
    config.model.name = case.model
    if dtype != "float32":
        config.model.dtype = dtype
    config.batch_size = case.batch
    config.total = total
    config.optimizer.lr = LR
    config.optimizer.momentum = MOMENTUM
    config.optimizer.weight_decay = WEIGHT_DECAY
    config.replicas.seeds = tuple(range(case.replicas))
    return check(config)


class Ours:
    """Calling it trains `steps` steps with the pieces that `ltjax.train.loop` uses.

    Args:
        run: what is trained.
        steps: per call, a multiple of `steps_per_call`.
        steps_per_call: steps of one dispatch, as the config's option of that name.
    """

    def __init__(self, run: Run, steps: int, steps_per_call: int = 1):
        self._run, self._size = run, steps_per_call
        self._dispatches, self._dispatch = steps // steps_per_call, 0
        lanes = training_lanes(run.config, len(run.info.replicas))
        self._layout = layout = lanes.layout
        shardings = layout.state(run.shapes)
        init = jax.jit(jax.vmap(run.init), out_shardings=shardings)
        self._state = init(run.info.seeds, run.info.hypers)
        self._arrays = layout.put(run.feed.arrays, layout.replicated)
        with jax.set_mesh(layout.mesh):
            self._zeros = zero_sums(run, lanes, run.shapes, self._arrays)
        single, axes = steps_per_call == 1, layout.rows.spec
        self._plan = run.plan if single else _stacked(run.plan, steps_per_call)
        self._rows = layout.rows if single else layout.sharding(None, *axes)
        self._compiled = jax.jit(
            make_program(run, lanes, steps_per_call=steps_per_call),
            static_argnames="program",
            donate_argnums=(0, 1),
            out_shardings=(shardings, layout.replicated),
        )

    def __call__(self) -> dict[str, np.ndarray]:
        run, layout = self._run, self._layout
        sums = layout.put(self._zeros, layout.replicated)
        first = self._dispatch
        with jax.set_mesh(layout.mesh), jax.transfer_guard("disallow"):
            last = first + self._dispatches
            for rows in run.feed.iterate(self._plan, first, last):
                program = run.program(self._dispatch * self._size)
                with layout.sent(rows, self._rows) as rows:
                    self._state, sums = self._compiled(
                        self._state, sums, self._arrays, rows, program=program
                    )
                self._dispatch += 1
        return jax.device_get(sums)

    def lower(self) -> jax.stages.Lowered:
        """The program of a dispatch, to be compiled ahead of time."""
        run, layout = self._run, self._layout
        (rows,) = run.feed.iterate(self._plan, 0, 1)
        with jax.set_mesh(layout.mesh), layout.sent(rows, self._rows) as rows:
            return self._compiled.lower(
                self._state,
                layout.put(self._zeros, layout.replicated),
                self._arrays,
                rows,
                program=run.program(0),
            )

    def use(self, compiled: jax.stages.Compiled) -> None:
        """Calls this program, which `lower` has traced, from now on."""
        self._compiled = lambda *args, program: compiled(*args)

    @property
    def params(self) -> Any:
        """With a leading replica axis."""
        return self._state.params


def _stacked(plan: Callable[[int], Any], size: int) -> Callable[[int], Any]:
    """Number of a dispatch -> the plans of its `size` steps, [S, R, B]."""

    def plans(dispatch: int):
        steps = range(dispatch * size, (dispatch + 1) * size)
        return tuple(np.stack(parts) for parts in zip(*map(plan, steps), strict=True))

    return plans


def _augment(key: jax.Array, image: jax.Array) -> jax.Array:
    crop_key, flip_key = jax.random.split(key)
    row, column = jax.random.randint(crop_key, (2,), 0, 9)
    padded = jnp.pad(image, ((4, 4), (4, 4), (0, 0)))
    image = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    mean, std = (jnp.array(v)[None, None] for v in (MEAN, STD))
    return (image.astype(jnp.float32) / 255 - mean) / std


class HandWritten:
    """Calling it trains `steps` steps with the least code that does the same.

    Args:
        run: its network, its data and its number of replicas.
        steps: per call.
        indices: (replica, step) -> int32 [B]; default a permutation per epoch.
    """

    def __init__(
        self,
        run: Run,
        steps: int,
        indices: Callable[[int, int], np.ndarray] | None = None,
    ):
        self._steps, self._step = steps, 0
        size = run.config.batch_size
        self._indices = indices or permutations(run.info.num_train, size)
        self._inputs = jax.device_put(run.feed.arrays["inputs"])
        self._labels = jax.device_put(run.feed.arrays["label"])
        images = self._inputs.ndim == 4
        forward = run.model.forward

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state, inputs, labels, index, count):
            params, stats, velocity = state
            x, y = inputs[index], labels[index]
            if images:
                key = jax.random.fold_in(jax.random.key(1), count)
                x = jax.vmap(_augment)(jax.random.split(key, size), x)

            def loss_fn(params):
                outputs, new = forward(params, stats, x, train=True)
                losses = optax.softmax_cross_entropy_with_integer_labels(
                    outputs["logits"], y
                )
                return losses.mean(), new

            (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
            velocity = jax.tree.map(
                lambda v, g, p: MOMENTUM * v + g + WEIGHT_DECAY * p,
                velocity,
                grads,
                params,
            )
            params = jax.tree.map(lambda p, v: p - LR * v, params, velocity)
            return (params, new, velocity), loss

        self._compiled = step
        self._states = []
        for replica in run.info.replicas:
            fresh = jax.jit(run.init)(replica["seed"], replica["hyper"])
            velocity = jax.tree.map(jnp.zeros_like, fresh.params)
            self._states.append((fresh.params, fresh.model_state, velocity))

    def __call__(self) -> list[float]:
        losses = []
        for _ in range(self._steps):
            losses = []
            for r, state in enumerate(self._states):
                self._states[r], loss = self._compiled(
                    state,
                    self._inputs,
                    self._labels,
                    self._indices(r, self._step),
                    np.int32(self._step),
                )
                losses.append(loss)
            self._step += 1
        return jax.device_get(losses)

    def lower(self) -> jax.stages.Lowered:
        """The program of a step, to be compiled ahead of time."""
        index, step = self._indices(0, 0), np.int32(0)
        data = self._inputs, self._labels
        return self._compiled.lower(self._states[0], *data, index, step)

    def use(self, compiled: jax.stages.Compiled) -> None:
        """Calls this program, which `lower` has traced, from now on."""
        self._compiled = compiled

    @property
    def params(self) -> list[Any]:
        """One tree per replica."""
        return [state[0] for state in self._states]


def permutations(num_examples: int, size: int) -> Callable[[int, int], np.ndarray]:
    """Indices of a step: every example once per epoch, in another order per replica."""

    @functools.lru_cache(maxsize=8)
    def order(replica: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((replica, epoch))
        return rng.permutation(num_examples).astype(np.int32)

    def indices(replica: int, step: int) -> np.ndarray:
        epoch, position = divmod(step, num_examples // size)
        return order(replica, epoch)[position * size : (position + 1) * size]

    return indices


def compare(case: Case, peer: Callable[[], Any], ours: Ours, **options) -> common.Ratio:
    """The peer's time over ours: our images per second over the peer's."""
    options = {"least_seconds": 0.0, **options}
    return common.interleaved_ratios(ours, {"peer": peer}, **options)["peer"]


def measure(case: Case, repeats: int, torch_python: str | None) -> list[dict[str, str]]:
    """A row against the hand-written loop and, for images, one against PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        run = build(config_of(case, folder))
    ours = Ours(run, case.steps)
    hand = HandWritten(run, case.steps)
    origin = common.provenance()
    per_call = case.steps * case.batch * case.replicas

    def row(peer: str, found: common.Ratio, processor: str, torch: str):
        return {
            "model": case.model,
            "batch": str(case.batch),
            "replicas": str(case.replicas),
            "peer": peer,
            "ratio": f"{found.median:.3f}",
            "ratio_low": f"{found.low:.3f}",
            "ratio_high": f"{found.high:.3f}",
            "ratio_fastest": f"{found.fastest:.3f}",
            "ratio_processor_time": processor,
            "images_per_s": f"{per_call / found.baseline_seconds:.1f}",
            "peer_images_per_s": f"{per_call / found.seconds:.1f}",
            "repeats": str(found.repeats),
            "torch": torch,
            **origin,
        }

    rows = []
    found = compare(case, hand, ours, repeats=repeats)
    processor = compare(case, hand, ours, repeats=repeats, clock=time.process_time)
    rows.append(row("hand-written loop", found, f"{processor.median:.3f}", ""))
    if case.images and torch_python:
        depth = int(case.model.removeprefix("resnet"))
        torch = TorchPeer(
            torch_python,
            depth=depth,
            batch=case.batch,
            num_images=NUM_IMAGES,
            steps=case.steps,
        )
        try:
            if torch.num_params != run.info.num_params:
                raise RuntimeError(
                    f"PyTorch's network has {torch.num_params} parameters, ours"
                    f" {run.info.num_params}: they are not the same network"
                )
            found = compare(case, torch, ours, repeats=repeats)
        finally:
            torch.close()
        rows.append(row("pytorch", found, "", torch.version))
    return rows


def main() -> None:
    parser = common.argument_parser(__doc__.splitlines()[0], output="engine.csv")
    args = common.parse_with_torch(parser)
    repeats = args.repeats or (3 if args.quick else 15)
    for case in QUICK if args.quick else FULL:
        rows = measure(case, repeats, args.torch_python)
        for row in rows:
            print(
                f"{row['model']} x {row['replicas']}  against {row['peer']:18}"
                f" {row['ratio']} ({row['ratio_low']} to {row['ratio_high']};"
                f" processor time {row['ratio_processor_time'] or '-'})"
                f"  {row['images_per_s']} images/s",
                flush=True,
            )
        if not args.quick:
            common.append_csv(args.output, rows)


if __name__ == "__main__":
    main()
