r"""What a step moves and holds on every chip: plain formulas.

Symbols: n chips, F = fsdp of them share one copy of the parameters (n / F copies), B
examples a step, 4 bytes a number unless `bytes_each` says otherwise.

- S, W: bytes of the parameters that fsdp splits, and of those that every chip keeps
  whole: `split`, the rule of `ltjax/train/mesh.py`. With F = 1 all are whole.
- Bytes *moved* are what the results of the collectives of one step hold on one chip.
  `sent` turns them into what a chip sends over a ring: an all-reduce of b bytes is a
  reduce-scatter and an all-gather, each of which sends (n - 1) / n of them.

Not covered: the augmentation (a program's temporaries hold its images), evaluation and
refreshes, sampling, attention kernels that never store the probabilities,
rematerialization, the fabric's latency, and the second and third passes of sharp
gradients (a SAM step gathers and reduces once per pass). Where the activations of a
layer are smaller than its kernel, XLA may keep the kernel split and move activations in
its place; the formulas are those of batches for which they are not.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FLOAT = 4
SPLIT_FROM = 2**14  # elements, see ltjax/train/mesh.py
Shape = tuple[int, ...]


class Network(NamedTuple):
    """What the model has to know of a network.

    Attributes:
        shapes: of its parameters.
        channels: that are normalized over the batch, of all layers together.
        activations: numbers kept for the backward pass, for each input.
    """

    shapes: tuple[Shape, ...]
    channels: int
    activations: int

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(map(math.prod, self.shapes))


class Step(NamedTuple):
    """How a network is trained.

    Attributes:
        network: that is trained.
        batch: B, examples of a step.
        chips: n.
        fsdp: F.
        input_bytes: of an example as the host hands it over, with label, row, mask.
        slots: arrays like the parameters in the optimizer: 1 with momentum, 2 for Adam.
        average: whether averaged parameters are kept.
        views: of an example.
        features: width of what is compared with all other rows; 0: nothing is.
        bytes_each: of an activation: 4, or 2 in bfloat16.
    """

    network: Network
    batch: int
    chips: int
    fsdp: int = 1
    input_bytes: int = 0
    slots: int = 1
    average: bool = False
    views: int = 1
    features: int = 0
    bytes_each: int = FLOAT


# ------------------------------------------------------------------------- networks


def dense(*widths: int) -> list[Shape]:
    """Kernel and bias of layers from each width to the next."""
    shapes: list[Shape] = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        shapes += [(before, after), (after,)]
    return shapes


def resnet(
    blocks: Sequence[int], widths: Sequence[int], classes: int, *, side: int
) -> Network:
    """A bottleneck ResNet, as `ltjax/models/resnet.py` builds it.

    A convolution of k x k from c to d channels has k k c d parameters, its
    normalization 2 d. For the backward pass of normalization and rectifier three
    tensors of the convolution's size stay: its output x (mean of squares), x minus the
    mean (gradient of the scale), and what the next convolution reads.

    Args:
        blocks: of each stage.
        widths: planes w of each stage; its outputs have 4 w channels.
        classes: K; 0 for no head.
        side: of the images.
    """
    shapes: list[Shape] = []
    channels = kept = 0

    def conv(size: int, before: int, after: int, side: int) -> None:
        nonlocal channels, kept
        shapes.extend([(size, size, before, after), (after,), (after,)])
        channels += after
        kept += 3 * side * side * after

    side //= 2
    conv(7, 3, widths[0], side)
    side, before = side // 2, widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        for block in range(count):
            shrinks = stage > 0 and block == 0
            conv(1, before, width, side)
            side //= 2 if shrinks else 1
            conv(3, width, width, side)
            conv(1, width, 4 * width, side)
            if block == 0:
                conv(1, before, 4 * width, side)
            before = 4 * width
    head = dense(before, classes) if classes else []
    return Network((*shapes, *head), channels, kept)


def vit(
    *, patch: int, width: int, depth: int, heads: int, classes: int, side: int
) -> Network:
    """A Vision Transformer, as `ltjax/models/vit.py` builds it.

    With T tokens of width w, a block has 4 w^2 + 4 w parameters of the attention,
    8 w^2 + 5 w of the MLP and 4 w of its two norms. Of a token and a block 26 w numbers
    stay for the backward pass: of each norm its input, the same less the mean and its
    output (6 w); queries, keys, values and the mixed values (4 w); of the hidden layer
    of 4 w its inputs, their tanh, the factor made of it and the outputs (16 w). Of each
    head two T x T matrices stay, the scores' exponentials and the probabilities. In the
    backward pass one block's hidden layer has its two gradients beside these (8 w).

    Args:
        patch: side of a patch.
        width: w.
        depth: blocks.
        heads: h; the kernels of queries, keys and values are [w, h, w / h].
        classes: K; 0 for no head.
        side: of the images.
    """
    tokens, each = (side // patch) ** 2 + 1, width // heads
    block = [
        *((width,) for _ in range(4)),  # scale and offset of two norms
        *((width, heads, each) for _ in range(3)),
        *((heads, each) for _ in range(3)),
        (heads, each, width),
        (width,),
        *dense(width, 4 * width, width),
    ]
    shapes = [
        (patch, patch, 3, width),
        (width,),
        (1, 1, width),
        (1, tokens, width),
        *(depth * block),
        (width,),
        (width,),
        *(dense(width, classes) if classes else []),
    ]
    kept = 26 * tokens * width + 2 * heads * tokens**2
    return Network(tuple(shapes), 0, depth * kept + 8 * tokens * width)


def mlp(*widths: int) -> Network:
    """A perceptron without normalization; the inputs of its layers are kept."""
    return Network(tuple(dense(*widths)), 0, sum(widths[:-1]))


def projecting(network: Network, *widths: int) -> Network:
    """A network with SimCLR's head, whose hidden layers are normalized.

    Args:
        network: without a head.
        widths: of its features, the hidden layers and the projection.
    """
    shapes: list[Shape] = []
    hidden = widths[1:-1]
    for before, after in zip(widths[:-2], hidden, strict=True):
        shapes += [(before, after), (after,), (after,)]
    shapes += dense(*widths[-2:])
    return Network(
        (*network.shapes, *shapes),
        network.channels + sum(hidden),
        network.activations + 3 * sum(hidden),
    )


# ---------------------------------------------------------------------------- bytes


def split(step: Step) -> tuple[int, int]:
    """(S, W): bytes of the parameters that fsdp splits, and of the others.

    A parameter is split along its largest axis that F divides, if it has at least
    `SPLIT_FROM` elements.
    """
    parts = [0, 0]
    for shape in step.network.shapes:
        fits = any(size % step.fsdp == 0 for size in shape)
        splits = step.fsdp > 1 and math.prod(shape) >= SPLIT_FROM and fits
        parts[0 if splits else 1] += FLOAT * math.prod(shape)
    return parts[0], parts[1]


def gathered_parameters(step: Step) -> int:
    """Moved: every split parameter is gathered once, and kept for the backward pass."""
    return split(step)[0]


def reduced_gradients(step: Step) -> int:
    r"""Moved: gradients, W + S + S / F.

    Those of whole parameters are added up over all n chips. Those of split ones are
    first added up over the F chips of a copy, of which each keeps its part
    (reduce-scatter, S), and the parts over the n / F copies (all-reduce, S / F).
    """
    split_bytes, whole = split(step)
    return whole + split_bytes + (split_bytes // step.fsdp if step.fsdp > 1 else 0)


def reduced_statistics(step: Step) -> int:
    """Moved: 3 numbers for each normalized channel.

    Mean and mean of squares in the forward pass, and one sum in the backward pass; the
    gradients of scale and offset are the other two, and counted as parameters.
    """
    return 3 * FLOAT * step.network.channels


def gathered_features(step: Step) -> int:
    """Moved: V B rows of D features and 2 numbers, in each direction.

    A chip compares its own rows with all others, block by block, so it needs them all:
    once in the forward pass, once in the backward pass. The numbers are a row's
    identity and its log-sum-exp.
    """
    if not step.features:
        return 0
    return 2 * step.views * step.batch * (step.features + 2) * FLOAT


def moved(step: Step) -> dict[str, int]:
    """Bytes of the results of all collectives of a step, on one chip."""
    return {
        "all-reduce": reduced_gradients(step) + reduced_statistics(step),
        "all-gather": gathered_parameters(step) + gathered_features(step),
    }


def _ring(count: int) -> float:
    return (count - 1) / count


def sent(step: Step) -> dict[str, float]:
    """Bytes that a chip sends in a step, over rings, with reduce-scatters."""
    split_bytes, whole = split(step)
    copies = step.chips // step.fsdp
    summed = whole + reduced_statistics(step)
    return {
        "gradients": 2 * _ring(step.chips) * summed
        + _ring(step.fsdp) * split_bytes
        + 2 * _ring(copies) * split_bytes / step.fsdp,
        "parameters": _ring(step.fsdp) * split_bytes,
        "features": _ring(step.chips) * gathered_features(step),
    }


def held(step: Step) -> dict[str, float]:
    """Bytes on a chip: what a step is given, and what it needs besides.

    - parameters: S / F + W; optimizer and average are as large, for each slot;
    - running mean and variance: 2 numbers for each normalized channel;
    - batch: B / n examples as the host hands them over;
    - activations: V B / n times those of an input;
    - gathered: S, from the first use to the last;
    - gradients: W + S before they are added up, and again after it, less what then
      belongs to other chips.
    """
    split_bytes, whole = split(step)
    own = split_bytes / step.fsdp + whole
    inputs = step.batch / step.chips
    kept = step.network.activations * step.bytes_each
    return {
        "parameters": own,
        "optimizer": step.slots * own,
        "average": own if step.average else 0.0,
        "statistics": 2.0 * FLOAT * step.network.channels,
        "batch": inputs * step.input_bytes,
        "activations": inputs * step.views * kept,
        "gathered": float(split_bytes),
        "gradients": whole + split_bytes + own,
    }


ARGUMENTS = ("parameters", "optimizer", "average", "statistics", "batch")
TEMPORARIES = ("activations", "gathered", "gradients")


def estimated(step: Step) -> dict[str, float]:
    """The quantities that a compiled program can be asked for."""
    found = held(step)
    return {
        **moved(step),
        "arguments": sum(found[name] for name in ARGUMENTS),
        "temporaries": sum(found[name] for name in TEMPORARIES),
    }


# ---------------------------------------------------------------------------- plans


CHIPS = (8, 64, 512)
RESNET50 = ((3, 4, 6, 3), (64, 128, 256, 512))


def input_bytes(side: int) -> int:
    """Of an example: a uint8 image, an int32 label, its int32 row and a mask."""
    return side * side * 3 + 4 + 4 + 1


def plans() -> Iterator[tuple[str, Step]]:
    """(name, step) of every line of the README's table, in bfloat16."""
    resnet50 = resnet(*RESNET50, 1000, side=224)
    bare = resnet(*RESNET50, 0, side=224)
    vit_b = vit(patch=16, width=768, depth=12, heads=12, classes=8142, side=224)
    simclr = projecting(bare, 2048, 2048, 128)
    for chips in CHIPS:
        common = {"chips": chips, "input_bytes": input_bytes(256), "bytes_each": 2}
        yield (
            "ResNet-50, ImageNet-LT, batch 1024",
            Step(resnet50, 1024, **common),
        )
        for fsdp in (1, 8):
            yield (
                f"ViT-B/16, iNaturalist, Adam, batch 4096, fsdp {fsdp}",
                Step(vit_b, 4096, fsdp=fsdp, slots=2, average=True, **common),
            )
        yield (
            "ResNet-50, SimCLR, 16384 views of 8192 images",
            Step(simclr, 8192, views=2, features=128, **common),
        )
