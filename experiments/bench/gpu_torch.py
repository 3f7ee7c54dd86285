"""The GPU benchmark in PyTorch, `python -m experiments.bench.gpu_torch SECTION`.

The peers of `gpu_jax.py`, in eager mode and compiled by Inductor: the same recipes with
the same work on the device (gather, pad, crop, flip, normalize), channels last, and
losses as one would write them down. A process per section; nothing here imports JAX.
"""

import functools
import gc
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from experiments.bench.gpu_timing import (
    Subject,
    chosen_section,
    failed,
    in_turn,
    say,
    timed_cells,
)
from experiments.bench.torch_networks import resnet, resnet_cifar

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MIB = 2**20
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PRECISIONS = ("tf32", "bfloat16")
# name -> mode of torch.compile; None is eager. "reduce-overhead" records CUDA graphs.
MODES = {
    "torch eager": None,
    "torch.compile": "default",
    "torch.compile graphs": "reduce-overhead",
}


class Sizes(NamedTuple):
    """What is measured, at full size or as a toy."""

    depth: int
    image: int
    batch: int
    num_images: int
    steps: int
    total_steps: int
    large_blocks: tuple[int, ...]
    large_image: int
    large_batch: int
    large_images: int
    large_steps: int
    views: tuple[int, ...]
    pairs: tuple[int, ...]
    pixels: tuple[int, ...]
    timed_blocks: int
    seconds: float  # of the timed blocks of a subject


FULL = Sizes(
    depth=32,
    image=32,
    batch=128,
    num_images=12_406,
    steps=100,
    total_steps=200 * (12_406 // 128),
    large_blocks=(3, 4, 6, 3),
    large_image=224,
    large_batch=256,
    large_images=1024,
    large_steps=10,
    views=(16_384,),
    pairs=(10_000, 100_000),
    pixels=(8, 512, 512, 20),
    timed_blocks=7,
    seconds=3.0,
)
TOY = Sizes(
    depth=8,
    image=8,
    batch=8,
    num_images=32,
    steps=2,
    total_steps=800,
    large_blocks=(1, 1),
    large_image=32,
    large_batch=4,
    large_images=16,
    large_steps=2,
    views=(64,),
    pairs=(200,),
    pixels=(1, 8, 8, 3),
    timed_blocks=3,
    seconds=0.0,
)


class Trainer:
    """Calling it trains `steps` steps: momentum 0.9, weight decay 2e-4, fused SGD."""

    def __init__(
        self,
        net: nn.Module,
        *,
        image: int,
        num_images: int,
        batch: int,
        steps: int,
        precision: str,
        mode: str | None,
    ):
        torch.manual_seed(0)
        net = net.to(DEVICE, memory_format=torch.channels_last)
        self._steps, self._batch = steps, batch
        # The layout of batches in ours: examples, height, width, channels.
        shape = (num_images, image, image, 3)
        images = torch.randint(0, 256, shape, dtype=torch.uint8).to(DEVICE)
        labels = (torch.arange(num_images) % 10).to(DEVICE)
        mean, std = (torch.tensor(v, device=DEVICE) for v in (MEAN, STD))
        self._optimizer = torch.optim.SGD(
            net.parameters(), 0.01, 0.9, weight_decay=2e-4, fused=True
        )
        self._order, self._position = self._permutation(num_images), 0

        def augmented(chosen):
            """Pad by 4, crop, flip, normalize: the whole batch in one gather."""
            padded = F.pad(images[chosen], (0, 0, 4, 4, 4, 4))
            offsets = torch.randint(0, 9, (2, batch, 1), device=DEVICE)
            span = torch.arange(image, device=DEVICE).expand(batch, image)
            flipped = torch.rand(batch, 1, device=DEVICE) < 0.5
            columns = torch.where(flipped, span.flip(1), span) + offsets[1]
            rows = span + offsets[0]
            which = torch.arange(batch, device=DEVICE)[:, None, None]
            pixels = padded[which, rows[:, :, None], columns[:, None, :]]
            return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)

        def loss_of(chosen):
            x = augmented(chosen)
            low = precision == "bfloat16"
            with torch.autocast(DEVICE, torch.bfloat16, enabled=low):
                logits = net(x)
            return F.cross_entropy(logits.float(), labels[chosen])

        self._loss = loss_of if mode is None else torch.compile(loss_of, mode=mode)

    def _permutation(self, count: int) -> torch.Tensor:
        return torch.randperm(count, device=DEVICE)

    def _chosen(self) -> torch.Tensor:
        """The indices of the next batch; every epoch has an order of its own."""
        if self._position + self._batch > len(self._order):
            self._order, self._position = self._permutation(len(self._order)), 0
        start, self._position = self._position, self._position + self._batch
        return self._order[start : self._position]

    def __call__(self, steps: int | None = None) -> float:
        total = torch.zeros((), device=DEVICE)
        for _ in range(self._steps if steps is None else steps):
            self._optimizer.zero_grad()
            torch.compiler.cudagraph_mark_step_begin()
            loss = self._loss(self._chosen())
            loss.backward()
            self._optimizer.step()
            total += loss.detach()
        return total.item()  # waits


class Ready(NamedTuple):
    """A program, its first call (which compiles it), and what a step computes."""

    call: Callable[[], Any]
    first: Callable[[], Any]
    gflops: float = 0.0


def forward_gflops(make: Callable[[], nn.Module], image: int, batch: int) -> float:
    """Of the matrix products and convolutions of a forward pass, without data."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    with torch.device("meta"), torch.no_grad():
        net = make()
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        net(torch.zeros(batch, 3, image, image))
    return total / 1e9


def train(
    cells: dict[str, Any], make: Callable[[], nn.Module], sizes: Sizes, **options
) -> None:
    """The row of one training step."""

    def ready() -> Ready:
        trainer = Trainer(make(), precision=cells["precision"], **options)
        forward = forward_gflops(make, options["image"], options["batch"])
        return Ready(trainer, functools.partial(trainer, 1), 3 * forward)

    measure(cells, ready, sizes, steps=options["steps"])


def measure(
    cells: dict[str, Any],
    ready: Callable[[], Ready],
    sizes: Sizes,
    *,
    steps: int = 1,
) -> None:
    """A row of what `ready` returns; one with an error if anything fails."""
    cuda = DEVICE == "cuda"
    try:
        made = ready()
        start = time.perf_counter()
        made.first()
        cells = {**cells, "compile_s": f"{time.perf_counter() - start:.2f}"}
        made.call()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        limits = {"blocks": sizes.timed_blocks, "seconds": sizes.seconds}
        subject = Subject(cells, made.call, steps, made.gflops)
        (times,) = in_turn([subject], **limits)
        if cuda:
            cells["peak_mib"] = f"{torch.cuda.max_memory_allocated() / MIB:.5g}"
        say(**timed_cells(subject, times, device()))
    except Exception as error:  # the others go on
        say(**failed(cells, error))
    made = ready = subject = None  # what it holds on the device
    torch.compiler.reset()
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()


def device() -> str:
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def waiting(fn: Callable[[], Any]) -> Callable[[], Any]:
    """`fn`, and the device has finished when it returns."""

    def call():
        fn()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return call


# ------------------------------------------------------------------------- sections


def run_engine(sizes: Sizes) -> None:
    """The CIFAR recipe; CUDA graphs last, as they compile everything again."""
    for modes in (("torch eager", "torch.compile"), ("torch.compile graphs",)):
        for precision, framework in itertools.product(PRECISIONS, modes):
            cells = {
                "subject": f"resnet{sizes.depth}",
                "framework": framework,
                "precision": precision,
                "batch": sizes.batch,
                "replicas": 1,
                "examples": sizes.batch,
                "total_steps": sizes.total_steps if sizes is FULL else None,
            }
            train(
                cells,
                functools.partial(resnet_cifar, sizes.depth),
                sizes,
                image=sizes.image,
                num_images=sizes.num_images,
                batch=sizes.batch,
                steps=sizes.steps,
                mode=MODES[framework],
            )


def run_large(sizes: Sizes) -> None:
    """A network that fills the device, in bfloat16."""
    for framework in ("torch.compile", "torch eager"):
        cells = {
            "subject": "resnet50",
            "framework": framework,
            "precision": "bfloat16",
            "batch": sizes.large_batch,
            "replicas": 1,
            "examples": sizes.large_batch,
        }
        train(
            cells,
            functools.partial(resnet, sizes.large_blocks),
            sizes,
            image=sizes.large_image,
            num_images=sizes.large_images,
            batch=sizes.large_batch,
            steps=sizes.large_steps,
            mode=MODES[framework],
        )


def nt_xent(first, second, temperature: float = 0.2):
    """NT-Xent of all similarities at once, as it is usually written."""
    views = F.normalize(torch.cat([first, second]), dim=1)
    similarities = views @ views.T / temperature
    count = len(views)
    own = torch.eye(count, dtype=torch.bool, device=views.device)
    similarities = similarities.masked_fill(own, -math.inf)
    other = (torch.arange(count, device=views.device) + count // 2) % count
    return F.cross_entropy(similarities, other)


def graded(
    loss: Callable, inputs: tuple[torch.Tensor, ...], mode: str | None
) -> Callable[[], Any]:
    """Value and gradient of a scalar loss of these inputs."""
    fn = loss if mode is None else torch.compile(loss, mode=mode)

    def call():
        value = fn(*inputs)
        return value, torch.autograd.grad(value, inputs)

    return waiting(call)


def losses_of(
    cells: dict[str, Any],
    loss: Callable,
    inputs: tuple[torch.Tensor, ...],
    sizes: Sizes,
) -> None:
    """Rows of a loss in eager mode and compiled."""
    for framework in ("torch eager", "torch.compile"):

        def ready(framework=framework):
            call = graded(loss, inputs, MODES[framework])
            return Ready(call, call)

        measure({**cells, "framework": framework}, ready, sizes)


def use_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def run_contrastive(sizes: Sizes) -> None:
    """NT-Xent with the full matrix of similarities."""
    for views in sizes.views:
        first, second = torch.randn(2, views // 2, 128, device=DEVICE)
        inputs = first.requires_grad_(), second.requires_grad_()
        for precision in ("float32", "tf32"):
            use_tf32(precision == "tf32")
            cells = {"subject": "nt_xent[dense]", "precision": precision, "size": views}
            losses_of(cells, nt_xent, inputs, sizes)


def _hinge(margin):
    return torch.clamp(1 - margin, min=0)


SURROGATES = {
    "auc_square": lambda t: torch.square(1 - t) / 2,
    "auc_hinge[1]": _hinge,
    "auc_hinge[2]": lambda t: torch.square(_hinge(t)),
    "auc_exp": lambda t: torch.exp(-t),
    "auc_logistic": lambda t: F.softplus(-t),
}
BLOCK = 1000  # positives whose pairs are in memory at a time


def all_pairs(surrogate: Callable, up: torch.Tensor, down: torch.Tensor):
    """Mean over all pairs and its gradient, a block of positives at a time."""
    share = 1 / (len(up) * len(down))
    total, of_down, of_up = torch.zeros((), device=DEVICE), torch.zeros_like(down), []
    for part in up.split(BLOCK):
        part, all_down = part.detach().requires_grad_(), down.detach().requires_grad_()
        value = share * surrogate(part[:, None] - all_down[None, :]).sum()
        one, other = torch.autograd.grad(value, (part, all_down))
        total += value.detach()
        of_up.append(one)
        of_down += other
    return total, torch.cat(of_up), of_down


def run_auc(sizes: Sizes) -> None:
    """All pairs of scores; the cross-entropy of pixels."""
    for size in sizes.pairs:
        labels = torch.arange(size, device=DEVICE) % 10 == 0
        noise = torch.randn(size, device=DEVICE)
        scores = torch.sigmoid(noise + labels.float() - 0.5)
        up, down = scores[labels], scores[~labels]
        for name, surrogate in SURROGATES.items():
            cells = {
                "subject": name,
                "framework": "torch eager, all pairs",
                "precision": "float32",
                "size": size,
            }

            def ready(surrogate=surrogate, up=up, down=down):
                call = waiting(lambda: all_pairs(surrogate, up, down))
                return Ready(call, call)

            measure(cells, ready, sizes)
    *places, classes = sizes.pixels
    logits = torch.randn(places[0], classes, *places[1:], device=DEVICE)
    labels = torch.randint(0, classes, places, device=DEVICE)
    cells = {
        "subject": "pixel cross-entropy",
        "precision": "float32",
        "size": "x".join(map(str, sizes.pixels)),
    }
    inputs = (logits.requires_grad_(),)
    losses_of(cells, lambda z: F.cross_entropy(z, labels), inputs, sizes)


SECTIONS = {
    "engine": run_engine,
    "contrastive": run_contrastive,
    "auc": run_auc,
    "large": run_large,
}


def main() -> None:
    measure_section, toy = chosen_section(__doc__, SECTIONS)
    say(
        origin=True,
        backend="gpu" if DEVICE == "cuda" else "cpu",
        device=device(),
        devices=max(torch.cuda.device_count(), 1),
        torch=torch.__version__,
    )
    use_tf32(True)
    torch.backends.cudnn.benchmark = True
    measure_section(TOY if toy else FULL)


if __name__ == "__main__":
    main()
